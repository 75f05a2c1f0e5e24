// The Cholesky factorization of one tile of a matrix, and the division of other tiles by it, in sums that stay in
// registers.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <atomic>
#include <cmath>

#include "../parallel.hpp"
#include "concept.hpp"
#include "envelope.hpp"
#include "lanes.hpp"
#include "packed.hpp"

namespace downslope::curvature {

// The columns that are worked on together. With three vectors of rows, their sums are as many as fit in registers.
inline constexpr int panel_width = EIGEN_ARCH_DEFAULT_NUMBER_OF_REGISTERS >= 32 ? 8 : 4;

using Packet = Eigen::internal::packet_traits<double>::type;
inline constexpr int packet_size = Eigen::internal::packet_traits<double>::size;

// So many vectors of rows, from row i on, of the panel of columns that begins at j. The columns [first, j) are finished
// and those before them have been taken off, or have only zeros in these rows.
template <int packets>
class Strip {
public:
    // What the finished columns take from the panel.
    Strip(const PackedMatrix& a, Index first, Index i, Index j) {
        for (auto& column : sums_)
            for (Packet& sum : column) sum = Eigen::internal::pset1<Packet>(0);
        for (Index k = first; k < j; ++k) {
            const double* l = a.col(k).data();
            Packet rows[packets];
            for (int p = 0; p < packets; ++p) rows[p] = Eigen::internal::ploadu<Packet>(l + i + p * packet_size);
            for (int c = 0; c < panel_width; ++c) add_product(c, rows, l[j + c]);
        }
    }

    // Replaces the panel by its quotient with the triangle at (j, j), whose diagonal is given inverted.
    void divide(PackedMatrix& a, Index i, Index j, const double* inverse) {
        // Unrolled, so that the sums stay in registers.
#pragma GCC unroll 8
        for (int c = 0; c < panel_width; ++c) {
#pragma GCC unroll 8
            for (int d = 0; d < c; ++d) add_product(c, sums_[d], a(j + c, j + d));
            const Packet factor = Eigen::internal::pset1<Packet>(inverse[c]);
            double* x = a.col(j + c).data() + i;
            for (int p = 0; p < packets; ++p, x += packet_size) {
                const Packet rest = Eigen::internal::psub(Eigen::internal::ploadu<Packet>(x), sums_[c][p]);
                sums_[c][p] = Eigen::internal::pmul(rest, factor);
                Eigen::internal::pstoreu(x, sums_[c][p]);
            }
        }
    }

    // The rows of a column.
    void copy(int c, double* sums) const {
        for (int p = 0; p < packets; ++p) Eigen::internal::pstoreu(sums + p * packet_size, sums_[c][p]);
    }

private:
    void add_product(int c, const Packet (&rows)[packets], double l) {
        const Packet factor = Eigen::internal::pset1<Packet>(l);
        for (int p = 0; p < packets; ++p) sums_[c][p] = Eigen::internal::pmadd(rows[p], factor, sums_[c][p]);
    }

    Packet sums_[panel_width][packets];
};

template <int packets>
void divide_strip(PackedMatrix& a, const Envelope& envelope, Index first, Index i, Index j, const double* inverse) {
    const Index begin = envelope.first(i, std::min(i + packets * packet_size, a.cols()));
    if (begin >= j + panel_width) return;
    Strip<packets> strip(a, std::max(first, begin), i, j);
    strip.divide(a, i, j, inverse);
}

// Rows [begin, end) of a whole panel.
inline void divide_panel(PackedMatrix& a, const Envelope& envelope, Index first, Index begin, Index end, Index j) {
    double inverse[panel_width];
    for (int c = 0; c < panel_width; ++c) inverse[c] = 1 / a(j + c, j + c);
    first = std::max(first, envelope.first(j, j + panel_width));
    Index i = begin;
    for (; end - i > 2 * packet_size; i += 3 * packet_size) divide_strip<3>(a, envelope, first, i, j, inverse);
    if (end - i > packet_size)
        divide_strip<2>(a, envelope, first, i, j, inverse);
    else if (i < end)
        divide_strip<1>(a, envelope, first, i, j, inverse);
}

// The triangle at (j, j), of so many columns. Where it fails, a root is NaN or not positive.
inline void factor_triangle(PackedMatrix& a, Index first, Index j, int width) {
    const Strip<panel_width / packet_size> strip(a, first, j, j);
    double sums[panel_width][panel_width];
    for (int c = 0; c < panel_width; ++c) strip.copy(c, sums[c]);
    for (int c = 0; c < width; ++c) {
        double* l = a.col(j + c).data() + j;
        l[c] = std::sqrt(l[c] - sums[c][c]);
        const double inverse = 1 / l[c];
        for (int r = c + 1; r < width; ++r) l[r] = (l[r] - sums[c][r]) * inverse;
        for (int d = c + 1; d < width; ++d)
            for (int r = d; r < width; ++r) sums[d][r] += l[r] * l[d];
    }
}

// The diagonal tile of the columns [first, last): its lower triangle becomes the factor. Strips of its rows are dealt
// out to threads in turn; each element is the same sum, whoever computes it.
inline void factor_tile(PackedMatrix& a, const Envelope& envelope, Index first, Index last, int threads) {
    constexpr Index height = 3 * panel_width;
    const auto factor = [&](Index j) {
        const Index width = std::min<Index>(panel_width, last - j), begin = envelope.first(j, j + width);
        factor_triangle(a, std::max(first, begin), j, static_cast<int>(width));
    };
    std::atomic<Index> finished{first};  // so many columns have their triangle
    threads = static_cast<int>(std::min<Index>(threads, (last - first + height - 1) / height));
    parallel_runs(threads, threads, [&](Index mine, Index others) {
        if (mine == 0) {
            factor(first);
            finished.store(first + panel_width, std::memory_order_release);
        }
        for (Index j = first, next; (next = j + panel_width) < last; j = next) {
            wait_until(finished, next);
            for (Index i = next, end; i < last; i = end) {
                const Index strip = (i - first) / height;
                end = std::min(first + (strip + 1) * height, last);
                if (strip % threads < mine || strip % threads >= others) continue;
                divide_panel(a, envelope, first, i, end, j);
                if (i > next) continue;
                factor(next);
                finished.store(next + panel_width, std::memory_order_release);
            }
        }
    });
}

// Rows [begin, end) of the columns [first, last), whose number is a multiple of the panels', by their diagonal tile.
inline void divide_tile(PackedMatrix& a, const Envelope& envelope, Index first, Index last, Index begin, Index end) {
    for (Index j = first; j < last; j += panel_width) divide_panel(a, envelope, first, begin, end, j);
}

}  // namespace downslope::curvature

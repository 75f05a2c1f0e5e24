// QR by Householder reflections with column pivoting, for tall matrices of few columns: J P = Q R, |R_11| >= |R_22| ...
// Businger & Golub, "Linear least squares solutions by Householder transformations", Numerische Mathematik 7, 1965.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "columns.hpp"
#include "tiny.hpp"

namespace downslope {

// All storage is allocated once. Fewer rows than columns are filled up with zeros, so that R is always square.
class PivotedQR {
public:
    PivotedQR(std::int64_t m, std::int64_t n)
        : n_(n),
          rows_(stride_of(std::max(m, n))),
          a_(size(rows_ * (n + 1))),
          r_(size(n * (n + 1))),
          factors_(size(n + 1)),
          squares_(size(n + 1)),
          permutation_(size(n)) {}

    std::int64_t n() const { return n_; }
    // How many rows columns must have that are factorized, what fills them up included.
    std::int64_t rows() const { return rows_; }

    // Of the columns of `jacobian`, each over its element of `scale`, and Q^T b beside. `norms` are those of the
    // columns before they are scaled.
    void factorize(const double* jacobian, const double* norms, const double* scale, const double* b) {
        for (std::int64_t j = 0; j < n_; ++j) {
            double* const to = column(j);
            const double* const from = jacobian + j * rows_;
            const double factor = 1 / scale[j];
            for (std::int64_t i = 0; i < rows_; i += unit) unit_at(to + i) = unit_at(from + i) * factor;
            squares_[at(j)] = norms[j] * factor * norms[j] * factor;
            permutation_[at(j)] = j;
        }
        std::copy_n(b, rows_, column(n_));
        for (std::int64_t j = 0; j < n_; ++j) eliminate(j);
        rank_ = 0;
        const double tolerance =
            std::numeric_limits<double>::epsilon() * static_cast<double>(rows_) * std::abs(r(0, 0));
        while (rank_ < n_ && std::abs(r(rank_, rank_)) > tolerance) ++rank_;
    }

    // How many columns are independent to working precision.
    std::int64_t rank() const { return rank_; }
    // Column j of J P is column permutation(j) of J.
    std::int64_t permutation(std::int64_t j) const { return permutation_[at(j)]; }
    // Q^T b, its first n elements.
    const double* rotated() const { return &r_[at(n_ * n_)]; }
    double r(std::int64_t i, std::int64_t j) const { return r_[at(j * n_ + i)]; }

    // R z = y by the first rank columns, the other elements 0: a least-squares solution with as many zeros as it can
    // have.
    void solve(const double* y, double* z) const {
        std::fill(z + rank_, z + n_, 0.0);
        with_size(rank_, [=](auto rank) {
            for (std::int64_t i = rank; i-- > 0;) {
                double left = y[i];
                for (std::int64_t j = i + 1; j < rank; ++j) left -= r(i, j) * z[j];
                z[i] = left / r(i, i);
            }
        });
    }

    // R^T z = y, which needs full rank.
    void solve_transposed(const double* y, double* z) const {
        with_size(n_, [=](auto n) {
            for (std::int64_t j = 0; j < n; ++j) {
                double left = y[j];
                for (std::int64_t i = 0; i < j; ++i) left -= r(i, j) * z[i];
                z[j] = left / r(j, j);
            }
        });
    }

    // R z and R^T z
    void multiply(const double* z, double* out) const {
        with_size(n_, [=](auto n) {
            for (std::int64_t i = 0; i < n; ++i) {
                double sum = 0;
                for (std::int64_t j = i; j < n; ++j) sum += r(i, j) * z[j];
                out[i] = sum;
            }
        });
    }
    void multiply_transposed(const double* z, double* out) const {
        with_size(n_, [=](auto n) {
            for (std::int64_t j = 0; j < n; ++j) {
                double sum = 0;
                for (std::int64_t i = 0; i <= j; ++i) sum += r(i, j) * z[i];
                out[j] = sum;
            }
        });
    }

private:
    static std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }
    static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }
    double* column(std::int64_t j) { return a_.data() + j * rows_; }

    // Brings the longest column that is left to place j, and reflects what is below its diagonal away: each other one
    // becomes c - v (v . c) 2 / |v|^2, where v is that column with its head less the new diagonal. What is above, R,
    // is kept aside, and zeros take its place. The right-hand side is the last of the others.
    void eliminate(std::int64_t j) {
        bring_longest(j);
        const std::int64_t first = j - j % lanes, rows = rows_ - first, others = n_ - j;
        double* const v = column(j) + first;
        double* const heads = column(j) + j;
        const double length = norm(squares_[at(j)], v, rows), diagonal = heads[0] < 0 ? length : -length;
        r_[at(j * n_ + j)] = diagonal;
        const bool is_there = length >= std::numeric_limits<double>::min();
        const double by_diagonal = is_there ? 1 / diagonal : 0, by_head = is_there ? 1 / (heads[0] - diagonal) : 0;
        dots(v, 0, v + rows_, rows_, others, rows, factors_.data());
        heads[0] = 0;
        for (std::int64_t k = 1; k <= others; ++k) {
            double& head = heads[k * rows_];
            const double above = is_there ? factors_[at(k - 1)] * by_diagonal : head;
            r_[at((j + k) * n_ + j)] = above;
            factors_[at(k - 1)] = (above - head) * by_head;
            head = 0;
        }
        add_to_columns(factors_.data(), v, v + rows_, rows_, others, rows, &squares_[at(j + 1)]);
    }

    void bring_longest(std::int64_t j) {
        std::int64_t longest = j;
        for (std::int64_t k = j + 1; k < n_; ++k)
            if (squares_[at(k)] > squares_[at(longest)]) longest = k;
        if (longest == j) return;
        std::swap_ranges(column(j), column(j) + rows_, column(longest));
        std::swap_ranges(&r_[at(j * n_)], &r_[at(j * n_)] + j, &r_[at(longest * n_)]);
        std::swap(squares_[at(longest)], squares_[at(j)]);
        std::swap(permutation_[at(j)], permutation_[at(longest)]);
    }

    std::int64_t n_, rows_, rank_ = 0;
    Doubles a_, r_, factors_, squares_;
    std::vector<std::int64_t, OwnLines<std::int64_t>> permutation_;
};

}  // namespace downslope

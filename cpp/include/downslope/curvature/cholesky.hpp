// The Cholesky factorization of a symmetric matrix: in one tile or, if it is large, in several, over all cores.
#pragma once

#include <algorithm>
#include <atomic>

#include "envelope.hpp"
#include "residual.hpp"
#include "shift.hpp"
#include "symmetric.hpp"
#include "tile_kernels.hpp"

namespace downslope::curvature {

// A matrix of this size or more is large: its factorization goes by tiles, which don't depend on the number of threads;
// and large blocks of a matrix come one after the other, each with all threads.
inline constexpr Index large_size = 512;
// From so many products on, it is shared out over threads.
inline constexpr Index parallel_products = 2'500'000;
// So many right-hand sides are solved for at once, whatever the number of threads.
inline constexpr Index chunk_size = 32;

// Replaces the lower triangle by the Cholesky factor, and leaves the rest. False if a pivot is not positive. What lies
// outside of the envelope is left out, which makes the work of a banded matrix that of its band.
//
// A small matrix is one tile. Else tile (i, k) of the factor takes the tiles to the left of it and those of row k; and
// threads take the tiles column by column, so that what a tile waits for is always finished or being worked on.
class TiledCholesky {
public:
    TiledCholesky(PackedMatrix a, const Envelope& envelope, int threads)
        : a_(a), envelope_(envelope), tile_(tile_for(a.cols())) {
        const Index tiles = tiles_in(a.cols(), tile_);
        if (envelope.products() < parallel_products) threads = 1;
        if (tiles == 1) {
            make_diagonal_tile(0, threads);
            return;
        }
        finished_ = std::vector<std::atomic<Index>>(static_cast<std::size_t>(tiles));
        for (auto& row : finished_) row = 0;
        parallel_tasks(threads, tiles * (tiles + 1) / 2, [&](Index task) {
            Index k = 0, below = task;
            for (; below >= tiles - k; ++k) below -= tiles - k;
            make_tile(k + below, k);
        });
    }

    bool is_positive() const { return is_positive_; }

private:
    // Large tiles are faster, but threads can share small ones more evenly.
    static Index tile_for(Index n) { return n < large_size ? large_size : n < 2 * large_size ? 64 : 128; }

    void make_tile(Index i, Index k) {
        wait_for(i, k);
        wait_for(k, k);
        if (is_positive_) {
            if (i == k)
                make_diagonal_tile(k, 1);
            else
                make_lower_tile(i, k);
        }
        finished(i).store(k + 1, std::memory_order_release);
    }

    void make_diagonal_tile(Index k, int threads) {
        const Index begin = k * tile_, size = extent(k);
        const Index first = envelope_.first(begin, begin + size);
        auto tile = a_.block(begin, begin, size, size);
        if (first < begin)
            tile.selfadjointView<Eigen::Lower>().rankUpdate(a_.block(begin, first, size, begin - first), -1);
        factor_tile(a_, envelope_, begin, begin + size, threads);
        if (!(tile.diagonal().minCoeff() > 0)) is_positive_ = false;
    }

    void make_lower_tile(Index i, Index k) {
        const Index row = i * tile_, col = k * tile_;
        const Index first = std::max(envelope_.first(row, row + extent(i)), envelope_.first(col, col + tile_));
        if (first < col)
            a_.block(row, col, extent(i), tile_).noalias() -=
                a_.block(row, first, extent(i), col - first) * a_.block(col, first, tile_, col - first).transpose();
        wait_for(k, k + 1);
        divide_tile(a_, envelope_, col, col + tile_, row, row + extent(i));
    }

    Index extent(Index tile) const { return std::min(tile_, a_.cols() - tile * tile_); }

    // Until so many tiles of this row are finished.
    void wait_for(Index row, Index count) { wait_until(finished(row), count); }

    std::atomic<Index>& finished(Index row) { return finished_[static_cast<std::size_t>(row)]; }

    PackedMatrix a_;
    const Envelope& envelope_;
    Index tile_;
    std::vector<std::atomic<Index>> finished_;
    std::atomic<bool> is_positive_{true};
};

// Of the matrix with this strict lower triangle and this diagonal. False if a pivot is all rounding.
template <class Diagonal>
bool factor_lower(PackedMatrix packed, const Diagonal& diagonal, const Envelope& envelope, int threads) {
    packed.diagonal() = diagonal;
    if (!TiledCholesky(packed, envelope, threads).is_positive()) return false;
    for (Index j = 0; j < packed.cols(); ++j)
        if (!is_pivot(packed(j, j), diagonal[j])) return false;
    return true;
}

// x = (L L^T)^-1 x
template <class Vectors>
void substitute(const PackedMatrix& packed, Vectors& x) {
    const auto lower = packed.triangularView<Eigen::Lower>();
    lower.solveInPlace(x);
    lower.transpose().solveInPlace(x);
}

// One factorization in memory of its owner: a packed matrix, of which the lower triangle is the factor and the strict
// upper one still the matrix itself, and its diagonal.
class Cholesky {
public:
    Cholesky(double* packed, double* diagonal, Index n)
        : packed_(packed, n, n, Eigen::OuterStride<>(packed_rows(n))), diagonal_(diagonal, n) {}

    FactorStatus factorize(const Eigen::Map<const MatrixXd>& a, const FactorOptions& options, double& shift,
                           int threads) {
        double scale = 0;
        Envelope envelope(size());
        const FactorStatus status =
            visit_symmetric(a, options.asymmetry, scale, threads, [&](Index row, Index col, const Square& square) {
                envelope.enclose(row, col, square);
                put_square(packed_, row, col, square);
                if (row > col) put_square(packed_, col, row, square.transpose());
            });
        if (status != FactorStatus::success) return status;
        diagonal_ = packed_.diagonal().array() + options.damping;
        if (!diagonal_.allFinite()) return FactorStatus::not_finite;
        shift = 0;
        const auto works = [&] {
            return factor_lower(packed_, diagonal_, envelope, threads) && (!options.ensure_positive || can_solve());
        };
        bool found = works();
        if (!found && options.ensure_positive) {
            const VectorXd damped = diagonal_;
            const double lower = std::max(least_shift(scale), -damped.minCoeff());
            found = find_shift(lower, static_cast<double>(size()) * scale, shift, [&](double trial) {
                diagonal_ = damped.array() + trial;
                restore_lower();
                return works();
            });
        }
        return found ? FactorStatus::success : FactorStatus::not_positive_definite;
    }

    bool solve(Columns x, int threads) const {
        if (x.cols() == 1) return solve_refined<VectorXd>(x.col(0), largest_correction);
        const Index chunks = tiles_in(x.cols(), chunk_size);
        std::vector<unsigned char> regular(static_cast<std::size_t>(chunks));
        parallel_tasks(threads, chunks, [&](Index chunk) {
            const Index first = chunk * chunk_size;
            regular[static_cast<std::size_t>(chunk)] = solve_refined<MatrixXd>(
                x.middleCols(first, std::min(chunk_size, x.cols() - first)), largest_correction);
        });
        return std::all_of(regular.begin(), regular.end(), [](bool one) { return one; });
    }

private:
    Index size() const { return diagonal_.size(); }

    void restore_lower() {
        for (Index col = 0; col < size(); col += lanes)
            for (Index row = 0; row <= col; row += lanes) {
                const auto part = square_in(packed_, row, col);
                Square square = Square::Zero();
                square.leftCols(part.cols()) = part;
                square.transposeInPlace();
                if (row == col) square.triangularView<Eigen::StrictlyUpper>() = square.transpose();
                put_square(packed_, col, row, square);
            }
    }

    bool can_solve() const {
        bool is_sure = true;
        for (Index j = 0; j < size(); ++j) is_sure &= is_pivot(packed_(j, j), diagonal_[j], sure_pivot);
        if (is_sure) return true;
        MatrixXd x = random_probes(size());
        return solve_refined<MatrixXd>(x, largest_of_probes) && x.allFinite();
    }

    // Whether no correction is more than this part of its solution.
    template <class Solution>
    bool solve_refined(Eigen::Ref<Solution, 0, Eigen::OuterStride<>> x, double largest) const {
        const Solution b = x;
        Solution correction(b.rows(), b.cols());
        substitute(packed_, x);
        for (Index j = 0; j < x.cols(); ++j)
            residual(packed_, diagonal_, x.col(j).data(), b.col(j).data(), correction.col(j).data());
        substitute(packed_, correction);
        return correct(x, correction, largest);
    }

    PackedMatrix packed_;
    Eigen::Map<VectorXd> diagonal_;
};

}  // namespace downslope::curvature

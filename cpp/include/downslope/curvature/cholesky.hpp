// The Cholesky factorization of a symmetric matrix: small ones by code of fixed size, large ones over all cores.
#pragma once

#include <algorithm>

#include "../parallel.hpp"
#include "concept.hpp"
#include "residual.hpp"

namespace downslope::curvature {

// From this size on, one factorization is shared out over threads, in tiles that don't depend on their number.
inline constexpr Index parallel_size = 512;
inline constexpr Index tile_size = 128;
// So many right-hand sides are solved for at once, whatever the number of threads.
inline constexpr Index chunk_size = 32;

inline Index tiles_in(Index count, Index size = tile_size) { return (count + size - 1) / size; }

// Replaces the lower triangle by the Cholesky factor, and leaves the rest. False if a pivot is not positive.
template <class Matrix>
bool cholesky(Matrix&& a) {
    return Eigen::LLT<Eigen::Ref<MatrixXd, 0, Eigen::OuterStride<>>>(a).info() == Eigen::Success;
}

// The same for large matrices: right-looking, with a panel of one tile's width at a time.
inline bool tiled_cholesky(Columns a, int threads) {
    for (Index j = 0; j < a.rows(); j += tile_size) {
        const Index width = std::min(tile_size, a.rows() - j), next = j + width, rest = a.rows() - next;
        if (!cholesky(a.block(j, j, width, width))) return false;
        const auto corner = a.block(j, j, width, width).triangularView<Eigen::Lower>();
        const auto panel = a.block(next, j, rest, width);
        auto trailing = a.block(next, next, rest, rest);
        const Index tiles = tiles_in(rest);
        const auto first = [](Index tile) { return tile * tile_size; };
        const auto extent = [&](Index tile) { return std::min(tile_size, rest - first(tile)); };
        parallel_tasks(threads, tiles, [&](Index i) {
            auto rows = a.block(next + first(i), j, extent(i), width);
            corner.transpose().solveInPlace<Eigen::OnTheRight>(rows);
        });
        parallel_tasks(threads, tiles * (tiles + 1) / 2, [&](Index task) {
            Index k = 0, below = task;  // tile (k + below, k) of the lower triangle
            for (; below >= tiles - k; ++k) below -= tiles - k;
            const Index i = k + below;
            const auto left = panel.middleRows(first(i), extent(i)), right = panel.middleRows(first(k), extent(k));
            auto tile = trailing.block(first(i), first(k), extent(i), extent(k));
            if (i == k)
                tile.selfadjointView<Eigen::Lower>().rankUpdate(left, -1);
            else
                tile.noalias() -= left * right.transpose();
        });
    }
    return true;
}

// Checks that a matrix is finite and symmetric, in tiles, since one of the two triangles is read against its order.
// Calls visit(row, column, tile) for the tiles of the symmetric part that are not below the diagonal. `scale` becomes
// its largest element.
template <class Visit>
FactorStatus visit_symmetric(const Eigen::Map<const MatrixXd>& a, double asymmetry, double& scale, int threads,
                             const Visit& visit) {
    struct Extremes {
        bool finite = true;
        double largest = 0, difference = 0;
    };
    std::vector<Extremes> extremes(static_cast<std::size_t>(tiles_in(a.rows())));
    parallel_tasks(threads, tiles_in(a.rows()), [&](Index task) {
        const Index col = task * tile_size, width = std::min(tile_size, a.rows() - col);
        Extremes& extreme = extremes[static_cast<std::size_t>(task)];
        for (Index row = 0; row <= col; row += tile_size) {
            const Index height = std::min(tile_size, a.rows() - row);
            const auto above = a.block(row, col, height, width), below = a.block(col, row, width, height);
            const MatrixXd average = 0.5 * above + 0.5 * below.transpose();
            visit(row, col, average);
            extreme.finite &= above.allFinite() && below.allFinite();
            extreme.largest = std::max(extreme.largest, average.cwiseAbs().maxCoeff());
            extreme.difference = std::max(extreme.difference, (above - below.transpose()).cwiseAbs().maxCoeff());
        }
    });
    double difference = 0;
    for (const Extremes& extreme : extremes) {
        if (!extreme.finite) return FactorStatus::not_finite;
        scale = std::max(scale, extreme.largest);
        difference = std::max(difference, extreme.difference);
    }
    return difference <= asymmetry * scale ? FactorStatus::success : FactorStatus::not_symmetric;
}

inline FactorStatus check_symmetric(const Eigen::Map<const MatrixXd>& a, double asymmetry, int threads) {
    double scale = 0;
    return visit_symmetric(a, asymmetry, scale, threads, [](Index, Index, const MatrixXd&) {});
}

// One factorization in memory of its owner: n x n numbers, of which the lower triangle is the factor and the strict
// upper one still the matrix itself, and its diagonal.
class Cholesky {
public:
    Cholesky(double* packed, double* diagonal, Index n) : packed_(packed, n, n), diagonal_(diagonal, n) {}

    FactorStatus factorize(const Eigen::Map<const MatrixXd>& a, const FactorOptions& options, double& shift,
                           int threads) {
        double scale = 0;
        const FactorStatus status =
            visit_symmetric(a, options.asymmetry, scale, threads, [&](Index row, Index col, const auto& part) {
                packed_.block(row, col, part.rows(), part.cols()) = part;
                if (row < col) packed_.block(col, row, part.cols(), part.rows()) = part.transpose();
            });
        if (status != FactorStatus::success) return status;
        diagonal_ = packed_.diagonal().array() + options.damping;
        if (!diagonal_.allFinite()) return FactorStatus::not_finite;
        shift = 0;
        bool found = factor(threads);
        if (!found && options.ensure_positive) {
            const VectorXd damped = diagonal_;
            const double lower = std::max(least_shift(scale), -damped.minCoeff());
            found = find_shift(lower, static_cast<double>(size()) * scale, shift, [&](double trial) {
                diagonal_ = damped.array() + trial;
                packed_.triangularView<Eigen::StrictlyLower>() = packed_.transpose();
                return factor(threads);
            });
        }
        return found ? FactorStatus::success : FactorStatus::not_positive_definite;
    }

    bool solve(Columns x, int threads) const {
        if (x.cols() == 1) return solve_refined<VectorXd>(x.col(0));
        const Index chunks = tiles_in(x.cols(), chunk_size);
        std::vector<unsigned char> regular(static_cast<std::size_t>(chunks));
        parallel_tasks(threads, chunks, [&](Index chunk) {
            const Index first = chunk * chunk_size;
            regular[static_cast<std::size_t>(chunk)] =
                solve_refined<MatrixXd>(x.middleCols(first, std::min(chunk_size, x.cols() - first)));
        });
        return std::all_of(regular.begin(), regular.end(), [](bool one) { return one; });
    }

private:
    Index size() const { return diagonal_.size(); }

    // Of what is in the strict lower triangle and on the diagonal.
    bool factor(int threads) {
        packed_.diagonal() = diagonal_;
        const bool positive = size() >= parallel_size ? tiled_cholesky(packed_, threads) : cholesky(packed_);
        if (!positive) return false;
        for (Index j = 0; j < size(); ++j)
            if (!is_pivot(packed_(j, j), diagonal_[j])) return false;
        return true;
    }

    template <class Solution>
    bool solve_refined(Eigen::Ref<Solution, 0, Eigen::OuterStride<>> x) const {
        const Solution b = x;
        Solution correction(b.rows(), b.cols());
        const auto lower = packed_.triangularView<Eigen::Lower>();
        const auto substitute = [&](auto& y) {
            lower.solveInPlace(y);
            lower.transpose().solveInPlace(y);
        };
        substitute(x);
        for (Index j = 0; j < x.cols(); ++j)
            residual(packed_, diagonal_, x.col(j).data(), b.col(j).data(), correction.col(j).data());
        substitute(correction);
        if (!correction.allFinite()) return true;  // of a right-hand side that is not finite
        x += correction;
        bool regular = true;
        for (Index j = 0; j < x.cols(); ++j) regular &= is_small(correction.col(j), x.col(j));
        return regular;
    }

    Eigen::Map<MatrixXd> packed_;
    Eigen::Map<VectorXd> diagonal_;
};

}  // namespace downslope::curvature

// Whether a matrix is finite and symmetric.
#pragma once

#include <algorithm>
#include <vector>

#include "../parallel.hpp"
#include "concept.hpp"
#include "lanes.hpp"

namespace downslope::curvature {

// Matrices are shared out over threads in tiles of this size.
inline constexpr Index tile_size = 64;

inline Index tiles_in(Index count, Index size = tile_size) { return (count + size - 1) / size; }

// The elements at (row, col) on, with zeros where the matrix has ended.
EIGEN_ALWAYS_INLINE Square square_at(const Eigen::Map<const MatrixXd>& a, Index row, Index col) {
    if (row + lanes <= a.rows() && col + lanes <= a.cols()) return a.block<lanes, lanes>(row, col);
    Square part = Square::Zero();
    const Index height = std::min<Index>(lanes, a.rows() - row), width = std::min<Index>(lanes, a.cols() - col);
    part.topLeftCorner(height, width) = a.block(row, col, height, width);
    return part;
}

// Checks that a matrix is finite and symmetric, in squares, since one of the two triangles is read against its order.
// Calls visit(row, col, square) for the squares of the symmetric part that are not below the diagonal. `scale` becomes
// its largest element.
template <class Visit>
FactorStatus visit_symmetric(const Eigen::Map<const MatrixXd>& a, double asymmetry, double& scale, int threads,
                             const Visit& visit) {
    struct Extremes {
        Lanes largest = Lanes::Zero(), difference = Lanes::Zero(), not_finite = Lanes::Zero();
    };
    std::vector<Extremes> extremes(static_cast<std::size_t>(tiles_in(a.rows())));
    parallel_tasks(threads, tiles_in(a.rows()), [&](Index tile) {
        Extremes extreme;
        const Index end = std::min((tile + 1) * tile_size, a.cols());
        for (Index col = tile * tile_size; col < end; col += lanes)
            for (Index row = 0; row <= col; row += lanes) {
                const Square above = square_at(a, row, col);
                Square below = square_at(a, col, row);
                below.transposeInPlace();
                const Square average = 0.5 * above + 0.5 * below;
                visit(row, col, average);
                for (int k = 0; k < lanes; ++k) {
                    extreme.largest = extreme.largest.max(average.col(k).array().abs());
                    extreme.difference = extreme.difference.max((above.col(k) - below.col(k)).array().abs());
                    extreme.not_finite += 0 * average.col(k).array();  // NaN, if one of the two is not finite
                }
            }
        extremes[static_cast<std::size_t>(tile)] = extreme;
    });
    double difference = 0;
    for (const Extremes& extreme : extremes) {
        if ((extreme.not_finite != 0).any()) return FactorStatus::not_finite;
        scale = std::max(scale, extreme.largest.maxCoeff());
        difference = std::max(difference, extreme.difference.maxCoeff());
    }
    return difference <= asymmetry * scale ? FactorStatus::success : FactorStatus::not_symmetric;
}

inline FactorStatus check_symmetric(const Eigen::Map<const MatrixXd>& a, double asymmetry, int threads) {
    double scale = 0;
    return visit_symmetric(a, asymmetry, scale, threads, [](Index, Index, const Square&) {});
}

}  // namespace downslope::curvature

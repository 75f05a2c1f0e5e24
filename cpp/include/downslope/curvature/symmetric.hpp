// Whether a matrix is finite and symmetric.
#pragma once

#include <algorithm>
#include <vector>

#include "../parallel.hpp"
#include "average.hpp"
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

// Calls visit(row, col, below, above) for the squares of a matrix at (row, col) and (col, row), row >= col, in the rows
// [begin, end), from left to right. The one above the diagonal is transposed, so that elements that mirror each other
// are at the same place: in squares, since one of the two triangles is read against its order.
template <class Visit>
void visit_rows(const Eigen::Map<const MatrixXd>& a, Index begin, Index end, const Visit& visit) {
    for (Index row = begin; row < end; row += lanes)
        for (Index col = 0; col <= row; col += lanes) {
            Square above = square_at(a, col, row);
            above.transposeInPlace();
            visit(row, col, square_at(a, row, col), above);
        }
}

// Checks that a matrix is finite and symmetric. Calls visit(row, col, square) for the squares of the symmetric part
// that are not above the diagonal. `scale` becomes its largest element.
template <class Visit>
FactorStatus visit_symmetric(const Eigen::Map<const MatrixXd>& a, double asymmetry, double& scale, int threads,
                             const Visit& visit) {
    struct Extremes {
        Lanes largest = Lanes::Zero(), difference = Lanes::Zero(), not_finite = Lanes::Zero();
    };
    std::vector<Extremes> extremes(static_cast<std::size_t>(tiles_in(a.rows())));
    parallel_tasks(threads, tiles_in(a.rows()), [&](Index tile) {
        Extremes extreme;
        const Index begin = tile * tile_size, end = std::min(begin + tile_size, a.rows());
        visit_rows(a, begin, end, [&](Index row, Index col, const Square& below, const Square& above) {
            const Square average = average_of(below, above);
            visit(row, col, average);
            for (int k = 0; k < lanes; ++k) {
                extreme.largest = extreme.largest.max(average.col(k).array().abs());
                extreme.difference = extreme.difference.max((above.col(k) - below.col(k)).array().abs());
                extreme.not_finite += 0 * average.col(k).array();  // NaN, if one of the two is not finite
            }
        });
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

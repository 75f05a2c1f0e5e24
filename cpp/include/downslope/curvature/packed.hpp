// How matrices lie in memory while they are factorized.
#pragma once

#include <algorithm>

#include "../large_pages.hpp"
#include "concept.hpp"
#include "lanes.hpp"

namespace downslope::curvature {

// A matrix whose columns are followed by some more rows, so that vectors of rows need no remainder.
using PackedMatrix = Eigen::Map<MatrixXd, 0, Eigen::OuterStride<>>;

// How many rows those are in all: an odd multiple of the lanes, as columns whose distance has many factors of two
// compete for few places in caches.
inline Index packed_rows(Index n) { return (((n + lanes - 1) / lanes) | 1) * lanes; }

// Memory for factors.
template <class Memory>
void resize_large(Memory& memory, Index rows, Index cols) {
    if (memory.rows() == rows && memory.cols() == cols) return;
    memory.resize(rows, cols);
    prefer_large_pages(memory.data(), static_cast<std::size_t>(memory.size()) * sizeof(double));
}

// The square at (row, col), as far as there are columns.
inline auto square_in(PackedMatrix& a, Index row, Index col) {
    using Part = Eigen::Map<Eigen::Matrix<double, lanes, Eigen::Dynamic>, 0, Eigen::OuterStride<>>;
    const Eigen::OuterStride<> stride(a.outerStride());
    return Part(a.col(col).data() + row, lanes, std::min<Index>(lanes, a.cols() - col), stride);
}

inline void put_square(PackedMatrix& a, Index row, Index col, const Square& square) {
    auto part = square_in(a, row, col);
    if (part.cols() == lanes)
        part.leftCols<lanes>() = square;
    else
        part = square.leftCols(part.cols());
}

}  // namespace downslope::curvature

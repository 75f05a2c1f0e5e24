// Where the rows of a symmetric matrix begin: before that its Cholesky factor, too, has nothing but zeros. George &
// Liu, "Computer solution of large sparse positive definite systems", 1981, chapter 4.
#pragma once

#include <algorithm>
#include <vector>

#include "concept.hpp"
#include "lanes.hpp"

namespace downslope::curvature {

class Envelope {
public:
    // Reads the strict upper triangle, in squares: their columns are the rows of the lower one.
    template <class Matrix>
    void enclose(const Matrix& a) {
        first_.resize(static_cast<std::size_t>((a.cols() + lanes - 1) / lanes));
        for (Index col = 0; col < a.cols(); col += lanes) {
            Index row = 0;
            while (row < col && is_zero(a, row, col)) row += lanes;
            first_[static_cast<std::size_t>(col / lanes)] = row;
        }
    }

    // A column before which the rows [begin, end) have only zeros.
    Index first(Index begin, Index end) const {
        const auto group = [this](Index row) { return first_.begin() + row / lanes; };
        return *std::min_element(group(begin), group(end - 1) + 1);
    }

    // About how many products a factorization takes.
    Index products() const {
        Index sum = 0, end = 0;
        for (const Index first : first_) {
            end += lanes;
            sum += lanes * (end - first) * (end - first) / 2;
        }
        return sum;
    }

private:
    template <class Matrix>
    static bool is_zero(const Matrix& a, Index row, Index col) {
        Lanes sizes = Lanes::Zero();
        for (Index c = col; c < std::min<Index>(col + lanes, a.cols()); ++c)
            sizes += a.col(c).template segment<lanes>(row).array().abs();
        return (sizes == 0).all();
    }

    std::vector<Index> first_;  // of so many rows each
};

}  // namespace downslope::curvature

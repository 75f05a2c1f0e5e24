// Where the rows of a symmetric matrix begin: before that its Cholesky factor, too, has nothing but zeros. George &
// Liu, "Computer solution of large sparse positive definite systems", 1981, chapter 4.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "concept.hpp"
#include "lanes.hpp"

namespace downslope::curvature {

class Envelope {
public:
    // Begins with a diagonal.
    explicit Envelope(Index n) : first_(static_cast<std::size_t>((n + lanes - 1) / lanes)) { reset(); }

    void reset() {
        Index row = 0;
        for (Index& first : first_) first = std::exchange(row, row + lanes);
    }

    // Takes in a square of the lower triangle, after those to the left of it.
    void enclose(Index row, Index col, const Square& part) {
        Index& first = first_[static_cast<std::size_t>(row / lanes)];
        if (col < first && part.cwiseAbs().sum() != 0) first = col;
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
    std::vector<Index> first_;  // of so many rows each
};

}  // namespace downslope::curvature

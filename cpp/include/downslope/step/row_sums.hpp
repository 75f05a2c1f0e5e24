// The gradient of some rows of an array: rows in any order, named more than once where several examples touched them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "storage.hpp"

namespace downslope {

// One row for each that is named, ascending, and the sum of what is given for it, in order of appearance.
template <class T>
struct RowSums {
    std::vector<std::int64_t> rows;
    std::vector<T> sums;

    // `values` holds a row of `row_length` elements for each of `named`.
    void add_up(const std::int64_t* named, std::int64_t count, const View& values, std::int64_t row_length) {
        order_.resize(static_cast<std::size_t>(count));
        std::iota(order_.begin(), order_.end(), std::int64_t{0});
        std::stable_sort(order_.begin(), order_.end(),
                         [&](std::int64_t a, std::int64_t b) { return named[a] < named[b]; });
        rows.clear();
        sums.resize(static_cast<std::size_t>(count * row_length));
        row_.resize(static_cast<std::size_t>(row_length));
        T* sum = sums.data() - row_length;
        for (const std::int64_t k : order_) {
            if (rows.empty() || rows.back() != named[k]) {
                rows.push_back(named[k]);
                sum += row_length;
                decode(values, k * row_length, row_length, sum);
            } else {
                decode(values, k * row_length, row_length, row_.data());
                for (std::int64_t i = 0; i < row_length; ++i) sum[i] += row_[static_cast<std::size_t>(i)];
            }
        }
    }

    View view() {
        const auto size = static_cast<std::int64_t>(rows.empty() ? 0 : rows.size() * row_.size());
        return {reinterpret_cast<std::byte*>(sums.data()), size, storage_of<T>, {}};
    }

private:
    std::vector<std::int64_t> order_;
    std::vector<T> row_;
};

}  // namespace downslope

// How the arrays of a step are cut up and shared out.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../parallel.hpp"

namespace downslope {

// The unit in which threads share out the work and in which sums are formed. A tile never spans two arrays.
inline constexpr std::int64_t tile_size = 1024;

// The unit in which a step works where it does more than one pass over the elements, or cannot work in place: one loop
// after the other finds it in the L1 cache, buffers of all operands included.
inline constexpr std::int64_t piece_size = 256;

constexpr std::int64_t tiles_of(std::int64_t elements) { return (elements + tile_size - 1) / tile_size; }

// Calls body(item, first, last) on stretches, each of whole tiles of one item, that together cover all elements of all
// items; up to `threads` threads take a contiguous run of tiles each. An item has its `size` and its `first_tile` among
// the tiles of all, of which there are `tiles`. The body must not throw.
template <class Item, class Body>
void for_each_stretch(const std::vector<Item>& items, std::int64_t tiles, int threads, const Body& body) {
    if (tiles == 0) return;
    parallel_runs(threads, tiles, [&](std::int64_t first, std::int64_t last) {
        auto item = std::upper_bound(items.begin(), items.end(), first,
                                     [](std::int64_t tile, const Item& other) { return tile < other.first_tile; });
        for (--item; item != items.end() && item->first_tile < last; ++item) {
            const std::int64_t begin = std::max<std::int64_t>(first - item->first_tile, 0) * tile_size;
            const std::int64_t end = std::min((last - item->first_tile) * tile_size, item->size);
            if (begin < end) body(*item, begin, end);
        }
    });
}

}  // namespace downslope

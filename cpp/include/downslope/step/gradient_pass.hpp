// What is asked of all gradients before any parameter moves: whether every element is finite, and their norm.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "fused_step.hpp"

namespace downslope {

struct TileFacts {
    double sum_of_squares;
    bool finite;  // or not asked for
};

template <class T>
[[gnu::noinline]] bool all_finite(const T* g, std::int64_t n) {
    int bad = 0;
    for (std::int64_t i = 0; i < n; ++i) bad |= !(std::abs(g[i]) <= std::numeric_limits<T>::max());
    return bad == 0;
}

// In double, in 16 lanes that are folded in a fixed order, so that no width of vectors changes a bit.
template <class T>
[[gnu::noinline]] double sum_of_squares(const Surroundings<T> around, const T* g, std::int64_t n) {
    constexpr std::int64_t lanes = 16;
    double sums[lanes] = {};
    const auto add = [&](std::int64_t i, std::int64_t lane) {
        const auto x = static_cast<double>(around.scaled(g[i]));
        sums[lane] += x * x;
    };
    std::int64_t i = 0;
    for (; i + lanes <= n; i += lanes)
        for (std::int64_t lane = 0; lane < lanes; ++lane) add(i + lane, lane);
    for (std::int64_t lane = 0; i < n; ++i, ++lane) add(i, lane);
    for (std::int64_t width = lanes / 2; width > 0; width /= 2)
        for (std::int64_t lane = 0; lane < width; ++lane) sums[lane] += sums[lane + width];
    return sums[0];
}

// A gradient to look at, in C order.
struct GradientJob {
    const View* grad;
    Compute compute;
    const void* surroundings;
    bool checks_finite;
    std::int64_t size, first_tile;
};

template <class T>
void look_at(const GradientJob& job, std::int64_t first, std::int64_t last, std::vector<TileFacts>& facts) {
    alignas(64) T buffer[tile_size];
    for (; first < last; first += tile_size) {
        const std::int64_t n = std::min(tile_size, last - first);
        const T* g = decoded(*job.grad, first, n, buffer);
        facts[static_cast<std::size_t>(job.first_tile + first / tile_size)] = {
            sum_of_squares(*static_cast<const Surroundings<T>*>(job.surroundings), g, n),
            !job.checks_finite || all_finite(g, n)};
    }
}

// The facts of all tiles of all gradients.
inline void look_at_gradients(const std::vector<GradientJob>& jobs, std::int64_t tiles, int threads,
                              std::vector<TileFacts>& facts) {
    facts.resize(static_cast<std::size_t>(tiles));
    for_each_stretch(jobs, tiles, threads, [&](const GradientJob& job, std::int64_t first, std::int64_t last) {
        if (job.compute == Compute::float32)
            look_at<float>(job, first, last, facts);
        else
            look_at<double>(job, first, last, facts);
    });
}

}  // namespace downslope

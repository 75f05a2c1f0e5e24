// The only element loop: a rule applied to a list of arrays in one parallel region.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "../parallel.hpp"
#include "../rule.hpp"
#include "storage.hpp"

namespace downslope {

// The unit in which threads share out the work and in which what is not contiguous is decoded: a buffer of it takes 4
// kB in float32 and 8 in float64, so that those of all five operands stay in the L1 cache or close by.
inline constexpr std::int64_t tile_size = 1024;
inline constexpr std::size_t max_slots = 3;

// What a step does to a gradient and a parameter before the rule sees them.
template <class T>
struct Surroundings {
    T grad_factor;   // scale and sign
    T weight_decay;  // coupled: g += weight_decay * p, unless 0
    T shrink;        // decoupled: p *= shrink
};

struct Job;
using Kernel = void (*)(const Job&, std::int64_t first, std::int64_t last) noexcept;

// One array to be stepped.
struct Job {
    Kernel kernel;
    const void* coefficients;  // the rule's Coefficients<T>
    const void* surroundings;  // Surroundings<T>, for a general kernel
    const View* param;
    const View* grad;
    const View* state;  // one view for each slot
    std::int64_t first_tile = 0;

    bool does_the_same_as(const Job& other) const {
        return kernel == other.kernel && coefficients == other.coefficients && surroundings == other.surroundings &&
               param == other.param && grad == other.grad && state == other.state;
    }
};

// The plain variant leaves out what surrounds the rule, so that a step without it costs nothing. Never inlined: its
// symbol is where a test looks at the instructions.
template <class Rule, class T, bool general, std::size_t... slot>
[[gnu::noinline]] void update_elements(const typename Rule::template Coefficients<T> c, const Surroundings<T> around,
                                       T* p, const T* g, T* const* state, std::int64_t n,
                                       std::index_sequence<slot...>) {
    T* const slots[sizeof...(slot) + 1] = {state[slot]..., nullptr};
    DOWNSLOPE_SIMD
    for (std::int64_t i = 0; i < n; ++i) {
        T param = p[i], grad = g[i], s[sizeof...(slot) + 1] = {slots[slot][i]..., T(0)};
        if constexpr (general) {
            grad = around.grad_factor * grad;
            grad = around.weight_decay != 0 ? grad + around.weight_decay * param : grad;
            param *= around.shrink;
        }
        Rule::update(c, param, grad, s);
        p[i] = param;
        ((slots[slot][i] = s[slot]), ...);
    }
}

// Elements [first, last) of a job: in place where an operand is direct, else through a buffer, tile by tile.
template <class Rule, class T, bool general>
void update_range(const Job& job, std::int64_t first, std::int64_t last) noexcept {
    constexpr std::size_t operands = Rule::slots.size() + 2;
    const View* views[operands] = {job.param, job.grad};
    for (std::size_t k = 2; k < operands; ++k) views[k] = job.state + (k - 2);
    const bool all_direct = std::all_of(views, views + operands, [](const View* view) { return is_direct<T>(*view); });
    const std::int64_t stretch = all_direct ? last - first : tile_size;

    alignas(64) T buffers[operands][tile_size];
    for (; first < last; first += stretch) {
        const std::int64_t n = std::min(stretch, last - first);
        T* pointers[operands];
        for (std::size_t k = 0; k < operands; ++k) {
            if (is_direct<T>(*views[k])) {
                pointers[k] = reinterpret_cast<T*>(views[k]->data) + first;
            } else {
                decode(*views[k], first, n, buffers[k]);
                pointers[k] = buffers[k];
            }
        }
        update_elements<Rule, T, general>(
            *static_cast<const typename Rule::template Coefficients<T>*>(job.coefficients),
            general ? *static_cast<const Surroundings<T>*>(job.surroundings) : Surroundings<T>{}, pointers[0],
            pointers[1], pointers + 2, n, std::make_index_sequence<Rule::slots.size()>());
        for (std::size_t k = 0; k < operands; ++k)
            if (k != 1 && pointers[k] == buffers[k]) encode(*views[k], first, n, buffers[k]);
    }
}

// Runs all jobs on up to `threads` threads, each a contiguous run of tiles. Fills in the jobs' first_tile.
inline void fused_step(std::vector<Job>& jobs, int threads) {
    std::int64_t tiles = 0;
    for (Job& job : jobs) {
        if (job.first_tile != tiles) job.first_tile = tiles;
        tiles += (job.param->size + tile_size - 1) / tile_size;
    }
    if (tiles == 0) return;
    parallel_runs(threads, tiles, [&](std::int64_t first, std::int64_t last) {
        auto job = std::upper_bound(jobs.begin(), jobs.end(), first,
                                    [](std::int64_t tile, const Job& other) { return tile < other.first_tile; });
        for (--job; job != jobs.end() && job->first_tile < last; ++job) {
            const std::int64_t begin = std::max<std::int64_t>(first - job->first_tile, 0) * tile_size;
            const std::int64_t end = std::min((last - job->first_tile) * tile_size, job->param->size);
            if (begin < end) job->kernel(*job, begin, end);
        }
    });
}

}  // namespace downslope

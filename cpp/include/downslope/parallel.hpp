// Threads: the only file that names OpenMP. Without OpenMP everything runs on the caller's thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <thread>

#include "float_environment.hpp"

#ifdef _OPENMP
#include <omp.h>
#endif

// Before a loop whose iterations are independent: vectorize it without asking whether its arrays overlap. (`omp simd`
// would say the same, but makes GCC keep an iteration's local arrays in memory, and then it does not vectorize at all.)
#if defined(__clang__)
#define DOWNSLOPE_SIMD _Pragma("clang loop vectorize(assume_safety)")
#else
#define DOWNSLOPE_SIMD _Pragma("GCC ivdep")
#endif

namespace downslope {

#ifdef _OPENMP
inline constexpr bool has_openmp = true;
#else
inline constexpr bool has_openmp = false;
#endif

// Calls body(first, last) on `threads` contiguous runs that together cover [0, count), in the default floating-point
// environment. The body must not throw.
template <class Body>
void parallel_runs(int threads, std::int64_t count, const Body& body) {
#ifdef _OPENMP
    if (threads > 1) {
#pragma omp parallel num_threads(threads)
        {
            const DefaultFloatEnvironment environment;
            const std::int64_t thread = omp_get_thread_num(), team = omp_get_num_threads();
            body(count * thread / team, count * (thread + 1) / team);
        }
        return;
    }
#else
    (void)threads;
#endif
    const DefaultFloatEnvironment environment;
    body(std::int64_t{0}, count);
}

// Calls body(task) once for each task in [0, count), each on whichever of `threads` threads is free, in the default
// floating-point environment. For tasks that differ in length. The body must not throw.
template <class Body>
void parallel_tasks(int threads, std::int64_t count, const Body& body) {
    std::atomic<std::int64_t> next{0};
    parallel_runs(count > 1 ? threads : 1, threads, [&](std::int64_t, std::int64_t) {
        for (std::int64_t task; (task = next++) < count;) body(task);
    });
}

// The same for body(worker, item), where a worker is one of the threads. Where there are many items a worker takes
// several neighbours at a time, since what they write often shares cache lines. Worker 0 is the caller's thread; when
// no item is left it calls `meanwhile()` every now and then until the others have ended, too. Neither must throw.
template <class Body, class Meanwhile>
void parallel_items(int threads, std::int64_t count, const Body& body, const Meanwhile& meanwhile) {
    const std::int64_t share = std::clamp<std::int64_t>(count / (32 * std::int64_t{threads}), 1, 64);
    std::atomic<std::int64_t> next{0};
    std::atomic<int> waiting{0};
    parallel_runs(threads, threads, [&](std::int64_t first, std::int64_t last) {
        // A team that is smaller than asked for leaves several workers' shares to one thread.
        for (std::int64_t worker = first; worker < last; ++worker) {
            for (std::int64_t item; (item = next.fetch_add(share)) < count;)
                for (const std::int64_t end = std::min(item + share, count); item < end; ++item)
                    body(static_cast<std::size_t>(worker), item);
            ++waiting;
        }
        while (first == 0 && waiting < threads) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
            meanwhile();
        }
    });
}

// Waits until another thread has counted up to this. Most waits are short, so at first it keeps looking.
template <class Count>
void wait_until(const std::atomic<Count>& count, Count least) {
    int looks = 1000;
    while (count.load(std::memory_order_acquire) < least) looks > 0 ? void(--looks) : std::this_thread::yield();
}

}  // namespace downslope

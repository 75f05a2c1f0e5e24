// Threads: the only file that names OpenMP. Without OpenMP everything runs on the caller's thread.
#pragma once

#include <cstdint>

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

}  // namespace downslope

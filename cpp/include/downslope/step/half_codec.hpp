// Neighbouring float16 numbers to float32 and back, to the nearest, by the processor's own instructions for it, which
// compilers do not use in loops. They give the same numbers as Float16, only that a NaN keeps some of its bits.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __F16C__
#include <immintrin.h>
#endif

namespace downslope {

// Both convert as many of n numbers as fill whole vectors, and return how many that are.
inline std::int64_t decode_halves([[maybe_unused]] const std::byte* halves, [[maybe_unused]] std::int64_t n,
                                  [[maybe_unused]] float* numbers) {
    std::int64_t i = 0;
#ifdef __F16C__
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(numbers + i,
                         _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves + 2 * i))));
#endif
    return i;
}

inline std::int64_t encode_halves([[maybe_unused]] const float* numbers, [[maybe_unused]] std::int64_t n,
                                  [[maybe_unused]] std::byte* halves) {
    std::int64_t i = 0;
#ifdef __F16C__
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(halves + 2 * i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(numbers + i), _MM_FROUND_TO_NEAREST_INT));
#endif
    return i;
}

}  // namespace downslope

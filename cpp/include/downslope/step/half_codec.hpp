// Neighbouring float16 numbers to float32 and back, to the nearest, by the processor's own instructions for it, which
// compilers do not use in loops. They give the same bits as Float16.
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
    for (; i + 8 <= n; i += 8) {
        const __m256 x = _mm256_loadu_ps(numbers + i), nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000));
        const __m256 same = _mm256_blendv_ps(x, nan, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));  // whatever a NaN's other bits
        _mm_storeu_si128(reinterpret_cast<__m128i*>(halves + 2 * i), _mm256_cvtps_ph(same, _MM_FROUND_TO_NEAREST_INT));
    }
#endif
    return i;
}

}  // namespace downslope

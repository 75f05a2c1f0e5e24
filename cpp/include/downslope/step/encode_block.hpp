// A block of numbers as 8-bit codes: the only place where instructions are chosen by hand. Compilers narrow 32 bits to
// 8 with shuffles that take as long as all the rest.
#pragma once

#include <cstdint>
#include <type_traits>

#include "../parallel.hpp"
#include "codecs.hpp"
#include "random_bits.hpp"

#ifdef __AVX512BW__
#include <immintrin.h>
#endif

namespace downslope {

#ifdef __AVX512BW__
// The same for 64 elements from `first` on. The key takes the code's base away; packing cuts off what is below 0 or
// above the top.
template <class Code>
void encode_64(const float* values, float inverse, std::uint32_t key, std::int32_t first, std::uint8_t* codes) {
    constexpr bool is_signed = std::is_same_v<Code, SignedCode>;
    const __m512i keys = _mm512_set1_epi32(static_cast<std::int32_t>(key) - (Code::base << 20));
    __m512i ratio[4], code[4];
    for (int q = 0; q < 4; ++q) {
        const std::int32_t at = first + 16 * q;
        ratio[q] = _mm512_castps_si512(_mm512_mul_ps(_mm512_load_ps(values + at), _mm512_set1_ps(inverse)));
        const __m512i magnitude = is_signed ? _mm512_and_si512(ratio[q], _mm512_set1_epi32(0x7fffffff)) : ratio[q];
        const __m512i random = _mm512_xor_si512(_mm512_load_si512(random_points.point + at), keys);
        code[q] = _mm512_maskz_srai_epi32(0xffff, _mm512_add_epi32(magnitude, random), 20);
    }
    const __m512i low = _mm512_packus_epi32(code[0], code[1]), high = _mm512_packus_epi32(code[2], code[3]);
    __m512i bytes = is_signed ? _mm512_packs_epi16(low, high) : _mm512_packus_epi16(low, high);
    if constexpr (is_signed) {
        const __m512i signs =
            _mm512_packs_epi16(_mm512_packs_epi32(ratio[0], ratio[1]), _mm512_packs_epi32(ratio[2], ratio[3]));
        bytes = _mm512_or_si512(bytes, _mm512_and_si512(signs, _mm512_set1_epi8(-128)));
    }
    // Packing takes 128 bits at a time from one operand after the other.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_storeu_si512(codes + first, _mm512_maskz_permutexvar_epi32(0xffff, order, bytes));
}
#endif

template <class Code>
[[gnu::always_inline]] inline void encode_block(const float* values, float inverse, std::uint32_t key, std::int32_t n,
                                                std::uint8_t* codes) {
    std::int32_t first = 0;
#ifdef __AVX512BW__
    for (; first + 64 <= n; first += 64) encode_64<Code>(values, inverse, key, first, codes);
#endif
    DOWNSLOPE_SIMD
    for (std::int32_t i = first; i < n; ++i)
        codes[i] = static_cast<std::uint8_t>(Code::encode(values[i] * inverse, random_points.point[i] ^ key));
}

}  // namespace downslope

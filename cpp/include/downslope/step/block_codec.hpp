// Blocks of 8-bit codes to numbers and back. With half_codec.hpp the only places where instructions are chosen by hand:
// compilers widen 8 bits to 32 and narrow them again with shuffles that take as long as all the rest.
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

// The numbers that `decoded_together` codes stand for; where that is 0, compilers do better by themselves.
template <class Code>
void decode_group(const std::uint8_t* codes, float scale, float* values);

#ifdef __AVX512BW__
inline constexpr std::int32_t decoded_together = 16;

template <class Code>
[[gnu::always_inline]] inline void decode_group(const std::uint8_t* codes, float scale, float* values) {
    constexpr __mmask16 all = 0xffff;  // without a mask GCC 12 warns of its own header
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
    const __m512i base = _mm512_set1_epi32(Code::base << 20);
    __m512i bits;
    if constexpr (std::is_same_v<Code, SignedCode>) {
        const __m512i code = _mm512_maskz_cvtepi8_epi32(all, bytes);
        const __m512i sign_and_magnitude = _mm512_and_si512(_mm512_maskz_slli_epi32(all, code, 20),
                                                            _mm512_set1_epi32(static_cast<std::int32_t>(0x87f00000)));
        const __mmask16 not_zero = _mm512_test_epi32_mask(code, _mm512_set1_epi32(127));
        bits = _mm512_maskz_add_epi32(not_zero, sign_and_magnitude, base);
    } else {
        bits = _mm512_add_epi32(_mm512_maskz_slli_epi32(all, _mm512_maskz_cvtepu8_epi32(all, bytes), 20), base);
    }
    _mm512_store_ps(values, _mm512_mul_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(scale)));
}

// Encodes 64 elements from `first` on. The key takes the code's base away; packing cuts off what is below 0 or
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
        const __m512i random = _mm512_xor_si512(_mm512_load_si512(random_points<20>.point + at), keys);
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
#else
inline constexpr std::int32_t decoded_together = 0;
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
        codes[i] = static_cast<std::uint8_t>(Code::encode(values[i] * inverse, random_points<20>.point[i] ^ key));
}

}  // namespace downslope

// Number formats that only store: bfloat16, float16, and the 8-bit code of state. All functions are free of branches
// that depend on data, so that loops over them vectorize.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace downslope {

inline std::uint32_t bits_of(float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

inline float float_of(std::uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// Cut off, not rounded, so that rounding what is left rounds only once; what is too large becomes the largest float.
inline float toward_zero(float x) { return x; }
inline float toward_zero(double x) {
    const auto rounded = static_cast<float>(x);
    const bool beyond = std::abs(static_cast<double>(rounded)) > std::abs(x);
    return float_of(bits_of(rounded) - (beyond ? 1 : 0));
}

struct BFloat16 {
    std::uint16_t bits;

    explicit operator float() const { return float_of(static_cast<std::uint32_t>(bits) << 16); }

    static BFloat16 nearest(float x) {
        const std::uint32_t b = bits_of(x);
        return from_sum(x, b + 0x7fff + (b >> 16 & 1));
    }
    // Up with the probability of the fraction that is lost; `random` has 16 bits.
    static BFloat16 stochastic(float x, std::uint32_t random) { return from_sum(x, bits_of(x) + random); }

private:
    static BFloat16 from_sum(float x, std::uint32_t sum) {
        return {static_cast<std::uint16_t>(x != x ? 0x7fc0 : sum >> 16)};
    }
};

struct Float16 {
    std::uint16_t bits;

    explicit operator float() const {
        constexpr std::uint32_t smallest_normal = 113 << 23;  // 2^-14
        const std::uint32_t magnitude = static_cast<std::uint32_t>(bits & 0x7fff) << 13;
        const std::uint32_t rebiased = magnitude + ((127 - 15) << 23);
        const float subnormal = float_of(magnitude + smallest_normal) - float_of(smallest_normal);
        const bool special = magnitude >= 0x1fu << 23, tiny = magnitude < 1u << 23;
        const std::uint32_t b = special ? rebiased + ((128 - 16) << 23) : tiny ? bits_of(subnormal) : rebiased;
        return float_of(b | static_cast<std::uint32_t>(bits & 0x8000) << 16);
    }

    static Float16 nearest(float x) {
        // Added to a number below 2^-14, this leaves it in the last ten bits, rounded by the addition.
        constexpr std::uint32_t magic = (127 - 15 + 23 - 10 + 1) << 23;
        const std::uint32_t b = bits_of(x) & 0x7fffffff;
        const std::uint32_t normal = (b - ((127 - 15) << 23) + 0xfff + (b >> 13 & 1)) >> 13;
        const std::uint32_t tiny = bits_of(float_of(b) + float_of(magic)) - magic;
        return from_magnitude(x, b < smallest_normal ? tiny : normal);
    }
    static Float16 stochastic(float x, std::uint32_t random) {
        const std::uint32_t b = bits_of(x) & 0x7fffffff;
        const std::uint32_t normal = ((b + (random >> 3)) >> 13) - (112 << 10);
        const float steps =
            float_of(std::min(b, smallest_normal)) * 0x1p24f + static_cast<float>(random >> 3) * 0x1p-13f;
        const auto tiny = static_cast<std::uint32_t>(static_cast<std::int32_t>(steps));
        return from_magnitude(x, b < smallest_normal ? tiny : normal);
    }

private:
    static constexpr std::uint32_t smallest_normal = 113 << 23, infinite = 0x7c00;

    static Float16 from_magnitude(float x, std::uint32_t magnitude) {
        const std::uint32_t sign = bits_of(x) >> 16 & 0x8000;
        return {static_cast<std::uint16_t>(x != x ? 0x7e00 : std::min(magnitude, infinite) | sign)};
    }
};

// State in 8 bits: blocks of 256 elements share a scale, their largest magnitude, and an element is stored as a
// floating-point number in [0, 1] relative to it, with 3 bits of fraction and 5 bits of exponent, or 4 and a sign where
// it may be negative. So the relative error is the same all the way down, and the codec is a few instructions. (The
// dynamic tree code of Dettmers et al. 2022, decimal with a table of 256 values, takes a gather each way, which costs
// more than the 6 bytes that it saves; and it rounds a second moment of less than 3e-7 of its block's largest to zero,
// where Adam divides by its root.) The scale is exact so that where all elements of a block shrink alike, as averages
// do under vanishing gradients, the scale alone moves and nothing is rounded.

// The code of state that is never negative. No code is zero: what is too small comes back as the smallest code.
struct UnsignedCode {
    using Byte = std::uint8_t;
    static constexpr std::int32_t top = 255;          // stands for 1
    static constexpr std::int32_t base = 1016 - top;  // 1016: the upper 12 bits of 1.0f

    static float value(Byte code) { return float_of((static_cast<std::uint32_t>(code) + base) << 20); }
    static Byte encode(float ratio, std::uint32_t random) {
        const std::int32_t code = (static_cast<std::int32_t>(bits_of(ratio) + random) >> 20) - base;
        return static_cast<Byte>(std::min(std::max(code, 0), top));
    }
};

// The code of state that may be negative, and zero.
struct SignedCode {
    using Byte = std::int8_t;
    static constexpr std::int32_t top = 127;
    static constexpr std::int32_t base = 1016 - top;

    static float value(Byte code) {
        const std::uint32_t sign_and_magnitude = static_cast<std::uint32_t>(code) << 20 & 0x87f00000;
        return float_of((code & 127) == 0 ? 0 : sign_and_magnitude + (base << 20));
    }
    static Byte encode(float ratio, std::uint32_t random) {
        const auto b = static_cast<std::int32_t>(bits_of(ratio));
        const std::int32_t code = (((b & 0x7fffffff) + static_cast<std::int32_t>(random)) >> 20) - base;
        return static_cast<Byte>((b >> 24 & ~127) | std::min(std::max(code, 0), top));
    }
};

// The scale of a block, from the bits of its largest magnitude, and what an element is multiplied by to be relative to
// it. A block with a NaN or an infinity becomes NaN as a whole, since no code stands for either.
struct BlockScale {
    bool finite;
    float scale, inverse;

    explicit BlockScale(std::uint32_t largest) {
        constexpr std::uint32_t smallest_normal = 1u << 23;  // whose inverse is finite
        finite = largest < 0x7f800000;
        const float divisor = float_of(std::max(largest, smallest_normal));
        scale = !finite ? float_of(0x7fc00000) : largest == 0 ? 0 : divisor;
        inverse = 1 / divisor;
    }
};

}  // namespace downslope

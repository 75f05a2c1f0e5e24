// Random bits for stochastic rounding: a function of what is rounded, not of when or by which thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace downslope {

// One step of splitmix64 (Steele, Lea & Flood 2014).
constexpr std::uint64_t mix(std::uint64_t z) {
    z += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

// What all random words of one array in one step have in common.
constexpr std::uint64_t random_stream(std::uint64_t seed, std::uint64_t array, std::uint64_t count) {
    return mix(mix(mix(seed) ^ array) ^ count);
}

// The words of 2^32 consecutive elements. Each word serves two roundings: one takes its low bits, one its high bits.
struct RandomWords {
    static constexpr std::uint32_t step = 0x7feb352d;
    std::uint32_t start, flips;

    RandomWords() = default;
    constexpr RandomWords(std::uint64_t stream, std::uint64_t word, std::int64_t index) : start(0), flips(0) {
        const std::uint64_t key = mix(stream ^ (2 * (static_cast<std::uint64_t>(index) >> 32) + word));
        start = (static_cast<std::uint32_t>(key) + static_cast<std::uint32_t>(index)) * step;
        flips = static_cast<std::uint32_t>(key >> 32);
    }

    // Of the i-th element after `index`; a few instructions, so that a vector unit makes a word in as many cycles.
    constexpr std::uint32_t operator[](std::int32_t i) const {
        const std::uint32_t h = start + static_cast<std::uint32_t>(i) * step;
        return (h ^ h >> 15 ^ flips) * 0x846ca68bu;
    }
};

// The first two state slots round by word 0, the third and the parameter by word 1.
inline constexpr std::size_t parameter_slot = 3;

constexpr std::uint32_t random16(std::uint32_t word, std::size_t slot) {
    return slot % 2 == 0 ? word & 0xffff : word >> 16;
}

// Words of 20 bits for state in blocks of 8-bit codes: fixed points, all flipped by one random key for each block and
// slot. Each word is uniform, and independent from block to block, from slot to slot and from step to step; within a
// block words are not independent but spread evenly: their upper 8 bits are all numbers of 8 bits. A word costs one
// instruction, where those above cost several.
inline constexpr std::int32_t block_size = 256;

struct RandomPoints {
    alignas(64) std::uint32_t point[block_size];

    constexpr RandomPoints() : point() {
        for (std::uint32_t i = 0; i < block_size; ++i) point[i] = i * 157 % block_size << 12;
    }
};
inline constexpr RandomPoints random_points;

// The bits are inverted, so that no key is that of a RandomWords.
constexpr std::uint32_t block_key(std::uint64_t stream, std::size_t slot, std::int64_t block) {
    return static_cast<std::uint32_t>(mix(stream ^ ~(4 * static_cast<std::uint64_t>(block) + slot)) >> 44);
}

}  // namespace downslope

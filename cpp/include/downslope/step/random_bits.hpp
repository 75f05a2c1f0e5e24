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

// Elements share a block of this many in what follows, in the order of the array.
inline constexpr std::int32_t block_size = 256;

// Random words: fixed points, all flipped by one random key for each block and slot. Each word is uniform, and
// independent from block to block, from slot to slot and from step to step; within a block words are not independent
// but spread evenly: their upper 8 bits are all numbers of 8 bits, and those of two slots differ by the same bits
// throughout. A word costs one instruction.
template <int bits>
struct RandomPoints {
    static_assert(bits >= 8 && bits <= 32);
    alignas(64) std::uint32_t point[block_size];

    constexpr RandomPoints() : point() {
        for (std::uint32_t i = 0; i < block_size; ++i) point[i] = i * 157 % block_size << (bits - 8);
    }
};
template <int bits>
inline constexpr RandomPoints<bits> random_points;

// The parameter rounds as if it were the slot with this number.
inline constexpr std::size_t parameter_slot = 3;

// The bits of the block's number are inverted, so that no key is that of a stream.
template <int bits>
constexpr std::uint32_t block_key(std::uint64_t stream, std::size_t slot, std::int64_t block) {
    return static_cast<std::uint32_t>(mix(stream ^ ~(4 * static_cast<std::uint64_t>(block) + slot)) >> (64 - bits));
}

// Words of 16 bits for the elements from `at` on that belong to the same block.
class RandomHalves {
public:
    RandomHalves() = default;
    RandomHalves(std::uint64_t stream, std::size_t slot, std::int64_t at)
        : points_(random_points<16>.point + at % block_size), key_(block_key<16>(stream, slot, at / block_size)) {}

    std::uint32_t operator[](std::int64_t i) const { return points_[i] ^ key_; }

private:
    const std::uint32_t* points_ = nullptr;
    std::uint32_t key_ = 0;
};

}  // namespace downslope

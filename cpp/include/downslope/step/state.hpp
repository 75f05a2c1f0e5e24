// Where a rule's state lives while the loop works on it: the state itself, or a buffer that it is decoded into.
//
// A store is opened for the elements [at, at + n) of the array, which gives what the loop reads and writes by index,
// and closed when the loop is done with them; all of them belong to one block, unless the state is worked on in place.
// Where it pays, the loop reads groups of group_size elements, decoded as a whole; elsewhere that is 0.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "block_codec.hpp"
#include "codecs.hpp"
#include "job.hpp"
#include "random_bits.hpp"
#include "storage.hpp"
#include "tiles.hpp"

namespace downslope {

// State of the compute type.
template <class Rule, class T>
class NativeState {
    static constexpr std::size_t slots = Rule::slots.size();

public:
    struct Elements {
        static constexpr std::int32_t group_size = 0;
        T* slot[slots + 1];

        template <std::size_t k>
        T load(std::int32_t i) const {
            return slot[k][i];
        }
        template <std::size_t k>
        void store(std::int32_t i, T value) const {
            slot[k][i] = value;
        }
    };

    explicit NativeState(const Job& job) : job_(job) {}

    static bool in_place(const Job& job) {
        for (std::size_t k = 0; k < slots; ++k)
            if (!is_direct<T>(job.state[k])) return false;
        return true;
    }

    Elements open(std::int64_t at, std::int32_t n) {
        Elements elements{};
        for (std::size_t k = 0; k < slots; ++k) elements.slot[k] = decoded(job_.state[k], at, n, buffers_[k]);
        return elements;
    }
    void close(std::int64_t at, std::int32_t n) {
        for (std::size_t k = 0; k < slots; ++k)
            if (!is_direct<T>(job_.state[k])) encode(job_.state[k], at, n, buffers_[k], nullptr);
    }

private:
    const Job& job_;
    alignas(64) T buffers_[slots + 1][piece_size];
};

// State in bfloat16, contiguous, rounded stochastically: rounded to the nearest, an average that moves by a thousandth
// of itself would not move at all.
template <class Rule, class T>
class BFloat16State {
    static constexpr std::size_t slots = Rule::slots.size();

public:
    struct Elements {
        static constexpr std::int32_t group_size = 0;
        BFloat16* slot[slots + 1];
        RandomHalves random[slots + 1];

        template <std::size_t k>
        T load(std::int32_t i) const {
            return static_cast<float>(slot[k][i]);
        }
        template <std::size_t k>
        void store(std::int32_t i, T value) const {
            slot[k][i] = BFloat16::stochastic(toward_zero(value), random[k][i]);
        }
    };

    explicit BFloat16State(const Job& job) : job_(job) {}

    static bool in_place(const Job&) { return false; }

    Elements open(std::int64_t at, std::int32_t) {
        Elements elements{};
        for (std::size_t k = 0; k < slots; ++k) {
            elements.slot[k] = reinterpret_cast<BFloat16*>(job_.state[k].data) + at;
            elements.random[k] = RandomHalves(job_.random_stream, k, at);
        }
        return elements;
    }
    void close(std::int64_t, std::int32_t) {}

private:
    const Job& job_;
};

// State in blocks of 8-bit codes, contiguous, rounded stochastically; its scales lie apart.
template <class Rule, class T>
class BlockState {
    static constexpr std::size_t slots = Rule::slots.size();

    template <std::size_t k>
    using Code = std::conditional_t<Rule::slots[k].never_negative, UnsignedCode, SignedCode>;

public:
    struct Elements;

    // The elements of a group, for the loop over it alone.
    class Group {
    public:
        template <std::size_t... k>
        Group([[maybe_unused]] const Elements& elements, std::int32_t first, std::index_sequence<k...>)
            : first_(first) {
            (decode_group<Code<k>>(elements.codes[k] + first, elements.scale[k], values_[k]), ...);
        }
        template <std::size_t k>
        T load(std::int32_t i) const {
            return values_[k][i - first_];
        }

    private:
        std::int32_t first_;
        alignas(64) float values_[slots + 1][std::max(decoded_together, 1)];
    };

    struct Elements {
        static constexpr std::int32_t group_size = decoded_together;
        const std::uint8_t* codes[slots + 1];
        float scale[slots + 1];
        float* slot[slots + 1];

        template <std::size_t k>
        T load(std::int32_t i) const {
            return Code<k>::value(reinterpret_cast<const typename Code<k>::Byte*>(codes[k])[i]) * scale[k];
        }
        Group group(std::int32_t first) const { return Group(*this, first, std::make_index_sequence<slots>()); }
        template <std::size_t k>
        void store(std::int32_t i, T value) const {
            slot[k][i] = toward_zero(value);
        }
    };

    explicit BlockState(const Job& job) : job_(job) {}

    static bool in_place(const Job&) { return false; }

    Elements open(std::int64_t at, std::int32_t) {
        Elements elements{};
        for (std::size_t k = 0; k < slots; ++k) {
            elements.codes[k] = codes(k, at);
            elements.scale[k] = job_.scales[k][at / block_size];
            elements.slot[k] = values_[k];
        }
        return elements;
    }

    void close(std::int64_t at, std::int32_t n) { close_slots(at, n, std::make_index_sequence<slots>()); }

private:
    std::uint8_t* codes(std::size_t slot, std::int64_t at) const {
        return reinterpret_cast<std::uint8_t*>(job_.state[slot].data) + at;
    }

    // Never inlined: its symbol is where a test looks at the instructions.
    template <std::size_t... k>
    [[gnu::noinline]] void close_slots([[maybe_unused]] std::int64_t at, [[maybe_unused]] std::int32_t n,
                                       std::index_sequence<k...>) {
        [[maybe_unused]] std::uint32_t largest[slots + 1] = {};
        for (std::int32_t i = 0; i < n; ++i)
            ((largest[k] = std::max(largest[k], bits_of(values_[k][i]) & 0x7fffffff)), ...);
        // One division behind the other, before anything waits for them.
        [[maybe_unused]] const BlockScale scale[slots + 1] = {BlockScale(largest[k])..., BlockScale(0)};
        (close_slot<k>(scale[k], at, n), ...);
    }

    template <std::size_t k>
    void close_slot(const BlockScale& scale, std::int64_t at, std::int32_t n) {
        const std::int64_t block = at / block_size;
        job_.scales[k][block] = scale.scale;
        if (scale.finite)
            encode_block<Code<k>>(values_[k], scale.inverse, block_key<20>(job_.random_stream, k, block), n,
                                  codes(k, at));
        else
            std::fill_n(codes(k, at), n, std::uint8_t{0});
    }

    const Job& job_;
    alignas(64) float values_[slots + 1][block_size];
};

}  // namespace downslope

// How an array lies in memory, and the codec between that and a buffer of the compute type. Rules never hear of it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "codecs.hpp"
#include "half_codec.hpp"
#include "random_bits.hpp"

namespace downslope {

// What an update is computed in, and what an operand is stored in. The first storages are the compute types.
enum class Compute : std::uint8_t { float32, float64 };
enum class Storage : std::uint8_t { float32, float64, float16, bfloat16 };

template <class T>
inline constexpr Storage storage_of = std::is_same_v<T, float> ? Storage::float32 : Storage::float64;

constexpr Compute compute_type(Storage storage) {
    return storage == Storage::float64 ? Compute::float64 : Compute::float32;
}

constexpr std::int64_t item_size(Storage storage) {
    return storage == Storage::float64 ? 8 : storage == Storage::float32 ? 4 : 2;
}

inline constexpr std::size_t max_axes = 64;  // NumPy's limit, too

struct Axis {
    std::int64_t extent;
    std::int64_t stride;  // in bytes; may be negative, or 0 where an operand that is only read is broadcast
};

// One operand of a step. It has no axes if its elements lie one behind the other, aligned, in logical order.
struct View {
    std::byte* data = nullptr;
    std::int64_t size = 0;
    Storage storage = Storage::float32;
    std::vector<Axis> axes;  // outermost first, merged where one runs on into the next
};

// A view of the array with these axes, outermost first.
inline View make_view(void* data, Storage storage, const std::vector<Axis>& axes) {
    View view{static_cast<std::byte*>(data), 1, storage, {}};
    for (const Axis& axis : axes) {
        view.size *= axis.extent;
        if (axis.extent == 1) continue;
        if (!view.axes.empty() && view.axes.back().stride == axis.extent * axis.stride)
            view.axes.back() = {view.axes.back().extent * axis.extent, axis.stride};
        else
            view.axes.push_back(axis);
    }
    if (view.axes.size() > max_axes) throw std::length_error("an array has at most 64 axes");
    const bool aligned = reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(item_size(storage)) == 0;
    if (view.axes.empty() && !aligned) view.axes.push_back({1, item_size(storage)});
    if (view.size == 0 || (view.axes.size() == 1 && view.axes[0].stride == item_size(storage) && aligned))
        view.axes.clear();
    return view;
}

// Whether the loop can work on the view's own memory.
template <class T>
bool is_direct(const View& view) {
    return view.axes.empty() && view.storage == storage_of<T>;
}

// Calls run(address, stride, offset, count) on the stretches of constant stride that make up elements [first, first +
// n), in logical (C) order; offset counts from `first`. The stride is a constant where elements are neighbours, so that
// loops over them vectorize. Never inlined: its symbol is where a test looks at the instructions.
template <class Stored, class Run>
[[gnu::noinline]] void for_each_run(const View& view, std::int64_t first, std::int64_t n, const Run& run) {
    constexpr std::integral_constant<std::int64_t, sizeof(Stored)> next;
    if (view.axes.empty()) return run(view.data + first * next, next, std::int64_t{0}, n);
    std::int64_t index[max_axes];  // of the element at `address`; divided out once, then carried like an odometer
    std::byte* address = view.data;
    for (std::size_t k = view.axes.size(); k-- > 0; first /= view.axes[k].extent) {
        index[k] = first % view.axes[k].extent;
        address += index[k] * view.axes[k].stride;
    }
    const std::size_t last = view.axes.size() - 1;
    const std::int64_t stride = view.axes[last].stride;
    for (std::int64_t offset = 0;;) {
        const std::int64_t count = std::min(view.axes[last].extent - index[last], n - offset);
        if (stride == next)
            run(address, next, offset, count);
        else
            run(address, stride, offset, count);
        offset += count;
        if (offset >= n) return;
        address -= index[last] * stride;
        index[last] = 0;
        for (std::size_t k = last; k-- > 0;) {
            address += view.axes[k].stride;
            if (++index[k] < view.axes[k].extent) break;
            address -= index[k] * view.axes[k].stride;
            index[k] = 0;
        }
    }
}

// Elements are moved by memcpy because they need not be aligned; for aligned ones it compiles to the same plain move.
template <class Stored, class T>
void decode_as(const View& view, std::int64_t first, std::int64_t n, T* out) {
    for_each_run<Stored>(view, first, n,
                         [&](const std::byte* address, auto stride, std::int64_t offset, std::int64_t count) {
                             for (std::int64_t i = 0; i < count; ++i) {
                                 Stored value;
                                 std::memcpy(&value, address + i * stride, sizeof value);
                                 if constexpr (std::is_floating_point_v<Stored>)
                                     out[offset + i] = static_cast<T>(value);
                                 else
                                     out[offset + i] = static_cast<float>(value);
                             }
                         });
}

// Elements [first, first + n) as T.
template <class T>
void decode(const View& view, std::int64_t first, std::int64_t n, T* out) {
    switch (view.storage) {
        case Storage::float32:
            return decode_as<float>(view, first, n, out);
        case Storage::float64:
            return decode_as<double>(view, first, n, out);
        case Storage::float16: {
            std::int64_t done = 0;
            if constexpr (std::is_same_v<T, float>)
                if (view.axes.empty()) done = decode_halves(view.data + first * item_size(view.storage), n, out);
            return decode_as<Float16>(view, first + done, n - done, out + done);
        }
        case Storage::bfloat16:
            return decode_as<BFloat16>(view, first, n, out);
    }
}

// Writes stored(i), i = 0, 1, ..., each of this type, into elements [first, first + n).
template <class Stored, class Function>
void encode_as(const View& view, std::int64_t first, std::int64_t n, const Function& stored) {
    for_each_run<Stored>(view, first, n, [&](std::byte* address, auto stride, std::int64_t offset, std::int64_t count) {
        const Function value_of = stored;  // a copy, so that the loop knows that what it captured stays
        for (std::int64_t i = 0; i < count; ++i) {
            const Stored value = value_of(offset + i);
            std::memcpy(address + i * stride, &value, sizeof value);
        }
    });
}

// Back into elements [first, first + n) of a view that holds T, or 16-bit numbers, rounded: to the nearest, or, if
// there is a `random`, stochastically.
template <class T>
void encode(const View& view, std::int64_t first, std::int64_t n, const T* in, const RandomHalves* random) {
    if constexpr (std::is_same_v<T, float>)
        if (view.storage == Storage::float16 && view.axes.empty() && random == nullptr) {
            const std::int64_t done = encode_halves(in, n, view.data + first * item_size(view.storage));
            first += done, n -= done, in += done;
        }
    const auto rounded = [&](auto format) {
        using Format = decltype(format);
        if (random == nullptr)
            encode_as<Format>(view, first, n,
                              [in](std::int64_t i) { return Format::nearest(static_cast<float>(in[i])); });
        else
            encode_as<Format>(view, first, n, [in, random = *random](std::int64_t i) {
                return Format::stochastic(static_cast<float>(in[i]), random[i]);
            });
    };
    switch (view.storage) {
        case Storage::float32:
        case Storage::float64:
            return encode_as<T>(view, first, n, [in](std::int64_t i) { return in[i]; });
        case Storage::float16:
            return rounded(Float16());
        case Storage::bfloat16:
            return rounded(BFloat16());
    }
}

}  // namespace downslope

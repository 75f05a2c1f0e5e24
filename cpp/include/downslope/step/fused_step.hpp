// The fused step: one pass over parameter, gradient and state that applies a rule. The only element loop around rules.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "../parallel.hpp"
#include "../rule.hpp"
#include "job.hpp"
#include "state.hpp"
#include "tiles.hpp"

namespace downslope {

inline constexpr std::size_t max_slots = 3;

// What a step does to a gradient and a parameter before the rule sees them, and to the average of the parameter after.
template <class T>
struct Surroundings {
    T grad_factor;   // scale and sign
    T clip_value;    // each element is cut off there; infinite if none is
    T clip_factor;   // what the norm of all gradients asks for; 1 if nothing
    T weight_decay;  // coupled: g += weight_decay * p, unless 0
    T shrink;        // decoupled: p *= shrink
    T average_rate;  // e += average_rate * (p - e)

    // The gradient up to where the norm is taken. The comparisons are such that NaN stays, and that each is one
    // instruction.
    T scaled(T grad) const {
        grad = grad_factor * grad;
        grad = clip_value < grad ? clip_value : grad;
        return -clip_value > grad ? -clip_value : grad;
    }
};

// The plain variant leaves out what surrounds the rule, so that a step without it costs nothing. Never inlined: its
// symbol is where a test looks at the instructions.
template <class Rule, class T, bool general, class Elements, std::size_t... slot>
[[gnu::noinline]] void update_elements(const typename Rule::template Coefficients<T>& coefficients,
                                       const Surroundings<T>& surroundings, T* p, const T* g, const Elements& elements,
                                       std::int32_t n, std::index_sequence<slot...>) {
    // Copied here, member by member, so that the loop knows that they stay; passed by value, they would be copied by
    // wide loads, which wait for the narrow stores that have just made them.
    const auto c = coefficients;
    const auto around = surroundings;
    const auto state = elements;
    // The count of a group is a constant, so that its elements are taken at once.
    const auto update = [&](const auto& old, std::int32_t first, auto count) {
        const std::int32_t last = first + count;
        DOWNSLOPE_SIMD
        for (std::int32_t i = first; i < last; ++i) {
            T param = p[i], grad = g[i], s[sizeof...(slot) + 1] = {old.template load<slot>(i)..., T(0)};
            if constexpr (general) {
                grad = around.clip_factor * around.scaled(grad);
                grad = around.weight_decay != 0 ? grad + around.weight_decay * param : grad;
                param *= around.shrink;
            }
            Rule::update(c, param, grad, s);
            p[i] = param;
            (state.template store<slot>(i, s[slot]), ...);
        }
    };
    std::int32_t first = 0;
    if constexpr (Elements::group_size > 0) {
        constexpr std::integral_constant<std::int32_t, Elements::group_size> whole;
        for (; first + whole <= n; first += whole) {
            // The processor fetches ahead of a bare stream by itself; but while a piece is encoded it sees none. (Codes
            // are a small part of the bytes. Where a buffer or the array ends, this is in vain.)
            __builtin_prefetch(p + first + piece_size);
            __builtin_prefetch(g + first + piece_size);
            update(state.group(first), first, whole);
        }
    }
    update(state, first, n - first);
}

template <class T>
[[gnu::noinline]] void advance_average(T rate, const T* p, T* average, std::int64_t n) {
    DOWNSLOPE_SIMD
    for (std::int64_t i = 0; i < n; ++i) average[i] += rate * (p[i] - average[i]);
}

// Elements [first, first + n) of the average follow those of the parameter, as it is stored: `p`, unless that is
// rounded.
template <class T>
void follow(const Job& job, std::int64_t first, std::int64_t n, T* p) {
    if (job.param->storage != storage_of<T>) decode(*job.param, first, n, p);
    alignas(64) T buffer[piece_size];
    T* average = decoded(*job.average, first, n, buffer);
    advance_average(static_cast<const Surroundings<T>*>(job.surroundings)->average_rate, p, average, n);
    if (average == buffer) encode(*job.average, first, n, buffer, nullptr);
}

// Elements [first, last) of a job's gradient: in place where an operand is direct, else through a buffer, piece by
// piece.
template <class Rule, class T, bool general, template <class, class> class State>
void update_range(const Job& job, std::int64_t first, std::int64_t last) noexcept {
    using Store = State<Rule, T>;
    const bool in_place = is_direct<T>(*job.param) && is_direct<T>(*job.grad) && Store::in_place(job) &&
                          job.average == nullptr && job.rows == nullptr;
    static_assert(piece_size == block_size && tile_size % block_size == 0, "a piece belongs to one block");
    const std::int64_t piece = in_place ? std::int64_t{1} << 30 : piece_size;
    const auto& coefficients = *static_cast<const typename Rule::template Coefficients<T>*>(job.coefficients);
    const auto& around = *static_cast<const Surroundings<T>*>(job.surroundings);

    Store state(job);
    alignas(64) T param_buffer[piece_size], grad_buffer[piece_size];
    for (std::int64_t n = 0; first < last; first += n) {
        n = job.run_length(first, std::min(piece, last - first));
        const std::int64_t at = job.in_array(first);
        T* p = decoded(*job.param, at, n, param_buffer);
        const T* g = decoded(*job.grad, first, n, grad_buffer);
        const auto count = static_cast<std::int32_t>(n);
        update_elements<Rule, T, general>(coefficients, around, p, g, state.open(at, count), count,
                                          std::make_index_sequence<Rule::slots.size()>());
        state.close(at, count);
        if (p == param_buffer) {
            if (job.rounds_parameter) {
                const RandomHalves random(job.random_stream, parameter_slot, at);
                encode(*job.param, at, n, p, &random);
            } else {
                encode(*job.param, at, n, p, nullptr);
            }
        }
        if (job.average != nullptr) follow(job, at, n, p);
    }
}

}  // namespace downslope

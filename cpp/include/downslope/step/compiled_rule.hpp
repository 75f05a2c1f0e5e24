// A rule as data: what the rest of the library needs of it without naming its type.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

#include "../rule.hpp"
#include "fused_step.hpp"

namespace downslope {

struct HyperParameterInfo {
    const char* name;
    double default_value;
    Domain domain;
};

// Room for any rule's Coefficients<T>.
struct alignas(8) CoefficientBytes {
    static constexpr std::size_t capacity = 80;
    std::byte bytes[capacity];
};

// The operands of a step on one float64 array that needs no jobs, tiles or threads. Slots lie one behind the other;
// `weight_decay` is the coupled one, and decoupled decay the factor `shrink`.
struct SerialStep {
    double* p;
    double* state;
    std::int64_t n;
    CoefficientBytes coefficients;
    double weight_decay, shrink;
};

// Hyper-parameters are values in the order of `hyper_parameters`.
struct CompiledRule {
    const char* name;
    std::vector<HyperParameterInfo> hyper_parameters;
    std::vector<Slot> slots;
    bool carries_product, takes_rows;
    bool (*applies)(const std::vector<double>& values);
    double (*initial_state)(const std::vector<double>& values);
    // Both by the compute type; the kernels also by how state is stored, and whether they know what surrounds a rule.
    void (*prepare[2])(const std::vector<double>& values, std::int64_t t, double& product, CoefficientBytes& out);
    Kernel kernels[2][3][2];
    // For a loop that steps one array itself; and where it is to take the gradient, unless that is nullptr, which means
    // at the parameter.
    void (*step)(const SerialStep& step, const double* g);
    void (*look_ahead)(const std::vector<double>& values, const SerialStep& step, double* out);

    Kernel kernel(Compute compute, StateStorage state, bool general) const {
        return kernels[static_cast<std::size_t>(compute)][static_cast<std::size_t>(state)][general];
    }
};

template <class Rule, std::size_t... i>
typename Rule::Hyper hyper_from(const std::vector<double>& values, std::index_sequence<i...>) {
    typename Rule::Hyper hyper;
    ((hyper.*(Rule::hyper_parameters[i].member) = values[i]), ...);
    return hyper;
}
template <class Rule>
typename Rule::Hyper hyper_from(const std::vector<double>& values) {
    return hyper_from<Rule>(values, std::make_index_sequence<std::size(Rule::hyper_parameters)>());
}

template <class Rule, class T>
auto prepared(const std::vector<double>& values, std::int64_t t, [[maybe_unused]] double& product) {
    const auto hyper = hyper_from<Rule>(values);
    if constexpr (Rule::carries_product)
        return Rule::template prepare<T>(hyper, t, product);
    else
        return Rule::template prepare<T>(hyper, t);
}

template <class Rule, class T>
void prepare_into(const std::vector<double>& values, std::int64_t t, double& product, CoefficientBytes& out) {
    using Coefficients = typename Rule::template Coefficients<T>;
    static_assert(sizeof(Coefficients) <= sizeof out && alignof(Coefficients) <= alignof(CoefficientBytes));
    new (&out) Coefficients(prepared<Rule, T>(values, t, product));
}

template <class Rule>
void step_serially(const SerialStep& step, const double* g) {
    constexpr auto slots = std::make_index_sequence<Rule::slots.size()>();
    const auto& coefficients =
        *reinterpret_cast<const typename Rule::template Coefficients<double>*>(step.coefficients.bytes);
    typename NativeState<Rule, double>::Elements state{};
    for (std::size_t k = 0; k < Rule::slots.size(); ++k)
        state.slot[k] = step.state + static_cast<std::int64_t>(k) * step.n;
    const auto n = static_cast<std::int32_t>(step.n);
    const Surroundings<double> around{1, infinity, 1, step.weight_decay, step.shrink, 0};
    if (step.weight_decay == 0 && step.shrink == 1)
        update_elements<Rule, double, false>(coefficients, around, step.p, g, state, n, slots);
    else
        update_elements<Rule, double, true>(coefficients, around, step.p, g, state, n, slots);
}

template <class Rule>
void look_ahead(const std::vector<double>& values, const SerialStep& step, double* out) {
    const auto hyper = hyper_from<Rule>(values);
    for (std::int64_t i = 0; i < step.n; ++i) out[i] = Rule::look_ahead(hyper, step.p[i], step.state + i);
}

template <class Rule>
CompiledRule compile() {
    static_assert(std::size(Rule::slots) <= max_slots);
    CompiledRule rule{
        Rule::name,
        {},
        {Rule::slots.begin(), Rule::slots.end()},
        Rule::carries_product,
        Rule::takes_rows,
        [](const std::vector<double>& values) { return Rule::applies(hyper_from<Rule>(values)); },
        [](const std::vector<double>& values) { return Rule::initial_state(hyper_from<Rule>(values)); },
        {prepare_into<Rule, float>, prepare_into<Rule, double>},
        {{{update_range<Rule, float, false, NativeState>, update_range<Rule, float, true, NativeState>},
          {update_range<Rule, float, false, BFloat16State>, update_range<Rule, float, true, BFloat16State>},
          {update_range<Rule, float, false, BlockState>, update_range<Rule, float, true, BlockState>}},
         {{update_range<Rule, double, false, NativeState>, update_range<Rule, double, true, NativeState>},
          {update_range<Rule, double, false, BFloat16State>, update_range<Rule, double, true, BFloat16State>},
          {update_range<Rule, double, false, BlockState>, update_range<Rule, double, true, BlockState>}}},
        step_serially<Rule>,
        nullptr};
    if constexpr (Rule::looks_ahead) rule.look_ahead = look_ahead<Rule>;
    const typename Rule::Hyper defaults;
    for (const auto& parameter : Rule::hyper_parameters)
        rule.hyper_parameters.push_back({parameter.name, defaults.*(parameter.member), parameter.domain});
    return rule;
}

}  // namespace downslope

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

    Kernel kernel(Compute compute, StateStorage state, bool general) const {
        return kernels[static_cast<std::size_t>(compute)][static_cast<std::size_t>(state)][general];
    }
};

template <class Rule>
typename Rule::Hyper hyper_from(const std::vector<double>& values) {
    typename Rule::Hyper hyper;
    for (std::size_t i = 0; i < values.size(); ++i) hyper.*(Rule::hyper_parameters[i].member) = values[i];
    return hyper;
}

template <class Rule, class T>
void prepare_into(const std::vector<double>& values, std::int64_t t, double& product, CoefficientBytes& out) {
    using Coefficients = typename Rule::template Coefficients<T>;
    static_assert(sizeof(Coefficients) <= sizeof out && alignof(Coefficients) <= alignof(CoefficientBytes));
    const auto hyper = hyper_from<Rule>(values);
    if constexpr (Rule::carries_product)
        new (&out) Coefficients(Rule::template prepare<T>(hyper, t, product));
    else
        new (&out) Coefficients(Rule::template prepare<T>(hyper, t));
    (void)product;
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
          {update_range<Rule, double, false, BlockState>, update_range<Rule, double, true, BlockState>}}}};
    const typename Rule::Hyper defaults;
    for (const auto& parameter : Rule::hyper_parameters)
        rule.hyper_parameters.push_back({parameter.name, defaults.*(parameter.member), parameter.domain});
    return rule;
}

}  // namespace downslope

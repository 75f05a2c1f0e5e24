// A rule as data: what the rest of the library needs of it without naming its type.
#pragma once

#include <cstddef>
#include <new>
#include <string_view>
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

// Hyper-parameters are values in the order of `hyper_parameters`; arrays indexed by Storage hold one entry a compute
// type.
struct CompiledRule {
    const char* name;
    std::vector<HyperParameterInfo> hyper_parameters;
    std::vector<std::string_view> slots;
    bool carries_product;
    bool (*applies)(const std::vector<double>& values);
    double (*initial_state)(const std::vector<double>& values);
    void (*prepare[2])(const std::vector<double>& values, std::int64_t t, double& product, CoefficientBytes& out);
    Kernel kernels[2][2];  // [compute type][general]
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
    CompiledRule rule{Rule::name,
                      {},
                      {Rule::slots.begin(), Rule::slots.end()},
                      Rule::carries_product,
                      [](const std::vector<double>& values) { return Rule::applies(hyper_from<Rule>(values)); },
                      [](const std::vector<double>& values) { return Rule::initial_state(hyper_from<Rule>(values)); },
                      {prepare_into<Rule, float>, prepare_into<Rule, double>},
                      {{update_range<Rule, float, false>, update_range<Rule, float, true>},
                       {update_range<Rule, double, false>, update_range<Rule, double, true>}}};
    const typename Rule::Hyper defaults;
    for (const auto& parameter : Rule::hyper_parameters)
        rule.hyper_parameters.push_back({parameter.name, defaults.*(parameter.member), parameter.domain});
    return rule;
}

}  // namespace downslope

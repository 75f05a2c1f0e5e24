// All rules, compiled. Include it in one translation unit: it instantiates every kernel.
#pragma once

#include <string_view>
#include <vector>

#include "../rules/rules.hpp"
#include "compiled_rule.hpp"

namespace downslope {

template <class... Rules>
std::vector<CompiledRule> compile_all(RuleList<Rules...>) {
    return {compile<Rules>()...};
}

inline const std::vector<CompiledRule>& compiled_rules() {
    static const std::vector<CompiledRule> rules = compile_all(AllRules());
    return rules;
}

// The variant of the rule `name` that these hyper-parameters ask for, or nullptr if no rule has that name and as many
// of them.
inline const CompiledRule* find_rule(std::string_view name, const std::vector<double>& values) {
    for (const CompiledRule& rule : compiled_rules())
        if (name == rule.name && values.size() == rule.hyper_parameters.size() && rule.applies(values)) return &rule;
    return nullptr;
}

}  // namespace downslope

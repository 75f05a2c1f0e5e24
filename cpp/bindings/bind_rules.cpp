// The list of rules as Python sees it: tables of hyper-parameters, and the state that a variant keeps.
#include <pybind11/stl.h>

#include <string>

#include "bindings.hpp"
#include "downslope/step/compiled_rules.hpp"
#include "downslope/step/stepper.hpp"

namespace py = pybind11;

namespace downslope::bindings {
namespace {

py::tuple row(const char* name, double default_value, const Domain& domain) {
    const char* kind = domain.kind == Kind::flag ? "flag" : domain.kind == Kind::number ? "number" : "optional";
    return py::make_tuple(name, default_value, kind, domain.lower, domain.upper, domain.includes_upper);
}

const CompiledRule& rule_named(const std::string& name) {
    for (const CompiledRule& rule : compiled_rules())
        if (name == rule.name) return rule;
    throw py::key_error(name);
}

}  // namespace

const CompiledRule& rule_for(const std::string& name, const std::vector<double>& hyper) {
    const CompiledRule* rule = find_rule(name, hyper);
    if (rule == nullptr) throw py::key_error(name);
    return *rule;
}

bool rule_takes_rows(const std::string& name) { return rule_named(name).takes_rows; }

void bind_rules(py::module_& module) {
    module.def(
        "rule_names",
        [] {
            py::list names;
            for (const CompiledRule& rule : compiled_rules())
                if (!names.contains(rule.name)) names.append(rule.name);
            return names;
        },
        "The names of all rules.");
    module.def(
        "rule_table",
        [](const std::string& name) {
            py::list table;
            for (const auto& entry : rule_named(name).hyper_parameters)
                table.append(row(entry.name, entry.default_value, entry.domain));
            return table;
        },
        py::arg("rule"), "Rows (name, default, kind, lower, upper, includes upper), one a hyper-parameter.");
    module.def(
        "options_table",
        [] {
            py::list table;
            const StepOptions defaults;
            for (const auto& entry : StepOptions::table)
                table.append(row(entry.name, defaults.*(entry.member), entry.domain));
            return table;
        },
        "The same for the keyword options that every rule takes.");
    module.def(
        "state_layout",
        [](const std::string& name, const std::vector<double>& hyper) {
            const CompiledRule& rule = rule_for(name, hyper);
            py::list slots;
            for (const Slot& slot : rule.slots) slots.append(py::make_tuple(slot.name, slot.never_negative));
            return py::make_tuple(slots, rule.initial_state(hyper), rule.carries_product);
        },
        py::arg("rule"), py::arg("hyper"),
        "(slots, each a name and whether it is never negative; the value they start from; whether a running product is "
        "kept) for these hyper-parameters.");
}

}  // namespace downslope::bindings

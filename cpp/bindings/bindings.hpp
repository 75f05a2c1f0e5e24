// What the files of the binding module share.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "downslope/step/compiled_rule.hpp"

namespace downslope::bindings {

void bind_rules(pybind11::module_& module);
void bind_codecs(pybind11::module_& module);
void bind_step(pybind11::module_& module);
void bind_minimize(pybind11::module_& module);
void bind_least_squares(pybind11::module_& module);
void bind_threads(pybind11::module_& module);
void bind_config(pybind11::module_& module);
void bind_curvature(pybind11::module_& module);
void bind_preconditioners(pybind11::module_& module);

// The variant of a rule that these hyper-parameters ask for. Only bind_rules.cpp sees the rules' own types, so that a
// change in one compiles one file anew.
const CompiledRule& rule_for(const std::string& name, const std::vector<double>& hyper);

// Whether a gradient may be rows of an array.
bool rule_takes_rows(const std::string& name);

// Changes in a forked child, so that a lock can tell whether its owner is a thread that the child does not have.
std::uint64_t fork_generation();

// How many threads a step over this many elements gets.
int threads_for(std::int64_t elements);

// How many threads work gets that is large in any case.
int all_threads();

}  // namespace downslope::bindings

// What the files of the binding module share.
#pragma once

#include <pybind11/pybind11.h>

namespace downslope::bindings {

void bind_rules(pybind11::module_& module);
void bind_step(pybind11::module_& module);
void bind_threads(pybind11::module_& module);
void bind_config(pybind11::module_& module);

// How many threads a step over this many elements gets.
int threads_for(std::int64_t elements);

}  // namespace downslope::bindings

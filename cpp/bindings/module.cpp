#include "bindings.hpp"

PYBIND11_MODULE(DOWNSLOPE_MODULE, module) {
    using namespace downslope::bindings;
    module.doc() = "The compiled core of downslope, built for one instruction set level.";
    bind_rules(module);
    bind_codecs(module);
    bind_step(module);
    bind_minimize(module);
    bind_least_squares(module);
    bind_threads(module);
    bind_config(module);
    bind_curvature(module);
    bind_preconditioners(module);
}

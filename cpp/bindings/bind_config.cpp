// Facts about this build.
#include "bindings.hpp"
#include "downslope/parallel.hpp"

namespace py = pybind11;

namespace downslope::bindings {

void bind_config(py::module_& module) {
    module.attr("isa") = DOWNSLOPE_ISA;
    module.attr("has_openmp") = has_openmp;
    module.attr("eigen_version") = DOWNSLOPE_EIGEN;
#if defined(__clang__)
    module.attr("compiler") = "Clang " __clang_version__;
#else
    module.attr("compiler") = "GCC " __VERSION__;
#endif
}

}  // namespace downslope::bindings

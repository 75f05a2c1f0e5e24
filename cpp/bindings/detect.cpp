// Which of the built levels this processor can run. Compiled without instruction set flags, so that it loads anywhere.
#include <pybind11/pybind11.h>

#include <sstream>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace py = pybind11;

namespace {

#if defined(__x86_64__)
// What level 3 has beyond the features that __builtin_cpu_supports knows in all compilers.
bool has_f16c_movbe_lzcnt() {
    unsigned a, b, basic, d, extended;
    return __get_cpuid(1, &a, &b, &basic, &d) && (basic & bit_F16C) && (basic & bit_MOVBE) &&
           __get_cpuid(0x80000001, &a, &b, &extended, &d) && (extended & bit_LZCNT);
}
#endif

// The x86-64 psABI's microarchitecture levels, by the features that processors gained with them.
bool supports(const std::string& level) {
    if (level == "generic") return true;
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool v2 =
        __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("popcnt");
    const bool v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && has_f16c_movbe_lzcnt();
    const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");
    return (level == "x86-64-v2" && v2) || (level == "x86-64-v3" && v3) || (level == "x86-64-v4" && v4);
#else
    return false;
#endif
}

py::list built_levels(bool only_supported) {
    py::list levels;
    std::istringstream words(DOWNSLOPE_BUILT_LEVELS);
    for (std::string level; words >> level;)
        if (!only_supported || supports(level)) levels.append(level);
    return levels;
}

}  // namespace

PYBIND11_MODULE(_detect, module) {
    module.doc() = "Tells which builds of the core this processor can run.";
    module.def("built_levels", [] { return built_levels(false); }, "All levels built, lowest first.");
    module.def("supported_levels", [] { return built_levels(true); }, "Those that this processor has.");
}

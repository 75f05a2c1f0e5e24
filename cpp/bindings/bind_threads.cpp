// The process-wide thread settings.
#include <algorithm>
#include <atomic>
#include <cstdint>

#include "bindings.hpp"
#include "downslope/parallel.hpp"
#include "lock.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace py = pybind11;

namespace downslope::bindings {
namespace {

std::atomic<int> num_threads{1};
// Below this many elements in all, waking the other threads costs more than they bring.
std::atomic<std::int64_t> parallel_threshold{32768};
std::atomic<std::uint64_t> forks{0};

bool in_one_go(const py::args& calls) {
    for (const py::handle& call : calls) {
        const auto parts = call.cast<py::tuple>();
        const py::tuple args = parts[py::slice(1, static_cast<py::ssize_t>(parts.size()), 1)];
        if (parts[0](*args).is(py::bool_(false))) return false;
    }
    return true;
}

}  // namespace

// A forked child has only the thread that forked; libgomp would wait for its old team for ever.
int all_threads() { return has_openmp && forks == 0 ? num_threads.load() : 1; }

std::uint64_t fork_generation() { return forks; }

int threads_for(std::int64_t elements) { return elements < parallel_threshold ? 1 : all_threads(); }

void bind_threads(py::module_& module) {
#if defined(__unix__) || defined(__APPLE__)
    pthread_atfork(nullptr, nullptr, [] { ++forks; });
#endif
    module.def("set_num_threads", [](int n) { num_threads = std::max(n, 1); }, py::arg("n"));
    module.def("get_num_threads", all_threads, "How many threads a large step uses: 1 without OpenMP or after a fork.");
    module.def(
        "set_parallel_threshold", [](std::int64_t elements) { return parallel_threshold.exchange(elements); },
        py::arg("elements"), "Steps over fewer elements stay on the caller's thread. Returns the setting it replaces.");
    module.def("in_one_go", in_one_go,
               "Calls functions of C or C++, (function, *arguments) each, until one answers False, and returns whether "
               "none did. Python handles no signal in between, so an interrupt finds all done, or nothing.");
    py::class_<Lock>(module, "Lock", py::module_local(), "`with lock:` keeps other threads out of `what`.")
        .def(py::init<std::string>(), py::arg("what"))
        .def("__enter__", &Lock::lock)
        .def("__exit__", [](Lock& lock, const py::args&) { lock.unlock(); });
}

}  // namespace downslope::bindings

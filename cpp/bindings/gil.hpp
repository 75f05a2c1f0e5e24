// Work without the interpreter's lock, the GIL.
//
// A thread that wants the lock when the interpreter has shut down never gets it: Python ends the thread, by unwinding
// its stack. pybind11's guards turn that into an abort, and objects on the stack would be released without the lock. So
// such a thread sleeps until the process is gone, as it does from Python 3.14 on.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <optional>
#include <thread>

namespace downslope::bindings {

template <class Take>
void take_gil_or_sleep(const Take& take) noexcept {
    try {
        take();
    } catch (...) {  // the unwinding, which nothing else would be
        for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
}

// Without the GIL, if so wanted, while it lives.
class WithoutGil {
public:
    explicit WithoutGil(bool wanted = true) : saved_(wanted ? PyEval_SaveThread() : nullptr) {}
    WithoutGil(const WithoutGil&) = delete;
    WithoutGil& operator=(const WithoutGil&) = delete;
    ~WithoutGil() {
        if (saved_ != nullptr) take_gil_or_sleep([this] { PyEval_RestoreThread(saved_); });
    }

private:
    PyThreadState* saved_;
};

// With the GIL while it lives, in the middle of work without it.
class WithGil {
public:
    WithGil() {
        take_gil_or_sleep([this] { held_.emplace(); });
    }

private:
    std::optional<pybind11::gil_scoped_acquire> held_;
};

// What the work returns.
template <class Work>
auto without_gil(const Work& work) {
    const WithoutGil released;
    return work();
}

}  // namespace downslope::bindings

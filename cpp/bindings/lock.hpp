// What keeps other threads out of an object of Python's.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>

#include "bindings.hpp"
#include "gil.hpp"

namespace downslope::bindings {

// One thread at a time, which may come in again: `with lock:` in Python. Nobody waits for it while holding the GIL, and
// no forked child for a thread that it does not have.
class Lock {
public:
    explicit Lock(std::string what) : what_(std::move(what)) {}

    void lock() {
        if (!mutex_.try_lock()) {
            if (owner_generation_ != fork_generation()) {
                PyErr_SetString(PyExc_RuntimeError,
                                ("this " + what_ + " was in use when the process forked: make a new one").c_str());
                throw pybind11::error_already_set();
            }
            const WithoutGil released(true);
            mutex_.lock();
        }
        owner_generation_ = fork_generation();
    }
    void unlock() { mutex_.unlock(); }

private:
    std::string what_;  // is locked
    std::recursive_mutex mutex_;
    std::atomic<std::uint64_t> owner_generation_{0};
};

}  // namespace downslope::bindings

// What the bindings of loops share.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#include "downslope/minimize/differences.hpp"

namespace downslope::bindings {

using Vector = pybind11::array_t<double, pybind11::array::c_style>;

inline std::vector<pybind11::ssize_t> shape_of(const pybind11::array& array) {
    return {array.shape(), array.shape() + array.ndim()};
}

inline Differences differences_of(const std::string& name) {
    return name == "2-point" ? Differences::two_point : Differences::three_point;
}

// Whether Ctrl-C has been pressed, or something else that the interpreter waits to raise. The error is kept.
class Interrupts {
public:
    bool none() {
        if (!error_ && PyErr_CheckSignals() != 0) keep_error();
        return !error_;
    }
    // The same after `progress(done)`, unless there is None to show it.
    bool none_after(const pybind11::object& progress, std::int64_t done) {
        try {
            if (!progress.is_none()) progress(done);
        } catch (pybind11::error_already_set& error) {
            error.restore();
            keep_error();
        }
        return none();
    }
    void keep_error() { error_ = std::make_exception_ptr(pybind11::error_already_set()); }
    void raise() const {
        if (error_) std::rethrow_exception(error_);
    }

private:
    std::exception_ptr error_;
};

}  // namespace downslope::bindings

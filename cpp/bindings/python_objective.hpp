// An objective that is a Python function, for loops that hold the GIL.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace downslope::bindings {

// What results are converted by if they are not at once a float, or an array of float64 of the shape of x; both raise
// what a user should read.
struct Converters {
    pybind11::object to_float, to_array;
};

class PythonFunction {
public:
    using Array = pybind11::array_t<double, pybind11::array::c_style>;

    PythonFunction(pybind11::object function, pybind11::tuple args, std::vector<pybind11::ssize_t> shape,
                   Converters converters)
        : function_(std::move(function)),
          args_(std::move(args)),
          converters_(std::move(converters)),
          shape_(std::move(shape)),
          call_(2) {
        for (const pybind11::handle arg : args_) call_.push_back(arg.ptr());
    }

    // The array passed is a new one unless nobody has kept the last one, or changed more of it than its elements: what
    // a function keeps never changes.
    pybind11::object operator()(const double* x) {
        if (!is_as_made(x_)) x_ = Array(shape_);
        std::memcpy(static_cast<Array&>(x_).mutable_data(), x, static_cast<std::size_t>(size()) * sizeof(double));
        call_[1] = x_.ptr();
        PyObject* result = PyObject_Vectorcall(function_.ptr(), &call_[1],
                                               (call_.size() - 1) | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr);
        if (result == nullptr) throw pybind11::error_already_set();
        return pybind11::reinterpret_steal<pybind11::object>(result);
    }

    double as_float(const pybind11::handle& value) const {
        const pybind11::object number = PyFloat_Check(value.ptr())
                                            ? pybind11::reinterpret_borrow<pybind11::object>(value)
                                            : converters_.to_float(value);
        return PyFloat_AS_DOUBLE(number.ptr());
    }

    void copy_array(const pybind11::handle& value, double* out) const {
        const bool fits = Array::check_(value) && has_shape(pybind11::reinterpret_borrow<pybind11::array>(value));
        const pybind11::object array =
            fits ? pybind11::reinterpret_borrow<pybind11::object>(value) : converters_.to_array(value);
        std::memcpy(out, pybind11::reinterpret_borrow<pybind11::array>(array).data(),
                    static_cast<std::size_t>(size()) * sizeof(double));
    }

private:
    std::int64_t size() const {
        std::int64_t n = 1;
        for (const pybind11::ssize_t extent : shape_) n *= extent;
        return n;
    }
    bool is_as_made(const pybind11::object& x) const {
        if (!x || Py_REFCNT(x.ptr()) != 1 || !Array::check_(x)) return false;
        const auto& array = static_cast<const Array&>(x);
        return array.writeable() && has_shape(array);
    }
    bool has_shape(const pybind11::array& array) const {
        return static_cast<std::size_t>(array.ndim()) == shape_.size() &&
               std::equal(shape_.begin(), shape_.end(), array.shape());
    }

    pybind11::object function_;
    pybind11::tuple args_;
    Converters converters_;
    std::vector<pybind11::ssize_t> shape_;
    std::vector<PyObject*> call_;  // the first is room for the callee, the second x
    pybind11::object x_;
};

// A function that returns value and gradient.
struct PythonPair {
    PythonFunction fun;
    static constexpr std::int64_t evaluations = 1;

    double operator()(const double* x, double* gradient) {
        const pybind11::object result = fun(x);
        if (!PyTuple_Check(result.ptr()) || PyTuple_GET_SIZE(result.ptr()) != 2) {
            PyErr_Format(PyExc_TypeError, "with jac=True, fun must return a tuple of value and gradient, got %R",
                         result.ptr());
            throw pybind11::error_already_set();
        }
        const double f = fun.as_float(PyTuple_GET_ITEM(result.ptr(), 0));
        fun.copy_array(PyTuple_GET_ITEM(result.ptr(), 1), gradient);
        return f;
    }
};

// Two functions, one for each.
struct PythonApart {
    PythonFunction fun, jac;
    static constexpr std::int64_t evaluations = 1;

    double operator()(const double* x, double* gradient) {
        const double f = fun.as_float(fun(x));
        jac.copy_array(jac(x), gradient);
        return f;
    }
};

// The value alone, for differences.
struct PythonValue {
    PythonFunction fun;

    double operator()(const double* x) { return fun.as_float(fun(x)); }
};

}  // namespace downslope::bindings

// An objective that is a Python function, for loops that hold the GIL.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "downslope/minimize/run.hpp"

namespace downslope::bindings {

// What results are converted by if they are not at once a float, or an array of float64 of the shape of x; both raise
// what a user should read.
struct Converters {
    pybind11::object to_float, to_array;
};

class PythonFunction {
public:
    using Array = pybind11::array_t<double, pybind11::array::c_style>;

    using Shape = std::vector<pybind11::ssize_t>;

    // It is called with as many arrays of this shape, and then `args`.
    PythonFunction(pybind11::object function, pybind11::tuple args, const Shape& shape, Converters converters,
                   std::size_t arrays = 1)
        : function_(std::move(function)),
          args_(std::move(args)),
          converters_(std::move(converters)),
          shape_(shape),
          result_shape_(shape),
          inputs_(arrays),
          call_(1 + arrays) {
        for (const pybind11::handle arg : args_) call_.push_back(arg.ptr());
    }
    void set_result_shape(Shape shape) { result_shape_ = std::move(shape); }

    // Gives back a large block of memory, after which glibc keeps up to twice as much for further calls. A function
    // makes several arrays on its way to a large result; if their memory went back to the system after each call, it
    // would return page by page in the next one, which can take longer than the rest of that call.
    void prepare_for_large_results() const {
        constexpr std::size_t several = 4, most = 31 << 20;  // of larger ones glibc takes no notice
        const std::size_t bytes = std::min(several * bytes_of(result_shape_), most);
        const Array given_back(static_cast<pybind11::ssize_t>(bytes / sizeof(double)));
    }

    // The arrays passed are new ones unless nobody has kept the last ones, or changed more of them than their elements:
    // what a function keeps never changes.
    template <class... Pointers>
    pybind11::object operator()(Pointers... arrays) {
        std::size_t i = 0;
        (pass(i++, arrays), ...);
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

    // Subclasses of NumPy's array are left to the converter, which refuses masked ones.
    Array as_array(const pybind11::handle& value) const {
        const bool fits = Py_TYPE(value.ptr()) == pybind11::detail::npy_api::get().PyArray_Type_ &&
                          Array::check_(value) &&
                          has_shape(pybind11::reinterpret_borrow<pybind11::array>(value), result_shape_);
        if (fits) return pybind11::reinterpret_borrow<Array>(value);
        return pybind11::reinterpret_borrow<Array>(converters_.to_array(value));
    }
    void copy_array(const pybind11::handle& value, double* out) const {
        std::memcpy(out, as_array(value).data(), bytes_of(result_shape_));
    }

private:
    void pass(std::size_t i, const double* from) {
        pybind11::object& input = inputs_[i];
        if (!is_as_made(input)) input = Array(shape_);
        std::memcpy(static_cast<Array&>(input).mutable_data(), from, bytes_of(shape_));
        call_[1 + i] = input.ptr();
    }
    bool is_as_made(const pybind11::object& x) const {
        if (!x || Py_REFCNT(x.ptr()) != 1 || !Array::check_(x)) return false;
        const auto& array = static_cast<const Array&>(x);
        return array.writeable() && has_shape(array, shape_);
    }

    static std::size_t bytes_of(const Shape& shape) {
        pybind11::ssize_t n = 1;
        for (const pybind11::ssize_t extent : shape) n *= extent;
        return static_cast<std::size_t>(n) * sizeof(double);
    }
    static bool has_shape(const pybind11::array& array, const Shape& shape) {
        return static_cast<std::size_t>(array.ndim()) == shape.size() &&
               std::equal(shape.begin(), shape.end(), array.shape());
    }

    pybind11::object function_;
    pybind11::tuple args_;
    Converters converters_;
    Shape shape_, result_shape_;
    std::vector<pybind11::object> inputs_;
    std::vector<PyObject*> call_;  // the first is room for the callee, then come the inputs
};

// A function that returns value and gradient.
struct PythonPair {
    PythonFunction fun;
    static constexpr std::int64_t evaluations = 1, gradient_evaluations = 1;

    void gradient(const double* x, double* gradient) { (*this)(x, gradient); }
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
    static constexpr std::int64_t evaluations = 1, gradient_evaluations = 0;

    void gradient(const double* x, double* gradient) { jac.copy_array(jac(x), gradient); }
    double operator()(const double* x, double* gradient) {
        const double f = fun.as_float(fun(x));
        this->gradient(x, gradient);
        return f;
    }
};

// The value alone, for differences.
struct PythonValue {
    PythonFunction fun;

    double operator()(const double* x) { return fun.as_float(fun(x)); }
};

// Any of these with second derivatives: a function that returns the Hessian, or one of x and a direction that returns
// their product.
template <class Objective>
struct WithSecond : Objective {
    std::optional<PythonFunction> second;

    WithSecond(Objective objective, std::optional<PythonFunction> function)
        : Objective(std::move(objective)), second(std::move(function)) {
        if (second) second->prepare_for_large_results();
    }

    void hessian(Run& run) { run.tell_hessian(second->as_array((*second)(run.point())).data()); }
    void product(const double* x, const double* direction, double* product) {
        second->copy_array((*second)(x, direction), product);
    }
};

}  // namespace downslope::bindings

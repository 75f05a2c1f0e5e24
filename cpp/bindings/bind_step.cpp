// The stepper on NumPy arrays: captures their memory once, checks at every step that it is still the same.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "downslope/step/stepper.hpp"

namespace py = pybind11;

namespace downslope::bindings {
namespace {

std::string text(const py::handle& object) { return py::str(object).cast<std::string>(); }
std::string class_name(const py::handle& object) { return text(py::type::of(object).attr("__name__")); }

[[noreturn]] void raise_value_error(const std::string& message) { throw py::value_error(message); }
[[noreturn]] void raise_type_error(const std::string& message) { throw py::type_error(message); }

bool is_masked(const py::handle& array) {
    const bool is_plain = Py_TYPE(array.ptr()) == py::detail::npy_api::get().PyArray_Type_;
    return !is_plain && py::isinstance(array, py::module_::import("numpy").attr("ma").attr("MaskedArray"));
}

std::optional<Storage> native_storage(const py::dtype& dtype) {
    if (dtype.byteorder() != '=') return std::nullopt;
    if (dtype.num() == py::dtype::of<float>().num()) return Storage::float32;
    if (dtype.num() == py::dtype::of<double>().num()) return Storage::float64;
    return std::nullopt;
}

// What a view of an array rests on. Compared at every step, so it reads the array's fields without taking references.
class Snapshot {
public:
    void take(const py::array& array) {
        type_ = py::type::of(array);
        dtype_ = array.dtype();
        data_ = array.data();
        shape_.assign(array.shape(), array.shape() + array.ndim());
        strides_.assign(array.strides(), array.strides() + array.ndim());
    }

    bool still_holds(const py::handle& object) const {
        if (!py::type::handle_of(object).is(type_)) return false;
        const auto* array = py::detail::array_proxy(object.ptr());
        if (array->data != data_ || array->descr != dtype_.ptr()) return false;
        if (array->nd != static_cast<int>(shape_.size())) return false;
        for (std::size_t k = 0; k < shape_.size(); ++k)
            if (array->dimensions[k] != shape_[k] || array->strides[k] != strides_[k]) return false;
        return true;
    }

private:
    py::object type_, dtype_;
    const void* data_ = nullptr;
    std::vector<py::ssize_t> shape_, strides_;
};

// Whether to walk the array from its last axis to its first: that makes a Fortran-ordered parameter, the state that
// goes with it and a gradient in the same order contiguous. No result depends on the order.
bool walks_backwards(const py::array& param) {
    return (param.flags() & py::array::f_style) != 0 && (param.flags() & py::array::c_style) == 0;
}

View view_of(const py::array& array, Storage storage, bool backwards) {
    void* data = const_cast<void*>(array.data());
    const int contiguous =
        (backwards ? py::array::f_style : py::array::c_style) | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    if ((array.flags() & contiguous) == contiguous) return {static_cast<std::byte*>(data), array.size(), storage, {}};
    std::vector<Axis> axes(static_cast<std::size_t>(array.ndim()));
    for (std::size_t k = 0; k < axes.size(); ++k)
        axes[k] = {array.shape(static_cast<py::ssize_t>(k)), array.strides(static_cast<py::ssize_t>(k))};
    if (backwards) std::reverse(axes.begin(), axes.end());
    return make_view(data, storage, axes);
}

// The addresses [low, high) between which an array's elements lie.
std::pair<std::uintptr_t, std::uintptr_t> interval(const py::array& array) {
    auto low = reinterpret_cast<std::uintptr_t>(array.data()),
         high = low + static_cast<std::uintptr_t>(array.itemsize());
    for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
        const py::ssize_t reach = (array.shape(axis) - 1) * array.strides(axis);
        (reach < 0 ? low : high) += static_cast<std::uintptr_t>(reach);
    }
    return {low, array.size() == 0 ? low : high};
}

// Memory that a gradient must not share.
struct Protected {
    std::uintptr_t low, high, highest_so_far;
    py::array array;
    std::string name;
};

struct Gradient {
    bool present = false;
    Snapshot snapshot;  // of the array that `view` was taken of
    View view;
};

using GroupValues = std::pair<std::vector<double>, std::vector<double>>;  // of the rule, and of the options

// The arrays of an optimizer: checked by Python, captured here.
struct Captured {
    std::vector<std::string> labels;  // "", "[0]" or "['name']", as in params[0]
    std::vector<py::array> params;
    std::vector<Snapshot> snapshots;
    std::vector<py::object> kept;  // everything whose memory a step writes
    std::vector<Protected> protected_memory;
    std::vector<Array> arrays;

    // `rows` of (label, group, parameter, state arrays, step count, running product or None)
    explicit Captured(const py::list& rows) {
        for (const py::handle& item : rows) {
            const auto row = item.cast<py::tuple>();
            const auto param = row[2].cast<py::array>();
            const Storage storage = *native_storage(param.dtype());
            labels.push_back(row[0].cast<std::string>());
            Array array{row[1].cast<std::size_t>(),
                        storage,
                        view_of(param, storage, walks_backwards(param)),
                        {},
                        nullptr,
                        nullptr};
            protect(param, "params" + labels.back());
            for (const py::handle& state : row[3]) {
                array.state.push_back(view_of(state.cast<py::array>(), storage, walks_backwards(param)));
                protect(state.cast<py::array>(), "the state of params" + labels.back());
            }
            array.step_count = static_cast<std::int64_t*>(row[4].cast<py::array>().mutable_data());
            if (!row[5].is_none()) array.product = static_cast<double*>(row[5].cast<py::array>().mutable_data());
            arrays.push_back(std::move(array));
            params.push_back(param);
            snapshots.emplace_back().take(param);
            kept.push_back(row);
        }
        std::sort(protected_memory.begin(), protected_memory.end(),
                  [](const auto& a, const auto& b) { return a.low < b.low; });
        std::uintptr_t highest = 0;
        for (Protected& entry : protected_memory) entry.highest_so_far = highest = std::max(highest, entry.high);
    }

    void protect(const py::array& array, std::string name) {
        const auto [low, high] = interval(array);
        if (low < high) protected_memory.push_back({low, high, 0, array, std::move(name)});
    }
};

class NumpyStepper {
public:
    std::int64_t step_count = 0;  // of calls that moved anything

    explicit NumpyStepper(std::string rule) : rule_(std::move(rule)) {}

    // One thread at a time: `with stepper:` in Python. Nobody waits for it while holding the GIL.
    void lock() {
        if (mutex_.try_lock()) return;
        const py::gil_scoped_release released;
        mutex_.lock();
    }
    void unlock() { mutex_.unlock(); }

    // Takes these groups and arrays in place of what it had. Bound gradients stay, if there are as many, and are
    // examined again at the next step.
    void install(const std::vector<GroupValues>& groups, const py::list& rows) {
        const std::lock_guard<NumpyStepper> locked(*this);
        Captured captured(rows);
        std::vector<Group> made;
        for (const GroupValues& group : groups) made.push_back(make_group(group));
        const std::size_t count = captured.params.size();
        std::vector<Gradient> passed(count), bound(count);
        views_.reserve(count);
        stepper_.emplace(std::move(made), captured.arrays);
        captured_.emplace(std::move(captured));
        passed_gradients_ = std::move(passed);
        bound_gradients_ = std::move(bound);
        if (bound_ && bound_->size() != count) bound_.reset();
    }

    void set_group(std::size_t index, const GroupValues& values) {
        const std::lock_guard<NumpyStepper> locked(*this);
        stepper_->group(index) = make_group(values);
    }

    void bind(const py::list& grads) {
        const std::lock_guard<NumpyStepper> locked(*this);
        std::vector<Gradient> gradients(captured_->params.size());
        accept(grads, gradients);
        bound_ = grads;
        bound_gradients_ = std::move(gradients);
    }

    // A step by these gradients, a list that no other code holds: it keeps their memory alive without the GIL.
    void step(const py::list& grads) {
        const std::lock_guard<NumpyStepper> locked(*this);
        step_by(grads, passed_gradients_);
    }

    void step_bound() {
        const std::lock_guard<NumpyStepper> locked(*this);
        if (!bound_) {
            PyErr_SetString(PyExc_RuntimeError, "step() has no gradients: pass them, or bind(grads) once");
            throw py::error_already_set();
        }
        step_by(*bound_, bound_gradients_);
    }

private:
    static constexpr std::int64_t keep_gil_below = 500;

    Group make_group(const GroupValues& values) const {
        Group group{&rule_for(rule_, values.first), values.first, {}};
        for (std::size_t i = 0; i < values.second.size(); ++i)
            group.options.*(StepOptions::table[i].member) = values.second[i];
        return group;
    }

    void check_params() const {
        for (std::size_t i = 0; i < captured_->params.size(); ++i) {
            const py::array& param = captured_->params[i];
            if (!captured_->snapshots[i].still_holds(param))
                raise_value_error("params" + captured_->labels[i] +
                                  " has been given other memory, shape or dtype since the optimizer was made");
            if (!param.writeable()) raise_value_error("params" + captured_->labels[i] + " has become read-only");
        }
    }

    // Checks the gradients and takes views of them. Where one looks as the one before it, that view is still right.
    void accept(const py::list& grads, std::vector<Gradient>& gradients) const {
        if (grads.size() != gradients.size()) raise_value_error("grads do not match params, which were added to");
        for (std::size_t i = 0; i < gradients.size(); ++i) {
            const py::handle grad = PyList_GET_ITEM(grads.ptr(), static_cast<py::ssize_t>(i));
            Gradient& gradient = gradients[i];
            gradient.present = !grad.is_none();
            if (gradient.present && !gradient.snapshot.still_holds(grad)) examine(grad, i, gradient);
        }
    }

    // A gradient at a new address is the usual case, so texts are made only for errors.
    void examine(const py::handle& grad, std::size_t i, Gradient& gradient) const {
        const auto name = [&] { return "grads" + captured_->labels[i]; };
        if (!py::isinstance<py::array>(grad))
            raise_type_error(name() + " must be a NumPy array, got " + class_name(grad));
        if (is_masked(grad)) raise_type_error(name() + " is a masked array: pass its filled() data");
        const auto array = py::reinterpret_borrow<py::array>(grad);
        const py::array& param = captured_->params[i];
        const auto storage = native_storage(array.dtype());
        if (!storage)
            raise_type_error(name() + " must have dtype float32 or float64, got " + text(array.dtype()) +
                             ": pass grad.astype(\"" + text(param.dtype()) + "\")");
        if (*storage == Storage::float64 && captured_->arrays[i].compute == Storage::float32)
            raise_type_error(name() +
                             " is float64, which does not cast safely to float32, the dtype of its parameter: pass "
                             "grad.astype(\"float32\")");
        if (!std::equal(array.shape(), array.shape() + array.ndim(), param.shape(), param.shape() + param.ndim()))
            raise_value_error(name() + " must have the shape of its parameter, " + text(param.attr("shape")) +
                              ", got " + text(array.attr("shape")));
        if (const Protected* shared = overlapping(array))
            raise_value_error(name() + " shares memory with " + shared->name + ": pass a copy");
        gradient.view = view_of(array, *storage, walks_backwards(param));
        gradient.snapshot.take(array);
    }

    // What the array shares memory with, or nullptr: an update that wrote what a later one still has to read would
    // spoil it.
    const Protected* overlapping(const py::array& grad) const {
        const auto [low, high] = interval(grad);
        if (low == high) return nullptr;
        const std::vector<Protected>& memory = captured_->protected_memory;
        auto entry =
            std::lower_bound(memory.begin(), memory.end(), high,
                             [](const Protected& other, std::uintptr_t address) { return other.low < address; });
        while (entry != memory.begin() && (--entry)->highest_so_far > low)
            if (entry->high > low &&
                py::module_::import("numpy").attr("shares_memory")(grad, entry->array).cast<bool>())
                return &*entry;
        return nullptr;
    }

    void step_by(const py::list& grads, std::vector<Gradient>& gradients) {
        check_params();
        accept(grads, gradients);
        views_.clear();
        std::int64_t elements = 0;
        bool any = false;
        for (const Gradient& gradient : gradients) {
            views_.push_back(gradient.present ? &gradient.view : nullptr);
            if (!gradient.present) continue;
            elements += gradient.view.size;
            any = true;
        }
        // While another thread wants the GIL, giving it away costs a switch interval (5 ms): not worth it for a step of
        // a microsecond. NumPy draws the same line.
        std::optional<py::gil_scoped_release> released;
        if (elements >= keep_gil_below) released.emplace();
        stepper_->step(views_, threads_for(elements));
        step_count += any;
    }

    std::recursive_mutex mutex_;
    std::string rule_;
    std::optional<Captured> captured_;
    std::optional<Stepper> stepper_;
    std::optional<py::list> bound_;
    std::vector<Gradient> passed_gradients_, bound_gradients_;
    std::vector<const View*> views_;
};

}  // namespace

void bind_step(py::module_& module) {
    py::class_<NumpyStepper>(
        module, "Stepper", py::module_local(),
        "Steps arrays, which Python has checked, by one rule. `with stepper:` keeps other threads out.")
        .def(py::init<std::string>(), py::arg("rule"))
        .def_readwrite("step_count", &NumpyStepper::step_count)
        .def("__enter__", &NumpyStepper::lock)
        .def("__exit__", [](NumpyStepper& stepper, const py::args&) { stepper.unlock(); })
        .def("install", &NumpyStepper::install, py::arg("groups"), py::arg("arrays"))
        .def("set_group", &NumpyStepper::set_group, py::arg("index"), py::arg("values"))
        .def("bind", &NumpyStepper::bind, py::arg("grads"))
        .def("step", &NumpyStepper::step, py::arg("grads"))
        .def("step_bound", &NumpyStepper::step_bound);
}

}  // namespace downslope::bindings

// The stepper on NumPy arrays: captures their memory once, checks at every step that it is still the same.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cmath>
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
[[noreturn]] void raise_runtime_error(const std::string& message) {
    PyErr_SetString(PyExc_RuntimeError, message.c_str());
    throw py::error_already_set();
}
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

bool is_real(const py::dtype& dtype) { return std::string("fiu").find(dtype.kind()) != std::string::npos; }

// What a view of an array rests on. Compared at every step, so it reads the array's fields without taking references.
class Snapshot {
public:
    void forget() { type_ = py::object(); }

    void take(const py::array& array) {
        dtype_ = array.dtype();
        data_ = array.data();
        shape_.assign(array.shape(), array.shape() + array.ndim());
        strides_.assign(array.strides(), array.strides() + array.ndim());
        type_ = py::type::of(array);
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
// goes with it and a gradient in the same order contiguous. A rule does not see the order; whatever depends on an
// element's place in C order must not walk so.
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

bool same_shape(const py::array& a, const py::array& b) {
    return std::equal(a.shape(), a.shape() + a.ndim(), b.shape(), b.shape() + b.ndim());
}

// Whether the state is one for this parameter, which may have been changed since the state was made.
bool fits(const py::array& state, const py::array& param) {
    const auto storage = native_storage(param.dtype());
    return storage && native_storage(state.dtype()) == storage && same_shape(state, param);
}

// NumPy's exact answer, asked of plain arrays, since a subclass may have an answer of its own.
bool share_elements(const py::array& a, const py::array& b) {
    const py::module_ numpy = py::module_::import("numpy");
    return numpy.attr("shares_memory")(numpy.attr("asarray")(a), numpy.attr("asarray")(b)).cast<bool>();
}

// Memory that a step writes: no parameter or gradient may share it.
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
            labels.push_back(row[0].cast<std::string>());
            for (const py::handle& state : row[3])
                if (!fits(state.cast<py::array>(), param))
                    raise_value_error("params" + labels.back() +
                                      " has been given another shape or dtype than its state has");
            const Storage storage = *native_storage(param.dtype());
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
            protect(row[4].cast<py::array>(), "the state of params" + labels.back());
            if (!row[5].is_none()) {
                array.product = static_cast<double*>(row[5].cast<py::array>().mutable_data());
                protect(row[5].cast<py::array>(), "the state of params" + labels.back());
            }
            arrays.push_back(std::move(array));
            params.push_back(param);
            snapshots.emplace_back().take(param);
            kept.push_back(row);
        }
        std::sort(protected_memory.begin(), protected_memory.end(),
                  [](const auto& a, const auto& b) { return a.low < b.low; });
        std::uintptr_t highest = 0;
        for (Protected& entry : protected_memory) {
            entry.highest_so_far = highest = std::max(highest, entry.high);
            if (const Protected* other = first_sharing(entry.array, entry.low, &entry))
                raise_value_error(entry.name + " and " + other->name + " share memory: pass each array only once");
        }
    }

    // What the array shares memory with, or nullptr.
    const Protected* sharing_with(const py::array& array) const {
        const auto [low, high] = interval(array);
        const auto end =
            std::lower_bound(protected_memory.begin(), protected_memory.end(), high,
                             [](const Protected& entry, std::uintptr_t address) { return entry.low < address; });
        return low == high ? nullptr
                           : first_sharing(array, low, protected_memory.data() + (end - protected_memory.begin()));
    }

private:
    // The last one before `end` that shares elements with the array; NumPy is asked only where address intervals meet.
    const Protected* first_sharing(const py::array& array, std::uintptr_t low, const Protected* end) const {
        while (end != protected_memory.data() && (--end)->highest_so_far > low)
            if (end->high > low && share_elements(array, end->array)) return end;
        return nullptr;
    }

    void protect(const py::array& array, std::string name) {
        const auto [low, high] = interval(array);
        if (low < high) protected_memory.push_back({low, high, 0, array, std::move(name)});
    }
};

// Without the GIL, if so wanted, while it lives. Its end may throw, as pybind11's own must not: that is how a thread
// leaves that wants the GIL back when the interpreter has shut down.
class WithoutGil {
public:
    explicit WithoutGil(bool wanted) : saved_(wanted ? PyEval_SaveThread() : nullptr) {}
    WithoutGil(const WithoutGil&) = delete;
    WithoutGil& operator=(const WithoutGil&) = delete;
    ~WithoutGil() noexcept(false) {
        if (saved_ != nullptr) PyEval_RestoreThread(saved_);
    }

private:
    PyThreadState* saved_;
};

class NumpyStepper {
public:
    std::int64_t step_count = 0;  // of calls that moved anything

    explicit NumpyStepper(std::string rule) : rule_(std::move(rule)) {}

    // One thread at a time: `with stepper:` in Python. Nobody waits for it while holding the GIL.
    void lock() {
        if (!mutex_.try_lock()) {
            if (owner_generation_ != fork_generation())
                raise_runtime_error("this optimizer was in use when the process forked: make a new one");
            const WithoutGil released(true);
            mutex_.lock();
        }
        owner_generation_ = fork_generation();
    }
    void unlock() { mutex_.unlock(); }

    // Takes these groups and arrays in place of what it had. Bound gradients stay, if there are as many, and are
    // examined again at the next step.
    void install(const std::vector<GroupValues>& groups, const py::list& rows, std::int64_t steps) {
        const Turn turn(*this);
        Captured captured(rows);
        std::vector<Group> made;
        std::vector<bool> scheduled;
        for (const GroupValues& group : groups) {
            made.push_back(make_group(group));
            scheduled.push_back(std::isnan(group.first[0]));
        }
        const std::size_t count = captured.params.size();
        std::vector<Gradient> passed(count), bound(count);
        views_.reserve(count);
        stepper_.emplace(std::move(made), captured.arrays);
        captured_.emplace(std::move(captured));
        scheduled_ = std::move(scheduled);
        step_count = steps;
        passed_gradients_ = std::move(passed);
        bound_gradients_ = std::move(bound);
        if (bound_ && bound_->size() != count) bound_.reset();
    }

    void set_group(std::size_t index, const GroupValues& values) {
        const Turn turn(*this);
        Group group = make_group(values);
        if (group.rule->slots.size() != stepper_->group(index).rule->slots.size())
            raise_runtime_error("these hyper-parameters need other state: install it");
        scheduled_[index] = std::isnan(values.first[0]);
        stepper_->group(index) = std::move(group);
    }

    void bind(const py::list& grads) {
        const Turn turn(*this);
        std::vector<Gradient> gradients(captured_->params.size());
        accept(grads, gradients);
        bound_ = grads;
        bound_gradients_ = std::move(gradients);
    }

    // A step by these gradients, a list that no other code holds: it keeps their memory alive without the GIL. `rates`
    // are the learning rates of the groups that have a schedule, NaN for others; if one is missing, nothing is done and
    // the answer is false.
    bool step(const py::list& grads, const std::vector<double>& rates) {
        const Turn turn(*this);
        if (!take_rates(rates)) return false;
        step_by(grads, passed_gradients_);
        return true;
    }

    bool step_bound(const std::vector<double>& rates) {
        const Turn turn(*this);
        if (!bound_) raise_runtime_error("step() has no gradients: pass them, or bind(grads) once");
        if (!take_rates(rates)) return false;
        step_by(*bound_, bound_gradients_);
        return true;
    }

private:
    static constexpr std::int64_t keep_gil_below = 500;

    // A call of a method. What a call asks NumPy may run code of the user's; that must not come back here.
    class Turn {
    public:
        explicit Turn(NumpyStepper& stepper) : locked_(stepper), busy_(stepper.busy_) {
            if (busy_) raise_runtime_error("an optimizer cannot be used by code that it runs to check arrays");
            busy_ = true;
        }
        ~Turn() { busy_ = false; }

    private:
        std::lock_guard<NumpyStepper> locked_;
        bool& busy_;
    };

    // Sets the rates of the scheduled groups; false if one is missing.
    bool take_rates(const std::vector<double>& rates) {
        for (std::size_t i = 0; i < scheduled_.size(); ++i) {
            if (!scheduled_[i]) continue;
            if (i >= rates.size() || std::isnan(rates[i])) return false;
            stepper_->group(i).hyper[0] = rates[i];
        }
        return true;
    }

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
                             (is_real(array.dtype()) ? ": pass grad.astype(\"" + text(param.dtype()) + "\")" : ""));
        if (*storage == Storage::float64 && captured_->arrays[i].compute == Storage::float32)
            raise_type_error(name() +
                             " is float64, which does not cast safely to float32, the dtype of its parameter: pass "
                             "grad.astype(\"float32\")");
        if (!same_shape(array, param))
            raise_value_error(name() + " must have the shape of its parameter, " + text(param.attr("shape")) +
                              ", got " + text(array.attr("shape")));
        // An update that wrote what a later one still has to read would spoil it.
        if (const Protected* shared = captured_->sharing_with(array))
            raise_value_error(name() + " shares memory with " + shared->name + ": pass a copy");
        gradient.snapshot
            .forget();  // it must not vouch for another array's view, should what follows run out of memory
        gradient.view = view_of(array, *storage, walks_backwards(param));
        gradient.snapshot.take(array);
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
        const WithoutGil released(elements >= keep_gil_below);
        stepper_->step(views_, threads_for(elements));
        step_count += any;
    }

    std::recursive_mutex mutex_;
    std::atomic<std::uint64_t> owner_generation_{0};
    bool busy_ = false;
    std::string rule_;
    std::optional<Captured> captured_;
    std::optional<Stepper> stepper_;
    std::vector<bool> scheduled_;  // the groups whose learning rate, NaN, is told anew for each step
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
        .def_readonly("step_count", &NumpyStepper::step_count)
        .def("__enter__", &NumpyStepper::lock)
        .def("__exit__", [](NumpyStepper& stepper, const py::args&) { stepper.unlock(); })
        .def("install", &NumpyStepper::install, py::arg("groups"), py::arg("arrays"), py::arg("step_count"))
        .def("set_group", &NumpyStepper::set_group, py::arg("index"), py::arg("values"))
        .def("bind", &NumpyStepper::bind, py::arg("grads"))
        .def("step", &NumpyStepper::step, py::arg("grads"), py::arg("rates") = std::vector<double>())
        .def("step_bound", &NumpyStepper::step_bound, py::arg("rates") = std::vector<double>());
}

}  // namespace downslope::bindings

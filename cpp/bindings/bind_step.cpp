// The stepper as Python has it: takes turns, checks gradients, and steps without the GIL.
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
#include "captured.hpp"
#include "downslope/step/stepper.hpp"

namespace py = pybind11;

namespace downslope::bindings {
namespace {

struct Gradient {
    bool present = false;
    Snapshot snapshot;  // of the array that `view` was taken of
    View view;
};

using Rates = std::optional<std::vector<double>>;                         // of the groups
using GroupValues = std::pair<std::vector<double>, std::vector<double>>;  // of the rule, and of the options

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

    // Other hyper-parameters for a group. If they ask for other state, nothing is done and the answer is false.
    bool set_group(std::size_t index, const GroupValues& values) {
        const Turn turn(*this);
        Group group = make_group(values);
        if (group.rule->slots != stepper_->group(index).rule->slots) return false;
        scheduled_[index] = std::isnan(values.first[0]);
        stepper_->group(index) = std::move(group);
        return true;
    }

    void bind(const py::list& grads) {
        const Turn turn(*this);
        std::vector<Gradient> gradients(captured_->params.size());
        check_params();
        accept(grads, gradients);
        bound_ = grads;
        bound_gradients_ = std::move(gradients);
    }

    // A step by these gradients, a list that no other code holds: it keeps their memory alive without the GIL. `rates`
    // are the learning rates of the groups that have a schedule, NaN for others; if one is missing, nothing is done and
    // the answer is false.
    bool step(const py::list& grads, const Rates& rates) {
        const Turn turn(*this);
        if (!take_rates(rates)) return false;
        step_by(grads, passed_gradients_);
        return true;
    }

    bool step_bound(const Rates& rates) {
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
    bool take_rates(const Rates& rates) {
        for (std::size_t i = 0; i < scheduled_.size(); ++i) {
            if (!scheduled_[i]) continue;
            if (!rates || i >= rates->size() || std::isnan((*rates)[i])) return false;
            stepper_->group(i).hyper[0] = (*rates)[i];
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
            raise_type_error(name() + " must be a NumPy array, got " + class_name(grad) + ": pass numpy.asarray(grad)");
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
        // Should memory run out now, the old snapshot must not vouch for the new view.
        gradient.snapshot.forget();
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
        .def("step", &NumpyStepper::step, py::arg("grads"), py::arg("rates") = py::none())
        .def("step_bound", &NumpyStepper::step_bound, py::arg("rates") = py::none());
}

}  // namespace downslope::bindings

// The stepper as Python has it: takes turns, checks gradients, and steps without the GIL.
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "captured.hpp"
#include "downslope/step/row_sums.hpp"
#include "downslope/step/stepper.hpp"
#include "foreign.hpp"
#include "gil.hpp"
#include "lock.hpp"

namespace py = pybind11;

namespace downslope::bindings {
namespace {

struct CheckedGradient {
    bool present = false;
    bool is_bfloat16 = false;              // though its array, of another library, is of their bits
    bool is_of_rows = false;               // though there may be none
    std::vector<std::int64_t> named_rows;  // what a RowGrad has, as it was before all checks
    SharedArray row_values;
    Snapshot snapshot;  // of the array that `gradient` was taken of
    Gradient gradient;
    RowSums<float> rows32;  // what `gradient` is of, where rows were given
    RowSums<double> rows64;
};

using Rates = std::optional<std::vector<double>>;                         // of the groups
using GroupValues = std::pair<std::vector<double>, std::vector<double>>;  // of the rule, and of the options
// Of all groups: clip_norm, ema_decay, nonfinite, rounding and seed.
using Settings = std::tuple<std::optional<double>, std::optional<double>, std::string, std::string, std::uint64_t>;

class NumpyStepper {
public:
    std::int64_t step_count = 0;     // of calls that moved anything
    std::int64_t skipped_steps = 0;  // of calls that did not because a gradient was not finite

    explicit NumpyStepper(std::string rule) : rule_(std::move(rule)) {}

    Lock lock{"optimizer"};

    // Takes these groups, arrays and settings in place of what it had. Bound gradients stay, if there are as many, and
    // are examined again at the next step.
    void install(const std::vector<GroupValues>& groups, const py::list& rows, const Settings& settings,
                 std::int64_t steps, std::int64_t skipped) {
        const Turn turn(*this);
        Captured captured(rows);
        if (captured_) check_params();
        std::vector<Group> made;
        std::vector<bool> scheduled;
        for (const GroupValues& group : groups) {
            made.push_back(make_group(group));
            scheduled.push_back(std::isnan(group.first[0]));
        }
        const std::size_t count = captured.params.size();
        std::vector<CheckedGradient> passed(count), bound(count);
        views_.reserve(count);
        Stepper stepper(std::move(made), captured.arrays);
        while (sums_.size() < count) sums_.append(py::none());
        stepper_ = std::move(stepper);
        take(settings);
        captured_.emplace(std::move(captured));
        scheduled_ = std::move(scheduled);
        step_count = steps;
        skipped_steps = skipped;
        passed_gradients_ = std::move(passed);
        bound_gradients_ = std::move(bound);
        if (bound_ && bound_->size() != count) bound_.reset();
    }

    // Other hyper-parameters for these groups. If they ask for other state, nothing is done and the answer is false.
    bool set_groups(const std::vector<std::pair<std::size_t, GroupValues>>& changes) {
        const Turn turn(*this);
        std::vector<Group> made;
        for (const auto& [index, values] : changes) {
            made.push_back(make_group(values));
            if (!same_slots(*made.back().rule, *stepper_->group(index).rule)) return false;
        }
        for (std::size_t i = 0; i < made.size(); ++i) {
            const std::size_t index = changes[i].first;
            scheduled_[index] = std::isnan(made[i].hyper[0]);
            stepper_->group(index) = std::move(made[i]);
        }
        return true;
    }

    // What holds for all groups: at the next step.
    void configure(const Settings& settings) {
        const Turn turn(*this);
        take(settings);
    }

    // Moves the parameters to these places, arrays of their shapes and dtypes, until `restore`; `what` is told to those
    // who may not come meanwhile.
    void displace(const std::string& what, const py::list& places) {
        const Turn turn(*this);
        check_params();
        std::vector<SavedBits> saved;
        for (const py::array& param : captured_->params) {
            const auto bits = py::reinterpret_steal<py::array>(numpy().PyArray_NewCopy_(param.ptr(), keep_order));
            if (!bits) throw py::error_already_set();
            saved.push_back({param, bits});
        }
        displaced_ = what;
        saved_ = std::move(saved);
        for (std::size_t i = 0; i < saved_.size(); ++i) {
            if (numpy().PyArray_CopyInto_(saved_[i].param.ptr(), py::object(places[i]).ptr()) == 0) continue;
            const py::error_already_set failure;
            restore();
            throw failure;
        }
    }

    // Gives each parameter its very bits back, if it can still be written, whatever has become of another one.
    void restore() {
        std::optional<py::error_already_set> failure;
        for (const auto& [param, bits] : std::exchange(saved_, {}))
            if (numpy().PyArray_CopyInto_(param.ptr(), bits.ptr()) != 0) failure.emplace();
        displaced_.clear();
        if (failure) throw *failure;
    }

    void check_at_home(std::string_view what) const {
        if (!displaced_.empty())
            raise_runtime_error(std::string(what) + " inside " + displaced_ +
                                ", where the parameters are not where they belong: leave it first");
    }

    const std::optional<py::list>& bound() const { return bound_; }

    std::optional<double> last_grad_norm() const { return last_grad_norm_; }
    std::int64_t accumulated() const { return accumulated_; }
    const py::list& sums() const { return sums_; }

    // As after so many calls of `accumulate`, with these sums.
    void set_sums(std::int64_t accumulated, const py::list& sums) {
        const Turn turn(*this);
        accumulated_ = accumulated;
        sums_ = sums;
    }
    void forget_sums() {
        const Turn turn(*this);
        forget();
    }

    // Fixes the gradients, a list that no other code holds, for `step_bound`.
    void bind(const py::list& grads) {
        const Turn turn(*this);
        std::vector<CheckedGradient> gradients(captured_->params.size());
        share(grads, gradients);
        check_params();
        accept(grads, gradients);
        bound_ = grads;
        bound_gradients_ = std::move(gradients);
        binds_rows_ = std::any_of(bound_gradients_.begin(), bound_gradients_.end(),
                                  [](const CheckedGradient& gradient) { return gradient.is_of_rows; });
    }

    // A step by these gradients, a list that no other code holds: it keeps their memory alive without the GIL. `rates`
    // are the learning rates of the groups that have a schedule, NaN for others; if one is missing, nothing is done and
    // the answer is false.
    bool step(const py::list& grads, const Rates& rates) {
        const Turn turn(*this);
        if (accumulated_ > 0)
            raise_runtime_error("step() got gradients while others are accumulated: step() by them, or zero_grad()");
        if (!take_rates(rates)) return false;
        share(grads, passed_gradients_);
        step_by(grads, passed_gradients_, 1);
        return true;
    }

    // The same by the mean of what was accumulated, which is then forgotten, or else by the bound gradients.
    bool step_bound(const Rates& rates) {
        const Turn turn(*this);
        if (accumulated_ == 0 && !bound_)
            raise_runtime_error("step() has no gradients: pass them, bind(grads) once, or accumulate(grads)");
        if (!take_rates(rates)) return false;
        if (accumulated_ > 0) {
            const py::list sums = sums_;
            share(sums, passed_gradients_);
            step_by(sums, passed_gradients_, accumulated_);
            forget();
        } else {
            look_at_bound_rows();
            step_by(*bound_, bound_gradients_, 1);
        }
        return true;
    }

    // Adds the gradients (None: the bound ones) to the sums. Where there is none yet, the sum goes into one of
    // `buffers`: contiguous arrays of the compute types.
    void accumulate(const std::optional<py::list>& grads, const py::list& buffers) {
        const Turn turn(*this);
        if (!grads && !bound_) raise_runtime_error("accumulate() has no gradients: pass them, or bind(grads) once");
        std::vector<CheckedGradient>& gradients = grads ? passed_gradients_ : bound_gradients_;
        if (grads)
            share(*grads, gradients);
        else
            look_at_bound_rows();
        const std::int64_t elements = check(grads ? *grads : *bound_, gradients);
        py::list sums;
        std::vector<void*> into(gradients.size());
        std::vector<bool> fresh(gradients.size());
        for (std::size_t i = 0; i < gradients.size(); ++i) {
            fresh[i] = sums_[i].is_none();
            sums.append(gradients[i].present && fresh[i] ? py::object(buffers[i]) : py::object(sums_[i]));
            if (!gradients[i].present) continue;
            if (gradients[i].is_of_rows)
                raise_value_error("grads" + captured_->labels[i] +
                                  " is a RowGrad, which cannot be accumulated: step by it, or pass an array");
            into[i] = memory_of_sum(sums[i].cast<py::array>(), i);
        }
        {
            const WithoutGil released(elements >= keep_gil_below);
            stepper_->accumulate(views_, into, fresh, threads_for(elements));
        }
        sums_ = std::move(sums);
        ++accumulated_;
    }

private:
    static constexpr std::int64_t keep_gil_below = 500;
    static constexpr int keep_order = 2;  // NumPy's NPY_KEEPORDER

    struct SavedBits {
        py::array param, bits;
    };

    static const py::detail::npy_api& numpy() { return py::detail::npy_api::get(); }

    // A call of a method. What a call asks NumPy may run code of the user's; that must not come back here.
    class Turn {
    public:
        explicit Turn(NumpyStepper& stepper) : locked_(stepper.lock), busy_(stepper.busy_) {
            if (busy_) raise_runtime_error("an optimizer cannot be used by code that it runs to check arrays");
            busy_ = true;
        }
        ~Turn() { busy_ = false; }

    private:
        std::lock_guard<Lock> locked_;
        bool& busy_;
    };

    void take(const Settings& settings) {
        const auto& [clip_norm, ema_decay, nonfinite, rounding, seed] = settings;
        skips_nonfinite_ = nonfinite == "skip";
        stepper_->settings = {clip_norm, ema_decay, nonfinite != "propagate", rounding == "stochastic", seed};
    }

    // Sets the rates of the scheduled groups; false if one is missing.
    bool take_rates(const Rates& rates) {
        for (std::size_t i = 0; i < scheduled_.size(); ++i) {
            if (!scheduled_[i]) continue;
            if (!rates || i >= rates->size() || std::isnan((*rates)[i])) return false;
            stepper_->group(i).hyper[0] = (*rates)[i];
        }
        return true;
    }

    static bool same_slots(const CompiledRule& a, const CompiledRule& b) {
        return std::equal(a.slots.begin(), a.slots.end(), b.slots.begin(), b.slots.end(),
                          [](const Slot& x, const Slot& y) { return x.name == y.name; });
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

    // Puts NumPy arrays that share their memory in the place of other gradients, and takes rows and values out of
    // RowGrads. That runs code of theirs, which could do anything to the arrays, so it comes before all checks.
    void share(const py::list& grads, std::vector<CheckedGradient>& gradients) const {
        if (grads.size() != gradients.size()) return;  // which `accept` refuses
        for (std::size_t i = 0; i < grads.size(); ++i) {
            bool is_bfloat16 = false;
            const auto grad = py::reinterpret_borrow<py::object>(grads[i]);
            const bool is_array = grad.is_none() || py::isinstance<py::array>(grad);
            if (!is_array && py::isinstance(grad, row_grad_type())) {
                look_at_rows(grad, i, gradients[i]);
            } else if (!is_array) {
                const SharedArray shared = shared_array("grads" + captured_->labels[i], grad);
                is_bfloat16 = shared.is_bfloat16;
                grads[i] = shared.array;
            }
            if (gradients[i].is_bfloat16 != is_bfloat16) gradients[i].snapshot.forget();
            gradients[i].is_bfloat16 = is_bfloat16;
        }
    }

    // The rows are copied, since the caller could change them between a check and their use.
    void look_at_rows(const py::object& grad, std::size_t i, CheckedGradient& checked) const {
        checked.row_values = shared_array("grads" + captured_->labels[i] + ".values", grad.attr("values"));
        const auto rows =
            grad.attr("rows").cast<py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>>();
        checked.named_rows.assign(rows.data(), rows.data() + rows.size());
    }

    void look_at_bound_rows() {
        for (std::size_t i = 0; i < bound_gradients_.size() && binds_rows_; ++i)
            if (py::isinstance((*bound_)[i], row_grad_type()))
                look_at_rows(py::reinterpret_borrow<py::object>((*bound_)[i]), i, bound_gradients_[i]);
    }

    // Where a sum is, after a look at it: unpickling may have brought another one.
    void* memory_of_sum(py::array sum, std::size_t i) const {
        const bool fits =
            same_shape(sum, captured_->params[i]) && is_c_contiguous(sum) && sum.writeable() &&
            (captured_->arrays[i].compute == Compute::float32 ? has_dtype<float>(sum) : has_dtype<double>(sum));
        if (!fits)
            raise_value_error("what was accumulated does not fit params" + captured_->labels[i] + ": zero_grad()");
        return sum.mutable_data();
    }

    void forget() {
        py::list none;
        for (std::size_t i = 0; i < captured_->params.size(); ++i) none.append(py::none());
        sums_ = std::move(none);
        accumulated_ = 0;
    }

    // Checks the gradients and takes views of them. Where one looks as the one before it, that view is still right.
    void accept(const py::list& grads, std::vector<CheckedGradient>& gradients) const {
        if (grads.size() != gradients.size())  // though Python has counted them
            raise_value_error("grads must have " + std::to_string(gradients.size()) +
                              " arrays, as params has since a group was added during this call, got " +
                              std::to_string(grads.size()));
        for (std::size_t i = 0; i < gradients.size(); ++i) {
            const py::handle grad = PyList_GET_ITEM(grads.ptr(), static_cast<py::ssize_t>(i));
            CheckedGradient& gradient = gradients[i];
            gradient.present = !grad.is_none();
            if (gradient.present && !gradient.snapshot.still_holds(grad)) examine(grad, i, gradient);
        }
    }

    // A gradient at a new address is the usual case, so texts are made only for errors.
    void examine(const py::handle& grad, std::size_t i, CheckedGradient& checked) const {
        const auto name = [&] { return "grads" + captured_->labels[i]; };
        const py::array& param = captured_->params[i];
        if (!py::isinstance<py::array>(grad) && py::isinstance(grad, row_grad_type())) return take_rows(i, checked);
        const auto array = py::reinterpret_borrow<py::array>(grad);
        const Storage storage = check_array({array, checked.is_bfloat16}, i, name);
        if (!same_shape(array, param))
            raise_value_error(name() + " must have the shape of its parameter, " + text(param.attr("shape")) +
                              ", got " + text(array.attr("shape")));
        // An update that wrote what a later one still has to read would spoil it.
        if (const Protected* shared = captured_->sharing_with(array))
            raise_value_error(name() + " shares memory with " + shared->name + ": pass a copy");
        // Should memory run out now, the old snapshot must not vouch for the new view.
        checked.snapshot.forget();
        checked.is_of_rows = false;
        checked.gradient = {view_of(array, storage, false), std::nullopt};
        if (captured_->arrays[i].reversed) checked.gradient.reversed = view_of(array, storage, true);
        checked.snapshot.take(array);
    }

    // What is asked of every array of gradients: its storage, if it casts safely to what the parameter is computed in.
    template <class Name>
    Storage check_array(const SharedArray& grad, std::size_t i, const Name& name) const {
        if (grad.is_bfloat16) return Storage::bfloat16;
        if (is_masked(grad.array)) raise_type_error(name() + " is a masked array: pass its filled() data");
        const py::dtype dtype = grad.array.dtype();
        const auto storage = storage_of_dtype(dtype);
        const char* wanted = captured_->arrays[i].compute == Compute::float32 ? "float32" : "float64";
        if (!storage)
            raise_type_error(name() + " must have dtype float32, float64, float16 or bfloat16, got " + text(dtype) +
                             (is_real(dtype) ? ": pass grad.astype(\"" + std::string(wanted) + "\")" : ""));
        if (*storage == Storage::float64 && captured_->arrays[i].compute == Compute::float32)
            raise_type_error(name() +
                             " is float64, which does not cast safely to float32, in which its parameter is updated: "
                             "pass grad.astype(\"float32\")");
        return *storage;
    }

    static py::object row_grad_type() { return py::module_::import("downslope.rules.row_grad").attr("RowGrad"); }

    void take_rows(std::size_t i, CheckedGradient& checked) const {
        const auto name = [&] { return "grads" + captured_->labels[i] + ".values"; };
        const std::string label = "grads" + captured_->labels[i];
        const Array& array = captured_->arrays[i];
        const py::array& param = captured_->params[i];
        if (!rule_takes_rows(rule_))
            raise_value_error(label + " is a RowGrad, which " + rule_ +
                              " does not take: sgd, adagrad, adam and adamw do");
        if (array.state_storage == StateStorage::uint8)
            raise_value_error(label +
                              " is a RowGrad, which cannot be used with state_dtype=\"uint8\", whose blocks span rows: "
                              "make the optimizer with \"bfloat16\" or None");
        if (array.operands.average)
            raise_value_error(
                label +
                " is a RowGrad, which cannot be used with ema_decay, since the average moves in all rows: "
                "make the optimizer without it");
        if (param.ndim() == 0)
            raise_value_error(label + " is a RowGrad, but its parameter has no rows: its shape is ()");
        const Storage storage = check_array(checked.row_values, i, name);
        const py::array& values = checked.row_values.array;
        const std::vector<std::int64_t>& rows = checked.named_rows;
        const auto count = static_cast<py::ssize_t>(rows.size());
        const bool fits = values.ndim() == param.ndim() && values.shape(0) == count &&
                          std::equal(values.shape() + 1, values.shape() + values.ndim(), param.shape() + 1);
        if (!fits) {
            const auto shape = py::make_tuple(count) + param.attr("shape")[py::slice(1, param.ndim(), 1)];
            raise_value_error(name() + " must have shape " + text(shape) +
                              ", a row of its parameter for each of its rows, got " + text(values.attr("shape")));
        }
        for (const std::int64_t row : rows)
            if (row < 0 || row >= param.shape(0))
                raise_value_error(label + ".rows must be >= 0 and < " + std::to_string(param.shape(0)) + ", got " +
                                  std::to_string(row));
        checked.snapshot.forget();
        checked.is_of_rows = true;
        const std::int64_t row_length = param.shape(0) == 0 ? 0 : param.size() / param.shape(0);
        const auto add_up = [&](auto& sums) {
            sums.add_up(rows.data(), count, view_of(values, storage, false), row_length);
            checked.gradient = {sums.view(), std::nullopt, sums.rows.data(), row_length};
        };
        if (array.compute == Compute::float32)
            add_up(checked.rows32);
        else
            add_up(checked.rows64);
    }

    // All that must hold before anything is written; then `views_` has what is present of the gradients, and the answer
    // is the number of their elements.
    std::int64_t check(const py::list& grads, std::vector<CheckedGradient>& gradients) {
        check_params();
        accept(grads, gradients);
        views_.clear();
        std::int64_t elements = 0;
        for (const CheckedGradient& checked : gradients) {
            views_.push_back(checked.present ? &checked.gradient : nullptr);
            if (checked.present) elements += checked.gradient.view.size;
        }
        return elements;
    }

    void step_by(const py::list& grads, std::vector<CheckedGradient>& gradients, std::int64_t accumulated) {
        check_at_home("step()");
        const std::int64_t elements = check(grads, gradients);
        const bool any = std::any_of(views_.begin(), views_.end(), [](const Gradient* g) { return g != nullptr; });
        std::optional<std::size_t> bad;
        {
            // While another thread wants the GIL, giving it away costs a switch interval (5 ms): not worth it for a
            // step of a microsecond. NumPy draws the same line.
            const WithoutGil released(elements >= keep_gil_below);
            bad = stepper_->step(views_, accumulated, threads_for(elements));
        }
        if (!bad) {
            last_grad_norm_ = stepper_->last_grad_norm();
            step_count += any;
        } else if (skips_nonfinite_) {
            ++skipped_steps;
        } else {
            PyErr_SetString(PyExc_FloatingPointError,
                            ("grads" + captured_->labels[*bad] + " has an element that is not finite").c_str());
            throw py::error_already_set();
        }
    }

    bool busy_ = false;
    std::string rule_;
    std::optional<Captured> captured_;
    std::optional<Stepper> stepper_;
    std::vector<bool> scheduled_;  // the groups whose learning rate, NaN, is told anew for each step
    std::optional<py::list> bound_;
    std::vector<CheckedGradient> passed_gradients_, bound_gradients_;
    std::vector<const Gradient*> views_;
    py::list sums_;  // of what was accumulated, for each array, or None
    std::int64_t accumulated_ = 0;
    bool binds_rows_ = false;  // whether there is a RowGrad among the bound gradients
    std::optional<double> last_grad_norm_;
    std::string displaced_;         // what has moved the parameters to where no step may start, or empty
    std::vector<SavedBits> saved_;  // of the parameters that it has moved
    bool skips_nonfinite_ = false;
};

// What `with` enters to have the parameters elsewhere: at `places()`, arrays of their shapes and dtypes. They go there
// in one call and come back in one, so that no signal finds them halfway; and they also come back where this is
// dropped, should a signal have kept `with` from leaving it.
class Displacement {
public:
    Displacement(NumpyStepper& stepper, std::string what, py::object places)
        : stepper_(stepper), what_(std::move(what)), places_(std::move(places)) {}
    Displacement(const Displacement&) = delete;
    Displacement& operator=(const Displacement&) = delete;
    ~Displacement() {
        try {
            exit();
        } catch (py::error_already_set& error) {
            error.discard_as_unraisable("the parameters were not restored");
        }
    }

    void enter() {
        const std::lock_guard<Lock> locked(stepper_.lock);
        stepper_.check_at_home(what_);
        stepper_.displace(what_, places_());
        is_there_ = true;
    }
    void exit() {
        if (std::exchange(is_there_, false)) stepper_.restore();
    }

private:
    NumpyStepper& stepper_;
    std::string what_;
    py::object places_;
    bool is_there_ = false;
};

}  // namespace

void bind_step(py::module_& module) {
    module.def(
        "shared_array",
        [](const std::string& name, const py::object& object) {
            const SharedArray shared = shared_array(name, object);
            return py::make_tuple(shared.array, shared.is_bfloat16);
        },
        py::arg("name"), py::arg("object"),
        "(NumPy array that shares the memory of the object, whether it holds the bits of bfloat16), or a TypeError.");
    py::class_<NumpyStepper>(
        module, "Stepper", py::module_local(),
        "Steps arrays, which Python has checked, by one rule. `with stepper:` keeps other threads out.")
        .def(py::init<std::string>(), py::arg("rule"))
        .def_readonly("step_count", &NumpyStepper::step_count)
        .def("check_at_home", &NumpyStepper::check_at_home, py::arg("what"),
             "Raises RuntimeError, which names `what` was asked for, while a Displacement is entered.")
        .def_property_readonly("bound", [](const NumpyStepper& stepper) { return stepper.bound(); })
        .def_readonly("skipped_steps", &NumpyStepper::skipped_steps)
        .def_property_readonly("last_grad_norm", &NumpyStepper::last_grad_norm)
        .def("__enter__", [](NumpyStepper& stepper) { stepper.lock.lock(); })
        .def("__exit__", [](NumpyStepper& stepper, const py::args&) { stepper.lock.unlock(); })
        .def("install", &NumpyStepper::install, py::arg("groups"), py::arg("arrays"), py::arg("settings"),
             py::arg("step_count"), py::arg("skipped_steps"))
        .def("set_groups", &NumpyStepper::set_groups, py::arg("changes"))
        .def("bind", &NumpyStepper::bind, py::arg("grads"))
        .def("step", &NumpyStepper::step, py::arg("grads"), py::arg("rates") = py::none())
        .def("accumulate", &NumpyStepper::accumulate, py::arg("grads"), py::arg("buffers"))
        .def_property_readonly("accumulated", &NumpyStepper::accumulated)
        .def_property_readonly("sums", &NumpyStepper::sums)
        .def("set_sums", &NumpyStepper::set_sums, py::arg("accumulated"), py::arg("sums"))
        .def("forget_sums", &NumpyStepper::forget_sums)
        .def("configure", &NumpyStepper::configure, py::arg("settings"))
        .def("step_bound", &NumpyStepper::step_bound, py::arg("rates") = py::none());
    py::class_<Displacement>(module, "Displacement", py::module_local(),
                             "`with displacement:` has the parameters at `places()`, and afterwards their very bits.")
        .def(py::init<NumpyStepper&, std::string, py::object>(), py::arg("stepper"), py::arg("what"),
             py::arg("places"), py::keep_alive<1, 2>())
        .def("__enter__", &Displacement::enter)
        .def("__exit__", [](Displacement& displacement, const py::args&) { displacement.exit(); });
}

}  // namespace downslope::bindings

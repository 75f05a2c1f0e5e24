// The loops as Python has them.
#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "downslope/minimize/differences.hpp"
#include "downslope/minimize/first_order.hpp"
#include "downslope/minimize/lbfgs.hpp"
#include "downslope/minimize/many.hpp"
#include "downslope/minimize/solve.hpp"
#include "python_objective.hpp"

namespace py = pybind11;

namespace downslope::bindings {
namespace {

using Vector = py::array_t<double, py::array::c_style>;

// ---- methods ----

struct MethodOptions {
    virtual ~MethodOptions() = default;
    virtual std::unique_ptr<Method> make(std::int64_t n) const = 0;
};

struct RuleOptions : MethodOptions {
    FirstOrderOptions options;
    std::unique_ptr<Method> make(std::int64_t n) const override { return std::make_unique<FirstOrder>(n, options); }
};

struct LBFGSOptions : MethodOptions {
    std::int64_t memory;
    std::unique_ptr<Method> make(std::int64_t n) const override { return std::make_unique<LBFGS>(n, memory); }
};

std::unique_ptr<Run> make_run(const MethodOptions& method, std::int64_t n, const Limits& limits) {
    return std::make_unique<Run>(method.make(n), n, limits);
}

// ---- compiled objectives ----

// Addresses of functions with the signatures of the documentation; `gradient` is null where `value` makes it, too, or
// where it is differenced.
struct CompiledFunctions {
    std::uintptr_t value, gradient;
    std::optional<Differences> differences;
    std::byte* data;         // what user_data points to
    std::int64_t row_bytes;  // of the data of one problem
};

class CompiledPair {
public:
    CompiledPair(const CompiledFunctions& functions, std::int64_t n) : functions_(functions), n_(static_cast<int>(n)) {}
    static constexpr std::int64_t evaluations = 1;

    void turn_to(std::int64_t problem) { user_data_ = functions_.data + problem * functions_.row_bytes; }

    double operator()(const double* x, double* gradient) const {
        if (functions_.gradient == 0)
            return reinterpret_cast<double (*)(int, const double*, double*, void*)>(functions_.value)(n_, x, gradient,
                                                                                                      user_data_);
        reinterpret_cast<void (*)(int, const double*, double*, void*)>(functions_.gradient)(n_, x, gradient,
                                                                                            user_data_);
        return (*this)(x);
    }
    double operator()(const double* x) const {
        return reinterpret_cast<double (*)(int, const double*, void*)>(functions_.value)(n_, x, user_data_);
    }

private:
    CompiledFunctions functions_;
    int n_;
    void* user_data_ = nullptr;
};

class CompiledDifferences : public DifferencedObjective<CompiledPair> {
public:
    CompiledDifferences(const CompiledFunctions& functions, std::int64_t n)
        : DifferencedObjective(CompiledPair(functions, n), n, *functions.differences) {}
    void turn_to(std::int64_t problem) { function().turn_to(problem); }
};

// ---- what a loop looks at now and then ----

// Whether Ctrl-C has been pressed, or something else that the interpreter waits to raise. The error is kept.
class Interrupts {
public:
    bool none() {
        if (!error_ && PyErr_CheckSignals() != 0) keep_error();
        return !error_;
    }
    void keep_error() { error_ = std::make_exception_ptr(py::error_already_set()); }
    void raise() const {
        if (error_) std::rethrow_exception(error_);
    }

private:
    std::exception_ptr error_;
};

py::tuple outcome(const Run& run, const std::vector<py::ssize_t>& shape) {
    Vector x(shape, run.best_x().data()), jac(shape, run.best_gradient().data());
    return py::make_tuple(x, run.best_f(), jac, run.nit(), run.nfev(), run.njev(), static_cast<int>(run.status()));
}

// observe(x, f, nit, nfev) returns whether to stop.
void observe_by(const py::object& observe, const std::vector<py::ssize_t>& shape, Run& run) {
    const py::object stop = observe(Vector(shape, run.x()), run.f(), run.nit(), run.nfev());
    if (stop.cast<bool>() && run.running()) run.stop(Status::stopped_by_callback);
}

std::vector<py::ssize_t> shape_of(const py::array& array) { return {array.shape(), array.shape() + array.ndim()}; }

template <class Objective>
py::tuple minimize_with_gil(const MethodOptions& method, const Limits& limits, const Vector& x0, Objective objective,
                            const py::object& observe) {
    const auto run = make_run(method, x0.size(), limits);
    const std::vector<py::ssize_t> shape = shape_of(x0);
    run->start(x0.data());
    Interrupts interrupts;
    Pulse pulse;
    const auto observer = [&](Run& r) {
        if (!observe.is_none()) observe_by(observe, shape, r);
    };
    solve(*run, objective, observer, [&] { return interrupts.none(); }, pulse);
    interrupts.raise();
    return outcome(*run, shape);
}

template <class Objective>
py::tuple minimize_without_gil(const MethodOptions& method, const Limits& limits, const Vector& x0,
                               const CompiledFunctions& functions, const py::object& observe) {
    const auto run = make_run(method, x0.size(), limits);
    const std::vector<py::ssize_t> shape = shape_of(x0);
    run->start(x0.data());
    Interrupts interrupts;
    Objective objective(functions, x0.size());
    objective.turn_to(0);
    const bool observed = !observe.is_none();
    {
        const py::gil_scoped_release released;
        const auto observer = [&](Run& r) {
            if (!observed) return;
            const py::gil_scoped_acquire held;
            try {
                observe_by(observe, shape, r);
            } catch (py::error_already_set& error) {
                error.restore();
                interrupts.keep_error();
                r.stop(Status::interrupted);
            }
        };
        const auto alive = [&] {
            const py::gil_scoped_acquire held;
            return interrupts.none();
        };
        Pulse pulse;
        solve(*run, objective, observer, alive, pulse);
    }
    interrupts.raise();
    return outcome(*run, shape);
}

// ---- many ----

struct ResultArrays {
    Vector x, fun, jac;
    py::array_t<std::int64_t> nit, nfev, njev, status;

    ResultArrays(std::int64_t count, std::int64_t n)
        : x({count, n}), fun(count), jac({count, n}), nit(count), nfev(count), njev(count), status(count) {}

    Results view() {
        return {x.mutable_data(),    fun.mutable_data(),  jac.mutable_data(),   nit.mutable_data(),
                nfev.mutable_data(), njev.mutable_data(), status.mutable_data()};
    }
    py::tuple tuple() const { return py::make_tuple(x, fun, jac, nit, nfev, njev, status); }
};

// `progress(done)` is called now and then, if there is one.
template <class Objective>
py::tuple minimize_many_as(const MethodOptions& method, const Limits& limits, const Vector& x0,
                           const CompiledFunctions& functions, const py::object& progress) {
    const std::int64_t count = x0.shape(0), n = x0.shape(1);
    const int workers = static_cast<int>(std::max<std::int64_t>(std::min<std::int64_t>(all_threads(), count), 1));
    std::vector<std::unique_ptr<Run>> runs;
    std::vector<Objective> objectives;
    for (int worker = 0; worker < workers; ++worker) {
        runs.push_back(make_run(method, n, limits));
        objectives.emplace_back(functions, n);
    }
    ResultArrays results(count, n);
    const Results view = results.view();
    const double* const starts = x0.data();
    const bool shows_progress = !progress.is_none();
    Interrupts interrupts;
    const auto alive = [&](std::int64_t done) {
        const py::gil_scoped_acquire held;
        try {
            if (shows_progress) progress(done);
        } catch (py::error_already_set& error) {
            error.restore();
            interrupts.keep_error();
        }
        return interrupts.none();
    };
    {
        const py::gil_scoped_release released;
        solve_many(runs, objectives, starts, n, count, view, alive);
    }
    interrupts.raise();
    return results.tuple();
}

class NumpyBatch {
public:
    NumpyBatch(const MethodOptions& method, const Limits& limits, const Vector& x0)
        : n_(x0.shape(1)), results_(x0.shape(0), n_), batch_(runs(method, limits, x0), x0.data(), n_) {}

    py::tuple points() const {
        const auto rows = static_cast<py::ssize_t>(batch_.active().size());
        Vector X({rows, static_cast<py::ssize_t>(n_)});
        batch_.points(X.mutable_data());
        return py::make_tuple(X, py::array_t<std::int64_t>(rows, batch_.active().data()));
    }

    // How many are still running afterwards.
    std::size_t tell(const Vector& f, const Vector& gradients) {
        const Results view = results_.view();
        const double *values = f.data(), *rows = gradients.data();
        const int threads = threads_for(gradients.size());
        const py::gil_scoped_release released;
        batch_.tell(values, rows, view, threads);
        return batch_.active().size();
    }

    void stop_for_time() { batch_.stop(Status::time_spent, results_.view()); }
    py::tuple results() const { return results_.tuple(); }

private:
    std::vector<std::unique_ptr<Run>> runs(const MethodOptions& method, const Limits& limits, const Vector& x0) const {
        std::vector<std::unique_ptr<Run>> all;
        for (std::int64_t i = 0; i < x0.shape(0); ++i) all.push_back(make_run(method, n_, limits));
        return all;
    }

    std::int64_t n_;
    ResultArrays results_;
    Batch batch_;
};

Differences differences_of(const std::string& name) {
    return name == "2-point" ? Differences::two_point : Differences::three_point;
}

}  // namespace

void bind_minimize(py::module_& module) {
    py::class_<MethodOptions>(module, "MethodOptions");
    py::class_<RuleOptions, MethodOptions>(module, "RuleMethod")
        .def(py::init([](const std::string& rule, const std::vector<double>& hyper, double weight_decay,
                         bool decoupled_weight_decay, const std::vector<double>& rates) {
                 RuleOptions options;
                 options.options = {&rule_for(rule, hyper), hyper, weight_decay, decoupled_weight_decay, rates};
                 return options;
             }),
             py::arg("rule"), py::arg("hyper"), py::arg("weight_decay"), py::arg("decoupled_weight_decay"),
             py::arg("rates"));
    py::class_<LBFGSOptions, MethodOptions>(module, "LBFGSMethod")
        .def(py::init([](std::int64_t memory) {
                 LBFGSOptions options;
                 options.memory = memory;
                 return options;
             }),
             py::arg("memory"));
    py::class_<Limits>(module, "Limits")
        .def(py::init([](std::int64_t maxiter, std::int64_t maxfev, double gtol, double ftol, double xtol,
                         double max_seconds) { return Limits{maxiter, maxfev, gtol, ftol, xtol, max_seconds}; }),
             py::arg("maxiter"), py::arg("maxfev"), py::arg("gtol"), py::arg("ftol"), py::arg("xtol"),
             py::arg("max_seconds"));
    py::class_<CompiledFunctions>(module, "CompiledFunctions")
        .def(py::init([](std::uintptr_t value, std::uintptr_t gradient, const std::optional<std::string>& differences,
                         std::uintptr_t data, std::int64_t row_bytes) {
                 CompiledFunctions functions{value, gradient, std::nullopt, reinterpret_cast<std::byte*>(data),
                                             row_bytes};
                 if (differences) functions.differences = differences_of(*differences);
                 return functions;
             }),
             py::arg("value"), py::arg("gradient"), py::arg("differences"), py::arg("data"), py::arg("row_bytes"));

    module.def(
        "minimize_python",
        [](const MethodOptions& method, const Limits& limits, const Vector& x0, const py::object& fun,
           const py::object& jac, const py::tuple& args, const py::object& to_float, const py::object& to_array,
           const py::object& observe) {
            const auto function = [&](const py::object& f) {
                return PythonFunction(f, args, shape_of(x0), {to_float, to_array});
            };
            if (jac.is(py::bool_(true)))
                return minimize_with_gil(method, limits, x0, PythonPair{function(fun)}, observe);
            if (!py::isinstance<py::str>(jac))
                return minimize_with_gil(method, limits, x0, PythonApart{function(fun), function(jac)}, observe);
            const DifferencedObjective<PythonValue> objective({function(fun)}, x0.size(),
                                                              differences_of(jac.cast<std::string>()));
            return minimize_with_gil(method, limits, x0, objective, observe);
        },
        py::arg("method"), py::arg("limits"), py::arg("x0"), py::arg("fun"), py::arg("jac"), py::arg("args"),
        py::arg("to_float"), py::arg("to_array"), py::arg("observe"),
        "(x, fun, jac, nit, nfev, njev, status); jac is a function, True, '2-point' or '3-point'.");
    module.def(
        "minimize_compiled",
        [](const MethodOptions& method, const Limits& limits, const Vector& x0, const CompiledFunctions& functions,
           const py::object& observe) {
            return functions.differences
                       ? minimize_without_gil<CompiledDifferences>(method, limits, x0, functions, observe)
                       : minimize_without_gil<CompiledPair>(method, limits, x0, functions, observe);
        },
        py::arg("method"), py::arg("limits"), py::arg("x0"), py::arg("functions"), py::arg("observe"));
    module.def(
        "minimize_many_compiled",
        [](const MethodOptions& method, const Limits& limits, const Vector& x0, const CompiledFunctions& functions,
           const py::object& progress) {
            return functions.differences
                       ? minimize_many_as<CompiledDifferences>(method, limits, x0, functions, progress)
                       : minimize_many_as<CompiledPair>(method, limits, x0, functions, progress);
        },
        py::arg("method"), py::arg("limits"), py::arg("x0"), py::arg("functions"), py::arg("progress"),
        "Arrays (x, fun, jac, nit, nfev, njev, status), one row or element for each row of x0.");
    py::class_<NumpyBatch>(module, "Batch")
        .def(py::init<const MethodOptions&, const Limits&, const Vector&>(), py::arg("method"), py::arg("limits"),
             py::arg("x0"))
        .def("points", &NumpyBatch::points, "(points of all that are still running, their rows in x0).")
        .def("tell", &NumpyBatch::tell, py::arg("f"), py::arg("gradients"))
        .def("stop_for_time", &NumpyBatch::stop_for_time)
        .def("results", &NumpyBatch::results);

    module.def("status_message", [](int status) { return message_of(static_cast<Status>(status)); }, py::arg("status"));
    module.def(
        "status_is_success", [](int status) { return is_success(static_cast<Status>(status)); }, py::arg("status"));
}

}  // namespace downslope::bindings

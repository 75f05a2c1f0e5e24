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
#include "downslope/minimize/dogleg.hpp"
#include "downslope/minimize/exact_step.hpp"
#include "downslope/minimize/first_order.hpp"
#include "downslope/minimize/lbfgs.hpp"
#include "downslope/minimize/many.hpp"
#include "downslope/minimize/newton.hpp"
#include "downslope/minimize/shifted_newton.hpp"
#include "downslope/minimize/solve.hpp"
#include "downslope/minimize/truncated_cg.hpp"
#include "downslope/minimize/trust_region.hpp"
#include "gil.hpp"
#include "loops.hpp"
#include "python_objective.hpp"

namespace py = pybind11;

namespace downslope::bindings {
namespace {

// ---- methods ----

struct MethodOptions {
    virtual ~MethodOptions() = default;
    virtual std::unique_ptr<Method> make(std::int64_t n, const Hessians& hessians, int threads) const = 0;
};

struct RuleOptions : MethodOptions {
    FirstOrderOptions options;
    std::unique_ptr<Method> make(std::int64_t n, const Hessians&, int) const override {
        return std::make_unique<FirstOrder>(n, options);
    }
};

struct LBFGSOptions : MethodOptions {
    std::int64_t memory;
    std::unique_ptr<Method> make(std::int64_t n, const Hessians&, int) const override { return make_lbfgs(n, memory); }
};

// A method of the second order is a loop, with a line search or a trust region, around a subproblem.
struct NewtonOptions : MethodOptions {
    bool truncated;
    double gtol;
    std::unique_ptr<Method> make(std::int64_t n, const Hessians& hessians, int threads) const override {
        if (truncated) return std::make_unique<Newton>(n, std::make_unique<TruncatedCG>(n, hessians.error(n)), gtol);
        return std::make_unique<Newton>(n, std::make_unique<ShiftedNewton>(n, hessians.error(n), threads), gtol);
    }
};

struct TrustRegionOptions : MethodOptions {
    enum class Kind { exact, truncated, dogleg } kind;
    Radii radii;
    std::unique_ptr<Method> make(std::int64_t n, const Hessians& hessians, int threads) const override {
        return std::make_unique<TrustRegion>(n, subproblem(n, hessians.error(n), threads), radii);
    }

private:
    std::unique_ptr<Subproblem> subproblem(std::int64_t n, double error, int threads) const {
        if (kind == Kind::exact) return std::make_unique<ExactStep>(n, error, threads);
        if (kind == Kind::truncated) return std::make_unique<TruncatedCG>(n, error);
        return std::make_unique<Dogleg>(n, error, threads);
    }
};

std::unique_ptr<Run> make_run(const MethodOptions& method, std::int64_t n, const Limits& limits,
                              const Hessians& hessians, int threads = 1) {
    return std::make_unique<Run>(method.make(n, hessians, threads), n, limits, hessians);
}

// Differences of gradients that are differences themselves, and so less exact, take longer steps: about the square root
// of the gradient's error.
Hessians differenced_hessians(const std::optional<Differences>& of_gradients) {
    Hessians hessians;
    if (of_gradients) hessians.relative_step = *of_gradients == Differences::two_point ? 0x1p-13 : 0x1p-17;
    return hessians;
}

// ---- compiled objectives ----

// Addresses of functions with the signatures of the documentation; `gradient` is null where `value` makes it, too, or
// where it is differenced; and so is `hessian`.
struct CompiledFunctions {
    std::uintptr_t value, gradient, hessian;
    std::optional<Differences> differences;
    std::byte* data;         // what user_data points to
    std::int64_t row_bytes;  // of the data of one problem

    Hessians hessians() const {
        return hessian == 0 ? differenced_hessians(differences) : Hessians{Hessians::Source::matrix};
    }
};

class alignas(cache_line) CompiledPair {
public:
    CompiledPair(const CompiledFunctions& functions, std::int64_t n)
        : gradient_evaluations(functions.gradient == 0 ? 1 : 0), functions_(functions), n_(static_cast<int>(n)) {
        if (functions.hessian != 0) hessian_.resize(static_cast<std::size_t>(n * n));
    }
    static constexpr std::int64_t evaluations = 1;
    std::int64_t gradient_evaluations;

    void turn_to(std::int64_t problem) { user_data_ = functions_.data + problem * functions_.row_bytes; }

    double operator()(const double* x, double* gradient) const {
        if (functions_.gradient == 0)
            return reinterpret_cast<double (*)(int, const double*, double*, void*)>(functions_.value)(n_, x, gradient,
                                                                                                      user_data_);
        fill(functions_.gradient, x, gradient);
        return (*this)(x);
    }
    void gradient(const double* x, double* gradient) const {
        functions_.gradient == 0 ? void((*this)(x, gradient)) : fill(functions_.gradient, x, gradient);
    }
    void hessian(Run& run) {
        fill(functions_.hessian, run.point(), hessian_.data());
        run.tell_hessian(hessian_.data());
    }
    // Nothing wants it: compiled functions give whole Hessians.
    void product(const double*, const double*, double*) const {}
    double operator()(const double* x) const {
        return reinterpret_cast<double (*)(int, const double*, void*)>(functions_.value)(n_, x, user_data_);
    }

private:
    void fill(std::uintptr_t function, const double* x, double* out) const {
        reinterpret_cast<void (*)(int, const double*, double*, void*)>(function)(n_, x, out, user_data_);
    }

    CompiledFunctions functions_;
    int n_;
    void* user_data_ = nullptr;
    Doubles hessian_;
};

class CompiledDifferences : public DifferencedObjective<CompiledPair> {
public:
    CompiledDifferences(const CompiledFunctions& functions, std::int64_t n)
        : DifferencedObjective(CompiledPair(functions, n), n, *functions.differences) {}
    void turn_to(std::int64_t problem) { function().turn_to(problem); }
    void hessian(Run& run) { function().hessian(run); }
    void product(const double*, const double*, double*) const {}
};

// ---- one ----

py::tuple outcome(const Run& run, const std::vector<py::ssize_t>& shape) {
    Vector x(shape, run.best_x().data()), jac(shape, run.best_gradient().data());
    return py::make_tuple(x, run.best_f(), jac, run.nit(), run.nfev(), run.njev(), run.nhev(),
                          static_cast<int>(run.status()));
}

// observe(x, f, nit, nfev) returns whether to stop.
void observe_by(const py::object& observe, const std::vector<py::ssize_t>& shape, Run& run) {
    const py::object stop = observe(Vector(shape, run.x()), run.f(), run.nit(), run.nfev());
    if (stop.cast<bool>() && run.running()) run.stop(Status::stopped_by_callback);
}

template <class Objective>
py::tuple minimize_with_gil(const MethodOptions& method, const Limits& limits, const Vector& x0, Objective objective,
                            const Hessians& hessians, const py::object& observe) {
    const auto run = make_run(method, x0.size(), limits, hessians, all_threads());
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
    const auto run = make_run(method, x0.size(), limits, functions.hessians(), all_threads());
    const std::vector<py::ssize_t> shape = shape_of(x0);
    run->start(x0.data());
    Interrupts interrupts;
    Objective objective(functions, x0.size());
    objective.turn_to(0);
    const bool observed = !observe.is_none();
    {
        const WithoutGil released;
        const auto observer = [&](Run& r) {
            if (!observed) return;
            const WithGil held;
            try {
                observe_by(observe, shape, r);
            } catch (py::error_already_set& error) {
                error.restore();
                interrupts.keep_error();
                r.stop(Status::interrupted);
            }
        };
        const auto alive = [&] {
            const WithGil held;
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
    py::array_t<std::int64_t> nit, nfev, njev, nhev, status;

    ResultArrays(std::int64_t count, std::int64_t n)
        : x({count, n}),
          fun(count),
          jac({count, n}),
          nit(count),
          nfev(count),
          njev(count),
          nhev(count),
          status(count) {}

    Results view() {
        return {x.mutable_data(),    fun.mutable_data(),  jac.mutable_data(),  nit.mutable_data(),
                nfev.mutable_data(), njev.mutable_data(), nhev.mutable_data(), status.mutable_data()};
    }
    py::tuple tuple() const { return py::make_tuple(x, fun, jac, nit, nfev, njev, nhev, status); }
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
        runs.push_back(make_run(method, n, limits, functions.hessians()));
        objectives.emplace_back(functions, n);
    }
    ResultArrays results(count, n);
    const Results view = results.view();
    const double* const starts = x0.data();
    Interrupts interrupts;
    const auto alive = [&](std::int64_t done) {
        const WithGil held;
        return interrupts.none_after(progress, done);
    };
    {
        const WithoutGil released;
        solve_many(runs, objectives, starts, n, count, view, alive);
    }
    interrupts.raise();
    return results.tuple();
}

class NumpyBatch {
public:
    NumpyBatch(const MethodOptions& method, const Limits& limits, const Vector& x0, bool has_hessians)
        : n_(x0.shape(1)),
          results_(x0.shape(0), n_),
          batch_(runs(method, limits, x0, has_hessians ? Hessians{Hessians::Source::matrix} : Hessians{}), x0.data(),
                 n_) {}

    py::tuple points(bool hessians) const {
        const std::vector<std::int64_t> index = batch_.wanting(hessians);
        const auto rows = static_cast<py::ssize_t>(index.size());
        Vector X({rows, static_cast<py::ssize_t>(n_)});
        batch_.points(index, X.mutable_data());
        return py::make_tuple(X, py::array_t<std::int64_t>(rows, index.data()));
    }

    // Each returns how many are still running afterwards.
    std::size_t tell(const Vector& f, const Vector& gradients) {
        const Results view = results_.view();
        const double *values = f.data(), *rows = gradients.data();
        const int threads = threads_for(gradients.size());
        const WithoutGil released;
        batch_.tell(values, rows, view, threads);
        return batch_.running();
    }
    std::size_t tell_hessians(const Vector& hessians) {
        const Results view = results_.view();
        const double* rows = hessians.data();
        const int threads = threads_for(hessians.size());
        const WithoutGil released;
        batch_.tell_hessians(rows, view, threads);
        return batch_.running();
    }

    void stop_for_time() { batch_.stop(Status::time_spent, results_.view()); }
    py::tuple results() const { return results_.tuple(); }

private:
    std::vector<std::unique_ptr<Run>> runs(const MethodOptions& method, const Limits& limits, const Vector& x0,
                                           const Hessians& hessians) const {
        std::vector<std::unique_ptr<Run>> all;
        for (std::int64_t i = 0; i < x0.shape(0); ++i) all.push_back(make_run(method, n_, limits, hessians));
        return all;
    }

    std::int64_t n_;
    ResultArrays results_;
    Batch batch_;
};

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
    py::class_<NewtonOptions, MethodOptions>(module, "NewtonMethod")
        .def(py::init([](bool truncated, double gtol) {
                 NewtonOptions options;
                 options.truncated = truncated;
                 options.gtol = gtol;
                 return options;
             }),
             py::arg("truncated"), py::arg("gtol"));
    py::class_<TrustRegionOptions, MethodOptions>(module, "TrustRegionMethod")
        .def(py::init([](const std::string& kind, double initial, double most) {
                 TrustRegionOptions options;
                 options.kind = kind == "exact" ? TrustRegionOptions::Kind::exact
                                : kind == "ncg" ? TrustRegionOptions::Kind::truncated
                                                : TrustRegionOptions::Kind::dogleg;
                 options.radii = {initial, most};
                 return options;
             }),
             py::arg("kind"), py::arg("initial_trust_radius"), py::arg("max_trust_radius"));
    py::class_<Limits>(module, "Limits")
        .def(py::init([](std::int64_t maxiter, std::int64_t maxfev, double gtol, double ftol, double xtol,
                         double max_seconds) { return Limits{maxiter, maxfev, gtol, ftol, xtol, max_seconds}; }),
             py::arg("maxiter"), py::arg("maxfev"), py::arg("gtol"), py::arg("ftol"), py::arg("xtol"),
             py::arg("max_seconds"));
    py::class_<CompiledFunctions>(module, "CompiledFunctions")
        .def(py::init([](std::uintptr_t value, std::uintptr_t gradient, std::uintptr_t hessian,
                         const std::optional<std::string>& differences, std::uintptr_t data, std::int64_t row_bytes) {
                 CompiledFunctions functions{
                     value, gradient, hessian, std::nullopt, reinterpret_cast<std::byte*>(data), row_bytes};
                 if (differences) functions.differences = differences_of(*differences);
                 return functions;
             }),
             py::arg("value"), py::arg("gradient"), py::arg("hessian"), py::arg("differences"), py::arg("data"),
             py::arg("row_bytes"));

    module.def(
        "minimize_python",
        [](const MethodOptions& method, const Limits& limits, const Vector& x0, const py::object& fun,
           const py::object& jac, const py::object& hess, const py::object& hessp, const py::tuple& args,
           const py::dict& converters, const py::object& observe) {
            const auto function = [&](const py::object& f, const char* to_array, std::size_t arrays = 1) {
                return PythonFunction(f, args, shape_of(x0), {converters["to_float"], converters[to_array]}, arrays);
            };
            const bool differenced = py::isinstance<py::str>(jac);
            const auto kind = differenced ? std::optional(differences_of(jac.cast<std::string>())) : std::nullopt;
            Hessians hessians = differenced_hessians(kind);
            std::optional<PythonFunction> second;
            if (!hess.is_none()) {
                hessians = {Hessians::Source::matrix};
                second = function(hess, "to_hessian");
                second->set_result_shape({x0.size(), x0.size()});
            } else if (!hessp.is_none()) {
                hessians = {Hessians::Source::products};
                second = function(hessp, "to_product", 2);
            }
            const auto run = [&](auto objective) {
                return minimize_with_gil(method, limits, x0, WithSecond(std::move(objective), second), hessians,
                                         observe);
            };
            if (differenced)
                return run(DifferencedObjective<PythonValue>({function(fun, "to_gradient")}, x0.size(), *kind));
            if (jac.is(py::bool_(true))) return run(PythonPair{function(fun, "to_gradient")});
            return run(PythonApart{function(fun, "to_gradient"), function(jac, "to_gradient")});
        },
        py::arg("method"), py::arg("limits"), py::arg("x0"), py::arg("fun"), py::arg("jac"), py::arg("hess"),
        py::arg("hessp"), py::arg("args"), py::arg("converters"), py::arg("observe"),
        "(x, fun, jac, nit, nfev, njev, nhev, status); jac is a function, True, '2-point' or '3-point'.");
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
        "Arrays (x, fun, jac, nit, nfev, njev, nhev, status), one row or element for each row of x0.");
    py::class_<NumpyBatch>(module, "Batch")
        .def(py::init<const MethodOptions&, const Limits&, const Vector&, bool>(), py::arg("method"), py::arg("limits"),
             py::arg("x0"), py::arg("has_hessians"))
        .def("points", &NumpyBatch::points, py::arg("hessians"),
             "(points of those that want Hessians, or values and gradients, their rows in x0).")
        .def("tell", &NumpyBatch::tell, py::arg("f"), py::arg("gradients"))
        .def("tell_hessians", &NumpyBatch::tell_hessians, py::arg("hessians"))
        .def("stop_for_time", &NumpyBatch::stop_for_time)
        .def("results", &NumpyBatch::results);

    module.def("status_message", [](int status) { return message_of(static_cast<Status>(status)); }, py::arg("status"));
    module.def("status_is_success",
               py::vectorize([](std::int64_t status) { return is_success(static_cast<Status>(status)); }),
               py::arg("status"));
}

}  // namespace downslope::bindings

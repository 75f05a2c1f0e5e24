// Least squares as Python has it.
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "downslope/minimize/least_squares.hpp"
#include "downslope/minimize/least_squares_dogleg.hpp"
#include "downslope/minimize/levenberg_marquardt.hpp"
#include "downslope/minimize/tiny.hpp"
#include "gil.hpp"
#include "loops.hpp"
#include "python_objective.hpp"

namespace py = pybind11;

namespace downslope::bindings {
namespace {

struct Settings {
    std::string method;
    LeastSquaresLimits limits;
    std::vector<double> x_scale;

    LeastSquares make(std::int64_t m, std::int64_t n) const { return {make_step(n), m, n, limits, x_scale}; }

private:
    std::unique_ptr<LeastSquaresStep> make_step(std::int64_t n) const {
        if (method == "lm") return std::make_unique<LevenbergMarquardtStep>(n);
        if (method == "dogleg") return std::make_unique<LeastSquaresDoglegStep>(n);
        return std::make_unique<GaussNewtonStep>(n);
    }
};

// To columns so far apart. With the number of columns known, the compiler reads them all at once.
void transpose(const double* rows, std::int64_t m, std::int64_t columns, double* out, std::int64_t stride) {
    with_size(columns, [=](auto n) {
        DOWNSLOPE_SIMD
        for (std::int64_t i = 0; i < m; ++i)
            for (std::int64_t j = 0; j < n; ++j) out[j * stride + i] = rows[i * n + j];
    });
}

// ---- Python ----

// Calls functions and checks what they return. What `fun` returns at the start tells how many residuals there are; it
// is kept until the loop asks for it.
class PythonResiduals {
public:
    using Array = PythonFunction::Array;

    // `to_residuals(value, m)`, with m None at first, and `to_jacobian(value, m)` make arrays, or raise what a user
    // should read. With `jac` True, `fun` returns both.
    PythonResiduals(PythonFunction fun, std::optional<PythonFunction> jac, bool returns_both, py::object to_residuals,
                    py::object to_jacobian, const double* x0)
        : fun_(std::move(fun)),
          jac_(std::move(jac)),
          returns_both_(returns_both),
          to_residuals_(std::move(to_residuals)),
          to_jacobian_(std::move(to_jacobian)),
          first_(call(x0, py::none())),
          m_(first_->size()) {}

    std::int64_t m() const { return m_; }
    static constexpr std::int64_t evaluations_of_jacobian() { return 0; }

    void residuals(const double* x, double* r) {
        const Array array = first_ ? std::move(*first_) : call(x, py::int_(m_));
        first_.reset();
        std::memcpy(r, array.data(), static_cast<std::size_t>(m_) * sizeof(double));
    }
    void operator()(const double* x, double* r) { residuals(x, r); }

    void jacobian(const double* x, const double*, const double*, double* columns, std::int64_t stride) {
        const py::object value = returns_both_ ? std::move(latest_jacobian_) : (*jac_)(x);
        const Array array = to_jacobian_(value, m_);
        transpose(array.data(), m_, array.shape(1), columns, stride);
    }

private:
    Array call(const double* x, const py::object& m) {
        const py::object value = fun_(x);
        if (!returns_both_) return to_residuals_(value, m);
        if (!PyTuple_Check(value.ptr()) || PyTuple_GET_SIZE(value.ptr()) != 2) {
            PyErr_Format(PyExc_TypeError, "with jac=True, fun must return a tuple of residuals and Jacobian, got %R",
                         value.ptr());
            throw py::error_already_set();
        }
        latest_jacobian_ = py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(value.ptr(), 1));
        return to_residuals_(py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(value.ptr(), 0)), m);
    }

    PythonFunction fun_;
    std::optional<PythonFunction> jac_;
    bool returns_both_;
    py::object to_residuals_, to_jacobian_, latest_jacobian_;
    std::optional<Array> first_;
    std::int64_t m_;
};

// ---- compiled ----

// Addresses of functions with the signatures of the documentation; `jacobian` is null where `residuals` makes it, too,
// or where it is differenced. If there are observations, the functions are those of a model, and residuals are
// (model - observed) / sigma.
struct CompiledResidualFunctions {
    std::uintptr_t residuals, jacobian;
    std::optional<Differences> differences;
    std::byte* data;         // what user_data points to
    std::int64_t row_bytes;  // of the data of one problem
    const double* observed;  // a row of m for each problem
    const double* sigma;     // m, for all problems
};

class CompiledResiduals {
public:
    CompiledResiduals(const CompiledResidualFunctions& functions, std::int64_t m, std::int64_t n)
        : functions_(functions),
          m_(static_cast<int>(m)),
          n_(static_cast<int>(n)),
          observed_(functions.observed),
          rows_(static_cast<std::size_t>(functions.differences ? 0 : m * n)) {}

    static constexpr std::int64_t evaluations_of_jacobian() { return 0; }

    void turn_to(std::int64_t problem) {
        user_data_ = functions_.data + problem * functions_.row_bytes;
        if (functions_.observed != nullptr) observed_ = functions_.observed + problem * m_;
    }

    void residuals(const double* x, double* r) {
        if (functions_.jacobian == 0 && !functions_.differences)
            reinterpret_cast<void (*)(int, int, const double*, double*, double*, void*)>(functions_.residuals)(
                m_, n_, x, r, rows_.data(), user_data_);
        else
            call(functions_.residuals, x, r);
        if (observed_ == nullptr) return;
        for (int i = 0; i < m_; ++i) r[i] = (r[i] - observed_[i]) / functions_.sigma[i];
    }
    void operator()(const double* x, double* r) { residuals(x, r); }

    void jacobian(const double* x, const double*, const double*, double* columns, std::int64_t stride) {
        if (functions_.jacobian != 0) call(functions_.jacobian, x, rows_.data());
        transpose(rows_.data(), m_, n_, columns, stride);
        if (observed_ == nullptr) return;
        for (int j = 0; j < n_; ++j)
            for (int i = 0; i < m_; ++i) columns[j * stride + i] /= functions_.sigma[i];
    }

private:
    void call(std::uintptr_t function, const double* x, double* out) const {
        reinterpret_cast<void (*)(int, int, const double*, double*, void*)>(function)(m_, n_, x, out, user_data_);
    }

    CompiledResidualFunctions functions_;
    int m_, n_;
    const double* observed_;
    Doubles rows_;
    void* user_data_ = nullptr;
};

class CompiledResidualDifferences : public DifferencedResiduals<CompiledResiduals> {
public:
    CompiledResidualDifferences(const CompiledResidualFunctions& functions, std::int64_t m, std::int64_t n)
        : DifferencedResiduals(CompiledResiduals(functions, m, n), m, n, *functions.differences) {}
    void turn_to(std::int64_t problem) { function().turn_to(problem); }
};

// ---- one ----

py::tuple outcome(LeastSquares& run, const std::vector<py::ssize_t>& shape) {
    const std::int64_t m = run.m(), n = run.n();
    Vector jac({m, n}), covariance({n, n});
    run.copy_jacobian(jac.mutable_data());
    run.inverse_of_normal_matrix(covariance.mutable_data());
    return py::make_tuple(Vector(shape, run.x()), run.cost(), Vector(m, run.residuals()), jac,
                          Vector(shape, run.gradient()), covariance, run.nit(), run.nfev(), run.njev(),
                          static_cast<int>(run.status()));
}

template <class Objective>
py::tuple solve_with_gil(const Settings& settings, const Vector& x0, std::int64_t m, Objective objective) {
    LeastSquares run = settings.make(m, x0.size());
    Interrupts interrupts;
    Pulse pulse;
    run.solve(x0.data(), objective, [&] { return interrupts.none(); }, pulse);
    interrupts.raise();
    return outcome(run, shape_of(x0));
}

template <class Objective>
py::tuple solve_without_gil(const Settings& settings, const Vector& x0, std::int64_t m,
                            const CompiledResidualFunctions& functions) {
    LeastSquares run = settings.make(m, x0.size());
    Objective objective(functions, m, x0.size());
    objective.turn_to(0);
    Interrupts interrupts;
    const double* const start = x0.data();
    {
        const WithoutGil released;
        const auto alive = [&] {
            const WithGil held;
            return interrupts.none();
        };
        Pulse pulse;
        run.solve(start, objective, alive, pulse);
    }
    interrupts.raise();
    return outcome(run, shape_of(x0));
}

// ---- many ----

// `progress(done)` is called now and then, if there is one.
template <class Objective>
py::tuple solve_many_without_gil(const Settings& settings, const Vector& x0, std::int64_t m,
                                 const CompiledResidualFunctions& functions, const py::object& progress) {
    const std::int64_t count = x0.shape(0), n = x0.shape(1);
    const auto threads = std::max<std::int64_t>(std::min<std::int64_t>(all_threads(), count), 1);
    std::vector<LeastSquaresWorker<Objective>> workers;
    for (std::int64_t i = 0; i < threads; ++i) workers.emplace_back(settings.make(m, n), Objective(functions, m, n));
    Vector x({count, n}), cost(count), gradient({count, n}), covariance({count, n, n});
    py::array_t<std::int64_t> nit(count), nfev(count), njev(count), status(count);
    const LeastSquaresResults results{x.mutable_data(),          cost.mutable_data(),  gradient.mutable_data(),
                                      covariance.mutable_data(), nit.mutable_data(),   nfev.mutable_data(),
                                      njev.mutable_data(),       status.mutable_data()};
    const double* const starts = x0.data();
    Interrupts interrupts;
    {
        const WithoutGil released;
        const auto alive = [&](std::int64_t done) {
            const WithGil held;
            return interrupts.none_after(progress, done);
        };
        solve_many_least_squares(workers, starts, count, results, alive);
    }
    interrupts.raise();
    return py::make_tuple(x, cost, gradient, covariance, nit, nfev, njev, status);
}

}  // namespace

void bind_least_squares(py::module_& module) {
    py::class_<Settings>(module, "LeastSquaresSettings")
        .def(py::init([](const std::string& method, const std::vector<double>& x_scale, double ftol, double xtol,
                         double gtol,
                         std::int64_t max_nfev) { return Settings{method, {ftol, xtol, gtol, max_nfev}, x_scale}; }),
             py::arg("method"), py::arg("x_scale"), py::arg("ftol"), py::arg("xtol"), py::arg("gtol"),
             py::arg("max_nfev"));
    py::class_<CompiledResidualFunctions>(module, "CompiledResidualFunctions")
        .def(py::init([](std::uintptr_t residuals, std::uintptr_t jacobian,
                         const std::optional<std::string>& differences, std::uintptr_t data, std::int64_t row_bytes,
                         std::uintptr_t observed, std::uintptr_t sigma) {
                 CompiledResidualFunctions functions{residuals,
                                                     jacobian,
                                                     std::nullopt,
                                                     reinterpret_cast<std::byte*>(data),
                                                     row_bytes,
                                                     reinterpret_cast<const double*>(observed),
                                                     reinterpret_cast<const double*>(sigma)};
                 if (differences) functions.differences = differences_of(*differences);
                 return functions;
             }),
             py::arg("residuals"), py::arg("jacobian"), py::arg("differences"), py::arg("data"), py::arg("row_bytes"),
             py::arg("observed"), py::arg("sigma"));

    module.def(
        "least_squares_python",
        [](const Settings& settings, const Vector& x0, const py::object& fun, const py::object& jac,
           const py::tuple& args, const py::object& to_residuals, const py::object& to_jacobian) {
            const auto function = [&](const py::object& f) {
                return PythonFunction(f, args, shape_of(x0), {py::none(), py::none()});
            };
            const bool returns_both = jac.is(py::bool_(true)), differenced = py::isinstance<py::str>(jac);
            std::optional<PythonFunction> jacobian;
            if (!returns_both && !differenced) jacobian = function(jac);
            PythonResiduals objective(function(fun), jacobian, returns_both, to_residuals, to_jacobian, x0.data());
            const std::int64_t m = objective.m();
            if (!differenced) return solve_with_gil(settings, x0, m, std::move(objective));
            const Differences kind = differences_of(jac.cast<std::string>());
            return solve_with_gil(settings, x0, m, DifferencedResiduals(std::move(objective), m, x0.size(), kind));
        },
        py::arg("settings"), py::arg("x0"), py::arg("fun"), py::arg("jac"), py::arg("args"), py::arg("to_residuals"),
        py::arg("to_jacobian"),
        "(x, cost, fun, jac, grad, (J^T J)^-1, nit, nfev, njev, status); jac is a function, True, '2-point' or "
        "'3-point'.");
    module.def(
        "least_squares_compiled",
        [](const Settings& settings, const Vector& x0, std::int64_t m, const CompiledResidualFunctions& functions) {
            return functions.differences ? solve_without_gil<CompiledResidualDifferences>(settings, x0, m, functions)
                                         : solve_without_gil<CompiledResiduals>(settings, x0, m, functions);
        },
        py::arg("settings"), py::arg("x0"), py::arg("m"), py::arg("functions"));
    module.def(
        "least_squares_many_compiled",
        [](const Settings& settings, const Vector& x0, std::int64_t m, const CompiledResidualFunctions& functions,
           const py::object& progress) {
            return functions.differences
                       ? solve_many_without_gil<CompiledResidualDifferences>(settings, x0, m, functions, progress)
                       : solve_many_without_gil<CompiledResiduals>(settings, x0, m, functions, progress);
        },
        py::arg("settings"), py::arg("x0"), py::arg("m"), py::arg("functions"), py::arg("progress"),
        "Arrays (x, cost, grad, (J^T J)^-1, nit, nfev, njev, status), one row or element for each row of x0.");
    module.def(
        "least_squares_message", [](int status) { return message_of_least_squares(static_cast<Status>(status)); },
        py::arg("status"));
}

}  // namespace downslope::bindings

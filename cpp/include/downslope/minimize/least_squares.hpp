// Nonlinear least squares: minimizes |r(x)|^2 / 2 for residuals r of m elements, with the Jacobian J of r.
//
// The loop is MINPACK's lmder (More 1978), around any `LeastSquaresStep`. Other than there, J is divided by the scale
// of its columns before it is factorized, so that pivots and rank do not depend on units; J is evaluated before a step
// is taken, so that one to where J is not finite is not; and m may be less than n.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "../parallel.hpp"
#include "../status.hpp"
#include "differences.hpp"
#include "least_squares_step.hpp"
#include "pulse.hpp"

namespace downslope {

// ftol bounds the reduction of the sum of squares by a step, actual and predicted, relative to it; xtol the reach of
// steps relative to |D x|; gtol the cosine of the angle between r and any column of J. 0 turns each off.
struct LeastSquaresLimits {
    double ftol, xtol, gtol;
    std::int64_t max_nfev;
};

constexpr const char* message_of_least_squares(Status status) {
    switch (status) {
        case Status::gradient_small:
            return "Converged: the cosine of the angle between fun and any column of jac is at most gtol.";
        case Status::evaluations_spent:
            return "Stopped: fun has been evaluated max_nfev times.";
        case Status::decrease_small:
            return "Converged: the last step lowered the cost, and should have, by at most ftol * cost.";
        case Status::step_small:
            return "Converged: steps are at most xtol * norm(x), in the scale of the parameters.";
        case Status::not_finite_at_start:
            return "Failed: fun or jac is not finite at x0.";
        case Status::not_finite:
            return "Failed: fun or jac is not finite where the method has to go.";
        case Status::no_progress:
            return "Failed: no step lowers the cost any more; the Jacobian may be wrong, or rounding hides what is "
                   "left.";
        default:
            return message_of(status);
    }
}

// The Jacobian of a function of residuals alone, void(const double* x, double* r), by differences. Steps are relative
// to the size of a parameter, as in MINPACK's lmdif: whatever unit it is in; near zero, to how far it has moved.
template <class Function>
class DifferencedResiduals {
public:
    DifferencedResiduals(Function function, std::int64_t m, std::int64_t n, Differences kind)
        : function_(std::move(function)),
          kind_(kind),
          x_(static_cast<std::size_t>(n)),
          up_(static_cast<std::size_t>(m)),
          down_(up_.size()) {}

    std::int64_t evaluations_of_jacobian() const {
        return static_cast<std::int64_t>(x_.size()) * (kind_ == Differences::two_point ? 1 : 2);
    }

    void residuals(const double* x, double* r) { function_(x, r); }

    void jacobian(const double* x, const double* previous, const double* r, double* columns, std::int64_t stride) {
        std::copy_n(x, x_.size(), x_.data());
        for (std::size_t j = 0; j < x_.size(); ++j) {
            const double size = std::max(std::abs(x[j]), std::abs(x[j] - previous[j]));
            const double h = relative_step(kind_) * (size > 0 ? size : 1);
            x_[j] = x[j] + h;
            double from = x[j];
            const double to = x_[j];
            function_(x_.data(), up_.data());
            const double* below = r;
            if (kind_ == Differences::three_point) {
                x_[j] = from = x[j] - h;
                function_(x_.data(), down_.data());
                below = down_.data();
            }
            for (std::size_t i = 0; i < up_.size(); ++i) columns[i] = (up_[i] - below[i]) / (to - from);
            columns += stride;
            x_[j] = x[j];
        }
    }

    Function& function() { return function_; }

private:
    Function function_;
    Differences kind_;
    Doubles x_, up_, down_;
};

// One problem on its way, and the best point so far, which is always the current iterate. All storage is allocated
// once, for any number of problems of one shape.
class LeastSquares {
public:
    // `x_scale` is empty for the norms of the columns of J, the largest that each has had.
    LeastSquares(std::unique_ptr<LeastSquaresStep> step, std::int64_t m, std::int64_t n,
                 const LeastSquaresLimits& limits, const std::vector<double>& x_scale)
        : step_(std::move(step)),
          limits_(limits),
          m_(m),
          n_(n),
          model_(m, n),
          iterate_(model_.rows(), n),
          trial_(model_.rows(), n),
          scale_(size(n)),
          z_(size(n)),
          work_(size(n)),
          scales_itself_(x_scale.empty()) {
        for (std::size_t j = 0; j < x_scale.size(); ++j) scale_[j] = 1 / x_scale[j];
    }

    // An objective has `residuals(x, r)`; `jacobian(x, previous x, r, columns, stride)`, where residuals were asked for
    // last, J column by column; and `evaluations_of_jacobian()`. `alive()` is called every few milliseconds and tells
    // whether to go on.
    template <class Objective, class Alive>
    void solve(const double* x0, Objective& objective, const Alive& alive, Pulse& pulse) {
        start(x0, objective);
        while (running()) {
            const Model model = propose();
            evaluate(objective, model);
            if (running() && pulse() && !alive()) status_ = Status::interrupted;
        }
    }

    bool running() const { return status_ == Status::running; }
    Status status() const { return status_; }
    std::int64_t m() const { return m_; }
    std::int64_t n() const { return n_; }
    std::int64_t nit() const { return nit_; }
    std::int64_t nfev() const { return nfev_; }
    std::int64_t njev() const { return njev_; }
    const double* x() const { return iterate_.x.data(); }
    const double* residuals() const { return iterate_.r.data(); }
    // Row by row.
    void copy_jacobian(double* out) const {
        for (std::int64_t i = 0; i < m_; ++i)
            for (std::int64_t j = 0; j < n_; ++j) *out++ = iterate_.jacobian[size(j * stride() + i)];
    }
    const double* gradient() const { return iterate_.gradient.data(); }
    double cost() const { return 0.5 * (iterate_.length * iterate_.length); }

    // (J^T J)^-1 at the iterate; infinite if J has not full rank.
    void inverse_of_normal_matrix(double* out) {
        const double missing = std::numeric_limits<double>::infinity();
        if (status_ == Status::not_finite_at_start || model_.rank() < n_) {
            std::fill_n(out, n_ * n_, missing);
            return;
        }
        std::fill_n(out, n_ * n_, 0.0);
        for (std::int64_t k = 0; k < n_; ++k) {
            std::fill(work_.begin(), work_.end(), 0.0);
            work_[size(k)] = 1;
            model_.solve(work_.data(), z_.data());  // column k of R^-1
            for (std::int64_t i = 0; i <= k; ++i) z_[size(i)] /= scale_[size(model_.permutation(i))];
            for (std::int64_t i = 0; i <= k; ++i)
                for (std::int64_t j = 0; j <= k; ++j)
                    out[model_.permutation(i) * n_ + model_.permutation(j)] += z_[size(i)] * z_[size(j)];
        }
    }

private:
    static constexpr double eps = std::numeric_limits<double>::epsilon();
    static constexpr double sufficient = 1e-4;  // of the predicted reduction

    static std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }
    // From one column of J to the next.
    std::int64_t stride() const { return model_.rows(); }

    struct Point {
        Point(std::int64_t rows, std::int64_t n)
            : x(size(n)), r(size(rows)), jacobian(size(rows * n)), norms(size(n)), gradient(size(n)) {}
        Doubles x, r, jacobian, norms, gradient;  // norms of the columns
        double length = 0, cosine = 0;            // |r|; the largest cosine of the angles between r and the columns
    };

    template <class Objective>
    void start(const double* x0, Objective& objective) {
        nit_ = njev_ = nfev_ = 0;
        status_ = Status::running;
        std::copy_n(x0, n_, iterate_.x.data());
        const double missing = std::numeric_limits<double>::quiet_NaN();
        for (std::int64_t j = 0; j < n_; ++j) std::fill_n(iterate_.jacobian.data() + j * stride(), m_, missing);
        if (!has_residuals(objective, iterate_) || !has_jacobian(objective, iterate_, x0)) {
            std::fill(iterate_.gradient.begin(), iterate_.gradient.end(), missing);
            status_ = Status::not_finite_at_start;
            return;
        }
        if (scales_itself_)
            for (std::size_t j = 0; j < scale_.size(); ++j)
                scale_[j] = iterate_.norms[j] >= std::numeric_limits<double>::min() ? iterate_.norms[j] : 1;
        scaled_x_ = scaled_norm_of_x();
        step_->start(scaled_x_);
        linearize();
    }

    template <class Objective>
    bool has_residuals(Objective& objective, Point& point) {
        objective.residuals(point.x.data(), point.r.data());
        ++nfev_;
        point.length = norm(point.r.data(), stride());
        return std::isfinite(point.length);
    }

    template <class Objective>
    bool has_jacobian(Objective& objective, Point& point, const double* previous) {
        double* const columns = point.jacobian.data();
        objective.jacobian(point.x.data(), previous, point.r.data(), columns, stride());
        ++njev_;
        nfev_ += objective.evaluations_of_jacobian();
        dots(columns, stride(), columns, stride(), n_, stride(), point.norms.data());
        dots(point.r.data(), 0, columns, stride(), n_, stride(), point.gradient.data());
        point.cosine = 0;
        for (std::size_t j = 0; j < point.norms.size(); ++j) {
            double& length = point.norms[j];
            length = norm(length, columns + static_cast<std::int64_t>(j) * stride(), stride());
            if (!std::isfinite(length)) return false;
            if (point.gradient[j] != 0)
                point.cosine = std::max(point.cosine, std::abs(point.gradient[j] / length) / point.length);
        }
        return true;
    }

    // The model at the iterate. Its gradient may say that this is the end.
    void linearize() {
        if (scales_itself_)
            for (std::size_t j = 0; j < scale_.size(); ++j) scale_[j] = std::max(scale_[j], iterate_.norms[j]);
        model_.factorize(iterate_.jacobian.data(), iterate_.norms.data(), scale_.data(), iterate_.r.data());
        if (iterate_.cosine <= limits_.gtol)
            status_ = Status::gradient_small;
        else
            step_->linearize(model_, iterate_.length);
    }

    Model propose() {
        const Model model = step_->propose(z_.data());
        for (std::int64_t j = 0; j < n_; ++j) {
            const auto i = size(model_.permutation(j));
            trial_.x[i] = iterate_.x[i] - z_[size(j)] / scale_[i];
        }
        return model;
    }

    template <class Objective>
    void evaluate(Objective& objective, const Model& model) {
        Trial trial{};
        trial.slope = model.slope;
        trial.predicted = -(2 * model.slope + model.curvature);
        trial.length = norm(z_.data(), n_);
        trial.finite = has_residuals(objective, trial_);
        const double growth = trial_.length / iterate_.length, reduced = 1 - growth * growth;
        if (trial.finite && trial.predicted > 0) trial.ratio = reduced / trial.predicted;
        // Reductions that rounding hides can't tell which point is better; gradients still can.
        const bool hidden = trial.finite && std::abs(reduced) <= 100 * eps && trial.predicted <= 100 * eps;
        trial.taken = hidden || trial.ratio >= sufficient;
        if (trial.taken) trial.finite = trial.taken = has_jacobian(objective, trial_, iterate_.x.data());
        if (hidden && trial.taken) {
            trial.taken = trial_.cosine < 0.9 * iterate_.cosine;
            trial.ratio = trial.taken ? 1 : 0;
        }
        trial.actual = trial.finite ? reduced : -std::numeric_limits<double>::infinity();
        if (!trial.finite) trial.ratio = 0;
        const bool goes_on = step_->learn(trial);
        if (trial.taken) {
            std::swap(iterate_, trial_);
            ++nit_;
            scaled_x_ = scaled_norm_of_x();
            linearize();
        }
        if (running()) status_ = goes_on ? after(trial) : trial.finite ? Status::no_progress : Status::not_finite;
    }

    Status after(const Trial& trial) const {
        const auto reduces_by_at_most = [&](double tolerance) {
            return std::abs(trial.actual) <= tolerance && trial.predicted <= tolerance && trial.ratio <= 2;
        };
        if (limits_.ftol > 0 && reduces_by_at_most(limits_.ftol)) return Status::decrease_small;
        const double reach = step_->reach();
        if (reach <= std::max(limits_.xtol, eps) * scaled_x_) {
            if (!trial.finite) return Status::not_finite;
            const bool contradicts = !trial.taken && shows(trial.predicted);
            return limits_.xtol > 0 && reach <= limits_.xtol * scaled_x_ && !contradicts ? Status::step_small
                                                                                         : Status::no_progress;
        }
        if (!trial.taken && reduces_by_at_most(eps)) return Status::no_progress;
        return nfev_ >= limits_.max_nfev ? Status::evaluations_spent : Status::running;
    }

    // Whether a reduction would stand out of the rounding of r, of the size of |J| |x| at least. If there is none then,
    // even after a very short step, this is no minimum.
    bool shows(double reduction) const {
        double size_of_terms = iterate_.length;
        for (std::size_t j = 0; j < iterate_.x.size(); ++j)
            size_of_terms += iterate_.norms[j] * std::abs(iterate_.x[j]);
        return 0.5 * reduction * iterate_.length > 1e3 * eps * size_of_terms;
    }

    double scaled_norm_of_x() {
        for (std::size_t j = 0; j < work_.size(); ++j) work_[j] = scale_[j] * iterate_.x[j];
        return norm(work_.data(), n_);
    }

    std::unique_ptr<LeastSquaresStep> step_;
    LeastSquaresLimits limits_;
    std::int64_t m_, n_, nit_ = 0, nfev_ = 0, njev_ = 0;
    PivotedQR model_;
    Point iterate_, trial_;
    Doubles scale_, z_, work_;
    bool scales_itself_;
    double scaled_x_ = 0;
    Status status_ = Status::running;
};

// One row, or one element, for each problem.
struct LeastSquaresResults {
    double *x, *cost, *gradient, *covariance;
    std::int64_t *nit, *nfev, *njev, *status;

    void take(std::int64_t problem, LeastSquares& run) const {
        const std::int64_t n = run.n();
        std::copy_n(run.x(), n, x + problem * n);
        std::copy_n(run.gradient(), n, gradient + problem * n);
        run.inverse_of_normal_matrix(covariance + problem * n * n);
        cost[problem] = run.cost();
        nit[problem] = run.nit(), nfev[problem] = run.nfev(), njev[problem] = run.njev();
        status[problem] = static_cast<std::int64_t>(run.status());
    }
};

// What one thread works with, apart from what others do.
template <class Objective>
struct alignas(cache_line) LeastSquaresWorker {
    LeastSquaresWorker(LeastSquares run_, Objective objective_)
        : run(std::move(run_)), objective(std::move(objective_)) {}
    LeastSquares run;
    Objective objective;
    Pulse pulse;
};

// As `solve_many` does it. What has not begun when `alive` ends it all is left as it is.
template <class Objective, class Alive>
void solve_many_least_squares(std::vector<LeastSquaresWorker<Objective>>& workers, const double* x0, std::int64_t count,
                              const LeastSquaresResults& results, const Alive& alive) {
    std::atomic<bool> stopped{false};
    std::atomic<std::int64_t> done{0};
    const auto ask = [&] {
        if (!stopped && !alive(done.load())) stopped = true;
        return !stopped;
    };
    const auto solve_one = [&](std::size_t number, std::int64_t problem) {
        if (stopped) return;
        auto& [run, objective, pulse] = workers[number];
        objective.turn_to(problem);
        const auto goes_on = [&] { return number == 0 ? ask() : !stopped; };
        run.solve(x0 + problem * run.n(), objective, goes_on, pulse);
        results.take(problem, run);
        ++done;
    };
    parallel_items(static_cast<int>(workers.size()), count, solve_one, ask);
}

}  // namespace downslope

// One problem on its way: a method, when to stop it, and the best point so far.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "method.hpp"
#include "vectors.hpp"

namespace downslope {

// gtol bounds max |gradient|, ftol the decrease of an iteration relative to max(1, |f|), xtol its step relative to
// max(1, max |x|); 0 turns each off.
struct Limits {
    std::int64_t maxiter, maxfev;
    double gtol, ftol, xtol, max_seconds;
};

class Run {
public:
    Run(std::unique_ptr<Method> method, std::int64_t n, const Limits& limits)
        : method_(std::move(method)),
          limits_(limits),
          n_(n),
          gradient_(static_cast<std::size_t>(n)),
          best_x_(gradient_.size()),
          best_gradient_(gradient_.size()),
          previous_(limits.xtol > 0 ? gradient_.size() : 0) {}

    void start(const double* x0) {
        method_->start(x0);
        status_ = Status::running;
        nit_ = nfev_ = njev_ = 0;
        best_f_ = std::numeric_limits<double>::quiet_NaN();
        begun_ = false;
    }

    bool running() const { return status_ == Status::running; }

    // Where the objective is wanted, and where its gradient is to be put.
    const double* point() const { return method_->point(); }
    double* gradient() { return gradient_.data(); }

    // Takes in the value at the point, which took so many evaluations of the objective. Returns whether that has
    // completed an iteration.
    bool tell(double f, std::int64_t evaluations) {
        nfev_ += evaluations;
        ++njev_;
        at_iterate_ = false;
        const double largest = max_norm(gradient(), n_);
        const bool finite = std::isfinite(f) && std::isfinite(largest);
        latest_gradient_ = gradient();
        if (njev_ == 1 || (finite && !(f > best_f_))) keep_as_best(point(), f);
        const Method::Outcome outcome = method_->tell(f, latest_gradient_, finite);
        if (outcome == Method::Outcome::not_finite)
            status_ = begun_ ? Status::not_finite : Status::not_finite_at_start;
        else if (outcome == Method::Outcome::no_progress)
            status_ = Status::no_progress;
        else if (outcome == Method::Outcome::iterate)
            return iterate(f, largest);
        else if (nfev_ >= limits_.maxfev)
            status_ = Status::evaluations_spent;
        return false;
    }

    // On from an iterate; between iterates the method has gone on already.
    void advance_if_at_iterate() {
        if (at_iterate_ && running()) method_->advance(latest_gradient_);
    }
    void stop(Status status) { status_ = status; }

    // The iterate, right after an iteration.
    const double* x() const { return method_->x(); }
    double f() const { return f_; }

    Status status() const { return status_; }
    std::int64_t nit() const { return nit_; }
    std::int64_t nfev() const { return nfev_; }
    std::int64_t njev() const { return njev_; }
    const std::vector<double>& best_x() const { return best_x_; }
    const std::vector<double>& best_gradient() const { return best_gradient_; }
    double best_f() const { return best_f_; }
    const Limits& limits() const { return limits_; }

private:
    bool iterate(double f, double largest_gradient) {
        const double previous_f = std::exchange(f_, f);
        const bool completes = std::exchange(begun_, true);
        at_iterate_ = true;
        if (completes) ++nit_;
        if (largest_gradient <= limits_.gtol) {
            status_ = Status::gradient_small;
            // Another point may have been lower, but not by more than rounding, and with a larger gradient.
            if (f > best_f_ && f - best_f_ <= rounding_of(f)) keep_as_best(x(), f);
        } else if (completes && limits_.ftol > 0 && f <= previous_f &&
                   previous_f - f <= limits_.ftol * std::max(1.0, std::abs(f)))
            status_ = Status::decrease_small;
        else if (completes && limits_.xtol > 0 && step_is_small())
            status_ = Status::step_small;
        else if (nit_ >= limits_.maxiter)
            status_ = Status::iterations_spent;
        else if (nfev_ >= limits_.maxfev)
            status_ = Status::evaluations_spent;
        if (limits_.xtol > 0) std::copy_n(x(), n_, previous_.data());
        return completes;
    }

    bool step_is_small() const {
        return max_distance(x(), previous_.data(), n_) <= limits_.xtol * std::max(1.0, max_norm(x(), n_));
    }

    void keep_as_best(const double* x, double f) {
        best_f_ = f;
        std::copy_n(x, n_, best_x_.data());
        best_gradient_.swap(gradient_);  // the next one goes where the last best one was
    }

    std::unique_ptr<Method> method_;
    Limits limits_;
    std::int64_t n_, nit_ = 0, nfev_ = 0, njev_ = 0;
    std::vector<double> gradient_, best_x_, best_gradient_, previous_;
    const double* latest_gradient_ = nullptr;
    double f_ = 0, best_f_ = 0;
    bool begun_ = false, at_iterate_ = false;
    Status status_ = Status::running;
};

}  // namespace downslope

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
#include "second_derivatives.hpp"
#include "vectors.hpp"

namespace downslope {

// gtol bounds max |gradient|, ftol the decrease of an iteration relative to max(1, |f|), xtol its step relative to
// max(1, max |x|); 0 turns each off.
struct Limits {
    std::int64_t maxiter, maxfev;
    double gtol, ftol, xtol, max_seconds;
};

class alignas(cache_line) Run {
public:
    Run(std::unique_ptr<Method> method, std::int64_t n, const Limits& limits, const Hessians& hessians = {})
        : method_(std::move(method)),
          limits_(limits),
          second_(n, method_->uses(), hessians),
          n_(n),
          gradient_(static_cast<std::size_t>(n)),
          best_x_(gradient_.size()),
          best_gradient_(gradient_.size()),
          previous_(limits.xtol > 0 ? gradient_.size() : 0) {}

    void start(const double* x0) {
        method_->start(x0);
        status_ = Status::running;
        wants_ = Want::objective;
        nit_ = nfev_ = njev_ = nhev_ = 0;
        best_f_ = std::numeric_limits<double>::quiet_NaN();
        begun_ = false;
    }

    bool running() const { return status_ == Status::running; }

    // What is wanted, where, and where it is to be put.
    Want wants() const { return wants_; }
    const double* point() const {
        if (wants_ == Want::gradient) return second_.point();
        return wants_ == Want::objective ? method_->point() : x();
    }
    double* gradient() { return wants_ == Want::gradient ? second_.gradient() : gradient_.data(); }
    const double* direction() const { return method_->direction(); }
    double* product() { return second_.product(); }

    // Takes in the value at the point, which took so many evaluations of the objective. Returns whether that has
    // completed an iteration.
    bool tell(double f, std::int64_t evaluations) {
        nfev_ += evaluations;
        ++njev_;
        at_iterate_ = false;
        latest_gradient_ = gradient_.data();
        const double largest = max_norm(latest_gradient_, n_);
        const bool finite = std::isfinite(f) && std::isfinite(largest);
        // Among values that differ by rounding alone, a gradient that is small enough decides.
        const double highest = largest <= limits_.gtol ? best_f_ + rounding_of(best_f_) : best_f_;
        if (njev_ == 1 || (finite && !(f > highest))) keep_as_best(point(), f);
        const Method::Outcome outcome = method_->tell(f, latest_gradient_, finite);
        if (outcome == Method::Outcome::not_finite)
            status_ = begun_ ? Status::not_finite : Status::not_finite_at_start;
        else if (outcome == Method::Outcome::no_progress)
            status_ = Status::no_progress;
        else if (outcome == Method::Outcome::iterate)
            return iterate(f, largest);
        else if (nfev_ >= limits_.maxfev)
            status_ = Status::evaluations_spent;
        else if (second_.used())
            follow();
        return false;
    }

    // Take in what else has been wanted.
    void tell_gradient(std::int64_t evaluations) {
        nfev_ += evaluations;
        ++njev_;
        if (!second_.take_difference()) return;
        second_.has_matrix() ? tell_hessian(second_.hessian()) : pass_product();
    }
    void tell_hessian(const double* hessian) {
        second_.take_hessian(hessian);
        method_->take_hessian(hessian);
        go_on();
    }
    void tell_product() { pass_product(); }

    // On from an iterate; between iterates the method has gone on already.
    void advance_if_at_iterate() {
        if (!running() || !std::exchange(at_iterate_, false)) return;
        if (!second_.used()) return method_->advance(latest_gradient_);
        second_.turn_to(x(), latest_gradient_);
        if (!second_.has_matrix()) return go_on();
        ++nhev_;
        wants_ = second_.begin_hessian();
    }
    void stop(Status status) { status_ = status; }

    // The iterate, right after an iteration.
    const double* x() const { return method_->x(); }
    double f() const { return f_; }

    Status status() const { return status_; }
    std::int64_t nit() const { return nit_; }
    std::int64_t nfev() const { return nfev_; }
    std::int64_t njev() const { return njev_; }
    std::int64_t nhev() const { return nhev_; }
    const Doubles& best_x() const { return best_x_; }
    const Doubles& best_gradient() const { return best_gradient_; }
    double best_f() const { return best_f_; }
    const Limits& limits() const { return limits_; }

private:
    bool iterate(double f, double largest_gradient) {
        const double previous_f = std::exchange(f_, f);
        const bool completes = std::exchange(begun_, true);
        at_iterate_ = true;
        if (completes) ++nit_;
        status_ = status_at_iterate(previous_f, largest_gradient, completes);
        if (limits_.xtol > 0) std::copy_n(x(), n_, previous_.data());
        // Convergence in doubt: it is put off until the method has seen the Hessian.
        converged_ =
            is_success(status_) && method_->doubts() ? std::exchange(status_, Status::running) : Status::running;
        if (is_success(status_)) keep_iterate();
        return completes;
    }

    Status status_at_iterate(double previous_f, double largest_gradient, bool completes) const {
        if (largest_gradient <= limits_.gtol) return Status::gradient_small;
        if (completes && limits_.ftol > 0 && f_ <= previous_f &&
            previous_f - f_ <= limits_.ftol * std::max(1.0, std::abs(f_)))
            return Status::decrease_small;
        if (completes && limits_.xtol > 0 && step_is_small()) return Status::step_small;
        return spent();
    }

    Status spent() const {
        if (nit_ >= limits_.maxiter) return Status::iterations_spent;
        return nfev_ >= limits_.maxfev ? Status::evaluations_spent : Status::running;
    }

    // The Hessian is there, if the method uses it.
    void go_on() {
        if (converged_ == Status::running)
            method_->advance(latest_gradient_);
        else
            method_->leave(latest_gradient_);
        follow();
    }

    // What the method wants now. A product with a matrix that is there needs no evaluation.
    void follow() {
        while (method_->wants() == Want::product) {
            if (!second_.has_matrix()) {
                ++nhev_;
                wants_ = second_.begin_product(method_->direction());
                return;
            }
            second_.multiply(method_->direction());
            method_->tell_product(second_.product());
        }
        wants_ = Want::objective;
        if (converged_ != Status::running) status_ = method_->wants() == Want::nothing ? converged_ : spent();
        if (is_success(status_)) keep_iterate();
        converged_ = Status::running;
    }

    void pass_product() {
        method_->tell_product(second_.product());
        follow();
    }

    bool step_is_small() const {
        return max_distance(x(), previous_.data(), n_) <= limits_.xtol * std::max(1.0, max_norm(x(), n_));
    }

    // What converges is the iterate, even if some trial beyond another minimum was lower.
    void keep_iterate() {
        if (latest_gradient_ != best_gradient_.data()) keep_as_best(x(), f_);
    }

    void keep_as_best(const double* x, double f) {
        best_f_ = f;
        std::copy_n(x, n_, best_x_.data());
        best_gradient_.swap(gradient_);  // the next one goes where the last best one was
    }

    std::unique_ptr<Method> method_;
    Limits limits_;
    SecondDerivatives second_;
    std::int64_t n_, nit_ = 0, nfev_ = 0, njev_ = 0, nhev_ = 0;
    Doubles gradient_, best_x_, best_gradient_, previous_;
    const double* latest_gradient_ = nullptr;
    double f_ = 0, best_f_ = 0;
    bool begun_ = false, at_iterate_ = false;
    Want wants_ = Want::objective;
    Status status_ = Status::running, converged_ = Status::running;  // and how it has, unless a saddle shows up
};

}  // namespace downslope

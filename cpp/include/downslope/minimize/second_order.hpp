// What methods of the second order have in common: a step by the quadratic model, and the way off a saddle point.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "subproblem.hpp"
#include "vectors.hpp"

namespace downslope {

class SecondOrder : public Method {
public:
    SecondOrder(std::int64_t n, std::unique_ptr<Subproblem> subproblem)
        : n_(n),
          x_(static_cast<std::size_t>(n)),
          trial_(x_.size()),
          g_(x_.size()),
          subproblem_(std::move(subproblem)) {}

    void start(const double* x0) override {
        std::copy_n(x0, n_, x_.data());
        trial_ = x_;
        hessian_ = nullptr;
        wants_ = Want::objective;
        begun_ = leaving_ = false;
        doubts_ = true;
    }

    const double* point() const override { return trial_.data(); }
    const double* x() const override { return x_.data(); }
    Curvature uses() const override { return subproblem_->uses(); }
    void take_hessian(const double* hessian) override { hessian_ = hessian; }
    bool doubts() const override { return doubts_; }

    void advance(const double* gradient) override {
        leaving_ = doubts_ = false;
        subproblem_->start(gradient, hessian_);
        solve();
    }
    void leave(const double* gradient) override {
        leaving_ = true, doubts_ = false;
        subproblem_->start(gradient, hessian_);
        subproblem_->search_escape();
        go_on();
    }

    Want wants() const override { return wants_; }
    const double* direction() const override { return subproblem_->direction(); }
    void tell_product(const double* product) override {
        subproblem_->tell_product(product);
        go_on();
    }

    Outcome tell(double f, const double* gradient, bool finite) override {
        if (begun_) return leaving_ ? judge_escape(f, gradient, finite) : judge(f, gradient, finite);
        if (!finite) return Outcome::not_finite;
        begun_ = true;
        f_ = f;
        std::copy_n(gradient, n_, g_.data());
        return Outcome::iterate;
    }

protected:
    // How long a step may be.
    virtual double radius() const = 0;
    // How long the one off a saddle point may be.
    virtual double longest() const = 0;
    // There is a step: sets the first trial point.
    virtual void propose() = 0;
    // Takes in the objective at a trial point.
    virtual Outcome judge(double f, const double* gradient, bool finite) = 0;

    void solve() {
        subproblem_->solve(radius());
        go_on();
    }

    // The step is no use: another one, if there is a more exact one.
    Outcome give_up() {
        if (!subproblem_->sharpen()) return Outcome::no_progress;
        solve();
        return Outcome::wants_more;
    }

    Outcome accept(double f, const double* gradient) {
        // A Hessian that is positive definite nearby speaks for one here.
        constexpr double nearby = 1e-2;
        const bool is_near = max_distance(x_.data(), trial_.data(), n_) <= nearby * std::max(1.0, max_norm(x(), n_));
        doubts_ |= !subproblem_->is_convex() || !is_near;
        f_ = f;
        x_.swap(trial_);
        std::copy_n(gradient, n_, g_.data());
        return Outcome::iterate;
    }

    void go_to(double step) {
        const double* p = subproblem_->step().data();
        for (std::size_t i = 0; i < x_.size(); ++i) trial_[i] = x_[i] + step * p[i];
    }

    // Whether the objective's change is lost in rounding, which leaves it to the gradient to show progress.
    bool is_lost_in_rounding(double predicted, double f) const {
        return predicted <= rounding_of(f_) && std::abs(f - f_) <= rounding_of(f_);
    }
    bool is_flatter(const double* gradient) const { return norm(gradient, n_) < norm(g_.data(), n_); }

    std::int64_t n_;
    double f_ = 0;
    std::vector<double> x_, trial_, g_;
    std::unique_ptr<Subproblem> subproblem_;

private:
    void go_on() {
        wants_ = subproblem_->wants_product() ? Want::product : Want::objective;
        if (wants_ == Want::product) return;
        if (!leaving_) return propose();
        if (!subproblem_->has_escape()) {
            wants_ = Want::nothing;
            return;
        }
        reach_ = std::min(longest(), std::max(1.0, max_norm(x(), n_)));
        go_along_escape();
    }

    void go_along_escape() {
        subproblem_->escape(reach_);
        go_to(1);
    }

    // A step that lowers the objective by a part of what the model predicts, which a short enough one does.
    Outcome judge_escape(double f, const double* gradient, bool finite) {
        constexpr double part = 1e-3, shorter = 0.25;
        if (finite && f_ - f >= part * subproblem_->predicted() && f < f_) return accept(f, gradient);
        reach_ *= shorter;
        if (reach_ <= std::numeric_limits<double>::epsilon() * max_norm(x(), n_) || reach_ < 1e-150)
            return finite ? Outcome::no_progress : Outcome::not_finite;
        go_along_escape();
        return Outcome::wants_more;
    }

    const double* hessian_ = nullptr;
    Want wants_ = Want::objective;
    bool begun_ = false, leaving_ = false, doubts_ = true;
    double reach_ = 0;
};

}  // namespace downslope

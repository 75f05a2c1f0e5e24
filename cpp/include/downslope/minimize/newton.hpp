// Newton's method with a line search: Nocedal & Wright 2006, sections 3.4 and 7.1. Where a whole step has halved the
// gradient or more, a second one with the same factorization follows before the next Hessian: Shamanskii, "A
// modification of Newton's method", Ukrainian Math. J. 19, 1967, with a condition like Kelley's, "Iterative methods for
// linear and nonlinear equations", 1995, chapter 5. Both are one iteration, of the third order.
//
// Not in either: the second step takes the Hessian times the factor by which the curvature along the first step has
// changed at its end. Of s.Hs = -g.s at its beginning, the mean along it is s.(g+ - g), 1 - g+.s / g.s times as much,
// and were it linear, the end would be as far from the mean as the beginning: 1 - 2 g+.s / g.s.
#pragma once

#include <algorithm>

#include "line_search.hpp"
#include "second_order.hpp"

namespace downslope {

class Newton final : public SecondOrder {
public:
    // No second step is taken from where the largest element of the gradient is `gtol` at most.
    Newton(std::int64_t n, std::unique_ptr<Subproblem> subproblem, double gtol)
        : SecondOrder(n, std::move(subproblem)), gtol_(gtol) {}

    void advance(const double* gradient) override {
        stage_ = Stage::first;
        change_ = 1;
        SecondOrder::advance(gradient);
    }

protected:
    double radius() const override { return std::numeric_limits<double>::infinity(); }
    double longest() const override { return radius(); }

    void propose() override {
        slope_ = dot(g_.data(), subproblem_->step().data(), n_);
        search_.start(f_, slope_, 1 / change_);
        go_to(search_.step());
    }

    Outcome judge(double f, const double* gradient, bool finite) override {
        if (stage_ == Stage::back) return finite ? accept(f, gradient) : Outcome::not_finite;
        const double slope =
            finite ? dot(gradient, subproblem_->step().data(), n_) : std::numeric_limits<double>::quiet_NaN();
        if (is_lost_in_rounding(-slope_ * search_.step(), f))
            return is_flatter(gradient) ? accept(f, gradient) : fail(Outcome::no_progress);
        switch (search_.tell(f, slope)) {
            case LineSearch::Outcome::wants_more:
                go_to(search_.step());
                return Outcome::wants_more;
            case LineSearch::Outcome::found:
                break;
            case LineSearch::Outcome::no_progress:
                if (f < f_) break;  // less than was asked for, but rounding may allow no more
                return fail(Outcome::no_progress);
            case LineSearch::Outcome::not_finite:
                return fail(Outcome::not_finite);
        }
        const bool repeats = is_worth_repeating(gradient);
        const double change = 1 - 2 * slope / slope_;
        const Outcome outcome = accept(f, gradient);
        return repeats ? repeat(change) : outcome;
    }

private:
    enum class Stage { first, second, back };

    bool is_worth_repeating(const double* gradient) const {
        return stage_ == Stage::first && subproblem_->is_factorized() && search_.step() == 1 && slope_ < 0 &&
               max_norm(gradient, n_) > gtol_ && norm(gradient, n_) <= 0.5 * norm(g_.data(), n_);
    }

    // Goes on from what has been accepted, unless the decrease would be lost in rounding.
    Outcome repeat(double change) {
        constexpr double least_change = 0.2;
        stage_ = Stage::second;
        change_ = std::max(change, least_change);
        subproblem_->turn_to(g_.data());
        solve();
        return -slope_ <= rounding_of(f_) ? Outcome::iterate : Outcome::wants_more;
    }

    // From the second step back to where it began, where the next Hessian may help.
    Outcome fail(Outcome outcome) {
        if (stage_ == Stage::first) return outcome == Outcome::no_progress ? give_up() : outcome;
        stage_ = Stage::back;
        trial_ = x_;
        return Outcome::wants_more;
    }

    double gtol_, slope_ = 0, change_ = 1;
    Stage stage_ = Stage::first;
    LineSearch search_;
};

}  // namespace downslope

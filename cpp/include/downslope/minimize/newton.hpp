// Newton's method with a line search: Nocedal & Wright 2006, sections 3.4 and 7.1.
#pragma once

#include "line_search.hpp"
#include "second_order.hpp"

namespace downslope {

class Newton final : public SecondOrder {
public:
    using SecondOrder::SecondOrder;

protected:
    double radius() const override { return std::numeric_limits<double>::infinity(); }
    double longest() const override { return radius(); }

    void propose() override {
        slope_ = dot(g_.data(), subproblem_->step().data(), n_);
        search_.start(f_, slope_, 1);
        go_to(search_.step());
    }

    Outcome judge(double f, const double* gradient, bool finite) override {
        const double slope =
            finite ? dot(gradient, subproblem_->step().data(), n_) : std::numeric_limits<double>::quiet_NaN();
        if (is_lost_in_rounding(-slope_ * search_.step(), f) && is_flatter(gradient)) return accept(f, gradient);
        switch (search_.tell(f, slope)) {
            case LineSearch::Outcome::wants_more:
                go_to(search_.step());
                return Outcome::wants_more;
            case LineSearch::Outcome::found:
                break;
            case LineSearch::Outcome::no_progress:
                if (f < f_) break;  // less than was asked for, but rounding may allow no more
                return give_up();
            case LineSearch::Outcome::not_finite:
                return Outcome::not_finite;
        }
        return accept(f, gradient);
    }

private:
    double slope_ = 0;
    LineSearch search_;
};

}  // namespace downslope

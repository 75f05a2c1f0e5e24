// The trust region's loop: Nocedal & Wright 2006, algorithm 4.1, with the radius of a rejected step from the length of
// that step, and with the care for rounding of Conn, Gould & Toint, "Trust-region methods", 2000, section 17.4.2.
#pragma once

#include "second_order.hpp"

namespace downslope {

struct Radii {
    double initial = 1, most = 1000;
};

class TrustRegion final : public SecondOrder {
public:
    TrustRegion(std::int64_t n, std::unique_ptr<Subproblem> subproblem, const Radii& radii)
        : SecondOrder(n, std::move(subproblem)), radii_(radii) {}

    void start(const double* x0) override {
        SecondOrder::start(x0);
        radius_ = radii_.initial;
    }

protected:
    double radius() const override { return radius_; }
    double longest() const override { return radii_.most; }
    void propose() override { go_to(1); }

    Outcome judge(double f, const double* gradient, bool finite) override {
        // Of the predicted decrease: what a step must reach, and where the radius grows or shrinks.
        constexpr double enough = 0.15, good = 0.75, bad = 0.25;
        if (!finite) return shrink(0.1, Outcome::not_finite);
        if (is_lost_in_rounding(subproblem_->predicted(), f))
            return is_flatter(gradient) ? accept(f, gradient) : give_up();
        const double ratio = (f_ - f) / subproblem_->predicted();
        if (!(ratio > enough)) return shrink(0.25, Outcome::no_progress);
        if (ratio < bad)
            radius_ = 0.25 * subproblem_->step().norm();
        else if (ratio > good && subproblem_->on_boundary())
            radius_ = std::min(2 * radius_, radii_.most);
        return accept(f, gradient);
    }

private:
    // Tries again closer by, unless x is all there is closer by.
    Outcome shrink(double factor, Outcome failure) {
        const double radius = factor * std::min(radius_, subproblem_->step().norm());
        if (!(radius > std::numeric_limits<double>::epsilon() * norm(x(), n_)) || radius < 1e-150)
            return failure == Outcome::no_progress ? give_up() : failure;
        radius_ = radius;
        solve();
        return Outcome::wants_more;
    }

    Radii radii_;
    double radius_ = 1;
};

}  // namespace downslope

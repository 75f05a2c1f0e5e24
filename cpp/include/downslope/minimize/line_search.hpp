// A line search for the strong Wolfe conditions: More & Thuente, "Line search algorithms with guaranteed sufficient
// decrease", ACM TOMS 20(3), 1994, with the constants of MINPACK-2. Not in the paper: where the objective is not
// finite, the search comes back, and stays on this side from then on.
#pragma once

#include <algorithm>
#include <cmath>

#include "vectors.hpp"

namespace downslope {

class LineSearch {
public:
    // f(x + step d) <= f(x) + sufficient_decrease step f'(x; d) and |f'(x + step d; d)| <= curvature |f'(x; d)|
    static constexpr double sufficient_decrease = 1e-3, curvature = 0.9;

    enum class Outcome { wants_more, found, not_finite, no_progress };

    struct Point {
        double step, f, slope;
    };

    double step() const { return step_; }

    // `slope` is the directional derivative at the start, < 0.
    void start(double f, double slope, double step) {
        f0_ = f, slope0_ = slope;
        step_ = step;
        low_ = high_ = {0, f, slope};
        bracketed_ = false, on_the_way_down_ = true;
        upper_ = largest_step;
        width_ = largest_step, older_width_ = 2 * width_;
        from_ = 0, to_ = step + extrapolation * step;
        evaluations_ = back_offs_ = 0;
    }

    // Takes in value and slope at `step()`, and sets the next one if it wants more.
    Outcome tell(double f, double slope) {
        if (!(std::isfinite(f) && std::isfinite(slope))) return back_off();
        ++evaluations_;
        if (!(slope0_ < 0)) return Outcome::no_progress;  // it has underflowed
        const double allowed_slope = sufficient_decrease * slope0_, allowed = f0_ + step_ * allowed_slope;
        const bool decreases = f <= allowed || f <= f0_ + rounding_of(f0_);
        if (decreases && std::abs(slope) <= curvature * -slope0_) return Outcome::found;
        const bool rounding = bracketed_ && (step_ <= from_ || step_ >= to_ || to_ - from_ <= narrow * to_);
        const bool at_the_end = step_ >= upper_ && f <= allowed && slope <= allowed_slope;
        if (rounding || at_the_end || evaluations_ >= most_evaluations)
            return upper_ < largest_step ? Outcome::not_finite : Outcome::no_progress;

        if (on_the_way_down_ && f <= allowed && slope >= 0) on_the_way_down_ = false;
        if (on_the_way_down_ && f <= low_.f && f > allowed) {
            // Until a point with sufficient decrease is known: the same for f less the decrease that is asked for.
            const auto tilted = [](const Point& p, double by) {
                return Point{p.step, p.f + p.step * by, p.slope + by};
            };
            Point low = tilted(low_, -allowed_slope), high = tilted(high_, -allowed_slope);
            take(low, high, tilted({step_, f, slope}, -allowed_slope));
            low_ = tilted(low, allowed_slope), high_ = tilted(high, allowed_slope);
        } else {
            take(low_, high_, {step_, f, slope});
        }

        if (bracketed_) {
            const double width = std::abs(high_.step - low_.step);
            if (width >= 0.66 * older_width_) step_ = low_.step + 0.5 * (high_.step - low_.step);
            older_width_ = width_, width_ = width;
            from_ = std::min(low_.step, high_.step), to_ = std::max(low_.step, high_.step);
        } else {
            from_ = step_ + 1.1 * (step_ - low_.step), to_ = step_ + extrapolation * (step_ - low_.step);
        }
        step_ = std::min(std::max(step_, 0.0), upper_);
        if (bracketed_ && (step_ <= from_ || step_ >= to_ || to_ - from_ <= narrow * to_)) step_ = low_.step;
        return Outcome::wants_more;
    }

private:
    static constexpr double largest_step = 1e10, extrapolation = 4, narrow = 0.1;
    static constexpr int most_evaluations = 20, most_back_offs = 60;

    Outcome back_off() {
        upper_ = step_;
        if (++back_offs_ >= most_back_offs || step_ == low_.step) return Outcome::not_finite;
        step_ = low_.step + 0.1 * (step_ - low_.step);
        to_ = std::min(to_, upper_);
        return Outcome::wants_more;
    }

    // Takes the trial point t into the interval between `low`, the best so far, and `high`, and sets the next step: the
    // paper's section 4, with its four cases.
    void take(Point& low, Point& high, const Point& t) {
        const double sign = t.slope * (low.slope / std::abs(low.slope));
        double next;
        if (t.f > low.f) {  // 1: a higher value brackets a minimum
            const double cubic = cubic_step(low, t), quadratic = quadratic_step(low, t);
            next =
                std::abs(cubic - low.step) < std::abs(quadratic - low.step) ? cubic : cubic + (quadratic - cubic) / 2;
            bracketed_ = true;
        } else if (sign < 0) {  // 2: so does a slope of the other sign
            const double cubic = cubic_step(t, low), secant = secant_step(t, low);
            next = std::abs(cubic - t.step) > std::abs(secant - t.step) ? cubic : secant;
            bracketed_ = true;
        } else if (std::abs(t.slope) < std::abs(low.slope)) {  // 3: lower and flatter
            const double cubic = cubic_beyond(low, t), secant = secant_step(t, low);
            if (bracketed_) {
                next = std::abs(cubic - t.step) < std::abs(secant - t.step) ? cubic : secant;
                const double limit = t.step + 0.66 * (high.step - t.step);
                next = t.step > low.step ? std::min(limit, next) : std::max(limit, next);
            } else {
                next = std::abs(cubic - t.step) > std::abs(secant - t.step) ? cubic : secant;
                next = std::max(from_, std::min(to_, next));
            }
        } else if (bracketed_) {  // 4: lower and no flatter
            next = cubic_step(t, high);
        } else {
            next = t.step > low.step ? to_ : from_;
        }
        if (!std::isfinite(next)) next = low.step + 0.5 * (t.step - low.step);  // the values are too large to compare
        if (t.f > low.f) {
            high = t;
        } else {
            if (sign < 0) high = low;
            low = t;
        }
        step_ = next;
    }

    // Theta and gamma of the cubic through the values and slopes at a and b, scaled against overflow; gamma is 0 where
    // the cubic has no minimum.
    struct Cubic {
        double theta, gamma;
        Cubic(const Point& a, const Point& b) {
            theta = 3 * (a.f - b.f) / (b.step - a.step) + a.slope + b.slope;
            const double s = std::max({std::abs(theta), std::abs(a.slope), std::abs(b.slope)});
            gamma = s * std::sqrt(std::max((theta / s) * (theta / s) - (a.slope / s) * (b.slope / s), 0.0));
            if (b.step < a.step) gamma = -gamma;
        }
    };

    static double cubic_step(const Point& a, const Point& b) {
        const Cubic c(a, b);
        const double p = (c.gamma - a.slope) + c.theta, q = ((c.gamma - a.slope) + c.gamma) + b.slope;
        return a.step + p / q * (b.step - a.step);
    }
    // Beyond t, if the cubic goes to infinity there or has its minimum there; else as far as is allowed.
    double cubic_beyond(const Point& low, const Point& t) const {
        const Cubic c(t, low);
        const double p = (c.gamma - t.slope) + c.theta, q = (c.gamma + (low.slope - t.slope)) + c.gamma;
        if (p / q < 0 && c.gamma != 0) return t.step + p / q * (low.step - t.step);
        return t.step > low.step ? to_ : from_;
    }
    static double quadratic_step(const Point& a, const Point& b) {
        return a.step + a.slope / ((a.f - b.f) / (b.step - a.step) + a.slope) / 2 * (b.step - a.step);
    }
    static double secant_step(const Point& a, const Point& b) {
        return a.step + a.slope / (a.slope - b.slope) * (b.step - a.step);
    }

    double f0_ = 0, slope0_ = 0, step_ = 0, upper_ = 0, width_ = 0, older_width_ = 0, from_ = 0, to_ = 0;
    Point low_{}, high_{};
    bool bracketed_ = false, on_the_way_down_ = true;
    int evaluations_ = 0, back_offs_ = 0;
};

}  // namespace downslope

// The dogleg: along the gradient to the model's minimum, then straight on to Newton's point. Powell, "A new algorithm
// for unconstrained optimization", 1970; Nocedal & Wright 2006, section 4.1. An indefinite Hessian is shifted first.
#pragma once

#include "subproblem.hpp"

namespace downslope {

class Dogleg final : public MatrixSubproblem {
public:
    using MatrixSubproblem::MatrixSubproblem;

    void solve(double radius) override {
        if (!has_hessian()) return go_along_gradient(radius);
        shift_until_positive();
        on_boundary_ = false;
        solve_shifted();
        if (!(p_.norm() <= radius)) bend(radius);
        predicted_ = -(g_.dot(p_) + 0.5 * cholesky_.square(p_));
    }

private:
    void bend(double radius) {
        on_boundary_ = true;
        const double gg = g_.squaredNorm(), length = std::sqrt(gg);
        const double curvature = cholesky_.square(g_) / gg;
        if (!(length / curvature < radius)) {
            p_ = -radius / length * g_;
            return;
        }
        const Eigen::VectorXd cauchy = -1 / curvature * g_, rest = p_ - cauchy;
        // |cauchy + t rest| = radius
        const double a = rest.squaredNorm(), b = cauchy.dot(rest), c = radius * radius - cauchy.squaredNorm();
        const double root = std::sqrt(b * b + a * c);
        p_ = cauchy + (b > 0 ? c / (b + root) : (root - b) / a) * rest;
    }
};

}  // namespace downslope

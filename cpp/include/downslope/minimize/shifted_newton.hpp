// Newton's step, of a Hessian that is shifted until it is positive definite.
#pragma once

#include "subproblem.hpp"

namespace downslope {

class ShiftedNewton final : public MatrixSubproblem {
public:
    using MatrixSubproblem::MatrixSubproblem;

    void solve(double radius) override {
        if (!has_hessian()) return go_along_gradient(radius);
        shift_until_positive();
        solve_shifted();
        predicted_ = -0.5 * g_.dot(p_);
        on_boundary_ = false;
    }
    bool is_factorized() const override { return has_hessian() && is_convex_; }
};

}  // namespace downslope

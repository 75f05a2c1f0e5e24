// A diagonal matrix.
#pragma once

#include <algorithm>

#include "shift.hpp"

namespace downslope::curvature {

class Diagonal {
public:
    Diagonal(const double* diagonal, Index n) : diagonal_(diagonal, n) {}

    Index size() const { return diagonal_.size(); }

    void multiply(ConstColumns v, Columns out, int) const { out = diagonal_.asDiagonal() * v; }

    Outcome check(double, int) const {
        return {diagonal_.allFinite() ? FactorStatus::success : FactorStatus::not_finite};
    }

    Outcome factorize(const FactorOptions& options, int) {
        damped_ = diagonal_.array() + options.damping;
        if (!damped_.allFinite()) return {FactorStatus::not_finite};
        shift_ = 0;
        const double smallest = damped_.minCoeff();
        if (smallest > 0) return {};
        if (!options.ensure_positive) return {FactorStatus::not_positive_definite};
        shift_ = 1.5 * std::max(-smallest, least_shift(diagonal_.cwiseAbs().maxCoeff()));
        damped_.array() += shift_;
        return {};
    }

    bool solve(Columns x, int) const {
        x.array().colwise() /= damped_.array();
        return true;
    }

    std::vector<double> shifts() const { return {shift_}; }

private:
    Eigen::Map<const VectorXd> diagonal_;
    VectorXd damped_;
    double shift_ = 0;
};

}  // namespace downslope::curvature

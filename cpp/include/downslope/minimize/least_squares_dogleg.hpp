// Powell's dogleg for least squares: from the iterate to the minimum of the model along the gradient, on to the minimum
// of the model, and no further than the trust region reaches. Powell, "A hybrid method for nonlinear equations", in
// Rabinowitz (ed.), Numerical methods for nonlinear algebraic equations, 1970; Nocedal & Wright 2006, section 4.1.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "least_squares_step.hpp"

namespace downslope {

class LeastSquaresDoglegStep : public TrustRegionStep {
public:
    explicit LeastSquaresDoglegStep(std::int64_t n)
        : n_(n), newton_(static_cast<std::size_t>(n)), gradient_(newton_.size()), image_(newton_.size()) {}

    void linearize(const PivotedQR& model, double length) override {
        model_ = &model;
        length_ = length;
        model.solve(model.rotated(), newton_.data());
        newton_length_ = norm(newton_.data(), n_);
        model.multiply_transposed(model.rotated(), gradient_.data());
        gradient_length_ = norm(gradient_.data(), n_);
        for (double& g : gradient_) g /= gradient_length_;
        model.multiply(gradient_.data(), image_.data());
        cauchy_length_ = gradient_length_ / dot(image_.data(), image_.data(), n_);
    }

    Model propose(double* step) override {
        multiplier_ = newton_length_ <= radius_ ? 0 : 1;
        if (multiplier_ == 0)
            std::copy(newton_.begin(), newton_.end(), step);
        else if (cauchy_length_ >= radius_)
            for (std::size_t i = 0; i < newton_.size(); ++i) step[i] = radius_ * gradient_[i];
        else
            second_leg(step);
        model_->multiply(step, image_.data());
        const double image = norm(image_.data(), n_) / length_;
        return {-(gradient_length_ / length_) * (dot(gradient_.data(), step, n_) / length_), image * image};
    }

private:
    // Where the line from the first leg's end to `newton_` leaves the ball: a t^2 + 2 b t = c, without cancellation.
    void second_leg(double* step) const {
        double a = 0, b = 0;
        for (std::size_t i = 0; i < newton_.size(); ++i) {
            const double from = cauchy_length_ * gradient_[i];
            step[i] = newton_[i] - from;
            a += step[i] * step[i];
            b += step[i] * from;
        }
        const double c = (radius_ - cauchy_length_) * (radius_ + cauchy_length_);
        const double root = std::sqrt(b * b + a * c);
        const double t = std::min(1.0, b > 0 ? c / (b + root) : (root - b) / a);
        for (std::size_t i = 0; i < newton_.size(); ++i) step[i] = cauchy_length_ * gradient_[i] + t * step[i];
    }

    std::int64_t n_;
    const PivotedQR* model_ = nullptr;
    Doubles newton_, gradient_, image_;
    double length_ = 0, newton_length_ = 0, gradient_length_ = 0, cauchy_length_ = 0;
};

}  // namespace downslope

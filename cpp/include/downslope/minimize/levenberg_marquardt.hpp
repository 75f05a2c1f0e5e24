// Levenberg-Marquardt in its trust-region form: the step z minimizes |R z - Q^T r|^2 + mu |z|^2, where mu >= 0 is such
// that z ends in the ball, or on its surface to within a tenth of the radius. More 1978, section 5: Newton's method on
// the secular equation 1/|z(mu)| = 1/radius, inside bounds that it tightens.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "least_squares_step.hpp"
#include "tiny.hpp"

namespace downslope {

class LevenbergMarquardtStep : public TrustRegionStep {
public:
    explicit LevenbergMarquardtStep(std::int64_t n)
        : n_(n),
          newton_(size(n)),
          z_(size(n)),
          w_(size(n)),
          gradient_(size(n)),
          rhs_(size(n)),
          row_(size(n)),
          triangle_(size(n * n)) {}

    void linearize(const PivotedQR& model, double length) override {
        model_ = &model;
        length_ = length;
        model.solve(model.rotated(), newton_.data());
        newton_length_ = norm(newton_.data(), n_);
        model.multiply_transposed(model.rotated(), gradient_.data());
        gradient_length_ = norm(gradient_.data(), n_);
    }

    Model propose(double* step) override {
        find_multiplier();
        const Doubles& z = multiplier_ == 0 ? newton_ : z_;
        std::copy(z.begin(), z.end(), step);
        model_->multiply(step, w_.data());
        const double image = norm(w_.data(), n_) / length_, moved = norm(step, n_) / length_;
        return {-(image * image + multiplier_ * moved * moved), image * image};
    }

private:
    static constexpr int most_iterations = 10;
    static constexpr double enough = 0.1;  // of the radius

    static std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

    void find_multiplier() {
        double excess = newton_length_ - radius_;
        if (excess <= enough * radius_) {
            multiplier_ = 0;
            return;
        }
        double lower = model_->rank() == n_ ? newton_correction_at_zero(excess) : 0;
        double upper = gradient_length_ / radius_;
        if (upper == 0) upper = std::numeric_limits<double>::min() / std::min(radius_, enough);
        multiplier_ = std::min(std::max(multiplier_, lower), upper);
        if (multiplier_ == 0) multiplier_ = gradient_length_ / newton_length_;
        for (int i = 1;; ++i) {
            if (multiplier_ == 0) multiplier_ = std::max(std::numeric_limits<double>::min(), 1e-3 * upper);
            solve_damped();
            const double length = norm(z_.data(), n_), before = excess;
            excess = length - radius_;
            const bool stays_inside = lower == 0 && excess <= before && before < 0;
            if (std::abs(excess) <= enough * radius_ || stays_inside || i == most_iterations) return;
            const double correction = newton_correction(excess, length);
            (excess > 0 ? lower : upper) = excess > 0 ? std::max(lower, multiplier_) : std::min(upper, multiplier_);
            multiplier_ = std::max(lower, multiplier_ + correction);
        }
    }

    // Newton's step from mu = 0, with S = R; it never goes beyond the solution.
    double newton_correction_at_zero(double excess) {
        for (std::int64_t j = 0; j < n_; ++j) row_[size(j)] = newton_[size(j)] / newton_length_;
        model_->solve_transposed(row_.data(), w_.data());
        return relative_to_square(excess);
    }

    // ... from mu, with S^T S = R^T R + mu I: (|z| - radius) / radius / |S^-T z / |z||^2.
    double newton_correction(double excess, double length) {
        with_size(n_, [=](auto n) {
            for (std::int64_t j = 0; j < n; ++j) {
                double left = z_[size(j)] / length;
                for (std::int64_t i = 0; i < j; ++i) left -= s(i, j) * w_[size(i)];
                w_[size(j)] = left / s(j, j);
            }
        });
        return relative_to_square(excess);
    }

    double relative_to_square(double excess) const {
        const double length = norm(w_.data(), n_);
        return excess / radius_ / length / length;
    }

    double& s(std::int64_t i, std::int64_t j) { return triangle_[size(i * n_ + j)]; }

    // z = z(mu): the rows sqrt(mu) I below R are rotated away one after the other, which leaves S, and S z = rhs.
    void solve_damped() {
        with_size(n_, [this](auto n) { solve_damped(n); });
    }
    template <class Size>
    void solve_damped(Size n) {
        for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t j = i; j < n; ++j) s(i, j) = model_->r(i, j);
        std::copy_n(model_->rotated(), n, rhs_.data());
        const double root = std::sqrt(multiplier_);
        for (std::int64_t j = 0; j < n; ++j) {
            std::fill(row_.begin() + j, row_.end(), 0.0);
            row_[size(j)] = root;
            rotate_away(n, j);
        }
        for (std::int64_t i = n; i-- > 0;) {
            double sum = rhs_[size(i)];
            for (std::int64_t j = i + 1; j < n; ++j) sum -= s(i, j) * z_[size(j)];
            z_[size(i)] = sum / s(i, i);
        }
    }

    // Givens rotations of `row_`, whose right-hand side is 0, into S, from column j on.
    template <class Size>
    void rotate_away(Size n, std::int64_t j) {
        double of_row = 0;
        for (std::int64_t k = j; k < n; ++k) {
            const double a = s(k, k), b = row_[size(k)];
            if (b == 0) continue;
            const double larger = std::max(std::abs(a), std::abs(b)), x = a / larger, y = b / larger;
            const double length = std::sqrt(x * x + y * y), cos = x / length, sin = y / length;
            s(k, k) = larger * length;
            const double rotated = cos * rhs_[size(k)] + sin * of_row;
            of_row = cos * of_row - sin * rhs_[size(k)];
            rhs_[size(k)] = rotated;
            for (std::int64_t i = k + 1; i < n; ++i) {
                const double kept = cos * s(k, i) + sin * row_[size(i)];
                row_[size(i)] = cos * row_[size(i)] - sin * s(k, i);
                s(k, i) = kept;
            }
        }
    }

    std::int64_t n_;
    const PivotedQR* model_ = nullptr;
    Doubles newton_, z_, w_, gradient_, rhs_, row_, triangle_;
    double length_ = 0, newton_length_ = 0, gradient_length_ = 0;
};

}  // namespace downslope

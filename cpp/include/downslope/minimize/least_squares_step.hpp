// The contract of a method for least squares: it proposes steps from a linear model of the residuals, and hears how far
// each has really come.
//
// Parameters are scaled, p_j = D_j (x_j - x'_j), and permuted as the columns of the model's QR are, so that a trust
// region is a ball. Reductions, slopes and curvatures are relative to |r|^2 where the model was made.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "pivoted_qr.hpp"

namespace downslope {

// What the model says of a step p: the slope p.J^T r, and the curvature |J p|^2.
struct Model {
    double slope, curvature;
};

// How a step has fared: its slope, how far the sum of squares went down, minus infinity where there is none, how far it
// should have, the ratio of the two, and whether the step has been taken.
struct Trial {
    double slope, actual, predicted, ratio, length;
    bool finite, taken;
};

class alignas(cache_line) LeastSquaresStep {
public:
    virtual ~LeastSquaresStep() = default;

    // `scaled_x` is |D x|.
    virtual void start(double scaled_x) = 0;

    // A new iterate, with its model, where |r| is `length`.
    virtual void linearize(const PivotedQR& model, double length) = 0;

    // Writes the step, to be subtracted.
    virtual Model propose(double* step) = 0;

    // Takes in what has become of the step. Returns whether there is another one to propose.
    virtual bool learn(const Trial& trial) = 0;

    // How long steps at this iterate are, about.
    virtual double reach() const = 0;

protected:
    // The minimum of the parabola through both sums of squares with that slope, as a share of the step.
    static double shortened(const Trial& trial) {
        return trial.actual >= 0 ? 0.5 : std::max(0.1, trial.slope / (2 * trial.slope + trial.actual));
    }
};

// Steps in a ball, whose radius follows MINPACK's lmder: More, "The Levenberg-Marquardt algorithm: implementation and
// theory", Lecture Notes in Mathematics 630, 1978.
class TrustRegionStep : public LeastSquaresStep {
public:
    void start(double scaled_x) override {
        radius_ = scaled_x > 0 ? first_radius * scaled_x : first_radius;
        multiplier_ = 0;
        is_first_ = true;
    }

    bool learn(const Trial& trial) override {
        if (is_first_) radius_ = std::min(radius_, trial.length);
        if (!(trial.ratio > 0.25)) {
            const double share = shortened(trial);
            radius_ = share * std::min(radius_, 10 * trial.length);
            multiplier_ /= share;
        } else if (multiplier_ == 0 || trial.ratio >= 0.75) {
            radius_ = 2 * trial.length;
            multiplier_ *= 0.5;
        }
        is_first_ = is_first_ && !trial.taken;
        return true;
    }

    double reach() const override { return radius_; }

protected:
    static constexpr double first_radius = 100;

    double radius_ = 0;
    double multiplier_ = 0;  // of the constraint: 0 if the step ends inside the ball
    bool is_first_ = true;
};

// The step to the minimum of the model, shortened until the sum of squares goes down: Bjorck, "Numerical methods for
// least squares problems", 1996, section 9.2.1, with Armijo's condition. If columns depend on each other, the
// parameters of some stay where they are.
class GaussNewtonStep : public LeastSquaresStep {
public:
    explicit GaussNewtonStep(std::int64_t n) : whole_(static_cast<std::size_t>(n)), image_(whole_.size()) {}

    void start(double) override {}

    void linearize(const PivotedQR& model, double length) override {
        model.solve(model.rotated(), whole_.data());
        model.multiply(whole_.data(), image_.data());
        const double reduced = norm(image_.data(), model.n()) / length;
        curvature_ = reduced * reduced;
        share_ = 1;
    }

    Model propose(double* step) override {
        for (std::size_t i = 0; i < whole_.size(); ++i) step[i] = share_ * whole_[i];
        return {-share_ * curvature_, share_ * share_ * curvature_};
    }

    bool learn(const Trial& trial) override {
        reach_ = trial.length / share_;
        share_ *= shortened(trial);
        return share_ > least_share;
    }

    double reach() const override { return reach_; }

private:
    static constexpr double least_share = 1e-10;

    Doubles whole_, image_;
    double curvature_ = 0, share_ = 1, reach_ = 0;
};

}  // namespace downslope

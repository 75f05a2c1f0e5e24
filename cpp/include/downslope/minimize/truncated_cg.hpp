// Conjugate gradients on the model, cut short at the boundary, or where the model curves down: Steihaug, "The conjugate
// gradient method and trust regions in large scale optimization", SIAM J. Numer. Anal. 20(3), 1983; without a boundary,
// as in Nocedal & Wright 2006, algorithm 7.1 (Dembo & Steihaug).
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "subproblem.hpp"

namespace downslope {

class TruncatedCG final : public Subproblem {
public:
    using Subproblem::Subproblem;

    Curvature uses() const override { return Curvature::products; }

    void solve(double radius) override {
        radius_ = radius;
        const double length = g_.norm();
        // Forcing terms that make the outer iteration converge superlinearly.
        const double forcing = is_sharp_ ? error_ : std::min(0.5, std::sqrt(length));
        begin(g_, forcing * length, is_sharp_ ? g_.size() : 10 * g_.size());
        searching_escape_ = false;
    }

    // Where the gradient is mostly rounding of its largest terms, so is a step that cares for no more than those.
    bool sharpen() override { return !std::exchange(is_sharp_, true); }

    // Conjugate gradients for another, generic right-hand side: they meet negative curvature if there is any, after n
    // products at most.
    void search_escape() override {
        Eigen::VectorXd generic(g_.size());
        for (Eigen::Index i = 0; i < generic.size(); ++i) generic[i] = 1 + 0.5 * std::sin(static_cast<double>(i));
        radius_ = std::numeric_limits<double>::infinity();
        constexpr Eigen::Index most_products = 100;
        begin(generic, error_ * generic.norm(), std::min(g_.size(), most_products));
        searching_escape_ = true;
    }

    bool wants_product() const override { return wants_product_; }
    const double* direction() const override { return d_.data(); }

    void tell_product(const double* product) override {
        Hd_ = Eigen::Map<const Eigen::VectorXd>(product, g_.size());
        const double dd = d_.squaredNorm(), curvature = d_.dot(Hd_);
        if (!Hd_.allFinite()) return give_up();
        most_ = std::max(most_, std::abs(curvature) / dd);
        if (curvature <= (searching_escape_ ? -error_ * most_ * dd : 0.0)) return curves_down(curvature, dd);
        const double alpha = rr_ / curvature;
        if ((p_ + alpha * d_).norm() >= radius_) return go_to_boundary();
        p_ += alpha * d_;
        r_ += alpha * Hd_;
        Hp_ += alpha * Hd_;
        const double rr = r_.squaredNorm();
        ++products_;
        if (std::sqrt(rr) <= tolerance_ || products_ >= most_products_) return finish();
        d_ = -r_ + rr / rr_ * d_;
        rr_ = rr;
    }

protected:
    void take(const double*) override { is_sharp_ = false; }

private:
    // How many times as long as the residual a step along it may be, where the model does not curve up.
    static constexpr double longest = 1e3;

    void begin(const Eigen::VectorXd& right_hand_side, double tolerance, Eigen::Index most_products) {
        r_ = right_hand_side;
        d_ = -r_;
        rr_ = r_.squaredNorm();
        tolerance_ = tolerance;
        most_products_ = most_products;
        products_ = 0;
        most_ = 0;
        p_.setZero();
        Hp_.setZero(g_.size());
        on_boundary_ = false;
        wants_product_ = true;
    }

    void curves_down(double curvature, double dd) {
        is_convex_ = is_convex_ && curvature >= -error_ * most_ * dd;
        if (searching_escape_) {
            set_escape(d_ / std::sqrt(dd), curvature / dd);
            return finish();
        }
        if (std::isfinite(radius_)) return go_to_boundary();
        // Nothing bounds the step: on as far as the size of the curvature suggests, still downhill.
        const double alpha = std::min(rr_ / std::max(-curvature, std::numeric_limits<double>::min()), longest);
        p_ += alpha * d_;
        Hp_ += alpha * Hd_;
        finish();
    }

    // |p + t d| = radius, t > 0
    void go_to_boundary() {
        const double a = d_.squaredNorm(), b = p_.dot(d_), c = radius_ * radius_ - p_.squaredNorm();
        const double root = std::sqrt(std::max(b * b + a * c, 0.0));
        const double t = b > 0 ? c / (b + root) : (root - b) / a;
        p_ += t * d_;
        Hp_ += t * Hd_;
        on_boundary_ = true;
        finish();
    }

    void finish() {
        wants_product_ = false;
        predicted_ = -(g_.dot(p_) + 0.5 * p_.dot(Hp_));
    }

    // A product is not finite.
    void give_up() {
        wants_product_ = false;
        if (searching_escape_) return;
        if (products_ == 0) return go_along_gradient(radius_);
        finish();
    }

    bool searching_escape_ = false, wants_product_ = false, is_sharp_ = false;
    double radius_ = 0, tolerance_ = 0, rr_ = 0, most_ = 0;
    Eigen::Index products_ = 0, most_products_ = 0;
    Eigen::VectorXd r_, d_, Hd_, Hp_;
};

}  // namespace downslope

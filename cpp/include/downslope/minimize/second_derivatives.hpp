// Second derivatives at an iterate: the Hessian or its products, as they are given, or by differences of gradients.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "../curvature/average.hpp"
#include "method.hpp"
#include "vectors.hpp"

namespace downslope {

// Where they come from. Forward differences of the gradient step by `relative_step` times max(1, |x|).
struct Hessians {
    enum class Source { matrix, products, differences } source = Source::differences;
    double relative_step = std::sqrt(std::numeric_limits<double>::epsilon());

    // How exact their elements are, relative to the largest.
    double error(std::int64_t n) const {
        const double rounding = std::numeric_limits<double>::epsilon() * static_cast<double>(n);
        return 10 * (source == Source::differences ? std::max(relative_step, rounding) : rounding);
    }
};

class SecondDerivatives {
public:
    SecondDerivatives(std::int64_t n, Curvature uses, const Hessians& hessians)
        : n_(n), hessians_(hessians), used_(uses != Curvature::unused) {
        if (!used_) return;
        has_matrix_ = uses == Curvature::matrix || hessians.source == Hessians::Source::matrix;
        multiplies_ = has_matrix_ && uses == Curvature::products;
        if (has_matrix_ && (multiplies_ || differences())) hessian_.resize(size() * size());
        product_.resize(size());
        if (differences()) x_.resize(size()), at_x_.resize(size()), point_.resize(size()), gradient_.resize(size());
    }

    bool used() const { return used_; }
    // Whether the whole Hessian is there at each iterate.
    bool has_matrix() const { return has_matrix_; }

    void turn_to(const double* x, const double* gradient) {
        if (!differences()) return;
        std::copy_n(x, n_, x_.data());
        std::copy_n(gradient, n_, at_x_.data());
    }

    // Each says what is wanted for it.
    Want begin_hessian() {
        if (!differences()) return Want::hessian;
        column_ = 0;
        point_ = x_;
        move_along_axis();
        return Want::gradient;
    }
    Want begin_product(const double* direction) {
        if (!differences()) return Want::product;
        step_ = hessians_.relative_step * std::max(1.0, norm(x_.data(), n_)) / norm(direction, n_);
        for (std::size_t i = 0; i < size(); ++i) point_[i] = x_[i] + step_ * direction[i];
        return Want::gradient;
    }

    // Where gradients are wanted for differences.
    const double* point() const { return point_.data(); }
    double* gradient() { return gradient_.data(); }

    // Takes in the gradient there. Returns whether that was the last one.
    bool take_difference() {
        double* out = has_matrix_ ? &hessian_[column_ * size()] : product_.data();
        for (std::size_t i = 0; i < size(); ++i) out[i] = (gradient_[i] - at_x_[i]) / step_;
        if (!has_matrix_) return true;
        point_[column_] = x_[column_];
        if (++column_ < size()) {
            move_along_axis();
            return false;
        }
        return true;
    }

    // By differences.
    const double* hessian() const { return hessian_.data(); }
    double* product() { return product_.data(); }

    // Keeps the symmetric part of the Hessian if it is to be multiplied with.
    void take_hessian(const double* given) {
        if (!multiplies_) return;
        for (std::size_t i = 0; i < size(); ++i)
            for (std::size_t j = 0; j <= i; ++j)
                hessian_[i * size() + j] = hessian_[j * size() + i] =
                    curvature::average_of(given[i * size() + j], given[j * size() + i]);
    }

    void multiply(const double* direction) {
        for (std::size_t i = 0; i < size(); ++i) product_[i] = dot(&hessian_[i * size()], direction, n_);
    }

private:
    std::size_t size() const { return static_cast<std::size_t>(n_); }

    bool differences() const { return hessians_.source == Hessians::Source::differences; }

    void move_along_axis() {
        const double x = x_[column_], h = hessians_.relative_step * std::max(1.0, std::abs(x));
        point_[column_] = x + (x < 0 ? -h : h);
        step_ = point_[column_] - x;
    }

    std::int64_t n_;
    Hessians hessians_;
    bool used_, has_matrix_ = false, multiplies_ = false;
    std::size_t column_ = 0;
    double step_ = 1;
    Doubles hessian_, product_, x_, at_x_, point_, gradient_;
};

}  // namespace downslope

// The quadratic model of the objective at an iterate, m(p) = g.p + p.Hp/2, and where it is low: how methods of the
// second order differ.
#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

#include "method.hpp"

namespace downslope {

class Subproblem {
public:
    // `error` is that of elements of the Hessian, relative to the largest: curvature below it is taken for zero.
    Subproblem(std::int64_t n, double error) : error_(error), g_(n), p_(n) {}
    virtual ~Subproblem() = default;

    virtual Curvature uses() const = 0;

    // Turns to another iterate; `hessian` is null where there is none, or none that is finite.
    virtual void start(const double* gradient, const double* hessian) {
        g_ = Eigen::Map<const Eigen::VectorXd>(gradient, g_.size());
        is_convex_ = true;
        escape_.reset();
        take(hessian);
    }

    // A step not longer than `radius`, again for each radius that is tried.
    virtual void solve(double radius) = 0;
    // Looks for a direction of negative curvature.
    virtual void search_escape() = 0;
    // A step of this length along the direction that has been found.
    void escape(double length) {
        p_ = length * *escape_;
        predicted_ = -(g_.dot(p_) + 0.5 * length * length * escape_curvature_);
        on_boundary_ = true;
    }
    bool has_escape() const { return escape_.has_value(); }

    // After `solve`, `search_escape` and `tell_product`: the product of the Hessian and this, until none is wanted.
    virtual bool wants_product() const { return false; }
    virtual const double* direction() const { return nullptr; }
    virtual void tell_product(const double*) {}

    // The step, by how much the model is lower there, and whether it is as long as it may be.
    const Eigen::VectorXd& step() const { return p_; }
    double predicted() const { return predicted_; }
    bool on_boundary() const { return on_boundary_; }

    // Whether no negative curvature has been met at this iterate.
    bool is_convex() const { return is_convex_; }

protected:
    virtual void take(const double* hessian) = 0;

    // Downhill along a direction of the length 1.
    void set_escape(const Eigen::VectorXd& direction, double curvature) {
        escape_ = g_.dot(direction) > 0 ? -direction : direction;
        escape_curvature_ = curvature;
        is_convex_ = false;
    }

    // The step along the gradient's negative, as far as it may be; for the linear model that is left without a Hessian.
    void go_along_gradient(double radius) {
        const double length = g_.norm();
        p_ = -std::min(radius, std::max(1.0, length)) / length * g_;
        predicted_ = -g_.dot(p_);
        on_boundary_ = true;
    }

    double error_, predicted_ = 0, escape_curvature_ = 0;
    bool on_boundary_ = false, is_convex_ = true;
    Eigen::VectorXd g_, p_;
    std::optional<Eigen::VectorXd> escape_;
};

// With the Hessian as a matrix. Whatever Eigen works on is in its own memory, whose alignment is always the same, and
// with it the order of sums.
class MatrixSubproblem : public Subproblem {
public:
    using Subproblem::Subproblem;

    Curvature uses() const override { return Curvature::matrix; }

    void search_escape() override {
        if (!has_hessian_ || has_cholesky()) return;
        const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(H_);
        const Eigen::VectorXd& values = eigen.eigenvalues();
        if (values[0] < -error_ * values.cwiseAbs().maxCoeff()) set_escape(eigen.eigenvectors().col(0), values[0]);
    }

protected:
    void take(const double* hessian) override {
        has_hessian_ = hessian != nullptr;
        if (has_hessian_) H_ = Eigen::Map<const Eigen::MatrixXd>(hessian, g_.size(), g_.size());
        is_factored_ = false;
    }

    // Factorizes H + shift I. A pivot that is rounding, beside its own element of the
    // diagonal, counts as not positive.
    bool factorize(double shift) {
        is_factored_ = true;
        shift_ = shift;
        shifted_ = H_;
        shifted_.diagonal().array() += shift;
        cholesky_.compute(shifted_);
        if (cholesky_.info() != Eigen::Success) return is_positive_ = false;
        const auto pivots = cholesky_.matrixLLT().diagonal().array().square();
        const double tolerance = std::numeric_limits<double>::epsilon() * static_cast<double>(g_.size());
        return is_positive_ = (pivots > tolerance * shifted_.diagonal().array()).all();
    }

    // Of the Hessian as it is.
    bool has_cholesky() {
        if (!is_factored_) factorize(0);
        return is_positive_ && shift_ == 0;
    }

    // Of the Hessian with a shift that makes it positive definite: Nocedal & Wright 2006, algorithm 3.3, with a shift
    // that grows faster, from a start that is relative to the size of the matrix.
    void shift_until_positive() {
        if (is_factored_ || has_cholesky()) return;
        is_convex_ = false;
        const double least = H_.diagonal().minCoeff(), size = H_.cwiseAbs().maxCoeff();
        // Beside a Hessian that vanishes, the gradient gives the size.
        const double beta = std::max({1e-3 * size, 1e-10 * g_.norm(), std::numeric_limits<double>::min()});
        double shift = least > 0 ? beta : beta - least;
        while (!factorize(shift)) shift *= 2;
    }

    bool has_hessian_ = false, is_factored_ = false, is_positive_ = false;
    double shift_ = 0;
    Eigen::MatrixXd H_, shifted_;
    Eigen::LLT<Eigen::MatrixXd> cholesky_;
};

}  // namespace downslope

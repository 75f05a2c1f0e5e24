// The quadratic model of the objective at an iterate, m(p) = g.p + p.Hp/2, and where it is low: how methods of the
// second order differ.
#pragma once

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

#include "method.hpp"
#include "shifted_cholesky.hpp"

namespace downslope {

class Subproblem {
public:
    // `error` is that of elements of the Hessian, relative to the largest: curvature below it is taken for zero.
    Subproblem(std::int64_t n, double error) : error_(error), g_(n), p_(n) {}
    virtual ~Subproblem() = default;

    virtual Curvature uses() const = 0;

    // Turns to another iterate; `hessian` stays where it is until the first call of `solve` or `search_escape` is over.
    virtual void start(const double* gradient, const double* hessian) {
        turn_to(gradient);
        is_convex_ = true;
        escape_.reset();
        take(hessian);
    }

    // Turns to another gradient; the Hessian stays.
    void turn_to(const double* gradient) { g_ = Eigen::Map<const Eigen::VectorXd>(gradient, g_.size()); }

    // A step not longer than `radius`, again for each radius that is tried.
    virtual void solve(double radius) = 0;
    // Whether the Hessian itself, without a shift, has been factorized, so that a step for another gradient costs
    // little.
    virtual bool is_factorized() const { return false; }
    // Whether `solve` can be more exact at this iterate than it has been, which it is from now on.
    virtual bool sharpen() { return false; }
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

// With the Hessian as a matrix.
class MatrixSubproblem : public Subproblem {
public:
    MatrixSubproblem(std::int64_t n, double error, int threads) : Subproblem(n, error), cholesky_(n, threads) {}

    Curvature uses() const override { return Curvature::matrix; }

    void search_escape() override {
        if (!has_hessian() || is_positive_definite()) return;
        const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(cholesky_.symmetric_part());
        const Eigen::VectorXd& values = eigen.eigenvalues();
        if (values[0] < -error_ * values.cwiseAbs().maxCoeff()) set_escape(eigen.eigenvectors().col(0), values[0]);
    }

protected:
    void take(const double* hessian) override {
        has_hessian_ = cholesky_.turn_to(hessian);
        is_factored_ = false;
    }

    // False if it is worth nothing, as an element is not finite.
    bool has_hessian() const { return has_hessian_; }

    // Factorizes H as it is, the first time it is asked.
    bool is_positive_definite() {
        if (!is_factored_) is_positive_definite_ = cholesky_.factorize(0);
        is_factored_ = true;
        return is_positive_definite_;
    }

    // Factorizes the Hessian with a shift that makes it positive definite, about twice the smallest one that does.
    void shift_until_positive() {
        if (is_factored_ || is_positive_definite()) return;
        is_convex_ = false;
        // Beside a Hessian that vanishes, the gradient gives the size.
        const double size = std::max(cholesky_.largest(), 1e-10 * g_.norm());
        const double least = std::max(curvature::least_shift(size), -cholesky_.least_diagonal());
        double shift = 0;
        curvature::find_shift(least, static_cast<double>(g_.size()) * size, shift,
                              [&](double trial) { return cholesky_.factorize(trial); });
    }

    // p = -(H + shift I)^-1 g
    void solve_shifted() {
        p_ = -g_;
        cholesky_.solve(p_);
    }

    ShiftedCholesky cholesky_;

private:
    bool has_hessian_ = false, is_factored_ = false, is_positive_definite_ = false;
};

}  // namespace downslope

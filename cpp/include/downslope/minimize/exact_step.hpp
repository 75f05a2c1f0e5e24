// The minimum of the model in a ball: More & Sorensen, "Computing a trust region step", SIAM J. Sci. Stat. Comput.
// 4(3), 1983; the hard case as in Conn, Gould & Toint, "Trust-region methods", 2000, section 7.3.
//
// p is the minimum if (H + lambda I) p = -g with H + lambda I positive semidefinite, and either |p| = radius and lambda
// >= 0, or lambda = 0. Where Newton's step is too long, H is brought to tridiagonal form once; after that, each lambda
// costs a number of operations that is linear in n.
#pragma once

#include <Eigen/Eigenvalues>
#include <limits>

#include "subproblem.hpp"

namespace downslope {

class ExactStep final : public MatrixSubproblem {
public:
    using MatrixSubproblem::MatrixSubproblem;

    void solve(double radius) override {
        if (!has_hessian_) return go_along_gradient(radius);
        if (has_cholesky()) {
            p_ = cholesky_.solve(-g_);
            on_boundary_ = false;
            predicted_ = -0.5 * g_.dot(p_);
            if (p_.norm() <= radius) return;
        }
        reduce();
        solve_tridiagonal(radius);
        p_ = tridiagonal_.matrixQ() * q_;
    }

protected:
    void take(const double* hessian) override {
        MatrixSubproblem::take(hessian);
        is_reduced_ = false;
    }

private:
    static constexpr double eps = std::numeric_limits<double>::epsilon();

    // H = Q T Q', g = Q b. T has the diagonal t and beside it e.
    void reduce() {
        if (is_reduced_) return;
        is_reduced_ = true;
        tridiagonal_.compute(H_);
        t_ = tridiagonal_.diagonal();
        e_ = tridiagonal_.subDiagonal();
        b_ = tridiagonal_.matrixQ().adjoint() * g_;
        size_ = t_.cwiseAbs().maxCoeff() + (e_.size() > 0 ? 2 * e_.cwiseAbs().maxCoeff() : 0.0);
        least_ = 0;
        if (factorize_tridiagonal(0)) return;
        find_least();
        is_convex_ = least_ >= -error_ * size_;
    }

    // Bisection for the least eigenvalue, which is not positive, between Gershgorin's bound and 0.
    void find_least() {
        least_ = -size_;
        double above = 0;
        while (above - least_ > eps * size_) {
            const double middle = 0.5 * (least_ + above);
            (factorize_tridiagonal(-middle) ? least_ : above) = middle;
        }
    }

    // q = Q' p. From a lambda at which |q| > radius, Newton's iteration on 1/radius - 1/|q| rises to the solution,
    // since 1/|q| is concave in lambda. Where |q| is smaller even next to the pole, it is the hard case.
    void solve_tridiagonal(double radius) {
        constexpr int most_iterations = 50;
        constexpr double tolerance = 1e-8;
        double lambda = factorize_above_the_pole(radius), length = 0;
        for (int i = 0; i < most_iterations; ++i) {
            q_ = -b_;
            solve_factorized(q_);
            length = q_.norm();
            if (length <= (1 + tolerance) * radius) break;
            forward_ = q_;
            solve_lower(forward_);
            const double slope = (forward_.array().square() / d_.array()).sum();
            lambda += length * length / slope * (length - radius) / radius;
            if (!factorize_tridiagonal(lambda)) break;
        }
        on_boundary_ = length >= (1 - tolerance) * radius || !is_convex_;
        if (on_boundary_ && length < (1 - tolerance) * radius) reach(radius);
        predicted_ = -(b_.dot(q_) + 0.5 * q_.dot(product(q_)));
    }

    // The least lambda at which T + lambda I is positive definite to rounding; returns it.
    double factorize_above_the_pole(double radius) {
        double lambda = 0;
        if (factorize_tridiagonal(lambda)) return lambda;
        double above = std::max({4 * eps * size_, eps * b_.norm() / radius, std::numeric_limits<double>::min()});
        do {
            lambda = std::max(-least_, 0.0) + above;
            above *= 4;
        } while (!factorize_tridiagonal(lambda));
        return lambda;
    }

    // The hard case: on to the boundary along the eigenvector of the least eigenvalue, found by inverse iteration. Of
    // the two ways the shorter one is the lower one.
    void reach(double radius) {
        Eigen::VectorXd& u = forward_;
        u.resize(t_.size());
        for (Eigen::Index i = 0; i < u.size(); ++i) u[i] = 1 + 0.5 * std::sin(static_cast<double>(i));
        for (int i = 0; i < 3; ++i) {
            solve_factorized(u);
            u /= u.cwiseAbs().maxCoeff();
            u.normalize();
        }
        const double along = q_.dot(u), missing = radius * radius - q_.squaredNorm();
        const double root = std::sqrt(along * along + missing);
        q_ += missing / (along > 0 ? along + root : along - root) * u;
    }

    // T + lambda I = L D L', if it is positive definite; L has a unit diagonal and below it l.
    bool factorize_tridiagonal(double lambda) {
        d_ = t_.array() + lambda;
        l_ = e_;
        for (Eigen::Index i = 0;; ++i) {
            if (!(d_[i] > 0)) return false;
            if (i == l_.size()) return true;
            l_[i] = e_[i] / d_[i];
            d_[i + 1] -= l_[i] * e_[i];
        }
    }
    void solve_lower(Eigen::VectorXd& v) const {
        for (Eigen::Index i = 0; i < l_.size(); ++i) v[i + 1] -= l_[i] * v[i];
    }
    void solve_factorized(Eigen::VectorXd& v) const {
        solve_lower(v);
        v.array() /= d_.array();
        for (Eigen::Index i = l_.size(); i-- > 0;) v[i] -= l_[i] * v[i + 1];
    }
    Eigen::VectorXd product(const Eigen::VectorXd& v) const {
        Eigen::VectorXd y = t_.cwiseProduct(v);
        const Eigen::Index n = e_.size();
        y.head(n) += e_.cwiseProduct(v.tail(n));
        y.tail(n) += e_.cwiseProduct(v.head(n));
        return y;
    }

    bool is_reduced_ = false;
    double size_ = 0, least_ = 0;
    Eigen::Tridiagonalization<Eigen::MatrixXd> tridiagonal_{1};
    Eigen::VectorXd t_, e_, b_, q_, d_, l_, forward_;
};

}  // namespace downslope

// The minimum of the model in a ball: More & Sorensen, "Computing a trust region step", SIAM J. Sci. Stat. Comput.
// 4(3), 1983; the hard case as in Conn, Gould & Toint, "Trust-region methods", 2000, section 7.3.
//
// p is the minimum if (H + lambda I) p = -g with H + lambda I positive semidefinite, and either |p| = radius and lambda
// >= 0, or lambda = 0. Where H is positive definite, a few factorizations of H + lambda I find lambda. Where it is not,
// and for more of them, H is brought to tridiagonal form once, in which each lambda costs next to nothing.
#pragma once

#include <limits>

#include "shifted_tridiagonal.hpp"
#include "subproblem.hpp"

namespace downslope {

class ExactStep final : public MatrixSubproblem {
public:
    ExactStep(std::int64_t n, double error, int threads) : MatrixSubproblem(n, error, threads), H_(n, n) {}

    void solve(double radius) override {
        if (!has_hessian()) return go_along_gradient(radius);
        if (is_positive_definite() && solve_by_cholesky(radius)) return;
        reduce();
        solve_tridiagonal(radius);
        p_ = tridiagonal_.basis() * q_;
    }

protected:
    void take(const double* hessian) override {
        // Which may be somebody else's, and is wanted again for other radii.
        H_ = Eigen::Map<const Eigen::MatrixXd>(hessian, g_.size(), g_.size());
        MatrixSubproblem::take(H_.data());
        is_reduced_ = false;
        factorizations_ = 0;
    }

private:
    static constexpr double eps = std::numeric_limits<double>::epsilon();
    static constexpr double tolerance = 1e-8;  // of |p|, relative to the radius

    // The tridiagonal form takes about as long as so many factorizations.
    static constexpr int most_factorizations = 8;

    // From Newton's point, or from the step in a larger ball.
    bool solve_by_cholesky(double radius) {
        if (is_reduced_) return false;
        const double length = rise(cholesky_, g_, radius, most_factorizations - factorizations_, p_);
        on_boundary_ = cholesky_.shift() > 0;
        predicted_ = 0.5 * (cholesky_.shift() * length * length - g_.dot(p_));
        return length <= (1 + tolerance) * radius;
    }

    // Newton's iteration on 1/radius - 1/|p|, from a factorization at which |p| > radius. Since 1/|p| is concave in
    // lambda, it rises to the solution. Ends at once where |p| is not larger. Returns |p|.
    template <class Factorization>
    double rise(Factorization& shifted, const Eigen::VectorXd& g, double radius, int most, Eigen::VectorXd& p) {
        for (;; ++factorizations_) {
            p = -g;
            shifted.solve(p);
            const double length = p.norm();
            if (length <= (1 + tolerance) * radius || most-- == 0) return length;
            const double step = length * length / shifted.inverse_square(p) * (length - radius) / radius;
            if (!shifted.factorize(shifted.shift() + step)) return length;
        }
    }

    // H = Q T Q', g = Q b.
    void reduce() {
        if (is_reduced_) return;
        is_reduced_ = true;
        tridiagonal_.reduce(cholesky_.symmetric_part());
        b_ = tridiagonal_.basis().adjoint() * g_;
        least_ = 0;
        if (tridiagonal_.factorize(0)) return;
        find_least();
        is_convex_ = least_ >= -error_ * tridiagonal_.size();
    }

    // Bisection for the least eigenvalue, which is not positive, between Gershgorin's bound and 0.
    void find_least() {
        least_ = -tridiagonal_.size();
        double above = 0;
        while (above - least_ > eps * tridiagonal_.size()) {
            const double middle = 0.5 * (least_ + above);
            if (middle == least_ || middle == above) break;  // there is no number between them
            (tridiagonal_.factorize(-middle) ? least_ : above) = middle;
        }
    }

    // q = Q' p. Where |q| is smaller than the radius even next to the pole, it is the hard case.
    void solve_tridiagonal(double radius) {
        constexpr int most_iterations = 50;
        factorize_above_the_pole(radius);
        const double length = rise(tridiagonal_, b_, radius, most_iterations, q_);
        on_boundary_ = !(length < (1 - tolerance) * radius) || !is_convex_;
        // Where lambda is lost to over- or underflow, at least the direction is left, or that of the gradient.
        if (std::isinf(length) || std::isnan(length))
            q_ = -radius / b_.norm() * b_;
        else if (length > (1 + tolerance) * radius)
            q_ *= radius / length;
        if (on_boundary_ && length < (1 - tolerance) * radius) reach(radius);
        predicted_ = -(b_.dot(q_) + 0.5 * q_.dot(tridiagonal_.product(q_)));
    }

    // The least lambda at which T + lambda I is positive definite to rounding.
    void factorize_above_the_pole(double radius) {
        if (tridiagonal_.factorize(0)) return;
        double above =
            std::max({4 * eps * tridiagonal_.size(), eps * b_.norm() / radius, std::numeric_limits<double>::min()});
        while (!tridiagonal_.factorize(std::max(-least_, 0.0) + above)) above *= 4;
    }

    // The hard case: on to the boundary along the eigenvector of the least eigenvalue, found by inverse iteration. Of
    // the two ways the shorter one is the lower one.
    void reach(double radius) {
        Eigen::VectorXd u(q_.size());
        for (Eigen::Index i = 0; i < u.size(); ++i) u[i] = 1 + 0.5 * std::sin(static_cast<double>(i));
        for (int i = 0; i < 3; ++i) {
            tridiagonal_.solve(u);
            u /= u.cwiseAbs().maxCoeff();
            u.normalize();
        }
        const double along = q_.dot(u), missing = radius * radius - q_.squaredNorm();
        const double root = std::sqrt(along * along + missing);
        q_ += missing / (along > 0 ? along + root : along - root) * u;
    }

    bool is_reduced_ = false;
    int factorizations_ = 0;  // for lambdas at this iterate
    double least_ = 0;
    ShiftedTridiagonal tridiagonal_;
    Eigen::MatrixXd H_;
    Eigen::VectorXd b_, q_;
};

}  // namespace downslope

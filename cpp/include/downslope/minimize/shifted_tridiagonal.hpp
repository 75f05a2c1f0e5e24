// A Hessian in tridiagonal form, H = Q T Q', and the factorization of T + shift I, for one shift after the other: each
// costs a number of operations that is linear in n.
#pragma once

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <algorithm>

namespace downslope {

class ShiftedTridiagonal {
public:
    template <class Matrix>
    void reduce(const Matrix& H) {
        reduction_.compute(H);
        t_ = reduction_.diagonal();
        e_ = reduction_.subDiagonal();
        size_ = t_.cwiseAbs().maxCoeff() + (e_.size() > 0 ? 2 * e_.cwiseAbs().maxCoeff() : 0.0);
    }

    // No eigenvalue is larger in magnitude, by Gershgorin's bound.
    double size() const { return size_; }

    // Q and T times vectors.
    auto basis() const { return reduction_.matrixQ(); }
    Eigen::VectorXd product(const Eigen::VectorXd& v) const {
        Eigen::VectorXd y = t_.cwiseProduct(v);
        const Eigen::Index n = e_.size();
        y.head(n) += e_.cwiseProduct(v.tail(n));
        y.tail(n) += e_.cwiseProduct(v.head(n));
        return y;
    }

    // T + shift I = L D L', if it is positive definite; L has a unit diagonal and below it l.
    bool factorize(double shift) {
        shift_ = shift;
        d_ = t_.array() + shift;
        l_ = e_;
        for (Eigen::Index i = 0;; ++i) {
            if (!(d_[i] > 0)) return false;
            if (i == l_.size()) return true;
            l_[i] = e_[i] / d_[i];
            d_[i + 1] -= l_[i] * e_[i];
        }
    }

    double shift() const { return shift_; }

    // v = (T + shift I)^-1 v
    void solve(Eigen::VectorXd& v) const {
        solve_lower(v);
        v.array() /= d_.array();
        for (Eigen::Index i = l_.size(); i-- > 0;) v[i] -= l_[i] * v[i + 1];
    }

    // v.(T + shift I)^-1 v
    double inverse_square(const Eigen::VectorXd& v) {
        forward_ = v;
        solve_lower(forward_);
        return (forward_.array().square() / d_.array()).sum();
    }

private:
    void solve_lower(Eigen::VectorXd& v) const {
        for (Eigen::Index i = 0; i < l_.size(); ++i) v[i + 1] -= l_[i] * v[i];
    }

    double size_ = 0, shift_ = 0;
    Eigen::Tridiagonalization<Eigen::MatrixXd> reduction_{1};
    Eigen::VectorXd t_, e_, d_, l_, forward_;
};

}  // namespace downslope

// The Cholesky factorization of a Hessian with a shift, H + shift I.
#pragma once

#include "../curvature/cholesky.hpp"

namespace downslope {

class ShiftedCholesky {
public:
    ShiftedCholesky(Eigen::Index n, int threads)
        : threads_(threads),
          memory_(Eigen::MatrixXd::Zero(curvature::packed_rows(n), n)),
          packed_(memory_.data(), n, n, Eigen::OuterStride<>(memory_.rows())) {}
    ShiftedCholesky(const ShiftedCholesky&) = delete;  // one part points into another
    ShiftedCholesky& operator=(const ShiftedCholesky&) = delete;

    // Turns to a matrix, which is read again for every shift.
    void turn_to(const double* hessian) {
        hessian_ = hessian;
        if (hessian != nullptr) envelope_.enclose(matrix());
    }

    // Whether it is positive definite with this shift.
    bool factorize(double shift) {
        shift_ = shift;
        packed_ = matrix();
        diagonal_ = packed_.diagonal().array() + shift;
        return curvature::factor_lower(packed_, diagonal_, envelope_, threads_);
    }

    double shift() const { return shift_; }

    // v = (H + shift I)^-1 v
    void solve(Eigen::VectorXd& v) const { curvature::substitute(packed_, v); }

    // v.(H + shift I)^-1 v
    double inverse_square(const Eigen::VectorXd& v) {
        forward_ = v;
        packed_.triangularView<Eigen::Lower>().solveInPlace(forward_);
        return forward_.squaredNorm();
    }

private:
    Eigen::Map<const Eigen::MatrixXd> matrix() const { return {hessian_, packed_.cols(), packed_.cols()}; }

    const double* hessian_ = nullptr;
    double shift_ = 0;
    int threads_;
    Eigen::MatrixXd memory_;
    curvature::PackedMatrix packed_;
    curvature::Envelope envelope_;
    Eigen::VectorXd diagonal_, forward_;
};

}  // namespace downslope

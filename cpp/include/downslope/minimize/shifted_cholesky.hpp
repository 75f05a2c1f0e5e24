// The Cholesky factorization of a Hessian with a shift, H + shift I.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>

#include "../curvature/cholesky.hpp"

namespace downslope {

class ShiftedCholesky {
public:
    ShiftedCholesky(Eigen::Index n, int threads)
        : threads_(threads),
          memory_(curvature::packed_rows(n), n),
          packed_(memory_.data(), n, n, Eigen::OuterStride<>(memory_.rows())),
          envelope_(n) {
        memory_.bottomRows(memory_.rows() - n).setZero();
    }
    ShiftedCholesky(const ShiftedCholesky&) = delete;  // one part points into another
    ShiftedCholesky& operator=(const ShiftedCholesky&) = delete;

    // Turns to the symmetric part of a matrix, which stays where it is until the last shift. False if an element is not
    // finite, or so large that products of two would not be.
    bool turn_to(const double* matrix) {
        constexpr double bound = 0x1p500;
        matrix_ = matrix;
        const bool is_finite = read_matrix();
        given_diagonal_ = packed_.diagonal();
        is_fresh_ = true;
        return is_finite && largest_ <= bound;
    }

    double largest() const { return largest_; }
    double least_diagonal() const { return given_diagonal_.minCoeff(); }

    Eigen::MatrixXd symmetric_part() const { return curvature::average_of(matrix(), matrix().transpose()); }

    // Whether it is positive definite with this shift.
    bool factorize(double shift) {
        shift_ = shift;
        if (!std::exchange(is_fresh_, false)) read_matrix();
        diagonal_ = given_diagonal_.array() + shift;
        return curvature::factor_lower(packed_, diagonal_, envelope_, threads_);
    }

    double shift() const { return shift_; }

    // v = (H + shift I)^-1 v
    void solve(Eigen::VectorXd& v) const { curvature::substitute(packed_, v); }

    // v.(H + shift I) v
    double square(const Eigen::VectorXd& v) const {
        return (packed_.triangularView<Eigen::Lower>().transpose() * v).squaredNorm();
    }

    // v.(H + shift I)^-1 v
    double inverse_square(const Eigen::VectorXd& v) {
        forward_ = v;
        packed_.triangularView<Eigen::Lower>().solveInPlace(forward_);
        return forward_.squaredNorm();
    }

private:
    Eigen::Map<const Eigen::MatrixXd> matrix() const { return {matrix_, packed_.cols(), packed_.cols()}; }

    // Returns whether all is finite. Only the lower triangle is written, since memory that is touched drives the
    // objective's own out of the cache.
    bool read_matrix() {
        using curvature::Index, curvature::Square;
        if (packed_.cols() < curvature::lanes) return read_tiny_matrix();
        envelope_.reset();
        curvature::Lanes largest = curvature::Lanes::Zero(), sum = largest;
        curvature::visit_rows(matrix(), 0, packed_.cols(),
                              [&](Index row, Index col, const Square& below, const Square& above) {
                                  const Square average = curvature::average_of(below, above);
                                  envelope_.enclose(row, col, average);
                                  curvature::put_square(packed_, row, col, average);
                                  for (int k = 0; k < curvature::lanes; ++k) {
                                      const curvature::Lanes size = average.col(k).array().abs();
                                      largest = largest.max(size);
                                      sum += size;
                                  }
                              });
        largest_ = largest.maxCoeff();
        return std::isfinite(sum.sum());
    }

    // The same at less cost, where the matrix is but a part of a square.
    bool read_tiny_matrix() {
        double sum = 0;
        largest_ = 0;
        const auto a = matrix();
        for (Eigen::Index i = 0; i < a.rows(); ++i)
            for (Eigen::Index j = 0; j <= i; ++j) {
                packed_(i, j) = curvature::average_of(a(i, j), a(j, i));
                const double size = std::abs(packed_(i, j));
                largest_ = std::max(largest_, size);
                sum += size;
            }
        return std::isfinite(sum);
    }

    const double* matrix_ = nullptr;
    bool is_fresh_ = false;  // no factorization has been written over what was read
    double shift_ = 0, largest_ = 0;
    int threads_;
    Eigen::MatrixXd memory_;
    curvature::PackedMatrix packed_;
    curvature::Envelope envelope_;
    Eigen::VectorXd given_diagonal_, diagonal_, forward_;
};

}  // namespace downslope

// b - A x in about twice the working precision, for iterative refinement.
#pragma once

#include <cmath>

#include "concept.hpp"
#include "lanes.hpp"

namespace downslope::curvature {

// What a product lost to rounding: a b = product + this, exactly, unless it under- or overflows.
#if defined(DOWNSLOPE_FUSED)
template <class T>
EIGEN_ALWAYS_INLINE T product_error(const T& a, const T& b, const T& product) {
    return multiply_add(a, b, T(-product));
}
#else
// By Veltkamp's splitting and Dekker's product.
template <class T>
EIGEN_ALWAYS_INLINE T product_error(const T& a, const T& b, const T& product) {
    constexpr double splitter = 134217729;  // 2^27 + 1
    const T a_big = splitter * a, a_high = a_big - (a_big - a), a_low = a - a_high;
    const T b_big = splitter * b, b_high = b_big - (b_big - b), b_low = b - b_high;
    return a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low);
}
#endif

// sum + error -= a b, where the error takes up what the sum cannot hold (Ogita, Rump & Oishi 2005).
template <class T>
EIGEN_ALWAYS_INLINE void subtract_product(T& sum, T& error, const T& a, const T& b) {
    const T product = a * b, next = sum - product, part = next - sum;
    error += ((sum - (next - part)) - (product + part)) - product_error(a, b, product);
    sum = next;
}

// Of a symmetric matrix that is given by its strict upper triangle and its diagonal. `x`, `b` and `r` don't overlap.
template <class Packed, class Diagonal>
void residual(const Packed& packed, const Diagonal& diagonal, const double* x, const double* b, double* r) {
    const Index n = diagonal.size();
    VectorXd error = VectorXd::Zero(n);
    Eigen::Map<VectorXd>(r, n) = Eigen::Map<const VectorXd>(b, n);
    for (Index j = 0; j < n; ++j) {
        const double* a = packed.col(j).data();
        // Row j of the lower triangle goes into several sums, as one sum would have to be added up in order.
        Lanes sum = Lanes::Zero(), sum_error = Lanes::Zero();
        const Lanes x_j = Lanes::Constant(x[j]);
        const Index whole = j - j % lanes;
        for (Index i = 0; i < whole; i += lanes) {
            const Lanes a_i = Eigen::Map<const Lanes>(a + i), x_i = Eigen::Map<const Lanes>(x + i);
            Lanes r_i = Eigen::Map<const Lanes>(r + i), e_i = Eigen::Map<const Lanes>(error.data() + i);
            subtract_product(r_i, e_i, a_i, x_j);
            subtract_product(sum, sum_error, a_i, x_i);
            Eigen::Map<Lanes>(r + i) = r_i;
            Eigen::Map<Lanes>(error.data() + i) = e_i;
        }
        for (Index i = whole; i < j; ++i) {
            subtract_product(r[i], error[i], a[i], x[j]);
            subtract_product(r[j], error[j], a[i], x[i]);
        }
        for (int lane = 0; lane < lanes; ++lane) subtract_product(r[j], error[j], -1., sum[lane]);
        error[j] += sum_error.sum();
        subtract_product(r[j], error[j], diagonal[j], x[j]);
    }
    Eigen::Map<VectorXd>(r, n) += error;
}

}  // namespace downslope::curvature

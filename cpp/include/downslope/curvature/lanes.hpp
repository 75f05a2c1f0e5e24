// Several numbers that are computed with side by side.
#pragma once

#include <Eigen/Core>
#include <array>
#include <cmath>

namespace downslope::curvature {

using Eigen::Index;

inline constexpr int lanes = 8;
using Lanes = Eigen::Array<double, lanes, 1>;

// Read and written by whole columns, and transposed in registers.
using Square = Eigen::Matrix<double, lanes, lanes>;

// a b + c, rounded once where the processor does that at once.
#if defined(__FMA__) || defined(__aarch64__)
#define DOWNSLOPE_FUSED
EIGEN_ALWAYS_INLINE double multiply_add(double a, double b, double c) { return std::fma(a, b, c); }
#else
EIGEN_ALWAYS_INLINE double multiply_add(double a, double b, double c) { return a * b + c; }
#endif
EIGEN_ALWAYS_INLINE Lanes multiply_add(const Lanes& a, const Lanes& b, const Lanes& c) {
    using Packet = Eigen::internal::packet_traits<double>::type;
    Lanes sum;
    for (int lane = 0; lane < lanes; lane += Eigen::internal::packet_traits<double>::size) {
        const auto part = [lane](const Lanes& x) { return Eigen::internal::ploadu<Packet>(x.data() + lane); };
        Eigen::internal::pstoreu(sum.data() + lane, Eigen::internal::pmadd(part(a), part(b), part(c)));
    }
    return sum;
}

// Makes vectors of arrays of numbers: lane l of to[k] is from[l][k].
template <class Number>
void interleave(const std::array<Number*, lanes>& from, Index size, Lanes* to) {
    Index k = 0;
    for (; k + lanes <= size; k += lanes) {
        Square square;
        for (int lane = 0; lane < lanes; ++lane)
            square.col(lane) = Eigen::Map<const Lanes>(from[static_cast<std::size_t>(lane)] + k);
        square.transposeInPlace();
        for (int i = 0; i < lanes; ++i) to[k + i] = square.col(i);
    }
    for (; k < size; ++k)
        for (int lane = 0; lane < lanes; ++lane) to[k][lane] = from[static_cast<std::size_t>(lane)][k];
}

// The other way round, for the first `count` lanes.
inline void deinterleave(const Lanes* from, Index size, const std::array<double*, lanes>& to, int count) {
    Index k = 0;
    for (; k + lanes <= size; k += lanes) {
        Square square;
        for (int i = 0; i < lanes; ++i) square.col(i) = from[k + i];
        square.transposeInPlace();
        for (int lane = 0; lane < count; ++lane)
            Eigen::Map<Lanes>(to[static_cast<std::size_t>(lane)] + k) = square.col(lane);
    }
    for (; k < size; ++k)
        for (int lane = 0; lane < count; ++lane) to[static_cast<std::size_t>(lane)][k] = from[k][lane];
}

}  // namespace downslope::curvature

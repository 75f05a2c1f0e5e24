// What all curvatures have in common: vectors, options and outcomes.
//
// A curvature is a structured symmetric matrix C that looks at memory of its caller. Each is a class with
//
//     Index size() const;                                              C is size x size
//     void multiply(ConstColumns v, Columns out, int threads) const;   out = C v
//     Outcome check(double asymmetry, int threads) const;              whether C is finite and symmetric
//     Outcome factorize(const FactorOptions&, int threads);            C + (damping + shift) I, of which it keeps a
//     copy bool solve(Columns x, int threads) const;                        x = (C + (damping + shift) I)^-1 x
//     std::vector<double> shifts() const;                              what was added beyond the damping
//
// `solve` goes by the copy, whatever has become of the caller's memory since. It returns false where the matrix is
// singular to working precision, so that its result is worth nothing.
#pragma once

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace downslope::curvature {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

// Vectors side by side, each contiguous.
using Columns = Eigen::Ref<MatrixXd, 0, Eigen::OuterStride<>>;
using ConstColumns = Eigen::Ref<const MatrixXd, 0, Eigen::OuterStride<>>;

enum class FactorStatus : std::uint8_t { success, not_finite, not_symmetric, not_positive_definite };

// How a factorization ended, and in which block if there are several.
struct Outcome {
    FactorStatus status = FactorStatus::success;
    std::int64_t block = 0;
    bool ok() const { return status == FactorStatus::success; }
};

struct FactorOptions {
    double damping = 0;
    bool ensure_positive = false;
    // Elements that mirror each other may differ by this much, relative to the largest element.
    double asymmetry = 1.5e-8;
};

inline constexpr double epsilon = std::numeric_limits<double>::epsilon();

// A shift between 1.5 times and twice the smallest one that works, by bisection of its logarithm. So A + shift I is as
// far from singular as half of that smallest shift. `works` tries a shift, and leaves the factorization of the last one
// that it was asked for. `upper` should work; `lower` is the smallest that is worth trying. False if none is found.
template <class Works>
bool find_shift(double lower, double upper, double& shift, const Works& works) {
    upper = std::max(upper, lower);
    while (!works(upper)) {
        lower = upper;
        upper *= 2;
        if (!std::isfinite(upper)) return false;
    }
    while (upper > 4. / 3 * lower) {
        const double middle = std::sqrt(lower) * std::sqrt(upper);
        (works(middle) ? upper : lower) = middle;
    }
    // Beside rounding, one that works may lie below one that does not.
    for (shift = 1.5 * upper; !works(shift); shift *= 2)
        if (!std::isfinite(shift)) return false;
    return true;
}

// The smallest shift that changes a matrix whose largest element is `scale`, and whose inverse is a number.
inline double least_shift(double scale) {
    return std::max(epsilon * (scale > 0 ? scale : 1), std::numeric_limits<double>::min());
}

// Whether a column of a Cholesky factorization ends in a pivot, root^2, that has a digit of its own: one that is all
// rounding may have either sign. Or in more than another part of the diagonal.
inline bool is_pivot(double root, double diagonal, double part = epsilon) {
    return root * root > part * diagonal && root > 0 && std::isfinite(root);
}

// A relative correction of a solution is about its error; what it leaves is the square of that. From here on, the
// matrix counts as singular to working precision.
inline constexpr double largest_correction = 0.1;
// A shift makes a matrix positive definite only if that can be solved with, too. Where half of the digits are left of
// each pivot, that goes without saying; else random right-hand sides are tried, for all of which there is to be a
// margin.
inline constexpr double sure_pivot = 1.5e-8;
inline constexpr double largest_of_probes = 0.01;
inline constexpr Index probes = 8;
inline MatrixXd random_probes(Index n) {
    std::minstd_rand random;
    return MatrixXd::NullaryExpr(n, probes, [&] { return static_cast<double>(random()) / random.max() - 0.5; });
}

// NaN, which comes of right-hand sides that are not finite, passes.
template <class Correction, class Solution>
bool is_small(const Correction& correction, const Solution& solution, double largest) {
    return !(correction.cwiseAbs().maxCoeff() > largest * solution.cwiseAbs().maxCoeff());
}

}  // namespace downslope::curvature

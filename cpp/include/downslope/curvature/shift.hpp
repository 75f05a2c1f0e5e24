// What counts as positive definite, and the search for a shift that makes a matrix so.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "concept.hpp"

namespace downslope::curvature {

// Whether a column of a Cholesky factorization ends in a pivot, root^2, that has a digit of its own: one that is all
// rounding may have either sign. Or in more than another part of the diagonal.
inline bool is_pivot(double root, double diagonal, double part = epsilon) {
    return root * root > part * diagonal && root > 0 && std::isfinite(root);
}

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

// The smallest shift that changes a matrix whose largest element is `scale`, and whose inverse is a number.
inline double least_shift(double scale) {
    return std::max(epsilon * (scale > 0 ? scale : 1), std::numeric_limits<double>::min());
}

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

}  // namespace downslope::curvature

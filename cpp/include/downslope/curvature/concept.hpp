// What all curvatures have in common: vectors, options and outcomes.
//
// A curvature is a structured symmetric matrix C that looks at memory of its caller. Each is a class with
//
//     Index size() const;                                              C is size x size
//     void multiply(ConstColumns v, Columns out, int threads) const;   out = C v
//     Outcome check(double asymmetry, int threads) const;              whether C is finite and symmetric
//     Outcome factorize(const FactorOptions&, int threads);            of a copy, C + (damping + shift) I
//     bool solve(Columns x, int threads) const;                        x = (C + (damping + shift) I)^-1 x
//     std::vector<double> shifts() const;                              what was added beyond the damping
//
// `solve` goes by the copy, whatever has become of the caller's memory since. It returns false where the matrix is
// singular to working precision, so that its result is worth nothing.
#pragma once

#include <Eigen/Dense>
#include <cstdint>
#include <limits>
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

// A relative correction of a solution is about its error; what it leaves is the square of that. From here on, the
// matrix counts as singular to working precision.
inline constexpr double largest_correction = 0.1;

// Adds its correction to each solution, unless the right-hand side was not finite. Whether none is more than this part
// of its solution.
template <class Solutions, class Corrections>
bool correct(Solutions& x, const Corrections& corrections, double largest) {
    bool is_regular = true;
    for (Index j = 0; j < x.cols(); ++j) {
        const auto correction = corrections.col(j);
        if (!correction.allFinite()) continue;
        x.col(j) += correction;
        is_regular &= !(correction.cwiseAbs().maxCoeff() > largest * x.col(j).cwiseAbs().maxCoeff());
    }
    return is_regular;
}

}  // namespace downslope::curvature

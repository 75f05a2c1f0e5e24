// Several numbers that are computed with side by side.
#pragma once

#include <Eigen/Core>

namespace downslope::curvature {

inline constexpr int lanes = 8;
using Lanes = Eigen::Array<double, lanes, 1>;

// Read and written by whole columns, and transposed in registers.
using Square = Eigen::Matrix<double, lanes, lanes>;

}  // namespace downslope::curvature

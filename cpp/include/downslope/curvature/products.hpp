// Products of matrices. Eigen compiles its kernels anew for every kind of expression that they are called with, which is
// most of the work of compiling curvatures; here there is one kind.
#pragma once

#include "concept.hpp"

namespace downslope::curvature {

// A B
inline MatrixXd product(const ConstColumns& a, const ConstColumns& b) { return a * b; }
// A^T B
inline MatrixXd transposed_product(const ConstColumns& a, const ConstColumns& b) { return a.transpose() * b; }
// A B^T
inline MatrixXd product_transposed(const ConstColumns& a, const ConstColumns& b) { return a * b.transpose(); }

}  // namespace downslope::curvature

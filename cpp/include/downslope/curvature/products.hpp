// Products of matrices. Eigen compiles its kernels anew for every kind of operand, which is most of the work of
// compiling curvatures; here there is one kind. What they return is memory of its own, since a small product's last
// bits depend on how it is aligned.
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

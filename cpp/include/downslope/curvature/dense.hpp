// A dense symmetric matrix.
#pragma once

#include "cholesky.hpp"
#include "products.hpp"

namespace downslope::curvature {

// out = A v for a symmetric matrix, of which each thread takes some rows.
inline void multiply_symmetric(const Eigen::Map<const MatrixXd>& a, ConstColumns v, Columns out, int threads) {
    parallel_tasks(threads, tiles_in(a.rows()), [&](Index tile) {
        const Index first = tile * tile_size, extent = std::min(tile_size, a.rows() - first);
        // Row-major, the matrix is its own transpose: rows of it are columns here.
        out.middleRows(first, extent) = transposed_product(a.middleCols(first, extent), v);
    });
}

// Solved by its Cholesky factorization, with a step of iterative refinement.
class Dense {
public:
    Dense(const double* matrix, Index n) : matrix_(matrix, n, n) {}

    Index size() const { return matrix_.rows(); }

    void multiply(ConstColumns v, Columns out, int threads) const { multiply_symmetric(matrix_, v, out, threads); }

    Outcome check(double asymmetry, int threads) const { return {check_symmetric(matrix_, asymmetry, threads)}; }

    Outcome factorize(const FactorOptions& options, int threads) {
        resize_large(packed_, packed_rows(size()), size());
        diagonal_.resize(size());
        return {view(*this).factorize(matrix_, options, shift_, threads)};
    }

    bool solve(Columns x, int threads) const { return view(*this).solve(x, threads); }

    std::vector<double> shifts() const { return {shift_}; }

    // The triangular factor.
    auto lower() const { return packed_.topRows(size()).triangularView<Eigen::Lower>(); }

private:
    static Cholesky view(const Dense& dense) {
        return {const_cast<double*>(dense.packed_.data()), const_cast<double*>(dense.diagonal_.data()), dense.size()};
    }

    Eigen::Map<const MatrixXd> matrix_;
    MatrixXd packed_;
    VectorXd diagonal_;
    double shift_ = 0;
};

}  // namespace downslope::curvature

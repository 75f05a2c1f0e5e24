// Blocks of a running covariance, each kept as a few columns: its leading eigenvectors, and the gradients since then.
#pragma once

#include <algorithm>

#include "../curvature/cholesky.hpp"
#include "../curvature/products.hpp"

namespace downslope::preconditioners {

using curvature::Index;
using curvature::MatrixXd;
using curvature::product;
using curvature::transposed_product;
using curvature::VectorXd;

// C = X diag(weights) X^T for each block, where all have the same weights.
//
// A vector over all blocks is an array of shape (size, blocks), row-major: block j is its column j, and with one block
// it is flat.
class LowRankBlocks {
public:
    // Memory of the owner: `columns` of (blocks, capacity, size) numbers, X^T of each block; `gram` of (blocks,
    // capacity, capacity), X^T X; `weights` of (capacity).
    LowRankBlocks(double* columns, double* gram, double* weights, Index blocks, Index size, Index capacity)
        : columns_(columns), gram_(gram), weights_(weights), blocks_(blocks), size_(size), capacity_(capacity) {}

    // C = weight C + (1 - weight) v v^T in each block, where `used` columns stand for C.
    template <class T>
    void push(const T* v, Index used, double weight, int threads) {
        for (Index k = 0; k < used; ++k) weights_[k] *= weight;
        weights_[used] = 1 - weight;
        for_each_run(threads, [&](Index first, Index last) {
            for (Index j = first; j < last; ++j) {
                auto x = columns(j);
                x.col(used) = part(v, j);
                const VectorXd products = transposed_product(x.leftCols(used + 1), x.col(used));
                gram(j).col(used).head(used + 1) = products;
                gram(j).row(used).head(used + 1) = products.transpose();
            }
        });
    }

    // Keeps the `rank` leading eigenvectors of each block, scaled such that their weights are 1.
    void truncate(Index used, Index rank, int threads) {
        for_each_run(threads, [&](Index first, Index last) {
            for (Index j = first; j < last; ++j) {
                const Eigen::SelfAdjointEigenSolver<MatrixXd> solver(scaled_gram(j, used));
                const MatrixXd turn = roots(used).asDiagonal() * solver.eigenvectors().rightCols(rank);
                const MatrixXd kept = product(columns(j).leftCols(used), turn);
                columns(j).leftCols(rank) = kept;
                gram(j).topLeftCorner(rank, rank) = transposed_product(kept, kept);
            }
        });
        std::fill_n(weights_, rank, 1.);
    }

    // out = (C + damping I)^-1 v by Woodbury's identity.
    template <class T>
    void solve(const T* v, T* out, Index used, double damping, int threads) const {
        for_each_run(threads, [&](Index first, Index last) {
            for (Index j = first; j < last; ++j) {
                VectorXd x = part(v, j);
                const auto basis = columns(j).leftCols(used);
                const VectorXd inner = roots(used).asDiagonal() * transposed_product(basis, x);
                const VectorXd outer = roots(used).asDiagonal() * solve_small(scaled_gram(j, used), damping, inner);
                x -= product(basis, outer);
                x /= damping;
                for (Index i = 0; i < size_; ++i) out[i * blocks_ + j] = static_cast<T>(x[i]);
            }
        });
    }

private:
    // Threads take runs of blocks of about so many numbers.
    static constexpr Index numbers_a_run = 4096;

    template <class Body>
    void for_each_run(int threads, const Body& body) const {
        const Index length = std::max<Index>(1, numbers_a_run / size_);
        parallel_tasks(threads, curvature::tiles_in(blocks_, length),
                       [&](Index run) { body(run * length, std::min(blocks_, (run + 1) * length)); });
    }

    template <class T>
    VectorXd part(const T* v, Index block) const {
        const Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, 1>, 0, Eigen::InnerStride<>> strided(
            v + block, size_, Eigen::InnerStride<>(blocks_));
        return strided.template cast<double>();
    }

    Eigen::Map<MatrixXd> columns(Index block) const { return {columns_ + block * capacity_ * size_, size_, capacity_}; }
    Eigen::Map<MatrixXd> gram(Index block) const {
        return {gram_ + block * capacity_ * capacity_, capacity_, capacity_};
    }
    Eigen::ArrayXd::ConstMapType weights(Index used) const { return Eigen::ArrayXd::ConstMapType(weights_, used); }
    VectorXd roots(Index used) const { return weights(used).sqrt(); }

    MatrixXd scaled_gram(Index block, Index used) const {
        const VectorXd root = roots(used);
        return root.asDiagonal() * gram(block).topLeftCorner(used, used) * root.asDiagonal();
    }

    // (gram + damping I)^-1 v, where rounding may have left negative eigenvalues of the Gram matrix.
    static VectorXd solve_small(MatrixXd gram, double damping, const VectorXd& v) {
        MatrixXd damped = gram;
        damped.diagonal().array() += damping;
        const Eigen::LLT<MatrixXd> factor(damped);
        if (factor.info() == Eigen::Success) return factor.solve(v);
        const Eigen::SelfAdjointEigenSolver<MatrixXd> solver(gram);
        const VectorXd damped_values = solver.eigenvalues().cwiseMax(0).array() + damping;
        const VectorXd inner = transposed_product(solver.eigenvectors(), v);
        return product(solver.eigenvectors(), inner.cwiseQuotient(damped_values));
    }

    double *columns_, *gram_, *weights_;
    Index blocks_, size_, capacity_;
};

}  // namespace downslope::preconditioners

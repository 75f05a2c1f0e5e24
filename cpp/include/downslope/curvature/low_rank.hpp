// A diagonal matrix plus one of low rank: diag + U U^T.
#pragma once

#include <utility>

#include "cholesky.hpp"
#include "products.hpp"

namespace downslope::curvature {

// Where the diagonal D2 is positive, with the rows U2, that is Woodbury's identity. Where it is not, D1 with the rows
// U1, the matrix may still be positive definite: if and only if the Schur complement S is.
//
//     K = I + U2^T D2^-1 U2,    S = D1 + U1 K^-1 U1^T
// One step of iterative refinement makes up for the digits that
// Woodbury's identity loses.
class LowRank {
public:
    // U is row-major.
    LowRank(const double* u, const double* diag, Index n, Index rank) : u_(u, rank, n), diag_(diag, n) {}

    Index size() const { return diag_.size(); }

    void multiply(ConstColumns v, Columns out, int) const { out = apply(u_, diag_, v); }

    Outcome check(double, int) const {
        return {u_.allFinite() && diag_.allFinite() ? FactorStatus::success : FactorStatus::not_finite};
    }

    Outcome factorize(const FactorOptions& options, int threads) {
        if (const Outcome outcome = check(options.asymmetry, threads); !outcome.ok()) return outcome;
        factor_ = u_;
        const VectorXd damped = diag_.array() + options.damping;
        const double scale = std::max(diag_.cwiseAbs().maxCoeff(), factor_.colwise().squaredNorm().maxCoeff());
        if (!damped.allFinite() || !std::isfinite(scale)) return {FactorStatus::not_finite};
        shift_ = 0;
        const auto works = [&](double shift) {
            damped_ = damped.array() + shift;
            if (!factor()) return false;
            if (!options.ensure_positive) return true;
            // In the range of U, Woodbury's identity loses most.
            MatrixXd x = random_probes(size()), y = apply(factor_, damped_, x);
            return solve_refined(x, largest_of_probes) && solve_refined(y, largest_of_probes) && x.allFinite();
        };
        if (works(0) || (options.ensure_positive &&
                         find_shift(least_shift(scale), -damped.minCoeff() + least_shift(scale), shift_, works)))
            return {};
        return {FactorStatus::not_positive_definite};
    }

    bool solve(Columns x, int threads) const {
        const Index chunks = tiles_in(x.cols(), chunk_size);
        std::vector<unsigned char> regular(static_cast<std::size_t>(chunks));
        parallel_tasks(threads, chunks, [&](Index chunk) {
            const Index first = chunk * chunk_size;
            regular[static_cast<std::size_t>(chunk)] =
                solve_refined(x.middleCols(first, std::min(chunk_size, x.cols() - first)), largest_correction);
        });
        return std::all_of(regular.begin(), regular.end(), [](bool one) { return one; });
    }

    std::vector<double> shifts() const { return {shift_}; }

private:
    // With U^T.
    template <class Vector>
    static MatrixXd apply(const ConstColumns& u, const Vector& diag, const ConstColumns& v) {
        MatrixXd out = diag.asDiagonal() * v;
        out += transposed_product(u, product(u, v));
        return out;
    }

    bool factor() {
        // Elements of the diagonal that are next to nothing would leave few digits of the others in K.
        set_rest(std::sqrt(epsilon));
        if (rows() > rank()) set_rest(0);
        if (rows() > rank()) return false;  // more directions than U has
        inverse_ = damped_.cwiseInverse();
        for (Index i = 0; i < rows(); ++i) inverse_[rest(i)] = 0;
        capacitance_.compute(MatrixXd::Identity(rank(), rank()) +
                             product_transposed(factor_ * inverse_.asDiagonal(), factor_));
        if (capacitance_.info() != Eigen::Success || !capacitance_.matrixLLT().allFinite()) return false;
        if (rows() == 0) return true;
        rest_u_.resize(rank(), rows());
        for (Index i = 0; i < rows(); ++i) rest_u_.col(i) = factor_.col(rest(i));
        MatrixXd schur = transposed_product(rest_u_, capacitance_.solve(rest_u_));
        for (Index i = 0; i < rows(); ++i) schur(i, i) += damped_[rest(i)];
        schur_.compute(schur);
        return schur_.info() == Eigen::Success;
    }

    // Leaves to the Schur complement the rows whose diagonal is at most so large, relative to that of U U^T.
    void set_rest(double largest) {
        rest_.clear();
        for (Index i = 0; i < size(); ++i)
            if (damped_[i] <= largest * factor_.col(i).squaredNorm()) rest_.push_back(i);
    }

    // Whether no correction is more than this part of its solution.
    bool solve_refined(Columns x, double largest) const {
        const MatrixXd b = x;
        x = solve_once(b);
        return correct(x, solve_once(b - apply(factor_, damped_, x)), largest);
    }

    MatrixXd solve_once(const MatrixXd& b) const {
        MatrixXd x = inverse_.asDiagonal() * b, first(rows(), b.cols());
        MatrixXd inner = capacitance_.solve(product(factor_, x));
        if (rows() > 0) {
            for (Index i = 0; i < rows(); ++i) first.row(i) = b.row(rest(i));
            first = schur_.solve(first - transposed_product(rest_u_, inner));
            inner += capacitance_.solve(product(rest_u_, first));
        }
        x -= inverse_.asDiagonal() * transposed_product(factor_, inner);
        for (Index i = 0; i < rows(); ++i) x.row(rest(i)) = first.row(i);
        return x;
    }

    Index rank() const { return factor_.rows(); }
    Index rows() const { return static_cast<Index>(rest_.size()); }
    Index rest(Index i) const { return rest_[static_cast<std::size_t>(i)]; }

    Eigen::Map<const MatrixXd> u_;  // transposed
    Eigen::Map<const VectorXd> diag_;
    MatrixXd factor_, rest_u_;   // U^T, and its columns that are eliminated
    VectorXd damped_, inverse_;  // inverse of the diagonal, 0 in those rows
    std::vector<Index> rest_;
    Eigen::LLT<MatrixXd> capacitance_, schur_;
    double shift_ = 0;
};

}  // namespace downslope::curvature

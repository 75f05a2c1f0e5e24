// Kronecker products A (x) B: one, or the blocks of a block-diagonal matrix. The product is never formed.
#pragma once

#include <utility>

#include "dense.hpp"

namespace downslope::curvature {

// A vector holds X, row-major, and (A (x) B) vec(X) = vec(A X B^T). So in memory it is Y = X^T, column-major, and the
// product is B Y A.
struct KroneckerFactors {
    Eigen::Map<const MatrixXd> a, b;
};

// How wide the pieces are that a thread works on.
inline constexpr Index piece_size = 64;

template <class Body>
void for_each_piece(int threads, Index count, const Body& body) {
    parallel_tasks(threads, tiles_in(count, piece_size), [&](Index piece) {
        const Index first = piece * piece_size;
        body(first, std::min(piece_size, count - first));
    });
}

// Calls body(i, threads) for each i in [0, count): with all threads for one large i after the other, and then with one
// for each of the others, side by side.
template <class IsLarge, class Body>
void large_then_small(int threads, std::size_t count, const IsLarge& is_large, const Body& body) {
    std::vector<std::size_t> small;
    for (std::size_t i = 0; i < count; ++i)
        if (is_large(i))
            body(i, threads);
        else
            small.push_back(i);
    parallel_tasks(threads, static_cast<Index>(small.size()),
                   [&](Index k) { body(small[static_cast<std::size_t>(k)], 1); });
}

// (A + pi sqrt(damping) I) (x) (B + sqrt(damping)/pi I), by the Cholesky factorizations of both.
class FactoredKronecker {
public:
    explicit FactoredKronecker(const KroneckerFactors& factors)
        : a_(factors.a.data(), factors.a.rows()),
          b_(factors.b.data(), factors.b.rows()),
          trace_a_(factors.a.diagonal().mean()),
          trace_b_(factors.b.diagonal().mean()) {}

    Outcome factorize(FactorOptions options, int threads) {
        const double pi = trace_a_ > 0 && trace_b_ > 0 ? std::sqrt(trace_a_ / trace_b_) : 1;
        const double root = std::sqrt(options.damping);
        options.damping = pi * root;
        if (const Outcome outcome = a_.factorize(options, threads); !outcome.ok()) return {outcome.status, 0};
        options.damping = root / pi;
        return {b_.factorize(options, threads).status, 1};
    }

    // Where many solutions are to come, products with the inverses are faster than substitution.
    void invert() {
        inverse_a_ = inverse(a_);
        inverse_b_ = inverse(b_);
    }

    void solve(Columns y, int threads) const {
        if (inverse_a_.size() > 0) {
            for_each_piece(threads, y.cols(), [&](Index first, Index extent) {
                y.middleCols(first, extent) = product(inverse_b_, y.middleCols(first, extent));
            });
            for_each_piece(threads, y.rows(), [&](Index first, Index extent) {
                y.middleRows(first, extent) = product(y.middleRows(first, extent), inverse_a_);
            });
            return;
        }
        const auto a = a_.lower(), b = b_.lower();
        for_each_piece(threads, y.cols(), [&](Index first, Index extent) {
            auto piece = y.middleCols(first, extent);
            b.solveInPlace(piece);
            b.transpose().solveInPlace(piece);
        });
        for_each_piece(threads, y.rows(), [&](Index first, Index extent) {
            auto piece = y.middleRows(first, extent);
            a.transpose().solveInPlace<Eigen::OnTheRight>(piece);
            a.solveInPlace<Eigen::OnTheRight>(piece);
        });
    }

    std::vector<double> shifts() const { return {a_.shifts()[0], b_.shifts()[0]}; }

private:
    static MatrixXd inverse(const Dense& factor) {
        const MatrixXd root = factor.lower().solve(MatrixXd::Identity(factor.size(), factor.size()));
        MatrixXd lower = MatrixXd::Zero(root.rows(), root.cols());
        lower.selfadjointView<Eigen::Lower>().rankUpdate(root.transpose());
        return lower.selfadjointView<Eigen::Lower>();
    }

    Dense a_, b_;
    double trace_a_, trace_b_;  // divided by the dimensions
    MatrixXd inverse_a_, inverse_b_;
};

// A (x) B + (damping + shift) I. Only the smaller of A and B is diagonalized, to Q diag(mu) Q^T; of the larger one, a
// tridiagonal form P T P^T is enough: then there is a tridiagonal system mu_j T + damping I for each eigenvalue, which
// are solved side by side. All of it is in units of a power of two, in which no square over- or underflows that counts.
class ExactKronecker {
public:
    explicit ExactKronecker(const KroneckerFactors& factors)
        : is_transposed_(factors.a.rows() > factors.b.rows()),
          larger_(is_transposed_ ? factors.a : factors.b),
          smaller_(is_transposed_ ? factors.b : factors.a) {}

    Outcome factorize(const FactorOptions& options, int threads) {
        FactorStatus statuses[2];
        int exponents[2];
        parallel_tasks(threads, 2, [&](Index task) {
            const auto& matrix = task == 0 ? larger_ : smaller_;
            statuses[task] = check_symmetric(matrix, options.asymmetry, 1);
            if (statuses[task] != FactorStatus::success) return;
            MatrixXd symmetric = average_of(matrix, matrix.transpose());
            exponents[task] = exponent_of(symmetric.cwiseAbs().maxCoeff());
            symmetric *= std::ldexp(1, -exponents[task]);
            if (task == 0) {
                tridiagonal_.compute(symmetric);
            } else {
                const Eigen::SelfAdjointEigenSolver<MatrixXd> solver(symmetric);
                mu_ = solver.eigenvalues();
                q_ = solver.eigenvectors();
            }
        });
        for (const Index task : {0, 1})
            if (statuses[task] != FactorStatus::success) return {statuses[task], (task == 0) != is_transposed_};
        diagonal_ = tridiagonal_.diagonal();
        off_diagonal_ = tridiagonal_.subDiagonal();
        const int exponent = exponents[0] + exponents[1];
        exponent_ = options.damping > 0 ? std::max(exponent, exponent_of(options.damping)) : exponent;
        mu_ *= std::ldexp(1, exponent - exponent_);
        const double damping = std::ldexp(options.damping, -exponent_);
        const double off_diagonal = off_diagonal_.size() > 0 ? off_diagonal_.cwiseAbs().maxCoeff() : 0;
        const double scale = mu_.cwiseAbs().maxCoeff() * (diagonal_.cwiseAbs().maxCoeff() + 2 * off_diagonal);
        const auto works = [&](double shift) {
            damping_ = damping + shift;
            return smallest_pivot() > epsilon * scale;
        };
        shift_ = 0;
        const bool found =
            works(0) || (options.ensure_positive && find_shift(least_shift(scale), scale, shift_, works));
        shift_ = std::ldexp(shift_, exponent_);
        return {found ? FactorStatus::success : FactorStatus::not_positive_definite, 2};
    }

    void solve(Columns y, int threads) const {
        MatrixXd inner(larger_.rows(), smaller_.rows());
        const MatrixXd x = is_transposed_ ? MatrixXd(y.transpose()) : MatrixXd(y);
        for_each_piece(threads, inner.cols(), [&](Index first, Index extent) {
            auto piece = inner.middleCols(first, extent);
            piece = product(x, q_.middleCols(first, extent));
            piece.applyOnTheLeft(tridiagonal_.matrixQ().adjoint());
            solve_tridiagonal(piece, mu_.segment(first, extent));
            piece.applyOnTheLeft(tridiagonal_.matrixQ());
        });
        for_each_piece(threads, inner.cols(), [&](Index first, Index extent) {
            const auto q = q_.middleRows(first, extent);
            if (is_transposed_)
                y.middleRows(first, extent) = product_transposed(q, inner);
            else
                y.middleCols(first, extent) = product_transposed(inner, q);
        });
        // Out of the units: by two factors, since one alone may be too large or too small for a number.
        y *= std::ldexp(1, -(exponent_ / 2));
        y *= std::ldexp(1, exponent_ / 2 - exponent_);
    }

    std::vector<double> shifts() const { return {shift_}; }

private:
    // Of the power of two that a number is divided by to be about 1; bounded, so that its inverse is a number, too.
    static int exponent_of(double largest) { return largest > 0 ? std::clamp(std::ilogb(largest), -1000, 1000) : 0; }

    double smallest_pivot() const {
        Eigen::ArrayXXd pivots(mu_.size(), 2);
        double smallest = std::numeric_limits<double>::infinity();
        for (Index i = 0; i < diagonal_.size() && smallest > 0; ++i) {
            set_pivots(i, mu_, pivots.col((i + 1) % 2), pivots.col(i % 2));
            smallest = std::min(smallest, pivots.col(i % 2).minCoeff());
        }
        return smallest;
    }

    // The i-th pivots of mu T + damping I, for all these mu, from those before.
    template <class Before, class Pivots>
    void set_pivots(Index i, const Eigen::ArrayXd& mu, const Before& before, Pivots&& pivots) const {
        pivots = mu * diagonal_[i] + damping_;
        if (i > 0) pivots -= (mu * off_diagonal_[i - 1]).square() / before;
    }

    // Column j by (mu_j T + damping I)^-1.
    template <class Piece>
    void solve_tridiagonal(Piece& piece, const Eigen::ArrayXd& mu) const {
        Eigen::ArrayXXd x = piece.transpose(), pivots(x.rows(), x.cols());
        set_pivots(0, mu, mu, pivots.col(0));
        for (Index i = 1; i < x.cols(); ++i) {
            set_pivots(i, mu, pivots.col(i - 1), pivots.col(i));
            x.col(i) -= mu * off_diagonal_[i - 1] / pivots.col(i - 1) * x.col(i - 1);
        }
        x.col(x.cols() - 1) /= pivots.col(x.cols() - 1);
        for (Index i = x.cols() - 2; i >= 0; --i)
            x.col(i) = (x.col(i) - mu * off_diagonal_[i] * x.col(i + 1)) / pivots.col(i);
        piece = x.matrix().transpose();
    }

    bool is_transposed_;
    Eigen::Map<const MatrixXd> larger_, smaller_;
    Eigen::Tridiagonalization<MatrixXd> tridiagonal_{1};
    VectorXd diagonal_, off_diagonal_, mu_;
    MatrixXd q_;
    int exponent_ = 0;  // of the unit of mu T and of the damping
    double damping_ = 0, shift_ = 0;
};

// Of blocks of one of the two kinds.
template <class Block>
class Kronecker {
public:
    explicit Kronecker(std::vector<KroneckerFactors> factors) : factors_(std::move(factors)) {
        for (const KroneckerFactors& block : factors_) {
            rows_.push_back(size_);
            size_ += block.a.rows() * block.b.rows();
            blocks_.emplace_back(block);
        }
    }

    Index size() const { return size_; }

    void multiply(ConstColumns v, Columns out, int threads) const {
        for_each_block(threads, [&](std::size_t i, int block_threads) {
            const auto& a = factors_[i].a;
            const auto& b = factors_[i].b;
            for (Index j = 0; j < v.cols(); ++j) {
                const Eigen::Map<const MatrixXd> y(v.col(j).data() + rows_[i], b.rows(), a.rows());
                Eigen::Map<MatrixXd> by_b(out.col(j).data() + rows_[i], b.rows(), a.rows());
                for_each_piece(block_threads, a.rows(), [&](Index first, Index extent) {
                    const MatrixXd inner = product_transposed(y, a.middleRows(first, extent));
                    by_b.middleCols(first, extent) = transposed_product(b, inner);
                });
            }
        });
    }

    // The number of the block in an outcome is 3 i for A of the i-th one, 3 i + 1 for B and 3 i + 2 for the product.
    Outcome check(double asymmetry, int threads) const {
        return first_failure(threads, [&](std::size_t i, int block_threads) -> Outcome {
            const FactorStatus a = check_symmetric(factors_[i].a, asymmetry, block_threads);
            if (a != FactorStatus::success) return {a, 0};
            return {check_symmetric(factors_[i].b, asymmetry, block_threads), 1};
        });
    }

    Outcome factorize(const FactorOptions& options, int threads) {
        return first_failure(
            threads, [&](std::size_t i, int block_threads) { return blocks_[i].factorize(options, block_threads); });
    }

    bool solve(Columns x, int threads) const {
        for_each_block(threads, [&](std::size_t i, int block_threads) {
            const Index a = factors_[i].a.rows(), b = factors_[i].b.rows();
            for (Index j = 0; j < x.cols(); ++j)
                blocks_[i].solve(Eigen::Map<MatrixXd>(x.col(j).data() + rows_[i], b, a), block_threads);
        });
        return true;
    }

    std::vector<double> shifts() const {
        std::vector<double> all;
        for (const Block& block : blocks_)
            for (const double shift : block.shifts()) all.push_back(shift);
        return all;
    }

private:
    // Calls body(block, threads).
    template <class Body>
    void for_each_block(int threads, const Body& body) const {
        const auto is_large = [&](std::size_t i) {
            return blocks_.size() == 1 || std::max(factors_[i].a.rows(), factors_[i].b.rows()) >= large_size;
        };
        large_then_small(threads, blocks_.size(), is_large, body);
    }

    template <class Body>
    Outcome first_failure(int threads, const Body& body) const {
        std::vector<Outcome> outcomes(blocks_.size());
        for_each_block(threads, [&](std::size_t i, int block_threads) { outcomes[i] = body(i, block_threads); });
        for (std::size_t i = 0; i < outcomes.size(); ++i)
            if (!outcomes[i].ok()) return {outcomes[i].status, static_cast<Index>(3 * i) + outcomes[i].block};
        return {};
    }

    std::vector<KroneckerFactors> factors_;
    std::vector<Block> blocks_;
    std::vector<Index> rows_;  // where each block begins
    Index size_ = 0;
};

}  // namespace downslope::curvature

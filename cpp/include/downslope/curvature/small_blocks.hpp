// Small symmetric blocks of equal size, several side by side: each is one lane of a vector, so that all arithmetic is
// vectorized, whatever the size.
#pragma once

#include <algorithm>
#include <array>

#include "average.hpp"
#include "residual.hpp"
#include "shift.hpp"

namespace downslope::curvature {

// Larger blocks are no slower one by one.
inline constexpr Index largest_small_block = 32;

// As Cholesky, with lanes in place of numbers: element (i, j) of block l is lane l of packed[j n + i]. The memory is
// its owner's. The factors are L D L^T, which takes no square roots: the lower triangle holds L and the diagonal D^-1.
// Lanes beyond the last block repeat the first.
class SmallBlocks {
public:
    struct Block {
        const double* matrix;
        FactorStatus* status;
        double* shift;
    };

    SmallBlocks(Lanes* packed, Lanes* diagonal, Index n) : packed_(packed), diagonal_(diagonal), n_(n) {}

    // Loads the symmetric parts of the blocks and sets the statuses of blocks that are not finite or not symmetric.
    // Returns their largest elements.
    Lanes load(const Block* blocks, int count, double asymmetry) {
        std::array<const double*, lanes> matrices;
        for (int lane = 0; lane < lanes; ++lane)
            matrices[static_cast<std::size_t>(lane)] = blocks[lane < count ? lane : 0].matrix;
        interleave(matrices, n_ * n_, packed_);
        return make_symmetric(blocks, count, asymmetry);
    }

    void factorize(const Block* blocks, int count, const FactorOptions& options) {
        const Lanes scale = load(blocks, count, options.asymmetry);
        for (Index j = 0; j < n_; ++j) diagonal_[j] = at(j, j) + options.damping;
        factor();
        const Each positive = options.ensure_positive ? can_solve() : is_factored(epsilon);
        for (int lane = 0; lane < count; ++lane) {
            const Block& block = blocks[lane];
            if (*block.status != FactorStatus::success) continue;
            *block.shift = 0;
            if (!(positive[lane] || (options.ensure_positive && add_shift(lane, scale[lane], *block.shift))))
                *block.status = FactorStatus::not_positive_definite;
        }
    }

    // One vector: x[l] is where block l has its part.
    bool solve(std::array<double*, lanes> x, int count) const {
        std::fill(x.begin() + count, x.end(), x[0]);
        Vector solution;
        interleave(x, n_, solution);
        const auto regular = solve_refined(solution, largest_correction);
        deinterleave(solution, n_, x, count);
        return regular.head(count).all();
    }

private:
    using Vector = Lanes[largest_small_block];
    using Each = Eigen::Array<bool, lanes, 1>;

    // Whether no correction is more than this part of its solution.
    Each solve_refined(Vector& solution, double largest_part) const {
        Vector correction, error;
        for (Index i = 0; i < n_; ++i) {
            correction[i] = solution[i];
            error[i].setZero();
        }
        substitute(solution);
        for (Index j = 0; j < n_; ++j) {
            for (Index i = 0; i < j; ++i) {
                subtract_product(correction[i], error[i], at(i, j), solution[j]);
                subtract_product(correction[j], error[j], at(i, j), solution[i]);
            }
            subtract_product(correction[j], error[j], diagonal_[j], solution[j]);
        }
        for (Index i = 0; i < n_; ++i) correction[i] += error[i];
        substitute(correction);
        Lanes largest = Lanes::Zero(), change = Lanes::Zero();
        for (Index i = 0; i < n_; ++i) {
            // A right-hand side that is not finite has no correction.
            correction[i] = correction[i].isFinite().select(correction[i], 0);
            solution[i] += correction[i];
            largest = largest.max(solution[i].abs());
            change = change.max(correction[i].abs());
        }
        return !(change > largest_part * largest);
    }

    Each can_solve() const {
        const Each sure = is_factored(sure_pivot);
        Each regular = is_factored(epsilon);
        if ((sure || !regular).all()) return regular;
        const MatrixXd x = random_probes(n_);
        Vector solution;
        for (Index k = 0; k < probes; ++k) {
            for (Index i = 0; i < n_; ++i) solution[i].setConstant(x(i, k));
            regular = regular && solve_refined(solution, largest_of_probes);
            for (Index i = 0; i < n_; ++i) regular = regular && solution[i].isFinite();
        }
        return sure || regular;
    }

    Lanes& at(Index i, Index j) { return packed_[j * n_ + i]; }
    const Lanes& at(Index i, Index j) const { return packed_[j * n_ + i]; }

    Lanes make_symmetric(const Block* blocks, int count, double asymmetry) {
        Lanes largest = Lanes::Zero(), difference = Lanes::Zero(), not_finite = Lanes::Zero();
        for (Index j = 0; j < n_; ++j)
            for (Index i = 0; i <= j; ++i) {
                const Lanes above = at(i, j), below = at(j, i), average = average_of(above, below);
                at(i, j) = at(j, i) = average;
                largest = largest.max(average.abs());
                difference = difference.max((above - below).abs());
                not_finite += 0 * average;  // NaN, if one of the two is not finite
            }
        for (int lane = 0; lane < count; ++lane)
            *blocks[lane].status = not_finite[lane] != 0 || !std::isfinite(largest[lane]) ? FactorStatus::not_finite
                                   : difference[lane] > asymmetry * largest[lane]         ? FactorStatus::not_symmetric
                                                                                          : FactorStatus::success;
        return largest;
    }

    // Of what is in the strict lower triangles and on the diagonals; where that fails, a pivot is not positive.
    void factor() {
        for (Index j = 0; j < n_; ++j) at(j, j) = diagonal_[j];
        for (Index k = 0; k < n_; ++k) {
            const Lanes inverse = at(k, k).inverse();
            at(k, k) = inverse;
            for (Index j = k + 1; j < n_; ++j) {
                const Lanes factor = -inverse * at(j, k);
                for (Index i = j; i < n_; ++i) at(i, j) = multiply_add(factor, at(i, k), at(i, j));
            }
            for (Index i = k + 1; i < n_; ++i) at(i, k) *= inverse;
        }
    }

    // As is_pivot, of 1/root^2.
    Each is_factored(double part) const {
        Each positive = Each::Constant(true);
        for (Index j = 0; j < n_; ++j) {
            const Lanes& inverse = at(j, j);
            positive = positive && part * diagonal_[j] * inverse < 1 && inverse > 0 && inverse.isFinite();
        }
        return positive;
    }

    bool add_shift(int lane, double scale, double& shift) {
        VectorXd damped(n_);
        for (Index j = 0; j < n_; ++j) damped[j] = diagonal_[j][lane];
        const double lower = std::max(least_shift(scale), -damped.minCoeff());
        return find_shift(lower, static_cast<double>(n_) * scale, shift, [&](double trial) {
            for (Index j = 0; j < n_; ++j) {
                diagonal_[j][lane] = damped[j] + trial;
                for (Index i = j + 1; i < n_; ++i) at(i, j) = at(j, i);
            }
            factor();
            return can_solve()[lane];
        });
    }

    // x = (L D L^T)^-1 x
    void substitute(Vector& x) const {
        for (Index j = 0; j < n_; ++j)
            for (Index i = j + 1; i < n_; ++i) x[i] = multiply_add(-at(i, j), x[j], x[i]);
        for (Index i = 0; i < n_; ++i) x[i] *= at(i, i);
        for (Index i = n_ - 1; i > 0; --i)
            for (Index j = 0; j < i; ++j) x[j] = multiply_add(-at(i, j), x[i], x[j]);
    }

    Lanes *packed_, *diagonal_;
    Index n_;
};

}  // namespace downslope::curvature

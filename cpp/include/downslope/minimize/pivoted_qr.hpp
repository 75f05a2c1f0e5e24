// QR by Householder reflections with column pivoting, for tall matrices of few columns: J P = Q R, |R_11| >= |R_22| ...
// Businger & Golub, "Linear least squares solutions by Householder transformations", Numerische Mathematik 7, 1965.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "vectors.hpp"

namespace downslope {

// All storage is allocated once. Fewer rows than columns are filled up with zeros, so that R is always square.
class PivotedQR {
public:
    PivotedQR(std::int64_t m, std::int64_t n)
        : m_(m),
          n_(n),
          rows_(std::max(m, n)),
          a_(size(rows_ * n)),
          b_(size(rows_)),
          diagonal_(size(n)),
          norms_(size(n)),
          reference_(size(n)),
          permutation_(size(n)) {}

    std::int64_t n() const { return n_; }

    // Of the columns of `jacobian` (m a column), each over its element of `scale`, and Q^T b beside. `norms` are those
    // of the columns before they are scaled.
    void factorize(const double* jacobian, const double* norms, const double* scale, const double* b) {
        for (std::int64_t j = 0; j < n_; ++j) {
            double* const to = column(j);
            const double* const from = jacobian + j * m_;
            const double factor = 1 / scale[j];
            DOWNSLOPE_SIMD
            for (std::int64_t i = 0; i < m_; ++i) to[i] = from[i] * factor;
            std::fill(to + m_, to + rows_, 0.0);
            norms_[at(j)] = reference_[at(j)] = norms[j] * factor;
            permutation_[at(j)] = j;
        }
        std::copy_n(b, m_, b_.data());
        std::fill(b_.begin() + m_, b_.end(), 0.0);
        for (std::int64_t j = 0; j < n_; ++j) eliminate(j);
        rank_ = 0;
        const double tolerance =
            std::numeric_limits<double>::epsilon() * static_cast<double>(rows_) * std::abs(diagonal_[0]);
        while (rank_ < n_ && std::abs(diagonal_[at(rank_)]) > tolerance) ++rank_;
    }

    // How many columns are independent to working precision.
    std::int64_t rank() const { return rank_; }
    // Column j of J P is column permutation(j) of J.
    std::int64_t permutation(std::int64_t j) const { return permutation_[at(j)]; }
    // Q^T b; the first n elements matter.
    const double* rotated() const { return b_.data(); }
    double r(std::int64_t i, std::int64_t j) const { return i == j ? diagonal_[at(j)] : a_[at(j * rows_ + i)]; }

    // R z = y by the first rank columns, the other elements 0: a least-squares solution with as many zeros as it can
    // have.
    void solve(const double* y, double* z) const {
        std::copy_n(y, rank_, z);
        std::fill(z + rank_, z + n_, 0.0);
        for (std::int64_t j = rank_; j-- > 0;) {
            z[j] /= diagonal_[at(j)];
            add_scaled(-z[j], a_.data() + j * rows_, z, j);
        }
    }

    // R^T z = y, which needs full rank.
    void solve_transposed(const double* y, double* z) const {
        for (std::int64_t j = 0; j < n_; ++j) z[j] = (y[j] - dot(a_.data() + j * rows_, z, j)) / diagonal_[at(j)];
    }

    // R z and R^T z
    void multiply(const double* z, double* out) const {
        std::fill_n(out, n_, 0.0);
        for (std::int64_t j = 0; j < n_; ++j) {
            add_scaled(z[j], a_.data() + j * rows_, out, j);
            out[j] += diagonal_[at(j)] * z[j];
        }
    }
    void multiply_transposed(const double* z, double* out) const {
        for (std::int64_t j = 0; j < n_; ++j) out[j] = dot(a_.data() + j * rows_, z, j) + diagonal_[at(j)] * z[j];
    }

private:
    static std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }
    static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }
    double* column(std::int64_t j) { return a_.data() + j * rows_; }

    // Brings the longest remaining column to place j and reflects what is below the diagonal away.
    void eliminate(std::int64_t j) {
        const auto longest = std::max_element(norms_.begin() + j, norms_.end()) - norms_.begin();
        if (longest != j) {
            std::swap_ranges(column(j), column(j) + rows_, column(longest));
            norms_[at(longest)] = norms_[at(j)];
            reference_[at(longest)] = reference_[at(j)];
            std::swap(permutation_[at(j)], permutation_[at(longest)]);
        }
        const std::int64_t below = rows_ - j;
        double* const v = column(j) + j;
        const double length = norm(v, below);
        diagonal_[at(j)] = v[0] < 0 ? length : -length;
        if (length == 0) return;
        v[0] -= diagonal_[at(j)];
        // H = I - v v^T / (length |v_0|)
        const auto reflect = [&](double* c) { add_scaled(-(dot(v, c, below) / std::abs(v[0]) / length), v, c, below); };
        for (std::int64_t k = j + 1; k < n_; ++k) {
            reflect(column(k) + j);
            shorten(k, j);
        }
        reflect(b_.data() + j);
    }

    // What is left of the norm of column k below row j; computed anew where subtracting has lost too many digits.
    void shorten(std::int64_t k, std::int64_t j) {
        double& left = norms_[at(k)];
        if (left == 0) return;
        const double gone = column(k)[j] / left;
        left *= std::sqrt(std::max(0.0, 1 - gone * gone));
        const double share = left / reference_[at(k)];
        if (0.05 * share * share > std::numeric_limits<double>::epsilon()) return;
        left = reference_[at(k)] = norm(column(k) + j + 1, rows_ - j - 1);
    }

    std::int64_t m_, n_, rows_, rank_ = 0;
    std::vector<double> a_, b_, diagonal_, norms_, reference_;
    std::vector<std::int64_t> permutation_;
};

}  // namespace downslope

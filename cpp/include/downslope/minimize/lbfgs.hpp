// L-BFGS: Nocedal & Wright 2006, algorithms 7.4 (two-loop recursion) and 7.5, with a strong-Wolfe line search.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <type_traits>
#include <vector>

#include "line_search.hpp"
#include "method.hpp"
#include "vectors.hpp"

namespace downslope {

// Size: std::int64_t, or an integral constant where the compiler knows how many variables there are.
template <class Size>
class LBFGS final : public Method {
public:
    LBFGS(Size n, std::int64_t memory)
        : n_(n), memory_(memory), x_(size()), trial_(size()), g_(size()), d_(size()) {}

    void start(const double* x0) override {
        std::copy_n(x0, n_, x_.data());
        trial_ = x_;
        pairs_ = next_ = 0;
        searching_ = false;
    }

    const double* point() const override { return trial_.data(); }
    const double* x() const override { return x_.data(); }

    Outcome tell(double f, const double* gradient, bool finite) override {
        if (!searching_) {
            if (!finite) return Outcome::not_finite;
            f_ = f;
            std::copy_n(gradient, n_, g_.data());
            return Outcome::iterate;
        }
        const double slope = finite ? dot(gradient, d_.data(), n_) : std::numeric_limits<double>::quiet_NaN();
        switch (search_.tell(f, slope)) {
            case LineSearch::Outcome::wants_more:
                return go_to_trial();
            case LineSearch::Outcome::found:
                break;
            case LineSearch::Outcome::no_progress:
                if (f < f_) break;  // less than was asked for, but rounding may allow no more
                return restart(Outcome::no_progress);
            case LineSearch::Outcome::not_finite:
                if (finite && f < f_) break;
                return restart(Outcome::not_finite);
        }
        remember(gradient);
        f_ = f;
        x_.swap(trial_);
        std::copy_n(gradient, n_, g_.data());
        searching_ = false;
        return Outcome::iterate;
    }

    void advance(const double*) override {
        set_direction();
        search();
    }

private:
    static constexpr bool is_fixed = !std::is_same_v<Size, std::int64_t>;

    std::size_t size() const { return static_cast<std::size_t>(n_); }

    // The step from x to the trial point has changed the gradient from g to this. Pairs are kept scaled to s.y = 1,
    // which leaves H as it is and saves the rho of the book.
    void remember(const double* gradient) {
        if (s_.empty()) {
            s_.resize(size() * at(memory_)), y_.resize(s_.size());
            cross_.resize(at(memory_)), alpha_.resize(at(memory_));
        }
        double *s = pair(s_, next_), *y = pair(y_, next_);
        for (std::int64_t i = 0; i < n_; ++i) s[i] = trial_[at(i)] - x_[at(i)], y[i] = gradient[i] - g_[at(i)];
        const double sy = dot(s, y, n_), yy = dot(y, y, n_), scale = 1 / std::sqrt(sy);
        // Without positive curvature along s the approximation would not stay positive definite.
        if (!(sy > std::numeric_limits<double>::epsilon() * -search_slope_ * search_.step()) || !std::isfinite(yy) ||
            !std::isfinite(scale))
            return;
        for (std::int64_t i = 0; i < n_; ++i) s[i] *= scale, y[i] *= scale;
        cross_[at(next_)] = dot(pair(s_, older(next_)), y, n_);
        gamma_ = sy / yy;
        next_ = newer(next_);
        pairs_ = std::min(pairs_ + 1, memory_);
    }

    // d = -H g. The two loops of the book, but a pair's product with d is taken before the last pair has changed d, and
    // set right by a product that is known: so only numbers wait for one another, not vectors.
    void set_direction() {
        double registers[4];
        double* const d = is_fixed ? registers : d_.data();
        for (std::int64_t i = 0; i < n_; ++i) d[i] = -g_[at(i)];
        if (pairs_ > 0) {
            std::int64_t slot = older(next_);
            double alpha = alpha_[at(slot)] = dot(pair(s_, slot), d, n_);
            for (std::int64_t k = 1; k < pairs_; ++k) {
                const std::int64_t next = older(slot);
                const double product = dot(pair(s_, next), d, n_);
                add(-alpha, pair(y_, slot), d);
                alpha = alpha_[at(next)] = product - alpha * cross_[at(slot)];
                slot = next;
            }
            add(-alpha, pair(y_, slot), d);
            for (std::int64_t i = 0; i < n_; ++i) d[i] *= gamma_;
            double rest = alpha - dot(pair(y_, slot), d, n_);  // alpha - beta
            for (std::int64_t k = 1; k < pairs_; ++k) {
                const std::int64_t next = newer(slot);
                const double product = dot(pair(y_, next), d, n_);
                add(rest, pair(s_, slot), d);
                rest = (alpha_[at(next)] - product) - rest * cross_[at(next)];
                slot = next;
            }
            add(rest, pair(s_, slot), d);
        }
        if (is_fixed) std::copy_n(d, n_, d_.data());
    }

    void add(double a, const double* x, double* d) const {
        for (std::int64_t i = 0; i < n_; ++i) d[i] += a * x[i];
    }

    // Along d from the iterate; if that does not descend, rounding has spoilt the pairs.
    void search() {
        search_slope_ = dot(g_.data(), d_.data(), n_);
        if (!(search_slope_ < 0) && pairs_ > 0) {
            pairs_ = 0;
            return advance(nullptr);
        }
        // The first direction says nothing of how far to go.
        const double first = pairs_ == 0 ? std::min(1.0, 1 / std::sqrt(dot(d_.data(), d_.data(), n_))) : 1.0;
        search_.start(f_, search_slope_, first);
        searching_ = true;
        go_to_trial();
    }

    Outcome go_to_trial() {
        const double step = search_.step();
        for (std::int64_t i = 0; i < n_; ++i) trial_[at(i)] = x_[at(i)] + step * d_[at(i)];
        return Outcome::wants_more;
    }

    // The search has failed: from the iterate along the gradient, unless that was what has failed.
    Outcome restart(Outcome failure) {
        if (pairs_ == 0) return failure;
        pairs_ = 0;
        advance(nullptr);
        return Outcome::wants_more;
    }

    static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }
    double* pair(Doubles& pairs, std::int64_t slot) const { return pairs.data() + slot * n_; }
    std::int64_t older(std::int64_t slot) const { return slot == 0 ? memory_ - 1 : slot - 1; }
    std::int64_t newer(std::int64_t slot) const { return slot + 1 == memory_ ? 0 : slot + 1; }

    Size n_;
    std::int64_t memory_, pairs_ = 0, next_ = 0;  // the newest pair is the one before next_
    Doubles x_, trial_, g_, d_, s_, y_, cross_, alpha_;  // cross: y and the s before it
    double f_ = 0, gamma_ = 1, search_slope_ = 0;
    bool searching_ = false;
    LineSearch search_;
};

// `memory`: how many pairs of differences approximate the inverse Hessian, at least 1. Most problems by number are
// tiny, and cost least where the compiler knows their size.
inline std::unique_ptr<Method> make_lbfgs(std::int64_t n, std::int64_t memory) {
    const auto fixed = [&](auto size) -> std::unique_ptr<Method> {
        return std::make_unique<LBFGS<decltype(size)>>(size, memory);
    };
    switch (n) {
        case 1:
            return fixed(std::integral_constant<std::int64_t, 1>());
        case 2:
            return fixed(std::integral_constant<std::int64_t, 2>());
        case 3:
            return fixed(std::integral_constant<std::int64_t, 3>());
        case 4:
            return fixed(std::integral_constant<std::int64_t, 4>());
        default:
            return std::make_unique<LBFGS<std::int64_t>>(n, memory);
    }
}

}  // namespace downslope

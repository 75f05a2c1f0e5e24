// Every first-order rule as a method, by the element loop of the fused step.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "../step/compiled_rule.hpp"
#include "method.hpp"
#include "vectors.hpp"

namespace downslope {

struct FirstOrderOptions {
    const CompiledRule* rule;
    std::vector<double> hyper;  // in the order of the rule's table; the first one is lr
    double weight_decay = 0;
    bool decoupled_weight_decay = false;
    std::vector<double> rates = {};  // lr of each step, where it follows a schedule; the last one stays
};

class FirstOrder final : public Method {
public:
    FirstOrder(std::int64_t n, FirstOrderOptions options)
        : options_(std::move(options)),
          x_(static_cast<std::size_t>(n)),
          ahead_(options_.rule->look_ahead == nullptr ? 0 : x_.size()),
          state_(x_.size() * options_.rule->slots.size()),
          step_{x_.data(), state_.data(), n, {}, options_.decoupled_weight_decay ? 0 : options_.weight_decay, 1} {}
    FirstOrder(const FirstOrder&) = delete;
    FirstOrder& operator=(const FirstOrder&) = delete;

    void start(const double* x0) override {
        std::copy_n(x0, x_.size(), x_.data());
        std::copy_n(x0, ahead_.size(), ahead_.data());
        std::fill(state_.begin(), state_.end(), options_.rule->initial_state(options_.hyper));
        t_ = 0;
        product_ = 1;
        prepare_next();
    }

    const double* point() const override { return ahead_.empty() ? x_.data() : ahead_.data(); }
    const double* x() const override { return point(); }

    Outcome tell(double, const double*, bool finite) override {
        return finite ? Outcome::iterate : Outcome::not_finite;
    }

    void advance(const double* gradient) override {
        options_.rule->step(step_, gradient);
        if (!ahead_.empty()) options_.rule->look_ahead(options_.hyper, step_, ahead_.data());
        prepare_next();
    }

private:
    // Ahead of the evaluation that the next step waits for, so that the processor does both at once.
    void prepare_next() {
        const std::vector<double>& rates = options_.rates;
        if (!rates.empty()) options_.hyper[0] = rates[std::min(static_cast<std::size_t>(t_), rates.size() - 1)];
        options_.rule->prepare[static_cast<std::size_t>(Compute::float64)](options_.hyper, ++t_, product_,
                                                                           step_.coefficients);
        if (options_.decoupled_weight_decay) step_.shrink = 1 - options_.hyper[0] * options_.weight_decay;
    }

    FirstOrderOptions options_;
    std::int64_t t_ = 0;  // of the step that is prepared
    double product_ = 1;
    Doubles x_, ahead_, state_;
    SerialStep step_;
};

}  // namespace downslope

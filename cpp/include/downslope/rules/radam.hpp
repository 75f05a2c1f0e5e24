// RAdam (Liu et al. 2020, algorithm 2), with eps where PyTorch has it.
#pragma once

#include "../rule.hpp"
#include "rectification.hpp"

namespace downslope {

struct RAdam : Rule {
    static constexpr const char* name = "radam";
    struct Hyper {
        double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
    };
    static constexpr HyperParameter<Hyper> hyper_parameters[] = {{"lr", &Hyper::lr, non_negative},
                                                                 {"betas[0]", &Hyper::beta1, below_one},
                                                                 {"betas[1]", &Hyper::beta2, below_one},
                                                                 {"eps", &Hyper::eps, non_negative}};
    static constexpr std::array slots{Slot{"exp_avg"}, Slot{"exp_avg_sq", never_negative}};

    template <class T>
    struct Coefficients {
        T beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, eps;
        T adaptive;  // 1 or 0: a condition on it becomes a vector operation, one on a bool a branch in the loop
    };

    template <class T>
    static Coefficients<T> prepare(const Hyper& h, std::int64_t t) {
        const auto [beta1_t, beta2_t] = powers(h.beta1, h.beta2, t);
        const double c1 = 1 - beta1_t, c2 = 1 - beta2_t;
        const auto [adaptive, r] = rectification(h.beta2, t);
        const double step_size = adaptive ? h.lr / c1 * r * std::sqrt(c2) : h.lr / c1;
        return {T(h.beta1), T(1 - h.beta1), T(h.beta2), T(1 - h.beta2), T(step_size), T(h.eps), T(adaptive)};
    }

    template <class T>
    static void update(const Coefficients<T>& c, T& p, T g, T* s) {
        T &m = s[0], &v = s[1];
        m = c.beta1 * m + c.one_minus_beta1 * g;
        v = c.beta2 * v + c.one_minus_beta2 * (g * g);
        // Divided by 1 where it is not adaptive: a loop with a branch would not be vectorized.
        p -= c.step_size * (m / (c.adaptive != 0 ? std::sqrt(v) + c.eps : T(1)));
    }
};

}  // namespace downslope

// AdaBelief (Zhuang et al. 2020), with the options of the authors' package: amsgrad and rectify.
#pragma once

#include "../rule.hpp"
#include "rectification.hpp"

namespace downslope {

struct AdaBeliefHyper {
    double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-16, eps_root = 1e-16, amsgrad = 0, rectify = 0;
};

template <bool amsgrad>
struct AdaBelief : Rule {
    static constexpr const char* name = "adabelief";
    using Hyper = AdaBeliefHyper;
    static constexpr HyperParameter<Hyper> hyper_parameters[] = {{"lr", &Hyper::lr, non_negative},
                                                                 {"betas[0]", &Hyper::beta1, below_one},
                                                                 {"betas[1]", &Hyper::beta2, below_one},
                                                                 {"eps", &Hyper::eps, non_negative},
                                                                 {"eps_root", &Hyper::eps_root, non_negative},
                                                                 {"amsgrad", &Hyper::amsgrad, flag},
                                                                 {"rectify", &Hyper::rectify, flag}};
    static constexpr auto slots = [] {
        if constexpr (amsgrad)
            return std::array{Slot{"exp_avg"}, Slot{"exp_avg_var", never_negative},
                              Slot{"max_exp_avg_var", never_negative}};
        else
            return std::array{Slot{"exp_avg"}, Slot{"exp_avg_var", never_negative}};
    }();
    static bool applies(const Hyper& h) { return (h.amsgrad != 0) == amsgrad; }

    template <class T>
    struct Coefficients {
        T beta1, one_minus_beta1, beta2, one_minus_beta2, eps_root, step_size, inverse_c2, eps;
        T adaptive;  // 1 or 0: a condition on it becomes a vector operation, one on a bool a branch in the loop
    };

    template <class T>
    static Coefficients<T> prepare(const Hyper& h, std::int64_t t) {
        const auto [beta1_t, beta2_t] = powers(h.beta1, h.beta2, t);
        const double c1 = 1 - beta1_t, c2 = 1 - beta2_t;
        const auto [adaptive, r] = h.rectify != 0 ? rectification(h.beta2, t) : Rectification{true, 1};
        return {T(h.beta1),       T(1 - h.beta1), T(h.beta2), T(1 - h.beta2), T(h.eps_root),
                T(h.lr / c1 * r), T(1 / c2),      T(h.eps),   T(adaptive)};
    }

    template <class T>
    static void update(const Coefficients<T>& c, T& p, T g, T* s) {
        T &m = s[0], &v = s[1];
        m = c.beta1 * m + c.one_minus_beta1 * g;
        v = c.beta2 * v + c.one_minus_beta2 * ((g - m) * (g - m)) + c.eps_root;
        T top = v;
        if constexpr (amsgrad) top = s[2] = maximum(s[2], v);
        // Divided by 1 where it is not adaptive: a loop with a branch would not be vectorized.
        p -= c.step_size * (m / (c.adaptive != 0 ? std::sqrt(top * c.inverse_c2) + c.eps : T(1)));
    }
};

}  // namespace downslope

// Adamax (Kingma & Ba 2015, algorithm 2), with eps where PyTorch has it.
#pragma once

#include "../rule.hpp"

namespace downslope {

struct Adamax : Rule {
    static constexpr const char* name = "adamax";
    struct Hyper {
        double lr = 2e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
    };
    static constexpr HyperParameter<Hyper> hyper_parameters[] = {{"lr", &Hyper::lr, non_negative},
                                                                 {"betas[0]", &Hyper::beta1, below_one},
                                                                 {"betas[1]", &Hyper::beta2, below_one},
                                                                 {"eps", &Hyper::eps, non_negative}};
    static constexpr std::array slots{Slot{"exp_avg"}, Slot{"exp_inf", never_negative}};

    template <class T>
    struct Coefficients {
        T beta1, one_minus_beta1, beta2, step_size, eps;
    };

    template <class T>
    static Coefficients<T> prepare(const Hyper& h, std::int64_t t) {
        return {T(h.beta1), T(1 - h.beta1), T(h.beta2), T(h.lr / (1 - power(h.beta1, t))), T(h.eps)};
    }

    template <class T>
    static void update(const Coefficients<T>& c, T& p, T g, T* s) {
        T &m = s[0], &u = s[1];
        m = c.beta1 * m + c.one_minus_beta1 * g;
        u = maximum(c.beta2 * u, std::abs(g) + c.eps);
        p -= c.step_size * (m / u);
    }
};

}  // namespace downslope

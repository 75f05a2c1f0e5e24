// NAdam (Dozat 2016), with PyTorch's momentum schedule or, without momentum decay, with constant momentum.
#pragma once

#include "../rule.hpp"

namespace downslope {

struct NAdam : Rule {
    static constexpr const char* name = "nadam";
    struct Hyper {
        double lr = 2e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, momentum_decay = 4e-3;
    };
    static constexpr HyperParameter<Hyper> hyper_parameters[] = {
        {"lr", &Hyper::lr, non_negative},
        {"betas[0]", &Hyper::beta1, below_one},
        {"betas[1]", &Hyper::beta2, below_one},
        {"eps", &Hyper::eps, non_negative},
        {"momentum_decay", &Hyper::momentum_decay, optional_non_negative}};
    static constexpr std::array slots{Slot{"exp_avg"}, Slot{"exp_avg_sq", never_negative}};
    static constexpr bool carries_product = true;

    template <class T>
    struct Coefficients {
        T lr, beta1, one_minus_beta1, beta2, one_minus_beta2, on_m, on_g, inverse_c2, eps;
    };

    // `mu_product` is the product of mu_1 ... mu_(t-1), and of mu_t afterwards.
    template <class T>
    static Coefficients<T> prepare(const Hyper& h, std::int64_t t, double& mu_product) {
        double on_m, on_g;
        if (std::isnan(h.momentum_decay)) {
            on_m = h.beta1 / (1 - power(h.beta1, t + 1));
            on_g = (1 - h.beta1) / (1 - power(h.beta1, t));
        } else {
            const double decay = std::pow(0.96, h.momentum_decay);
            const double mu = h.beta1 * (1 - 0.5 * power(decay, t));
            const double mu_next = h.beta1 * (1 - 0.5 * power(decay, t + 1));
            mu_product *= mu;
            on_m = mu_next / (1 - mu_product * mu_next);
            on_g = (1 - mu) / (1 - mu_product);
        }
        return {T(h.lr),        T(h.beta1), T(1 - h.beta1), T(h.beta2),
                T(1 - h.beta2), T(on_m),    T(on_g),        T(1 / (1 - power(h.beta2, t))),
                T(h.eps)};
    }

    template <class T>
    static void update(const Coefficients<T>& c, T& p, T g, T* s) {
        T &m = s[0], &v = s[1];
        m = c.beta1 * m + c.one_minus_beta1 * g;
        v = c.beta2 * v + c.one_minus_beta2 * (g * g);
        p -= c.lr * ((c.on_m * m + c.on_g * g) / (std::sqrt(v * c.inverse_c2) + c.eps));
    }
};

}  // namespace downslope

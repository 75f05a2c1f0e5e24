// Lion (Chen et al. 2023, algorithm 2).
#pragma once

#include "../rule.hpp"

namespace downslope {

struct Lion : Rule {
    static constexpr const char* name = "lion";
    struct Hyper {
        double lr = 1e-4, beta1 = 0.9, beta2 = 0.99;
    };
    static constexpr HyperParameter<Hyper> hyper_parameters[] = {{"lr", &Hyper::lr, non_negative},
                                                                 {"betas[0]", &Hyper::beta1, below_one},
                                                                 {"betas[1]", &Hyper::beta2, below_one}};
    static constexpr std::array slots{Slot{"exp_avg"}};

    template <class T>
    struct Coefficients {
        T lr, beta1, one_minus_beta1, beta2, one_minus_beta2;
    };

    template <class T>
    static Coefficients<T> prepare(const Hyper& h, std::int64_t) {
        return {T(h.lr), T(h.beta1), T(1 - h.beta1), T(h.beta2), T(1 - h.beta2)};
    }

    template <class T>
    static void update(const Coefficients<T>& c, T& p, T g, T* s) {
        T& m = s[0];
        p -= c.lr * sign(c.beta1 * m + c.one_minus_beta1 * g);
        m = c.beta2 * m + c.one_minus_beta2 * g;
    }
};

}  // namespace downslope

// Adam (Kingma & Ba 2015, algorithm 1) and AMSGrad (Reddi, Kale & Kumar 2018, without their projection).
#pragma once

#include "../rule.hpp"

namespace downslope {

struct AdamHyper {
    double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, amsgrad = 0, bias_correction = 1;
};

template <bool amsgrad>
struct Adam : Rule {
    static constexpr const char* name = "adam";
    static constexpr bool takes_rows = true;
    using Hyper = AdamHyper;
    static constexpr HyperParameter<Hyper> hyper_parameters[] = {
        {"lr", &Hyper::lr, non_negative},       {"betas[0]", &Hyper::beta1, below_one},
        {"betas[1]", &Hyper::beta2, below_one}, {"eps", &Hyper::eps, non_negative},
        {"amsgrad", &Hyper::amsgrad, flag},     {"bias_correction", &Hyper::bias_correction, flag}};
    static constexpr auto slots = [] {
        if constexpr (amsgrad)
            return std::array{Slot{"exp_avg"}, Slot{"exp_avg_sq", never_negative},
                              Slot{"max_exp_avg_sq", never_negative}};
        else
            return std::array{Slot{"exp_avg"}, Slot{"exp_avg_sq", never_negative}};
    }();
    static bool applies(const Hyper& h) { return (h.amsgrad != 0) == amsgrad; }

    template <class T>
    struct Coefficients {
        T beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, rsqrt_c2, eps;
    };

    template <class T>
    static Coefficients<T> prepare(const Hyper& h, std::int64_t t) {
        const auto [beta1_t, beta2_t] = powers(h.beta1, h.beta2, h.bias_correction != 0 ? t : 0);
        const double c1 = h.bias_correction != 0 ? 1 - beta1_t : 1, c2 = h.bias_correction != 0 ? 1 - beta2_t : 1;
        return {T(h.beta1), T(1 - h.beta1), T(h.beta2), T(1 - h.beta2), T(h.lr / c1), T(1 / std::sqrt(c2)), T(h.eps)};
    }

    template <class T>
    static void update(const Coefficients<T>& c, T& p, T g, T* s) {
        T &m = s[0], &v = s[1];
        m = c.beta1 * m + c.one_minus_beta1 * g;
        v = c.beta2 * v + c.one_minus_beta2 * (g * g);
        T top = v;
        if constexpr (amsgrad) top = s[2] = maximum(s[2], v);
        p -= c.step_size * (m / (std::sqrt(top) * c.rsqrt_c2 + c.eps));
    }
};

}  // namespace downslope

// Adagrad (Duchi, Hazan & Singer 2011), with PyTorch's decay of the learning rate.
#pragma once

#include "../rule.hpp"

namespace downslope {

struct Adagrad : Rule {
    static constexpr const char* name = "adagrad";
    static constexpr bool takes_rows = true;
    struct Hyper {
        double lr = 1e-2, lr_decay = 0, initial_accumulator_value = 0, eps = 1e-10;
    };
    static constexpr HyperParameter<Hyper> hyper_parameters[] = {
        {"lr", &Hyper::lr, non_negative},
        {"lr_decay", &Hyper::lr_decay, non_negative},
        {"initial_accumulator_value", &Hyper::initial_accumulator_value, non_negative},
        {"eps", &Hyper::eps, non_negative}};
    static constexpr std::array slots{Slot{"sum", never_negative}};
    static double initial_state(const Hyper& h) { return h.initial_accumulator_value; }

    template <class T>
    struct Coefficients {
        T step_size, eps;
    };

    template <class T>
    static Coefficients<T> prepare(const Hyper& h, std::int64_t t) {
        return {T(h.lr / (1 + static_cast<double>(t - 1) * h.lr_decay)), T(h.eps)};
    }

    template <class T>
    static void update(const Coefficients<T>& c, T& p, T g, T* s) {
        T& sum = s[0];
        sum += g * g;
        p -= c.step_size * (g / (std::sqrt(sum) + c.eps));
    }
};

}  // namespace downslope

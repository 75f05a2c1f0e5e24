// RMSprop (Tieleman & Hinton 2012, lecture 6.5), centered as in Graves 2013, with PyTorch's momentum.
#pragma once

#include "../rule.hpp"

namespace downslope {

struct RMSpropHyper {
    double lr = 1e-2, alpha = 0.99, eps = 1e-8, momentum = 0, centered = 0;
};

template <bool centered, bool with_momentum>
struct RMSprop : Rule {
    static constexpr const char* name = "rmsprop";
    using Hyper = RMSpropHyper;
    static constexpr HyperParameter<Hyper> hyper_parameters[] = {{"lr", &Hyper::lr, non_negative},
                                                                 {"alpha", &Hyper::alpha, up_to_one},
                                                                 {"eps", &Hyper::eps, non_negative},
                                                                 {"momentum", &Hyper::momentum, non_negative},
                                                                 {"centered", &Hyper::centered, flag}};
    static constexpr auto slots = [] {
        if constexpr (centered && with_momentum)
            return std::array{Slot{"square_avg", never_negative}, Slot{"grad_avg"}, Slot{"momentum_buffer"}};
        else if constexpr (centered)
            return std::array{Slot{"square_avg", never_negative}, Slot{"grad_avg"}};
        else if constexpr (with_momentum)
            return std::array{Slot{"square_avg", never_negative}, Slot{"momentum_buffer"}};
        else
            return std::array{Slot{"square_avg", never_negative}};
    }();
    static bool applies(const Hyper& h) { return (h.centered != 0) == centered && (h.momentum != 0) == with_momentum; }

    template <class T>
    struct Coefficients {
        T lr, alpha, one_minus_alpha, eps, momentum;
    };

    template <class T>
    static Coefficients<T> prepare(const Hyper& h, std::int64_t) {
        return {T(h.lr), T(h.alpha), T(1 - h.alpha), T(h.eps), T(h.momentum)};
    }

    template <class T>
    static void update(const Coefficients<T>& c, T& p, T g, T* s) {
        T& v = s[0];
        v = c.alpha * v + c.one_minus_alpha * (g * g);
        T variance = v;
        if constexpr (centered) {
            T& a = s[1];
            a = c.alpha * a + c.one_minus_alpha * g;
            variance = maximum(v - a * a, T(0));  // rounding can take it below zero
        }
        T d = g / (std::sqrt(variance) + c.eps);
        if constexpr (with_momentum) {
            T& b = s[centered ? 2 : 1];
            d = b = c.momentum * b + d;
        }
        p -= c.lr * d;
    }
};

}  // namespace downslope

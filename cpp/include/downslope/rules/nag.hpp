// Nesterov's accelerated gradient in its look-ahead form (Nesterov 1983; Sutskever et al. 2013, equations 3 and 4).
#pragma once

#include "../rule.hpp"

namespace downslope {

struct NAG : Rule {
    static constexpr const char* name = "nag";
    struct Hyper {
        double lr = 1e-2, momentum = 0.9;
    };
    static constexpr HyperParameter<Hyper> hyper_parameters[] = {{"lr", &Hyper::lr, non_negative},
                                                                 {"momentum", &Hyper::momentum, non_negative}};
    static constexpr std::array slots{Slot{"velocity"}};
    static constexpr bool looks_ahead = true;

    template <class T>
    struct Coefficients {
        T lr, momentum;
    };

    template <class T>
    static Coefficients<T> prepare(const Hyper& h, std::int64_t) {
        return {T(h.lr), T(h.momentum)};
    }

    static double look_ahead(const Hyper& h, double p, const double* s) { return p + h.momentum * s[0]; }

    // The caller evaluates g at the look-ahead point p + momentum * v.
    template <class T>
    static void update(const Coefficients<T>& c, T& p, T g, T* s) {
        T& v = s[0];
        v = c.momentum * v - c.lr * g;
        p += v;
    }
};

}  // namespace downslope

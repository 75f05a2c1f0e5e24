// Stochastic gradient descent with heavy-ball momentum (Polyak 1964), in the form of Sutskever et al. 2013 and PyTorch.
#pragma once

#include "../rule.hpp"

namespace downslope {

struct SGDHyper {
    double lr = 1e-2, momentum = 0, dampening = 0, nesterov = 0;
};

struct SGDBase : Rule {
    static constexpr const char* name = "sgd";
    static constexpr bool takes_rows = true;
    using Hyper = SGDHyper;
    static constexpr HyperParameter<Hyper> hyper_parameters[] = {{"lr", &Hyper::lr, non_negative},
                                                                 {"momentum", &Hyper::momentum, non_negative},
                                                                 {"dampening", &Hyper::dampening, any_finite},
                                                                 {"nesterov", &Hyper::nesterov, flag}};
};

// Without momentum there is no state.
struct SGD : SGDBase {
    static constexpr std::array<Slot, 0> slots{};
    static bool applies(const Hyper& h) { return h.momentum == 0; }

    template <class T>
    struct Coefficients {
        T lr;
    };

    template <class T>
    static Coefficients<T> prepare(const Hyper& h, std::int64_t) {
        return {T(h.lr)};
    }

    template <class T>
    static void update(const Coefficients<T>& c, T& p, T g, T*) {
        p -= c.lr * g;
    }
};

template <bool nesterov>
struct MomentumSGD : SGDBase {
    static constexpr std::array slots{Slot{"momentum_buffer"}};
    static bool applies(const Hyper& h) { return h.momentum != 0 && (h.nesterov != 0) == nesterov; }

    template <class T>
    struct Coefficients {
        T lr, momentum, one_minus_dampening;
        bool first;
    };

    template <class T>
    static Coefficients<T> prepare(const Hyper& h, std::int64_t t) {
        return {T(h.lr), T(h.momentum), T(1 - h.dampening), t == 1};
    }

    template <class T>
    static void update(const Coefficients<T>& c, T& p, T g, T* s) {
        T& b = s[0];
        b = c.first ? g : c.momentum * b + c.one_minus_dampening * g;
        const T d = nesterov ? g + c.momentum * b : b;
        p -= c.lr * d;
    }
};

}  // namespace downslope

// Adadelta (Zeiler 2012, algorithm 1), with PyTorch's learning rate.
#pragma once

#include "../rule.hpp"

namespace downslope {

struct Adadelta : Rule {
    static constexpr const char* name = "adadelta";
    struct Hyper {
        double lr = 1, rho = 0.9, eps = 1e-6;
    };
    static constexpr HyperParameter<Hyper> hyper_parameters[] = {
        {"lr", &Hyper::lr, non_negative}, {"rho", &Hyper::rho, up_to_one}, {"eps", &Hyper::eps, non_negative}};
    static constexpr std::array slots{Slot{"square_avg", never_negative}, Slot{"acc_delta", never_negative}};

    template <class T>
    struct Coefficients {
        T lr, rho, one_minus_rho, eps;
    };

    template <class T>
    static Coefficients<T> prepare(const Hyper& h, std::int64_t) {
        return {T(h.lr), T(h.rho), T(1 - h.rho), T(h.eps)};
    }

    template <class T>
    static void update(const Coefficients<T>& c, T& p, T g, T* s) {
        T &v = s[0], &u = s[1];
        v = c.rho * v + c.one_minus_rho * (g * g);
        const T d = g * (std::sqrt(u + c.eps) / std::sqrt(v + c.eps));
        u = c.rho * u + c.one_minus_rho * (d * d);
        p -= c.lr * d;
    }
};

}  // namespace downslope

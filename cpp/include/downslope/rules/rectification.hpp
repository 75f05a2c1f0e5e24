// The variance rectification of Liu et al. 2020 (algorithm 2), with PyTorch's threshold.
#pragma once

#include <cmath>

#include "../rule.hpp"

namespace downslope {

struct Rectification {
    bool tractable;  // rho_t > 5: the adaptive step has a variance to rectify
    double r;
};

inline Rectification rectification(double beta2, std::int64_t t) {
    const double rho_inf = 2 / (1 - beta2) - 1;
    const double beta2_t = power(beta2, t);
    const double rho = rho_inf - 2 * static_cast<double>(t) * beta2_t / (1 - beta2_t);
    if (!(rho > 5)) return {false, 1};
    return {true, std::sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))};
}

}  // namespace downslope

// Gradients by finite differences, with the steps of scipy.optimize.approx_fprime and approx_derivative.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace downslope {

enum class Differences { two_point, three_point };

// The step relative to the size of a parameter that balances truncation, of order h or h^2, against rounding.
inline double relative_step(Differences kind) {
    constexpr double eps = std::numeric_limits<double>::epsilon();
    return kind == Differences::two_point ? std::sqrt(eps) : std::cbrt(eps);
}

// What makes an objective of a function of values alone, double(const double* x).
template <class Function>
class DifferencedObjective {
public:
    DifferencedObjective(Function function, std::int64_t n, Differences kind)
        : evaluations(kind == Differences::two_point ? n + 1 : 2 * n + 1),
          gradient_evaluations(evaluations),
          function_(std::move(function)),
          kind_(kind),
          x_(static_cast<std::size_t>(n)) {}

    double operator()(const double* x, double* gradient) {
        std::copy_n(x, x_.size(), x_.data());
        const double f = function_(x_.data());
        for (std::size_t i = 0; i < x_.size(); ++i) {
            const double h = step(x[i]);
            x_[i] = x[i] + h;
            const double up = function_(x_.data()), exact_up = x_[i] - x[i];
            if (kind_ == Differences::two_point) {
                gradient[i] = (up - f) / exact_up;
            } else {
                x_[i] = x[i] - h;
                gradient[i] = (up - function_(x_.data())) / (exact_up + (x[i] - x_[i]));
            }
            x_[i] = x[i];
        }
        return f;
    }

    void gradient(const double* x, double* gradient) { (*this)(x, gradient); }

    Function& function() { return function_; }

    std::int64_t evaluations, gradient_evaluations;

private:
    double step(double x) const {
        const double size = relative_step(kind_) * std::max(1.0, std::abs(x));
        return kind_ == Differences::two_point && x < 0 ? -size : size;
    }

    Function function_;
    Differences kind_;
    std::vector<double> x_;
};

}  // namespace downslope

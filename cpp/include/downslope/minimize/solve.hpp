// The loop: evaluates the objective where a run wants it until the run has ended.
#pragma once

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <type_traits>

#include "pulse.hpp"
#include "run.hpp"

namespace downslope {

// Whether an objective has what methods of the second order ask for.
template <class Objective, class = void>
inline constexpr bool has_second_order = false;
template <class Objective>
inline constexpr bool has_second_order<Objective, std::void_t<decltype(Objective::gradient_evaluations)>> = true;

// What the run wants; returns whether that has completed an iteration.
template <class Objective>
bool evaluate(Run& run, Objective& fun) {
    if (run.wants() == Want::objective) return run.tell(fun(run.point(), run.gradient()), fun.evaluations);
    if constexpr (!has_second_order<Objective>) {
        throw std::logic_error("a method of the second order needs an objective with gradient, hessian and product");
    } else if (run.wants() == Want::gradient) {
        fun.gradient(run.point(), run.gradient());
        run.tell_gradient(fun.gradient_evaluations);
    } else if (run.wants() == Want::hessian) {
        fun.hessian(run);
    } else if (run.wants() == Want::product) {
        fun.product(run.point(), run.direction(), run.product());
        run.tell_product();
    }
    return false;
}

// An objective is a callable double(const double* x, double* gradient), with a member `evaluations`, how often one call
// evaluates the function. For methods of the second order it has gradient(x, gradient), with `gradient_evaluations`,
// product(x, direction, product) and hessian(run), which tells the run, too. `observe(run)` is called after each
// iteration, and may stop the run; `alive()` every few milliseconds, and tells whether to go on.
template <class Objective, class Observer, class Alive>
void solve(Run& run, Objective& fun, const Observer& observe, const Alive& alive, Pulse& pulse) {
    const bool is_timed = std::isfinite(run.limits().max_seconds);
    const auto begin = is_timed ? Pulse::Clock::now() : Pulse::Clock::time_point();
    while (run.running()) {
        if (evaluate(run, fun)) observe(run);
        if (pulse()) {
            if (run.running() && is_timed && Pulse::seconds_since(begin) >= run.limits().max_seconds)
                run.stop(Status::time_spent);
            if (!alive()) return run.stop(Status::interrupted);
        }
        run.advance_if_at_iterate();
    }
}

}  // namespace downslope

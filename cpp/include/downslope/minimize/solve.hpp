// The loop: evaluates the objective where a run wants it until the run has ended.
#pragma once

#include <cmath>
#include <cstdint>

#include "pulse.hpp"
#include "run.hpp"

namespace downslope {

// An objective is a callable double(const double* x, double* gradient) with a member `evaluations`, how often one call
// evaluates the function. `observe(run)` is called after each iteration, and may stop the run; `alive()` every few
// milliseconds, and tells whether to go on.
template <class Objective, class Observer, class Alive>
void solve(Run& run, Objective& fun, const Observer& observe, const Alive& alive, Pulse& pulse) {
    const bool is_timed = std::isfinite(run.limits().max_seconds);
    const auto begin = is_timed ? Pulse::Clock::now() : Pulse::Clock::time_point();
    while (run.running()) {
        const double f = fun(run.point(), run.gradient());
        if (run.tell(f, fun.evaluations)) observe(run);
        if (pulse()) {
            if (run.running() && is_timed && Pulse::seconds_since(begin) >= run.limits().max_seconds)
                run.stop(Status::time_spent);
            if (!alive()) return run.stop(Status::interrupted);
        }
        run.advance_if_at_iterate();
    }
}

}  // namespace downslope

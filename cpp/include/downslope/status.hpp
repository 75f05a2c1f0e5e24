// How a loop ended.
#pragma once

namespace downslope {

enum class Status : int {
    running = -1,
    gradient_small = 0,
    iterations_spent = 1,
    evaluations_spent = 2,
    time_spent = 3,
    decrease_small = 4,
    step_small = 5,
    not_finite_at_start = 6,
    not_finite = 7,
    no_progress = 8,
    interrupted = 9,
    stopped_by_callback = 99,  // SciPy's number for it
};

constexpr bool is_success(Status status) {
    return status == Status::gradient_small || status == Status::decrease_small || status == Status::step_small;
}

constexpr const char* message_of(Status status) {
    switch (status) {
        case Status::running:
            return "The loop is still running.";
        case Status::gradient_small:
            return "Converged: the largest element of the gradient is at most gtol.";
        case Status::iterations_spent:
            return "Stopped: maxiter iterations have been done.";
        case Status::evaluations_spent:
            return "Stopped: the objective has been evaluated maxfev times.";
        case Status::time_spent:
            return "Stopped: max_seconds have passed.";
        case Status::decrease_small:
            return "Converged: the last iteration lowered the objective by at most ftol * max(1, |f|).";
        case Status::step_small:
            return "Converged: the last iteration moved x by at most xtol * max(1, max |x|).";
        case Status::not_finite_at_start:
            return "Failed: the objective or its gradient is not finite at x0.";
        case Status::not_finite:
            return "Failed: the objective or its gradient is not finite where the method has to go.";
        case Status::no_progress:
            return "Failed: no lower value was found along the direction of descent; the gradient may be wrong, or "
                   "rounding hides what is left.";
        case Status::interrupted:
            return "Stopped by an interrupt.";
        case Status::stopped_by_callback:
            return "Stopped: the callback raised StopIteration.";
    }
    return "";
}

}  // namespace downslope

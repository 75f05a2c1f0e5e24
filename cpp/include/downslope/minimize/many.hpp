// Many problems at once: one after the other on each thread, or all together, for a function that evaluates many
// points.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "../parallel.hpp"
#include "solve.hpp"

namespace downslope {

// One row, or one element, for each problem.
struct Results {
    double *x, *fun, *jac;
    std::int64_t *nit, *nfev, *njev, *nhev, *status;

    void take(std::int64_t problem, const Run& run) const {
        const auto n = static_cast<std::int64_t>(run.best_x().size());
        std::copy_n(run.best_x().data(), n, x + problem * n);
        std::copy_n(run.best_gradient().data(), n, jac + problem * n);
        fun[problem] = run.best_f();
        nit[problem] = run.nit(), nfev[problem] = run.nfev(), njev[problem] = run.njev();
        nhev[problem] = run.nhev();
        status[problem] = static_cast<std::int64_t>(run.status());
    }
};

// Solves the problems that start from the rows of x0. Each worker has a run of its own and an objective that can be
// turned to any problem, `objective.turn_to(problem)`, and takes whichever problem is next. The memory that this needs
// does not depend on how many problems there are. `alive(done)` is called on the caller's thread every few milliseconds
// and tells whether to go on; what has not begun by then gets the status `interrupted`.
template <class Objective, class Alive>
void solve_many(std::vector<std::unique_ptr<Run>>& runs, std::vector<Objective>& objectives, const double* x0,
                std::int64_t n, std::int64_t count, const Results& results, const Alive& alive) {
    std::atomic<bool> stopped{false};
    std::atomic<std::int64_t> done{0};
    const auto ask = [&] {
        if (!stopped && !alive(done.load())) stopped = true;
        return !stopped;
    };
    std::vector<Pulse> pulses(runs.size());
    const auto solve_one = [&](std::size_t worker, std::int64_t problem) {
        Run& run = *runs[worker];
        run.start(x0 + problem * n);
        objectives[worker].turn_to(problem);
        if (stopped) run.stop(Status::interrupted);
        const auto goes_on = [&] { return worker == 0 ? ask() : !stopped; };
        solve(run, objectives[worker], [](Run&) {}, goes_on, pulses[worker]);
        results.take(problem, run);
        ++done;
    };
    parallel_items(static_cast<int>(runs.size()), count, solve_one, ask);
}

// Runs in step: a function is given the points of all that are still running, one a row.
class Batch {
public:
    Batch(std::vector<std::unique_ptr<Run>> runs, const double* x0, std::int64_t n) : runs_(std::move(runs)), n_(n) {
        for (std::size_t i = 0; i < runs_.size(); ++i) {
            runs_[i]->start(x0 + static_cast<std::int64_t>(i) * n);
            active_.push_back(static_cast<std::int64_t>(i));
        }
    }

    std::size_t running() const { return active_.size(); }

    // The problems that want Hessians, or the objective or its gradient, in rising order.
    std::vector<std::int64_t> wanting(bool hessians) const {
        std::vector<std::int64_t> rows;
        for (const std::int64_t i : active_)
            if ((run(i).wants() == Want::hessian) == hessians) rows.push_back(i);
        return rows;
    }

    void points(const std::vector<std::int64_t>& rows, double* out) const {
        for (const std::int64_t i : rows) out = std::copy_n(run(i).point(), n_, out);
    }

    // Values and gradients at the points of those that want them. Rows that end are left out from then on.
    void tell(const double* f, const double* gradients, const Results& results, int threads) {
        const std::vector<std::int64_t> rows = wanting(false);
        const auto tell_one = [&](Run& run, std::int64_t row) {
            std::copy_n(gradients + row * n_, n_, run.gradient());
            if (run.wants() == Want::gradient)
                run.tell_gradient(1);
            else
                run.tell(f[row], 1);
            run.advance_if_at_iterate();
        };
        each(rows, threads, tell_one);
        drop_ended(results);
    }

    // Hessians, likewise.
    void tell_hessians(const double* hessians, const Results& results, int threads) {
        const std::int64_t size = n_ * n_;
        const auto tell_one = [&](Run& run, std::int64_t row) { run.tell_hessian(hessians + row * size); };
        each(wanting(true), threads, tell_one);
        drop_ended(results);
    }

    void stop(Status status, const Results& results) {
        for (const std::int64_t i : active_) {
            run(i).stop(status);
            results.take(i, run(i));
        }
        active_.clear();
    }

private:
    template <class TellOne>
    void each(const std::vector<std::int64_t>& rows, int threads, const TellOne& tell_one) {
        parallel_runs(threads, static_cast<std::int64_t>(rows.size()), [&](std::int64_t first, std::int64_t last) {
            for (std::int64_t row = first; row < last; ++row) tell_one(run(rows[static_cast<std::size_t>(row)]), row);
        });
    }

    void drop_ended(const Results& results) {
        const auto ended = [&](std::int64_t i) {
            if (run(i).running()) return false;
            results.take(i, run(i));
            return true;
        };
        active_.erase(std::remove_if(active_.begin(), active_.end(), ended), active_.end());
    }

    Run& run(std::int64_t i) const { return *runs_[static_cast<std::size_t>(i)]; }

    std::vector<std::unique_ptr<Run>> runs_;
    std::vector<std::int64_t> active_;
    std::int64_t n_;
};

}  // namespace downslope

// A rule, its groups of hyper-parameters and the arrays it moves: what one call of an optimizer's `step` does.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "compiled_rule.hpp"
#include "gradient_pass.hpp"

namespace downslope {

// Keyword options of every optimizer that each group may set: doubles with the same kind of table as a rule's own
// hyper-parameters.
struct StepOptions {
    double weight_decay = 0, decoupled_weight_decay = 0, maximize = 0, grad_scale = 1,
           clip_value = std::numeric_limits<double>::quiet_NaN();

    static constexpr HyperParameter<StepOptions> table[] = {
        {"weight_decay", &StepOptions::weight_decay, non_negative},
        {"decoupled_weight_decay", &StepOptions::decoupled_weight_decay, flag},
        {"maximize", &StepOptions::maximize, flag},
        {"grad_scale", &StepOptions::grad_scale, any_finite},
        {"clip_value", &StepOptions::clip_value, optional_non_negative}};

    // Whether the plain kernels, which know nothing of these options, give the same result.
    bool are_plain() const { return weight_decay == 0 && maximize == 0 && grad_scale == 1 && std::isnan(clip_value); }
};

// What holds for all groups alike.
struct StepSettings {
    std::optional<double> clip_norm, ema_decay;
    bool checks_finite = false;
    bool rounds_stochastically = false;  // 16-bit parameters; state in fewer than 32 bits always is
    std::uint64_t seed = 0;
};

// Arrays that share hyper-parameters; every rule's first one is lr.
struct Group {
    const CompiledRule* rule;
    std::vector<double> hyper;
    StepOptions options;
};

// What a step writes of one array.
struct Operands {
    View param;
    std::vector<View> state;      // one for each slot
    std::optional<View> average;  // of the parameter
};

struct Array {
    std::size_t group;
    Compute compute;
    StateStorage state_storage;
    Operands operands;
    std::optional<Operands> reversed;  // the same walked from the last axis to the first, where that is contiguous
    std::vector<float*> scales;        // of 8-bit state, one for each slot
    std::int64_t* step_count;          // of this array alone
    double* product;                   // of a rule that carries one, else nullptr
};

// The gradient of one array, or of some of its rows.
struct Gradient {
    View view;
    std::optional<View> reversed;        // as that of the array
    const std::int64_t* rows = nullptr;  // ascending, without duplicates
    std::int64_t row_length = 0;
};

class Stepper {
public:
    StepSettings settings;

    Stepper(std::vector<Group> groups, std::vector<Array> arrays)
        : groups_(std::move(groups)), arrays_(std::move(arrays)) {}

    Group& group(std::size_t index) { return groups_[index]; }

    // The norm of the gradients of the last step, after scaling and clipping by value; if no setting needs it, nothing.
    std::optional<double> last_grad_norm() const { return last_grad_norm_; }

    // One step by the gradients, one for each array or nullptr, which leaves that array, its state and its count alone.
    // Each is the sum of so many `accumulated` ones, whose mean is applied. If a gradient is not finite, and the
    // settings ask for it, nothing moves and its number is returned.
    std::optional<std::size_t> step(const std::vector<const Gradient*>& grads, std::int64_t accumulated, int threads) {
        {
            const DefaultFloatEnvironment environment;
            prepare(grads, static_cast<double>(accumulated));
        }
        if (settings.checks_finite || settings.clip_norm) {
            if (const auto bad = look_at(grads, threads)) return bad;
        } else {
            last_grad_norm_.reset();
        }
        for_each_stretch(jobs_, tiles_, threads,
                         [](const Job& job, std::int64_t first, std::int64_t last) { job.kernel(job, first, last); });
        for (std::size_t i = 0, job = 0; i < arrays_.size(); ++i) {
            if (grads[i] == nullptr) continue;
            ++*arrays_[i].step_count;
            if (arrays_[i].product != nullptr) *arrays_[i].product = products_[job];
            ++job;
        }
        return std::nullopt;
    }

    // sums[i] = gradient, if it is the first one of array i, or sums[i] + gradient; contiguous, of the compute type.
    void accumulate(const std::vector<const Gradient*>& grads, const std::vector<void*>& sums,
                    const std::vector<bool>& first_ones, int threads) const {
        struct Addition {
            const View* grad;
            Compute compute;
            void* sum;
            bool is_first;
            std::int64_t size, first_tile;
        };
        std::vector<Addition> additions;
        std::int64_t tiles = 0;
        for (std::size_t i = 0; i < arrays_.size(); ++i) {
            if (grads[i] == nullptr) continue;
            const std::int64_t size = grads[i]->view.size;
            additions.push_back({&grads[i]->view, arrays_[i].compute, sums[i], first_ones[i], size, tiles});
            tiles += tiles_of(size);
        }
        for_each_stretch(additions, tiles, threads, [](const Addition& a, std::int64_t first, std::int64_t last) {
            if (a.compute == Compute::float32)
                add_gradient(*a.grad, first, last, static_cast<float*>(a.sum), a.is_first);
            else
                add_gradient(*a.grad, first, last, static_cast<double*>(a.sum), a.is_first);
        });
    }

private:
    // The coefficients of all arrays that are at the same point, with what determines them.
    struct Prepared {
        std::size_t group;
        Compute compute;
        std::int64_t t;
        double product_before, product_after;
        CoefficientBytes coefficients;
        Surroundings<float> surroundings32;
        Surroundings<double> surroundings64;

        const void* surroundings() const {
            return compute == Compute::float32 ? static_cast<const void*>(&surroundings32) : &surroundings64;
        }
    };

    // A job for each gradient; each coefficient is worked out once for neighbours that are at the same point.
    void prepare(const std::vector<const Gradient*>& grads, double accumulated) {
        prepared_.clear();
        prepared_.reserve(arrays_.size());  // jobs point into it
        products_.clear();
        tiles_ = 0;
        std::size_t count = 0;
        for (std::size_t i = 0; i < arrays_.size(); ++i) {
            if (grads[i] == nullptr) continue;
            const Prepared& entry = coefficients_of(arrays_[i], accumulated);
            products_.push_back(entry.product_after);
            put_job(count++, job_of(i, *grads[i], entry, accumulated));
            tiles_ += tiles_of(grads[i]->view.size);
        }
        jobs_.resize(count);
    }

    Job job_of(std::size_t number, const Gradient& grad, const Prepared& entry, double accumulated) const {
        const Array& array = arrays_[number];
        const CompiledRule& rule = *groups_[array.group].rule;
        // Rounding depends on an element's place in C order; so do rows.
        const bool rounds = settings.rounds_stochastically && item_size(array.operands.param.storage) == 2;
        const bool reversed = array.reversed && grad.reversed && !rounds;
        const Operands& operands = reversed ? *array.reversed : array.operands;
        const bool is_plain =
            groups_[array.group].options.are_plain() && !settings.clip_norm && !operands.average && accumulated == 1;
        const bool is_random = rounds || array.state_storage != StateStorage::native;
        return {rule.kernel(array.compute, array.state_storage, !is_plain),
                &entry.coefficients,
                entry.surroundings(),
                &operands.param,
                reversed ? &*grad.reversed : &grad.view,
                operands.state.data(),
                array.scales.data(),
                operands.average ? &*operands.average : nullptr,
                grad.rows,
                grad.row_length,
                is_random ? random_stream(settings.seed, number, static_cast<std::uint64_t>(entry.t)) : 0,
                rounds,
                grad.view.size,
                tiles_};
    }

    const Prepared& coefficients_of(const Array& array, double accumulated) {
        const Group& group = groups_[array.group];
        const std::int64_t t = *array.step_count + 1;
        const double product = array.product != nullptr ? *array.product : 1;
        if (prepared_.empty() || prepared_.back().group != array.group || prepared_.back().compute != array.compute ||
            prepared_.back().t != t || prepared_.back().product_before != product) {
            Prepared& entry = prepared_.emplace_back(Prepared{array.group,
                                                              array.compute,
                                                              t,
                                                              product,
                                                              product,
                                                              {},
                                                              surroundings<float>(group, accumulated),
                                                              surroundings<double>(group, accumulated)});
            group.rule->prepare[static_cast<std::size_t>(array.compute)](group.hyper, t, entry.product_after,
                                                                         entry.coefficients);
        }
        return prepared_.back();
    }

    template <class T>
    Surroundings<T> surroundings(const Group& group, double accumulated) const {
        const StepOptions& options = group.options;
        const double lr = group.hyper[0];
        const bool decoupled = options.decoupled_weight_decay != 0;
        return {T((options.maximize != 0 ? -options.grad_scale : options.grad_scale) / accumulated),
                std::isnan(options.clip_value) ? std::numeric_limits<T>::infinity() : T(options.clip_value),
                T(1),
                T(decoupled ? 0 : options.weight_decay),
                T(decoupled ? 1 - lr * options.weight_decay : 1),
                T(settings.ema_decay ? 1 - *settings.ema_decay : 0)};
    }

    // The pass over the gradients before anything moves. Adds up in the order of the arrays.
    std::optional<std::size_t> look_at(const std::vector<const Gradient*>& grads, int threads) {
        gradient_jobs_.clear();
        for (std::size_t i = 0, job = 0; i < arrays_.size(); ++i) {
            if (grads[i] == nullptr) continue;
            const Job& step = jobs_[job++];
            gradient_jobs_.push_back({&grads[i]->view, arrays_[i].compute, step.surroundings, settings.checks_finite,
                                      step.size, step.first_tile});
        }
        look_at_gradients(gradient_jobs_, tiles_, threads, facts_);
        const DefaultFloatEnvironment environment;
        double sum = 0;
        for (std::size_t i = 0, tile = 0, job = 0; i < arrays_.size(); ++i) {
            if (grads[i] == nullptr) continue;
            const auto end = tile + static_cast<std::size_t>(tiles_of(jobs_[job++].size));
            for (; tile < end; ++tile) {
                if (settings.checks_finite && !facts_[tile].finite) return i;
                sum += facts_[tile].sum_of_squares;
            }
        }
        last_grad_norm_ = std::sqrt(sum);
        if (settings.clip_norm && *last_grad_norm_ > *settings.clip_norm)
            for (Prepared& entry : prepared_) {
                const double factor = *settings.clip_norm / *last_grad_norm_;
                entry.surroundings32.clip_factor = static_cast<float>(factor);
                entry.surroundings64.clip_factor = factor;
            }
        return std::nullopt;
    }

    template <class T>
    static void add_gradient(const View& grad, std::int64_t first, std::int64_t last, T* sum, bool is_first) {
        alignas(64) T buffer[tile_size];
        for (std::int64_t n = 0; first < last; first += n) {
            n = std::min(tile_size, last - first);
            const T* g = decoded(grad, first, n, buffer);
            for (std::int64_t i = 0; i < n; ++i) sum[first + i] = is_first ? g[i] : sum[first + i] + g[i];
        }
    }

    // A job that is as it was in the last step is not written again: the other threads still have it in their caches.
    void put_job(std::size_t index, const Job& job) {
        if (index == jobs_.size())
            jobs_.push_back(job);
        else if (!jobs_[index].does_the_same_as(job))
            jobs_[index] = job;
    }

    std::vector<Group> groups_;
    std::vector<Array> arrays_;
    std::vector<Job> jobs_;
    std::vector<GradientJob> gradient_jobs_;
    std::int64_t tiles_ = 0;  // of all jobs
    std::vector<Prepared> prepared_;
    std::vector<double> products_;  // of each job, once the step is done
    std::vector<TileFacts> facts_;
    std::optional<double> last_grad_norm_;
};

}  // namespace downslope

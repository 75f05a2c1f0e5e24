// A rule, its groups of hyper-parameters and the arrays it moves: what one call of an optimizer's `step` does.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "compiled_rule.hpp"

namespace downslope {

// Keyword options of every optimizer: doubles with the same kind of table as a rule's own hyper-parameters.
struct StepOptions {
    double weight_decay = 0, decoupled_weight_decay = 0, maximize = 0, grad_scale = 1;

    static constexpr HyperParameter<StepOptions> table[] = {
        {"weight_decay", &StepOptions::weight_decay, non_negative},
        {"decoupled_weight_decay", &StepOptions::decoupled_weight_decay, flag},
        {"maximize", &StepOptions::maximize, flag},
        {"grad_scale", &StepOptions::grad_scale, any_finite}};

    // Whether the plain kernels, which know nothing of these options, give the same result.
    bool are_plain() const { return weight_decay == 0 && maximize == 0 && grad_scale == 1; }

    template <class T>
    Surroundings<T> surroundings(double lr) const {
        const bool decoupled = decoupled_weight_decay != 0;
        return {T(maximize != 0 ? -grad_scale : grad_scale), T(decoupled ? 0 : weight_decay),
                T(decoupled ? 1 - lr * weight_decay : 1)};
    }
};

// Arrays that share hyper-parameters; every rule's first one is lr.
struct Group {
    const CompiledRule* rule;
    std::vector<double> hyper;
    StepOptions options;
};

struct Array {
    std::size_t group;
    Storage compute;
    View param;
    std::vector<View> state;   // one for each slot
    std::int64_t* step_count;  // of this array alone
    double* product;           // of a rule that carries one, else nullptr
};

class Stepper {
public:
    Stepper(std::vector<Group> groups, std::vector<Array> arrays)
        : groups_(std::move(groups)), arrays_(std::move(arrays)) {}

    Group& group(std::size_t index) { return groups_[index]; }

    // One step by the gradients, one for each array or nullptr, which leaves that array, its state and its count alone.
    void step(const std::vector<const View*>& grads, int threads) {
        {
            const DefaultFloatEnvironment environment;
            prepare(grads);
        }
        fused_step(jobs_, threads);
        for (std::size_t i = 0, job = 0; i < arrays_.size(); ++i) {
            if (grads[i] == nullptr) continue;
            ++*arrays_[i].step_count;
            if (arrays_[i].product != nullptr) *arrays_[i].product = products_[job];
            ++job;
        }
    }

private:
    // The coefficients of all arrays that are at the same point, with what determines them.
    struct Prepared {
        std::size_t group;
        Storage compute;
        std::int64_t t;
        double product_before, product_after;
        CoefficientBytes coefficients;
        Surroundings<float> surroundings32;
        Surroundings<double> surroundings64;
    };

    // A job for each gradient; each coefficient is worked out once for neighbours that are at the same point.
    void prepare(const std::vector<const View*>& grads) {
        prepared_.clear();
        prepared_.reserve(arrays_.size());  // jobs point into it
        products_.clear();
        std::size_t count = 0;
        for (std::size_t i = 0; i < arrays_.size(); ++i) {
            if (grads[i] == nullptr) continue;
            const Array& array = arrays_[i];
            const Group& group = groups_[array.group];
            const Prepared& entry = coefficients_of(array);
            products_.push_back(entry.product_after);
            const void* surroundings = array.compute == Storage::float32
                                           ? static_cast<const void*>(&entry.surroundings32)
                                           : &entry.surroundings64;
            put_job(count++, {group.rule->kernels[static_cast<std::size_t>(array.compute)][!group.options.are_plain()],
                              &entry.coefficients, surroundings, &array.param, grads[i], array.state.data()});
        }
        jobs_.resize(count);
    }

    const Prepared& coefficients_of(const Array& array) {
        const Group& group = groups_[array.group];
        const std::int64_t t = *array.step_count + 1;
        const double product = array.product != nullptr ? *array.product : 1;
        if (prepared_.empty() || prepared_.back().group != array.group || prepared_.back().compute != array.compute ||
            prepared_.back().t != t || prepared_.back().product_before != product) {
            const double lr = group.hyper[0];
            Prepared& entry = prepared_.emplace_back(Prepared{array.group,
                                                              array.compute,
                                                              t,
                                                              product,
                                                              product,
                                                              {},
                                                              group.options.surroundings<float>(lr),
                                                              group.options.surroundings<double>(lr)});
            group.rule->prepare[static_cast<std::size_t>(array.compute)](group.hyper, t, entry.product_after,
                                                                         entry.coefficients);
        }
        return prepared_.back();
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
    std::vector<Prepared> prepared_;
    std::vector<double> products_;  // of each job, once the step is done
};

}  // namespace downslope

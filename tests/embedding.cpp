// A program that uses the core without Python: Adam on two arrays of different types, minimizing sum(p^4), with the
// norm of both gradients together clipped; again on one array, with its state in 8 bits; and the loops of minimize.
#include <cstdint>
#include <cstdio>
#include <memory>
#include <utility>
#include <vector>

#include "downslope/minimize/first_order.hpp"
#include "downslope/minimize/lbfgs.hpp"
#include "downslope/minimize/solve.hpp"
#include "downslope/step/compiled_rules.hpp"
#include "downslope/step/stepper.hpp"

using namespace downslope;

template <class T>
View contiguous(std::vector<T>& values) {
    return make_view(values.data(), storage_of<T>, {{static_cast<std::int64_t>(values.size()), sizeof(T)}});
}

// Of codes, only address and number count.
View coded(std::vector<std::uint8_t>& codes) {
    return {reinterpret_cast<std::byte*>(codes.data()), static_cast<std::int64_t>(codes.size()), {}, {}};
}

template <class T>
void gradient(const std::vector<T>& p, std::vector<T>& g) {
    for (std::size_t i = 0; i < p.size(); ++i) g[i] = 4 * p[i] * p[i] * p[i];
}

struct Rosenbrock {
    static constexpr std::int64_t evaluations = 1;
    double operator()(const double* x, double* g) const {
        const double a = 1 - x[0], b = x[1] - x[0] * x[0];
        g[0] = -2 * a - 400 * b * x[0];
        g[1] = 200 * b;
        return a * a + 100 * b * b;
    }
};

void minimize(std::unique_ptr<Method> method) {
    const double x0[] = {-1.2, 1};
    Rosenbrock fun;
    Pulse pulse;
    Run run(std::move(method), 2, Limits{100, 1000, 1e-6, 0, 0, infinity});
    run.start(x0);
    solve(run, fun, [](Run&) {}, [] { return true; }, pulse);
    std::printf("%.17g\n%.17g\n%d\n", run.best_x()[0], run.best_x()[1], static_cast<int>(run.nfev()));
}

int main() {
    std::vector<float> p32{1.5f, -0.5f, 2.0f}, g32(3), m32(3), v32(3);
    std::vector<double> p64{1.5, -0.5}, g64(2), m64(2), v64(2);
    std::int64_t steps32 = 0, steps64 = 0;

    AdamHyper hyper;
    hyper.lr = 0.01;
    const std::vector<double> values{hyper.lr,  hyper.beta1,   hyper.beta2,
                                     hyper.eps, hyper.amsgrad, hyper.bias_correction};
    const CompiledRule* rule = find_rule("adam", values);
    if (rule == nullptr || find_rule("no such rule", values) != nullptr) return 1;
    const std::vector<Group> groups{{rule, values, StepOptions{}}};

    Array first{}, second{};
    first.compute = Compute::float32;
    first.operands = {contiguous(p32), {contiguous(m32), contiguous(v32)}, {}};
    first.step_count = &steps32;
    second.compute = Compute::float64;
    second.operands = {contiguous(p64), {contiguous(m64), contiguous(v64)}, {}};
    second.step_count = &steps64;
    Stepper stepper(groups, {first, second});
    stepper.settings.clip_norm = 1;

    Gradient grad32, grad64;
    grad32.view = contiguous(g32);
    grad64.view = contiguous(g64);
    for (int step = 0; step < 25; ++step) {
        gradient(p32, g32);
        gradient(p64, g64);
        stepper.step({&grad32, &grad64}, 1, 1);
    }
    for (float x : p32) std::printf("%.9g\n", static_cast<double>(x));
    for (double x : p64) std::printf("%.17g\n", x);
    std::printf("%.17g\n%d\n", *stepper.last_grad_norm(), static_cast<int>(steps32 + steps64));

    std::vector<float> q{1.5f, -0.5f, 2.0f}, m_scales(1), v_scales(1);  // one scale for each 256 codes
    std::vector<std::uint8_t> m_codes(3), v_codes(3);
    std::int64_t steps = 0;
    Array array{};
    array.compute = Compute::float32;
    array.state_storage = StateStorage::uint8;
    array.operands = {contiguous(q), {coded(m_codes), coded(v_codes)}, {}};
    array.scales = {m_scales.data(), v_scales.data()};
    array.step_count = &steps;
    Stepper small_stepper(groups, {array});
    small_stepper.settings.seed = 7;
    for (int step = 0; step < 25; ++step) {
        gradient(q, g32);
        small_stepper.step({&grad32}, 1, 1);
    }
    for (float x : q) std::printf("%.9g\n", static_cast<double>(x));

    minimize(make_lbfgs(2, 10));
    minimize(std::make_unique<FirstOrder>(2, FirstOrderOptions{rule, values}));
}

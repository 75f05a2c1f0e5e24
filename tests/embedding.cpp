// A program that uses the core without Python: Adam on two arrays of different types, minimizing sum(p^4).
#include <cstdio>
#include <vector>

#include "downslope/step/compiled_rules.hpp"
#include "downslope/step/stepper.hpp"

using namespace downslope;

template <class T>
View contiguous(std::vector<T>& values) {
    return make_view(values.data(), storage_of<T>, {{static_cast<std::int64_t>(values.size()), sizeof(T)}});
}

template <class T>
void gradient(const std::vector<T>& p, std::vector<T>& g) {
    for (std::size_t i = 0; i < p.size(); ++i) g[i] = 4 * p[i] * p[i] * p[i];
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

    Stepper stepper({{rule, values, StepOptions{}}},
                    {{0, Storage::float32, contiguous(p32), {contiguous(m32), contiguous(v32)}, &steps32, nullptr},
                     {0, Storage::float64, contiguous(p64), {contiguous(m64), contiguous(v64)}, &steps64, nullptr}});
    const View grad32 = contiguous(g32), grad64 = contiguous(g64);
    for (int step = 0; step < 25; ++step) {
        gradient(p32, g32);
        gradient(p64, g64);
        stepper.step({&grad32, &grad64}, 1);
    }
    for (float x : p32) std::printf("%.9g\n", static_cast<double>(x));
    for (double x : p64) std::printf("%.17g\n", x);
    std::printf("%d\n", static_cast<int>(steps32 + steps64));
}

// Running preconditioners. What is passed here has been checked by Python: arrays are C-contiguous, of float32 or
// float64 where examples and gradients are meant and of float64 elsewhere, and their shapes fit.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>
#include <tuple>

#include "bindings.hpp"
#include "downslope/preconditioners/eigenbasis_layers.hpp"
#include "downslope/preconditioners/kronecker_layers.hpp"
#include "downslope/preconditioners/low_rank_blocks.hpp"
#include "gil.hpp"

namespace py = pybind11;

namespace downslope::bindings {
namespace {

using namespace preconditioners;
using curvature::ExactKronecker;
using curvature::FactoredKronecker;
using Doubles = py::array_t<double, py::array::c_style>;

bool is_float(const py::array& array) { return array.dtype().num() == py::dtype::of<float>().num(); }

Examples examples(const py::array& rows) { return {rows.data(), is_float(rows), rows.shape(0), rows.shape(1)}; }

Eigen::Map<MatrixXd> map(Doubles& rows) { return {rows.mutable_data(), rows.shape(1), rows.shape(0)}; }
Eigen::Map<const MatrixXd> const_map(const Doubles& rows) { return {rows.data(), rows.shape(1), rows.shape(0)}; }

// Where a batch goes: whether with a 1 appended, and the weight of the past.
using MomentsOfBatch = std::tuple<py::array, Doubles, bool, double>;

bool finite_moments(const std::vector<py::array>& batches) {
    std::vector<Examples> all;
    for (const py::array& rows : batches) all.push_back(examples(rows));
    const WithoutGil released;
    const DefaultFloatEnvironment environment;
    return std::all_of(all.begin(), all.end(), has_finite_moments);
}

void update(std::vector<MomentsOfBatch>& batches) {
    std::vector<MomentUpdate> updates;
    std::int64_t numbers = 0;
    for (auto& [rows, moments, with_one, weight] : batches) {
        updates.push_back({examples(rows), moments.mutable_data(), with_one, weight});
        numbers += rows.size() + moments.size();
    }
    const int threads = threads_for(numbers);
    const WithoutGil released;
    update_moments(updates, threads);
}

// A layer's gradients in the weights and, if there is one, in the bias.
using GradientOfLayer = std::tuple<std::size_t, py::array, std::optional<py::array>>;

template <class T>
void copy(const py::array& from, double* to) {
    std::copy_n(static_cast<const T*>(from.data()), from.size(), to);
}

void decode(const py::array& from, double* to) { is_float(from) ? copy<float>(from, to) : copy<double>(from, to); }

// A new array of the same shape and dtype, with these numbers times `scale`.
py::array encoded(const py::array& like, const double* from, double scale) {
    py::array out(like.dtype(), std::vector<py::ssize_t>(like.shape(), like.shape() + like.ndim()));
    const auto fill = [&](auto* to) {
        for (py::ssize_t i = 0; i < out.size(); ++i) to[i] = static_cast<std::decay_t<decltype(*to)>>(scale * from[i]);
    };
    if (is_float(like))
        fill(static_cast<float*>(out.mutable_data()));
    else
        fill(static_cast<double*>(out.mutable_data()));
    return out;
}

// Layers with what they look at. `solve` returns the directions D = C^-1 grad, in the gradients' shapes, all scaled so
// that D^T C D is at most `largest`.
template <class Layers>
struct BoundLayers {
    py::object arrays;
    Layers layers;
    std::int64_t numbers;

    int threads() const { return threads_for(numbers); }

    std::vector<std::pair<py::array, std::optional<py::array>>> solve(const std::vector<GradientOfLayer>& given,
                                                                      double largest) const {
        std::vector<MatrixXd> directions;
        std::vector<LayerGradient> gradients;
        for (const auto& [layer, weights, bias] : given) {
            MatrixXd& y = directions.emplace_back(weights.shape(1), weights.shape(0) + bias.has_value());
            decode(weights, y.data());
            if (bias) decode(*bias, y.data() + weights.size());
            gradients.push_back({layer, {y.data(), y.rows(), y.cols()}});
        }
        double product = 0;
        {
            const WithoutGil released;
            const DefaultFloatEnvironment environment;
            const bool clips = largest < std::numeric_limits<double>::infinity();
            const std::vector<MatrixXd> before = clips ? directions : std::vector<MatrixXd>{};
            layers.solve(gradients, threads());
            for (std::size_t i = 0; i < before.size(); ++i) product += before[i].cwiseProduct(directions[i]).sum();
        }
        const double scale = product > largest ? std::sqrt(largest / product) : 1;
        std::vector<std::pair<py::array, std::optional<py::array>>> out;
        for (std::size_t i = 0; i < given.size(); ++i) {
            const auto& [layer, weights, bias] = given[i];
            auto& pair = out.emplace_back(encoded(weights, directions[i].data(), scale), std::nullopt);
            if (bias) pair.second = encoded(*bias, directions[i].data() + weights.size(), scale);
        }
        return out;
    }
};

std::vector<std::string> names_of(const std::vector<Outcome>& outcomes) {
    constexpr const char* parts[] = {"the factor of the inputs", "the factor of the output gradients", "the curvature"};
    std::vector<std::string> names;
    for (const Outcome& outcome : outcomes)
        names.push_back(outcome.ok() ? "" : parts[static_cast<std::size_t>(outcome.block)]);
    return names;
}

template <class Layers>
py::class_<BoundLayers<Layers>> bind_layers(py::module_& module, const char* name) {
    using Self = BoundLayers<Layers>;
    return py::class_<Self>(module, name, py::module_local())
        .def(
            "factorize",
            [](Self& self, const std::vector<std::size_t>& layers, double damping) {
                const WithoutGil released;
                const DefaultFloatEnvironment environment;
                return names_of(self.layers.factorize(layers, damping, self.threads()));
            },
            py::arg("layers"), py::arg("damping"), "For each layer what is not positive definite, or an empty string.")
        .def("solve", &Self::solve, py::arg("gradients"), py::arg("largest"));
}

template <class Block>
void bind_kronecker(py::module_& module, const char* name) {
    using Layers = KroneckerLayers<Block>;
    bind_layers<Layers>(module, name)
        .def(py::init([](const std::vector<std::pair<Doubles, Doubles>>& pairs, bool reuse) {
                 std::vector<KroneckerFactors> factors;
                 std::int64_t numbers = 0;
                 for (const auto& [a, g] : pairs) {
                     factors.push_back({const_map(a), const_map(g)});
                     numbers += a.size() + g.size();
                 }
                 return BoundLayers<Layers>{py::cast(pairs), Layers(factors, reuse), numbers};
             }),
             py::arg("factors"), py::arg("reuse"));
}

void bind_eigenbasis(py::module_& module) {
    using Self = BoundLayers<EigenbasisLayers>;
    bind_layers<EigenbasisLayers>(module, "EigenbasisLayers")
        .def(py::init([](std::vector<std::array<Doubles, 5>> arrays) {
            std::vector<EigenbasisLayer> layers;
            std::int64_t numbers = 0;
            for (auto& [a, g, qa, qg, s] : arrays) {
                layers.push_back({map(a), map(g), map(qa), map(qg), map(s)});
                numbers += a.size() + g.size();
            }
            return Self{py::cast(arrays), EigenbasisLayers(layers), numbers};
        }))
        .def(
            "refresh",
            [](Self& self, const std::vector<std::size_t>& layers) {
                const WithoutGil released;
                const DefaultFloatEnvironment environment;
                const std::vector<unsigned char> refreshed = self.layers.refresh(layers, self.threads());
                return std::vector<bool>(refreshed.begin(), refreshed.end());
            },
            py::arg("layers"))
        .def(
            "update",
            [](Self& self, const std::vector<std::tuple<std::size_t, py::array, py::array, bool, double>>& batches) {
                std::vector<EigenbasisLayers::Update> updates;
                for (const auto& [layer, inputs, output_grads, with_one, weight] : batches)
                    updates.push_back({layer, examples(inputs), examples(output_grads), with_one, weight});
                const WithoutGil released;
                const DefaultFloatEnvironment environment;
                self.layers.update(updates, self.threads());
            },
            py::arg("batches"));
}

struct BoundLowRank {
    Doubles columns, gram, weights;
    std::int64_t numbers;
    LowRankBlocks blocks;

    BoundLowRank(Doubles columns_, Doubles gram_, Doubles weights_)
        : columns(std::move(columns_)),
          gram(std::move(gram_)),
          weights(std::move(weights_)),
          numbers(columns.size()),
          blocks(columns.mutable_data(), gram.mutable_data(), weights.mutable_data(), columns.shape(0),
                 columns.shape(2), columns.shape(1)) {}
};

void bind_low_rank(py::module_& module) {
    using Self = BoundLowRank;
    py::class_<Self>(module, "LowRankBlocks", py::module_local())
        .def(py::init<Doubles, Doubles, Doubles>(), py::arg("columns"), py::arg("gram"), py::arg("weights"))
        .def(
            "push",
            [](Self& self, const py::array& v, Index used, double weight) {
                const WithoutGil released;
                const DefaultFloatEnvironment environment;
                const int threads = threads_for(self.numbers);
                if (is_float(v))
                    self.blocks.push(static_cast<const float*>(v.data()), used, weight, threads);
                else
                    self.blocks.push(static_cast<const double*>(v.data()), used, weight, threads);
            },
            py::arg("v"), py::arg("used"), py::arg("weight"))
        .def(
            "truncate",
            [](Self& self, Index used, Index rank) {
                const WithoutGil released;
                self.blocks.truncate(used, rank, threads_for(self.numbers));
            },
            py::arg("used"), py::arg("rank"))
        .def(
            "solve",
            [](const Self& self, const py::array& v, Index used, double damping) {
                py::array out(v.dtype(), std::vector<py::ssize_t>(v.shape(), v.shape() + v.ndim()));
                void* to = out.mutable_data();
                const WithoutGil released;
                const DefaultFloatEnvironment environment;
                const int threads = threads_for(self.numbers);
                if (is_float(v))
                    self.blocks.solve(static_cast<const float*>(v.data()), static_cast<float*>(to), used, damping,
                                      threads);
                else
                    self.blocks.solve(static_cast<const double*>(v.data()), static_cast<double*>(to), used, damping,
                                      threads);
                return out;
            },
            py::arg("v"), py::arg("used"), py::arg("damping"));
}

}  // namespace

void bind_preconditioners(py::module_& module) {
    module.def("finite_moments", finite_moments, py::arg("batches"));
    module.def("update_moments", update, py::arg("batches"));
    bind_kronecker<FactoredKronecker>(module, "FactoredKroneckerLayers");
    bind_kronecker<ExactKronecker>(module, "ExactKroneckerLayers");
    bind_eigenbasis(module);
    bind_low_rank(module);
}

}  // namespace downslope::bindings

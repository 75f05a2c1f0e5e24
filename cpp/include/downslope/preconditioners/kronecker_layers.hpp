// The layers of a network, each with a Kronecker product A (x) G as its curvature: A of its inputs, G of the gradients
// in its outputs.
#pragma once

#include <memory>
#include <type_traits>

#include "../curvature/kronecker.hpp"
#include "second_moments.hpp"

namespace downslope::preconditioners {

using curvature::KroneckerFactors;
using curvature::Outcome;

// A gradient, and in its place the direction made of it: row-major (inputs, outputs), and so here with the inputs as
// columns.
struct LayerGradient {
    std::size_t layer;
    Eigen::Map<MatrixXd> y;
};

// With damping as `Block` has it: FactoredKronecker or ExactKronecker.
template <class Block>
class KroneckerLayers {
public:
    // `reuse` says whether there will be several solutions by each factorization.
    KroneckerLayers(const std::vector<KroneckerFactors>& factors, bool reuse)
        : factors_(factors), reuse_(reuse), blocks_(factors.size()) {}

    // Of these layers. One that fails keeps its last factorization. In an outcome block 0 is A, 1 is G, 2 the product.
    std::vector<Outcome> factorize(const std::vector<std::size_t>& layers, double damping, int threads) {
        std::vector<Outcome> outcomes(layers.size());
        const auto is_large = [&](std::size_t i) {
            const KroneckerFactors& factors = factors_[layers[i]];
            return std::max(factors.a.rows(), factors.b.rows()) >= curvature::large_size;
        };
        curvature::large_then_small(threads, layers.size(), is_large, [&](std::size_t i, int layer_threads) {
            auto block = std::make_unique<Block>(factors_[layers[i]]);
            outcomes[i] = block->factorize({damping}, layer_threads);
            if (!outcomes[i].ok()) return;
            if constexpr (std::is_same_v<Block, curvature::FactoredKronecker>)
                if (reuse_) block->invert();
            blocks_[layers[i]] = std::move(block);
        });
        return outcomes;
    }

    // (A (x) G + damping)^-1 y, in place, for layers that have a factorization.
    void solve(std::vector<LayerGradient>& gradients, int threads) const {
        const auto is_large = [&](std::size_t i) {
            return std::max(gradients[i].y.rows(), gradients[i].y.cols()) > curvature::piece_size;
        };
        curvature::large_then_small(threads, gradients.size(), is_large, [&](std::size_t i, int layer_threads) {
            blocks_[gradients[i].layer]->solve(gradients[i].y, layer_threads);
        });
    }

private:
    std::vector<KroneckerFactors> factors_;
    bool reuse_;
    std::vector<std::unique_ptr<Block>> blocks_;
};

}  // namespace downslope::preconditioners

// Layers with the second moments of their gradients in the eigenbasis of A (x) G.
#pragma once

#include <utility>

#include "kronecker_layers.hpp"

namespace downslope::preconditioners {

using curvature::product;
using curvature::product_transposed;
using curvature::transposed_product;

// S stands for E[(Qa^T a)^2 (Qg^T g)^2], with elements (i, j) for column i of Qa and j of Qg; row-major, and so here
// its transpose.
struct EigenbasisLayer {
    Eigen::Map<MatrixXd> a, g, qa, qg, s;
};

class EigenbasisLayers {
public:
    explicit EigenbasisLayers(const std::vector<EigenbasisLayer>& layers) : layers_(layers), good_(layers.size()) {}

    // New eigenvectors of A and G, and S as the product of the eigenvalues. Layers whose eigenvectors are not found
    // keep what they have. Returns which were refreshed.
    std::vector<unsigned char> refresh(const std::vector<std::size_t>& layers, int threads) {
        std::vector<Eigen::SelfAdjointEigenSolver<MatrixXd>> solvers(2 * layers.size());
        parallel_tasks(threads, static_cast<Index>(solvers.size()), [&](Index task) {
            const auto k = static_cast<std::size_t>(task);
            const EigenbasisLayer& layer = layers_[layers[k / 2]];
            solvers[k].compute(k % 2 == 0 ? layer.a : layer.g);
        });
        std::vector<unsigned char> refreshed(layers.size());
        for (std::size_t k = 0; k < layers.size(); ++k) {
            const auto &a = solvers[2 * k], &g = solvers[2 * k + 1];
            const MatrixXd values = product_transposed(g.eigenvalues().cwiseMax(0), a.eigenvalues().cwiseMax(0));
            refreshed[k] = a.info() == Eigen::Success && g.info() == Eigen::Success && values.allFinite();
            if (!refreshed[k]) continue;
            EigenbasisLayer& layer = layers_[layers[k]];
            layer.qa = a.eigenvectors();
            layer.qg = g.eigenvectors();
            layer.s = values;
        }
        return refreshed;
    }

    struct Update {
        std::size_t layer;
        Examples inputs, output_grads;
        bool with_one;
        double weight;
    };

    // S = weight S + (1 - weight) (mean over examples)
    void update(const std::vector<Update>& updates, int threads) {
        parallel_tasks(threads, static_cast<Index>(updates.size()), [&](Index task) {
            const Update& update = updates[static_cast<std::size_t>(task)];
            EigenbasisLayer& layer = layers_[update.layer];
            const MatrixXd a = squares(update.inputs, layer.qa, update.with_one);
            const MatrixXd g = squares(update.output_grads, layer.qg, false);
            const double share = (1 - update.weight) / static_cast<double>(update.inputs.count);
            layer.s = update.weight * layer.s + share * transposed_product(g, a);
        });
    }

    // Takes S + damping to divide by from now on, unless that is not positive.
    std::vector<Outcome> factorize(const std::vector<std::size_t>& layers, double damping, int threads) {
        std::vector<Outcome> outcomes(layers.size());
        parallel_tasks(threads, static_cast<Index>(layers.size()), [&](Index task) {
            const auto i = static_cast<std::size_t>(task);
            const EigenbasisLayer& layer = layers_[layers[i]];
            MatrixXd inverse = (layer.s.array() + damping).inverse();
            if (!(inverse.array() > 0).all() || !inverse.allFinite())
                outcomes[i] = {curvature::FactorStatus::not_positive_definite, 2};
            else
                good_[layers[i]] = {layer.qa, layer.qg, std::move(inverse)};
        });
        return outcomes;
    }

    // Qg ((Qg^T y Qa) / (S + damping)) Qa^T, in place.
    void solve(std::vector<LayerGradient>& gradients, int threads) const {
        parallel_tasks(threads, static_cast<Index>(gradients.size()), [&](Index task) {
            auto& [layer, y] = gradients[static_cast<std::size_t>(task)];
            const auto& [qa, qg, inverse] = good_[layer];
            const MatrixXd inner = product(transposed_product(qg, y), qa).cwiseProduct(inverse);
            y = product_transposed(product(qg, inner), qa);
        });
    }

private:
    // Of the examples in the eigenbasis, one example a row.
    template <class Basis>
    static MatrixXd squares(const Examples& x, const Basis& q, bool with_one) {
        return with_rows(x, [&](const auto& rows) {
            const MatrixXd examples = rows.template cast<double>().transpose();
            MatrixXd coordinates = product(examples, q.topRows(x.size));
            if (with_one) coordinates.rowwise() += q.row(x.size);
            return MatrixXd(coordinates.cwiseAbs2());
        });
    }

    struct Good {
        MatrixXd qa, qg, inverse;
    };

    std::vector<EigenbasisLayer> layers_;
    std::vector<Good> good_;
};

}  // namespace downslope::preconditioners

// Running second moments of examples, M = E[x x^T].
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "../curvature/concept.hpp"
#include "../parallel.hpp"

namespace downslope::preconditioners {

using curvature::Index;
using curvature::MatrixXd;
using curvature::VectorXd;

// A batch, one example a row in memory, of float or double.
struct Examples {
    const void* data;
    bool is_float;
    Index count, size;
};

template <class T>
using Rows = Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>>;

// Calls body(rows), where column k is example k.
template <class Body>
auto with_rows(const Examples& x, const Body& body) {
    if (x.is_float) return body(Rows<float>(static_cast<const float*>(x.data), x.size, x.count));
    return body(Rows<double>(static_cast<const double*>(x.data), x.size, x.count));
}

// Whether all products of the examples, and their sums, are finite: by Cauchy and Schwarz they are if the sums of
// squares are, with room for rounding.
inline bool has_finite_moments(const Examples& x) {
    return with_rows(x, [](const auto& rows) {
        using T = typename std::decay_t<decltype(rows)>::Scalar;
        Eigen::ArrayXd sums = Eigen::ArrayXd::Zero(rows.rows());
        for (Index k = 0; k < rows.cols(); ++k) sums += rows.col(k).array().template cast<double>().square();
        return (sums < 0.5 * double{std::numeric_limits<T>::max()}).all();
    });
}

// moments = weight moments + (1 - weight) X^T X / count, where each example may go with a 1 after its last number.
struct MomentUpdate {
    Examples x;
    double* moments;
    bool with_one;
    double weight;

    Index size() const { return x.size + with_one; }
};

// Products are taken in the type of the examples; sums over more of them than this, in double.
inline constexpr Index examples_a_sum = 256;

// So wide are the tiles that threads share out: their products are small enough not to be mapped and unmapped by the
// system for every tile.
inline constexpr Index moment_tile = 96;

// One tile of the lower triangle, and the one that mirrors it.
template <class Moments>
void update_tile(const MomentUpdate& update, Moments& moments, Index row, Index col) {
    const Index height = std::min(moment_tile, update.x.size - row);
    const Index width = std::min(moment_tile, update.x.size - col);
    const double share = (1 - update.weight) / static_cast<double>(update.x.count);
    auto tile = moments.block(row, col, height, width);
    with_rows(update.x, [&](const auto& rows) {
        using T = typename std::decay_t<decltype(rows)>::Scalar;
        Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic> product(height, width);
        for (Index first = 0; first < rows.cols(); first += examples_a_sum) {
            const Index count = std::min(examples_a_sum, rows.cols() - first);
            product.noalias() =
                rows.block(row, first, height, count) * rows.block(col, first, width, count).transpose();
            const double weight = first == 0 ? update.weight : 1;
            tile = weight * tile + share * product.template cast<double>();
        }
    });
    if (row == col)
        tile.template triangularView<Eigen::StrictlyUpper>() = tile.transpose();
    else
        moments.block(col, row, width, height) = tile.transpose();
}

// The last row and column, which the 1 makes.
template <class Moments>
void update_border(const MomentUpdate& update, Moments& moments) {
    const Index n = update.x.size;
    VectorXd sum = VectorXd::Zero(n);
    with_rows(update.x, [&](const auto& rows) {
        for (Index k = 0; k < rows.cols(); ++k) sum += rows.col(k).template cast<double>();
    });
    auto border = moments.col(n).head(n);
    border = update.weight * border + (1 - update.weight) / static_cast<double>(update.x.count) * sum;
    moments.row(n).head(n) = border.transpose();
    moments(n, n) = 1;
}

// All of them, in parallel over tiles.
inline void update_moments(const std::vector<MomentUpdate>& updates, int threads) {
    struct Task {
        const MomentUpdate* update;
        Index row, col;
    };
    std::vector<Task> tasks;
    for (const MomentUpdate& update : updates) {
        for (Index row = 0; row < update.x.size; row += moment_tile)
            for (Index col = 0; col <= row; col += moment_tile) tasks.push_back({&update, row, col});
        if (update.with_one) tasks.push_back({&update, update.x.size, 0});
    }
    parallel_tasks(threads, static_cast<Index>(tasks.size()), [&](Index i) {
        const Task& task = tasks[static_cast<std::size_t>(i)];
        Eigen::Map<MatrixXd> moments(task.update->moments, task.update->size(), task.update->size());
        if (task.row == task.update->x.size)
            update_border(*task.update, moments);
        else
            update_tile(*task.update, moments, task.row, task.col);
    });
}

}  // namespace downslope::preconditioners

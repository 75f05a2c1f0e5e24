// Curvatures, by the one concept of cpp/include/downslope/curvature/concept.hpp. What is passed here has been checked
// by Python: arrays are C-contiguous float64 of the right shapes, and sets of vectors hold one vector a row.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "bindings.hpp"
#include "downslope/curvature/block_diagonal.hpp"
#include "downslope/curvature/dense.hpp"
#include "downslope/curvature/diagonal.hpp"
#include "downslope/curvature/kronecker.hpp"
#include "downslope/curvature/low_rank.hpp"
#include "gil.hpp"

namespace py = pybind11;

namespace downslope::bindings {
namespace {

using namespace curvature;
using Doubles = py::array_t<double, py::array::c_style>;

// The status in words, and the block.
py::tuple outcome_of(const Outcome& outcome) {
    constexpr const char* names[] = {"success", "not finite", "not symmetric", "not positive definite"};
    return py::make_tuple(names[static_cast<std::size_t>(outcome.status)], outcome.block);
}

Eigen::Map<const MatrixXd> columns(const Doubles& rows) { return {rows.data(), rows.shape(1), rows.shape(0)}; }
Eigen::Map<MatrixXd> writable_columns(Doubles& rows) { return {rows.mutable_data(), rows.shape(1), rows.shape(0)}; }

// A curvature with the arrays that it looks at.
template <class Curvature>
struct Bound {
    py::object arrays;
    Curvature curvature;
    std::int64_t numbers;  // how many the arrays hold, as a measure of the work

    int threads(Index vectors) const { return threads_for(numbers * std::max<Index>(vectors, 1)); }
};

// Everything but the way in which one is made.
template <class Curvature>
py::class_<Bound<Curvature>> bind_concept(py::module_& module, const char* name) {
    using Self = Bound<Curvature>;
    return py::class_<Self>(module, name, py::module_local())
        .def(
            "multiply",
            [](const Self& self, const Doubles& v) {
                Doubles out({v.shape(0), v.shape(1)});
                const auto from = columns(v);
                auto to = writable_columns(out);
                const WithoutGil released;
                const DefaultFloatEnvironment environment;
                self.curvature.multiply(from, to, self.threads(from.cols()));
                return out;
            },
            py::arg("v"))
        .def(
            "check",
            [](const Self& self, double asymmetry) {
                return outcome_of(without_gil([&] { return self.curvature.check(asymmetry, self.threads(1)); }));
            },
            py::arg("asymmetry"))
        .def(
            "factorize",
            [](Self& self, double damping, bool ensure_positive, double asymmetry) {
                return outcome_of(without_gil([&] {
                    const DefaultFloatEnvironment environment;
                    return self.curvature.factorize({damping, ensure_positive, asymmetry}, self.threads(1));
                }));
            },
            py::arg("damping"), py::arg("ensure_positive"), py::arg("asymmetry"))
        .def(
            "solve",
            [](const Self& self, Doubles& x) {
                auto vectors = writable_columns(x);
                const WithoutGil released;
                const DefaultFloatEnvironment environment;
                return self.curvature.solve(vectors, self.threads(vectors.cols()));
            },
            py::arg("x").noconvert(), "In place. False if the matrix is singular to working precision.")
        .def_property_readonly("shifts", [](const Self& self) {
            const std::vector<double> shifts = self.curvature.shifts();
            return Doubles(static_cast<py::ssize_t>(shifts.size()), shifts.data());
        });
}

template <class Block>
void bind_kronecker(py::module_& module, const char* name) {
    using Self = Bound<Kronecker<Block>>;
    bind_concept<Kronecker<Block>>(module, name)
        .def(py::init([](const std::vector<std::pair<Doubles, Doubles>>& pairs) {
            const auto square = [](const Doubles& matrix) {
                return Eigen::Map<const MatrixXd>(matrix.data(), matrix.shape(0), matrix.shape(0));
            };
            std::vector<KroneckerFactors> factors;
            std::int64_t numbers = 0;
            for (const auto& [a, b] : pairs) {
                factors.push_back({square(a), square(b)});
                numbers += a.size() + b.size() + a.shape(0) * b.shape(0);
            }
            return Self{py::cast(pairs), Kronecker<Block>(std::move(factors)), numbers};
        }));
}

}  // namespace

void bind_curvature(py::module_& module) {
    bind_concept<Dense>(module, "Dense").def(py::init([](const Doubles& h) {
        return Bound<Dense>{h, Dense(h.data(), h.shape(0)), h.size()};
    }));
    bind_concept<Diagonal>(module, "Diagonal").def(py::init([](const Doubles& d) {
        return Bound<Diagonal>{d, Diagonal(d.data(), d.size()), d.size()};
    }));
    bind_concept<BlockDiagonal>(module, "BlockDiagonal")
        .def(py::init([](const Doubles& equal) {
            std::vector<BlockDiagonal::Block> blocks(static_cast<std::size_t>(equal.shape(0)));
            const Index n = equal.shape(1);
            for (std::size_t i = 0; i < blocks.size(); ++i)
                blocks[i] = {equal.data() + static_cast<Index>(i) * n * n, n};
            return Bound<BlockDiagonal>{equal, BlockDiagonal(std::move(blocks)), equal.size()};
        }))
        .def(py::init([](const std::vector<Doubles>& arrays) {
            std::vector<BlockDiagonal::Block> blocks;
            std::int64_t numbers = 0;
            for (const Doubles& array : arrays) {
                blocks.push_back({array.data(), array.shape(0)});
                numbers += array.size();
            }
            return Bound<BlockDiagonal>{py::cast(arrays), BlockDiagonal(std::move(blocks)), numbers};
        }))
        .def(
            "factorize_and_solve",
            [](const Bound<BlockDiagonal>& self, double damping, double asymmetry, Doubles& x) {
                auto vectors = writable_columns(x);
                bool is_regular = true;
                const Outcome outcome = without_gil([&] {
                    const DefaultFloatEnvironment environment;
                    return self.curvature.factorize_and_solve({damping, false, asymmetry}, vectors, is_regular,
                                                              self.threads(vectors.cols()));
                });
                return py::make_tuple(outcome_of(outcome), is_regular);
            },
            py::arg("damping"), py::arg("asymmetry"), py::arg("x").noconvert(), "In place, as both one by one.");
    bind_kronecker<ExactKronecker>(module, "ExactKronecker");
    bind_kronecker<FactoredKronecker>(module, "FactoredKronecker");
    bind_concept<LowRank>(module, "LowRank").def(py::init([](const Doubles& u, const Doubles& diag) {
        return Bound<LowRank>{py::make_tuple(u, diag), LowRank(u.data(), diag.data(), u.shape(0), u.shape(1)),
                              u.size()};
    }));
}

}  // namespace downslope::bindings

// Tall matrices, column by column. Each column is filled up with zeros to whole groups of lanes, so that vector units
// find nothing left over at its end.
#pragma once

#include <cstdint>
#include <type_traits>

#include "vectors.hpp"

namespace downslope {

inline constexpr std::int64_t lanes = 8;

// From one column to the next.
inline std::int64_t stride_of(std::int64_t rows) { return (rows + lanes - 1) / lanes * lanes; }

// What one instruction works on. (GCC keeps wider vectors in memory.)
#if defined(__AVX512F__)
inline constexpr int unit = 8;
#elif defined(__AVX__)
inline constexpr int unit = 4;
#else
inline constexpr int unit = 2;
#endif
typedef double Unit __attribute__((vector_size(unit * sizeof(double)), aligned(sizeof(double)), may_alias));
inline Unit unit_at(const double* x) { return *reinterpret_cast<const Unit*>(x); }
inline Unit& unit_at(double* x) { return *reinterpret_cast<Unit*>(x); }

// A sum in as many lanes as vector units of every width can share.
struct LaneSum {
    static constexpr int units = static_cast<int>(lanes) / unit;
    Unit parts[units] = {};
    double lane(int i) const { return parts[i / unit][i % unit]; }
    double total() const {
        const auto pair = [this](int i) { return lane(i) + lane(i + 4); };
        return (pair(0) + pair(2)) + (pair(1) + pair(3));
    }
};

// The loops below take several columns at a time, since each sum alone would wait for its latest addition.
template <class Body>
void each_columns(std::int64_t count, const Body& body) {
    std::int64_t k = 0;
    for (; count - k > 4; k += 4) body(k, std::integral_constant<int, 4>());
    switch (count - k) {
        case 4:
            return body(k, std::integral_constant<int, 4>());
        case 3:
            return body(k, std::integral_constant<int, 3>());
        case 2:
            return body(k, std::integral_constant<int, 2>());
        case 1:
            return body(k, std::integral_constant<int, 1>());
    }
}

template <int width>
void dots_of(const double* a, std::int64_t a_stride, const double* b, std::int64_t b_stride, std::int64_t rows,
             double* out) {
    LaneSum sums[width];
    for (std::int64_t i = 0; i < rows; i += lanes)
        for (int k = 0; k < width; ++k)
            for (int p = 0; p < LaneSum::units; ++p)
                sums[k].parts[p] += unit_at(a + k * a_stride + i + p * unit) * unit_at(b + k * b_stride + i + p * unit);
    for (int k = 0; k < width; ++k) out[k] = sums[k].total();
}

// out[k] = a_k . b_k, of so many columns of two matrices; a stride of 0 stands for one vector again and again.
inline void dots(const double* a, std::int64_t a_stride, const double* b, std::int64_t b_stride, std::int64_t count,
                 std::int64_t rows, double* out) {
    each_columns(count, [=](std::int64_t k, auto width) {
        dots_of<width>(a + k * a_stride, a_stride, b + k * b_stride, b_stride, rows, out + k);
    });
}

template <int width>
void add_to_columns_of(const double* factors, const double* a, double* b, std::int64_t stride, std::int64_t rows,
                       double* squares) {
    LaneSum sums[width];
    for (std::int64_t i = 0; i < rows; i += lanes)
        for (int k = 0; k < width; ++k)
            for (int p = 0; p < LaneSum::units; ++p) {
                double* const place = b + k * stride + i + p * unit;
                const Unit moved = unit_at(place) + factors[k] * unit_at(a + i + p * unit);
                unit_at(place) = moved;
                sums[k].parts[p] += moved * moved;
            }
    for (int k = 0; k < width; ++k) squares[k] = sums[k].total();
}

// b_k += factors[k] a; squares[k] = b_k . b_k.
inline void add_to_columns(const double* factors, const double* a, double* b, std::int64_t stride, std::int64_t count,
                           std::int64_t rows, double* squares) {
    each_columns(count, [=](std::int64_t k, auto width) {
        add_to_columns_of<width>(factors + k, a, b + k * stride, stride, rows, squares + k);
    });
}

}  // namespace downslope

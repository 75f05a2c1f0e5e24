// The few vector operations that loops need, in float64; the same bits on every instruction set.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#include "../parallel.hpp"

namespace downslope {

// Storage whose cache lines nothing else shares: small vectors of two threads on one line would slow both down.
inline constexpr std::size_t cache_line = 128;  // processors fetch lines of 64 bytes in pairs
template <class T>
struct OwnLines {
    using value_type = T;
    T* allocate(std::size_t n) {
        const std::size_t bytes = (n * sizeof(T) + cache_line - 1) / cache_line * cache_line;
        return static_cast<T*>(::operator new(bytes, std::align_val_t(cache_line)));
    }
    void deallocate(T* p, std::size_t) { ::operator delete(p, std::align_val_t(cache_line)); }
    friend bool operator==(const OwnLines&, const OwnLines&) { return true; }
    friend bool operator!=(const OwnLines&, const OwnLines&) { return false; }
};
using Doubles = std::vector<double, OwnLines<double>>;

// Added up in eight lanes, which vector units of every width can share, and what is left one after the other.
inline double dot(const double* a, const double* b, std::int64_t n) {
    constexpr std::int64_t lanes = 8;
    double sum = n % lanes == 0 ? 0 : a[n - 1] * b[n - 1];
    for (std::int64_t i = n - 1; i-- > n - n % lanes;) sum += a[i] * b[i];
    if (n < lanes) return sum;
    std::array<double, lanes> sums{};
    for (std::int64_t i = 0; i + lanes <= n; i += lanes)
        for (std::int64_t k = 0; k < lanes; ++k) sums[static_cast<std::size_t>(k)] += a[i + k] * b[i + k];
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7])) + sum;
}

// y += a x
inline void add_scaled(double a, const double* x, double* y, std::int64_t n) {
    DOWNSLOPE_SIMD
    for (std::int64_t i = 0; i < n; ++i) y[i] += a * x[i];
}

// The largest magnitude; NaN if there is a NaN. As integers, the bits of magnitudes are in the same order, with
// infinity and NaN above all.
inline double max_norm(const double* x, std::int64_t n) {
    std::uint64_t largest = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        std::uint64_t bits;
        std::memcpy(&bits, x + i, sizeof bits);
        largest = std::max(largest, bits & ~(std::uint64_t{1} << 63));
    }
    double norm;
    std::memcpy(&norm, &largest, sizeof norm);
    return norm;
}

inline double max_distance(const double* x, const double* y, std::int64_t n) {
    double largest = 0;
    for (std::int64_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(x[i] - y[i]));
    return largest;
}

// The Euclidean norm, also where squares would overflow or vanish; of their sum, where it is known.
inline double norm(double squares, const double* x, std::int64_t n) {
    if (squares > 1e-280 && squares < 1e300) return std::sqrt(squares);
    const double largest = max_norm(x, n);
    if (largest == 0 || !std::isfinite(largest)) return largest;
    double sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += (x[i] / largest) * (x[i] / largest);
    return largest * std::sqrt(sum);
}
inline double norm(const double* x, std::int64_t n) { return norm(dot(x, x, n), x, n); }

// By how much values of about this size may well differ by rounding alone, since most are sums of larger terms.
inline double rounding_of(double f) { return 100 * std::numeric_limits<double>::epsilon() * std::abs(f); }

}  // namespace downslope

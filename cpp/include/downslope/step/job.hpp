// What the step of one array consists of.
#pragma once

#include <algorithm>
#include <cstdint>

#include "random_bits.hpp"
#include "storage.hpp"

namespace downslope {

// How the state of an array is stored: in the type that it is computed in, as bfloat16, or as blocks of 8-bit codes.
enum class StateStorage : std::uint8_t { native, bfloat16, uint8 };

struct Job;
using Kernel = void (*)(const Job&, std::int64_t first, std::int64_t last) noexcept;

struct Job {
    Kernel kernel;
    const void* coefficients;  // the rule's Coefficients<T>
    const void* surroundings;  // Surroundings<T>, for a general kernel
    const View* param;
    const View* grad;
    const View* state;            // one view for each slot
    float* const* scales;         // of 8-bit state, for each slot
    const View* average;          // of the parameter, or nullptr
    const std::int64_t* rows;     // the rows of the array that the gradient has, or nullptr for all
    std::int64_t row_length;      // in elements, where there are `rows`
    std::uint64_t random_stream;  // where something is rounded stochastically
    bool rounds_parameter;        // whether the parameter is
    std::int64_t size;            // of the gradient
    std::int64_t first_tile;

    bool does_the_same_as(const Job& other) const {
        return kernel == other.kernel && coefficients == other.coefficients && surroundings == other.surroundings &&
               param == other.param && grad == other.grad && state == other.state && scales == other.scales &&
               average == other.average && rows == other.rows && row_length == other.row_length &&
               random_stream == other.random_stream && rounds_parameter == other.rounds_parameter &&
               size == other.size && first_tile == other.first_tile;
    }

    // Where the gradient's element `at` lies in the array, in C order.
    std::int64_t in_array(std::int64_t at) const {
        return rows == nullptr ? at : rows[at / row_length] * row_length + at % row_length;
    }
    // How many elements from there on, up to n, lie one behind the other there; of rows, in the same block, too.
    std::int64_t run_length(std::int64_t at, std::int64_t n) const {
        if (rows == nullptr) return n;
        return std::min({n, row_length - at % row_length, block_size - in_array(at) % block_size});
    }
};

// The view's elements [at, at + n): its own memory, where that is of the compute type, or else decoded into the buffer.
template <class T>
T* decoded(const View& view, std::int64_t at, std::int64_t n, T* buffer) {
    if (is_direct<T>(view)) return reinterpret_cast<T*>(view.data) + at;
    decode(view, at, n, buffer);
    return buffer;
}

}  // namespace downslope

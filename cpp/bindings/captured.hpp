// NumPy arrays as the core sees them: what is captured of them once, and what must still hold at every step.
#pragma once

#include <pybind11/numpy.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "downslope/step/stepper.hpp"

namespace downslope::bindings {

namespace py = pybind11;

inline std::string text(const py::handle& object) { return py::str(object).cast<std::string>(); }
inline std::string class_name(const py::handle& object) { return text(py::type::of(object).attr("__name__")); }

[[noreturn]] inline void raise_value_error(const std::string& message) { throw py::value_error(message); }
[[noreturn]] inline void raise_runtime_error(const std::string& message) {
    PyErr_SetString(PyExc_RuntimeError, message.c_str());
    throw py::error_already_set();
}
[[noreturn]] inline void raise_type_error(const std::string& message) { throw py::type_error(message); }

inline bool is_masked(const py::handle& array) {
    const bool is_plain = Py_TYPE(array.ptr()) == py::detail::npy_api::get().PyArray_Type_;
    return !is_plain && py::isinstance(array, py::module_::import("numpy").attr("ma").attr("MaskedArray"));
}

// How elements of this dtype are stored, if a step can work on them. bfloat16 is ml_dtypes', known by its name.
inline std::optional<Storage> storage_of_dtype(const py::dtype& dtype) {
    constexpr int float16_num = 23;
    if (dtype.kind() == 'V' && dtype.itemsize() == 2 && text(dtype.attr("name")) == "bfloat16")
        return Storage::bfloat16;
    if (dtype.byteorder() != '=') return std::nullopt;
    if (dtype.num() == py::dtype::of<float>().num()) return Storage::float32;
    if (dtype.num() == py::dtype::of<double>().num()) return Storage::float64;
    if (dtype.num() == float16_num) return Storage::float16;
    return std::nullopt;
}

// By number, since an array that was unpickled has a dtype object of its own.
template <class T>
bool has_dtype(const py::array& array) {
    const py::dtype dtype = array.dtype();
    return dtype.num() == py::dtype::of<T>().num() && (dtype.byteorder() == '=' || dtype.byteorder() == '|');
}

inline const char* name_of(Storage storage) {
    constexpr const char* names[] = {"float32", "float64", "float16", "bfloat16"};
    return names[static_cast<std::size_t>(storage)];
}

inline bool is_real(const py::dtype& dtype) { return std::string("fiu").find(dtype.kind()) != std::string::npos; }

// What a view of an array rests on. Compared at every step, so it reads the array's fields without taking references.
class Snapshot {
public:
    void forget() { type_ = py::object(); }

    void take(const py::array& array) {
        dtype_ = array.dtype();
        data_ = array.data();
        shape_.assign(array.shape(), array.shape() + array.ndim());
        strides_.assign(array.strides(), array.strides() + array.ndim());
        type_ = py::type::of(array);
    }

    bool still_holds(const py::handle& object) const {
        if (!py::type::handle_of(object).is(type_)) return false;
        const auto* array = py::detail::array_proxy(object.ptr());
        if (array->data != data_ || array->descr != dtype_.ptr()) return false;
        if (array->nd != static_cast<int>(shape_.size())) return false;
        for (std::size_t k = 0; k < shape_.size(); ++k)
            if (array->dimensions[k] != shape_[k] || array->strides[k] != strides_[k]) return false;
        return true;
    }

private:
    py::object type_, dtype_;
    const void* data_ = nullptr;
    std::vector<py::ssize_t> shape_, strides_;
};

// Whether to walk the array from its last axis to its first: that makes a Fortran-ordered parameter, the state that
// goes with it and a gradient in the same order contiguous. A rule does not see the order; what depends on an
// element's place in C order (norms, rows, codes, random bits) is walked forwards.
inline bool walks_backwards(const py::array& param) {
    return (param.flags() & py::array::f_style) != 0 && (param.flags() & py::array::c_style) == 0;
}

inline View view_of(const py::array& array, Storage storage, bool backwards) {
    void* data = const_cast<void*>(array.data());
    const int contiguous =
        (backwards ? py::array::f_style : py::array::c_style) | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    if ((array.flags() & contiguous) == contiguous) return {static_cast<std::byte*>(data), array.size(), storage, {}};
    std::vector<Axis> axes(static_cast<std::size_t>(array.ndim()));
    for (std::size_t k = 0; k < axes.size(); ++k)
        axes[k] = {array.shape(static_cast<py::ssize_t>(k)), array.strides(static_cast<py::ssize_t>(k))};
    if (backwards) std::reverse(axes.begin(), axes.end());
    return make_view(data, storage, axes);
}

// The addresses [low, high) between which an array's elements lie.
inline std::pair<std::uintptr_t, std::uintptr_t> interval(const py::array& array) {
    auto low = reinterpret_cast<std::uintptr_t>(array.data()),
         high = low + static_cast<std::uintptr_t>(array.itemsize());
    for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
        const py::ssize_t reach = (array.shape(axis) - 1) * array.strides(axis);
        (reach < 0 ? low : high) += static_cast<std::uintptr_t>(reach);
    }
    return {low, array.size() == 0 ? low : high};
}

inline bool same_shape(const py::array& a, const py::array& b) {
    return std::equal(a.shape(), a.shape() + a.ndim(), b.shape(), b.shape() + b.ndim());
}

inline bool is_c_contiguous(const py::array& array) { return (array.flags() & py::array::c_style) != 0; }

// How the state of a parameter is stored, if it fits that parameter, which may have been changed since the state was
// made: of the compute type, as bfloat16 bits, or as codes with scales.
inline std::optional<StateStorage> state_storage(const py::array& state, const py::object& scales,
                                                 const py::array& param, Compute compute) {
    if (!same_shape(state, param)) return std::nullopt;
    if (scales.is_none()) {
        if (has_dtype<std::uint16_t>(state) && is_c_contiguous(state)) return StateStorage::bfloat16;
        const auto storage = storage_of_dtype(state.dtype());
        const bool fits = storage && item_size(*storage) >= 4 && compute_type(*storage) == compute;
        return fits ? std::optional(StateStorage::native) : std::nullopt;
    }
    const auto blocks = py::cast<py::array>(scales);
    const bool fits = has_dtype<std::uint8_t>(state) && is_c_contiguous(state) && has_dtype<float>(blocks) &&
                      is_c_contiguous(blocks) && blocks.size() == (param.size() + block_size - 1) / block_size;
    return fits ? std::optional(StateStorage::uint8) : std::nullopt;
}

// NumPy's exact answer, asked of plain arrays, since a subclass may have an answer of its own.
inline bool share_elements(const py::array& a, const py::array& b) {
    const py::module_ numpy = py::module_::import("numpy");
    return numpy.attr("shares_memory")(numpy.attr("asarray")(a), numpy.attr("asarray")(b)).cast<bool>();
}

// Memory that a step writes: no parameter or gradient may share it.
struct Protected {
    std::uintptr_t low, high, highest_so_far;
    py::array array;
    std::string name;
};

// The arrays of an optimizer: checked by Python, captured here.
struct Captured {
    std::vector<std::string> labels;  // "", "[0]" or "['name']", as in params[0]
    std::vector<py::array> params;
    std::vector<Snapshot> snapshots;
    std::vector<py::object> kept;  // everything whose memory a step writes
    std::vector<Protected> protected_memory;
    std::vector<Array> arrays;

    // `rows` of (label, group, parameter, its storage, pairs of state array and scales or None, average or None, step
    // count, running product or None)
    explicit Captured(const py::list& rows) {
        for (const py::handle& item : rows) {
            const auto row = item.cast<py::tuple>();
            const auto param = row[2].cast<py::array>();
            labels.push_back(row[0].cast<std::string>());
            const Storage storage = storage_named(row[3].cast<std::string>());
            const auto misfit = [&] {
                raise_value_error("params" + labels.back() +
                                  " has been given another shape or dtype than its state has");
            };
            const bool is_of_bits = storage == Storage::bfloat16 && has_dtype<std::uint16_t>(param);
            if (!is_of_bits && storage_of_dtype(param.dtype()) != storage) misfit();
            Array array{};
            array.group = row[1].cast<std::size_t>();
            array.compute = compute_type(storage);
            const Storage native = array.compute == Compute::float32 ? Storage::float32 : Storage::float64;
            const std::string state_name = "the state of params" + labels.back();

            protect(param, "params" + labels.back());
            for (const py::handle& pair : row[4]) {
                const auto state = pair.cast<py::tuple>();
                const auto stored = state_storage(state[0].cast<py::array>(), state[1], param, array.compute);
                if (!stored) misfit();
                array.state_storage = *stored;
                check_writeable(state[0].cast<py::array>(), state_name);
                if (*stored == StateStorage::uint8) {
                    check_writeable(state[1].cast<py::array>(), state_name);
                    array.scales.push_back(static_cast<float*>(state[1].cast<py::array>().mutable_data()));
                    protect(state[1].cast<py::array>(), state_name);
                }
                protect(state[0].cast<py::array>(), state_name);
            }
            const auto operands = [&](bool backwards) {
                Operands made{view_of(param, storage, backwards), {}, std::nullopt};
                for (const py::handle& pair : row[4])
                    made.state.push_back(view_of(pair.cast<py::tuple>()[0].cast<py::array>(), native, backwards));
                if (!row[5].is_none()) made.average = view_of(row[5].cast<py::array>(), native, backwards);
                return made;
            };
            array.operands = operands(false);
            if (walks_backwards(param) && array.state_storage == StateStorage::native) array.reversed = operands(true);
            if (!row[5].is_none()) {
                const auto average = row[5].cast<py::array>();
                if (!same_shape(average, param) || storage_of_dtype(average.dtype()) != native) misfit();
                check_writeable(average, "the average of params" + labels.back());
                protect(average, "the average of params" + labels.back());
            }
            array.step_count = static_cast<std::int64_t*>(row[6].cast<py::array>().mutable_data());
            protect(row[6].cast<py::array>(), state_name);
            if (!row[7].is_none()) {
                array.product = static_cast<double*>(row[7].cast<py::array>().mutable_data());
                protect(row[7].cast<py::array>(), state_name);
            }
            arrays.push_back(std::move(array));
            params.push_back(param);
            snapshots.emplace_back().take(param);
            kept.push_back(row);
        }
        std::sort(protected_memory.begin(), protected_memory.end(),
                  [](const auto& a, const auto& b) { return a.low < b.low; });
        std::uintptr_t highest = 0;
        for (Protected& entry : protected_memory) {
            entry.highest_so_far = highest = std::max(highest, entry.high);
            if (const Protected* other = first_sharing(entry.array, entry.low, &entry))
                raise_value_error(entry.name + " and " + other->name + " share memory: pass each array only once");
        }
    }

    // What the array shares memory with, or nullptr.
    const Protected* sharing_with(const py::array& array) const {
        const auto [low, high] = interval(array);
        const auto end =
            std::lower_bound(protected_memory.begin(), protected_memory.end(), high,
                             [](const Protected& entry, std::uintptr_t address) { return entry.low < address; });
        return low == high ? nullptr
                           : first_sharing(array, low, protected_memory.data() + (end - protected_memory.begin()));
    }

private:
    static void check_writeable(const py::array& array, const std::string& name) {
        if (!array.writeable()) raise_value_error(name + " is read-only");
    }

    static Storage storage_named(const std::string& name) {
        for (const Storage storage : {Storage::float32, Storage::float64, Storage::float16, Storage::bfloat16})
            if (name == name_of(storage)) return storage;
        throw py::key_error(name);
    }

    // The last one before `end` that shares elements with the array; NumPy is asked only where address intervals meet.
    const Protected* first_sharing(const py::array& array, std::uintptr_t low, const Protected* end) const {
        while (end != protected_memory.data() && (--end)->highest_so_far > low)
            if (end->high > low && share_elements(array, end->array)) return end;
        return nullptr;
    }

    void protect(const py::array& array, std::string name) {
        const auto [low, high] = interval(array);
        if (low < high) protected_memory.push_back({low, high, 0, array, std::move(name)});
    }
};

}  // namespace downslope::bindings

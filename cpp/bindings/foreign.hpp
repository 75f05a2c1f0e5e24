// Arrays of other libraries as NumPy arrays that share their memory: by DLPack, by NumPy's `__array_interface__`, or,
// for PyTorch, by its own means.
#pragma once

#include <pybind11/numpy.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "captured.hpp"

namespace downslope::bindings {

// The structs of DLPack that cross from one library to another, as github.com/dmlc/dlpack, include/dlpack/dlpack.h,
// lays them out since version 1.0, with what is asked of them here. How they travel through Python is part of the array
// API standard, https://data-apis.org/array-api/2023.12/, and of DLPack's own docs/source/python_spec.rst.
namespace dlpack {

struct Device {
    static constexpr std::int32_t cpu = 1, cuda_host = 3, rocm_host = 11;

    std::int32_t type, id;

    // Pinned memory of the host is as good as any other; copies to and from a device are for its owner to wait for.
    bool is_host() const { return type == cpu || type == cuda_host || type == rocm_host; }
};

struct ElementType {
    static constexpr std::uint8_t bfloat = 4;

    std::uint8_t code, bits;
    std::uint16_t lanes;

    bool is_bfloat16() const { return code == bfloat && bits == 16 && lanes == 1; }
};

struct Tensor {
    void* data;
    Device device;
    std::int32_t ndim;
    ElementType type;
    const std::int64_t* shape;
    const std::int64_t* strides;  // in elements; nullptr: in C order without gaps
    std::uint64_t byte_offset;
};

// Before version 1.0. It cannot say whether the memory may be written, and JAX exports immutable arrays so: to be on
// the safe side it counts as read-only, as in NumPy (its pull request 28600).
struct Managed {
    static constexpr const char *name = "dltensor", *used_name = "used_dltensor";

    Tensor tensor;
    void* context;
    void (*deleter)(Managed*);
};

struct ManagedVersioned {
    static constexpr const char *name = "dltensor_versioned", *used_name = "used_dltensor_versioned";
    static constexpr std::uint64_t read_only = 1, is_copied = 2;  // bits of `flags`

    std::uint32_t major, minor;  // where `major` differs, all behind the deleter may be laid out differently
    void* context;
    void (*deleter)(ManagedVersioned*);
    std::uint64_t flags;
    Tensor tensor;
};

template <class M>
void release(PyObject* owner) {
    const py::error_scope kept;  // deleters may run code of Python's
    auto* managed = static_cast<M*>(PyCapsule_GetPointer(owner, nullptr));
    if (managed->deleter != nullptr) managed->deleter(managed);
}

// What the capsule holds, from here on in another one, whose end calls the deleter: once, whatever happens until then.
template <class M>
py::capsule taken_from(const py::object& capsule) {
    py::capsule owner(PyCapsule_GetPointer(capsule.ptr(), M::name));
    PyCapsule_SetName(capsule.ptr(), M::used_name);  // so that its own end leaves the memory alone
    PyCapsule_SetDestructor(owner.ptr(), release<M>);
    return owner;
}

}  // namespace dlpack

struct SharedArray {
    py::array array;
    bool is_bfloat16;  // its elements, as the bits of unsigned integers
};

inline std::string unshared(const std::string& name, const py::handle& object, const std::string& why,
                            const std::string& advice = "pass a dense copy on the CPU") {
    const py::object device = py::getattr(object, "device", py::none());
    const std::string place = device.is_none() ? "" : " on the device " + text(device);
    return name + " is a " + class_name(object) + place + ", whose memory cannot be shared (" + why + "): " + advice;
}

inline SharedArray array_over(const dlpack::Tensor& tensor, const py::capsule& owner, bool read_only,
                              const std::string& name, const py::handle& object) {
    // What counts is the device of this very memory, so `__dlpack_device__` is not asked.
    if (!tensor.device.is_host())
        raise_type_error(
            unshared(name, object, "DLPack's device type " + std::to_string(tensor.device.type) + " is no CPU"));
    const auto [code, bits, lanes] = tensor.type;
    const char kind = tensor.type.is_bfloat16() ? 'u' : code < 7 ? "iuf??cb"[code] : '?';
    if (kind == '?' || bits % 8 != 0 || lanes != 1)
        raise_type_error(unshared(name, object,
                                  "DLPack's type code " + std::to_string(code) + " with " + std::to_string(bits) +
                                      " bits and " + std::to_string(lanes) + " lanes is no dtype of NumPy's",
                                  "pass float32 or float64"));
    const std::vector<py::ssize_t> shape(tensor.shape, tensor.shape + tensor.ndim);
    const py::dtype dtype(kind + std::to_string(bits / 8));
    std::vector<py::ssize_t> strides;
    if (tensor.strides != nullptr)
        for (std::int32_t k = 0; k < tensor.ndim; ++k) strides.push_back(tensor.strides[k] * dtype.itemsize());
    const bool is_empty = std::find(shape.begin(), shape.end(), 0) != shape.end();
    if (tensor.data == nullptr && !is_empty) raise_type_error(unshared(name, object, "it has none"));
    // An empty array needs no owner, and gets none if there is no address.
    const auto* data = tensor.data == nullptr ? nullptr : static_cast<std::byte*>(tensor.data) + tensor.byte_offset;
    py::array array(dtype, shape, strides, data, owner);
    if (read_only) py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
    return {std::move(array), tensor.type.is_bfloat16()};
}

inline SharedArray shared_by_dlpack(const std::string& name, const py::handle& object) {
    const py::object exporter = object.attr("__dlpack__");
    py::object capsule;
    try {
        capsule = exporter(py::arg("max_version") = py::make_tuple(1, 0));
    } catch (const py::error_already_set& error) {
        if (!error.matches(PyExc_TypeError)) throw;
        capsule = exporter();  // the keyword is younger than the method
    }
    if (PyCapsule_IsValid(capsule.ptr(), dlpack::ManagedVersioned::name)) {
        const auto owner = dlpack::taken_from<dlpack::ManagedVersioned>(capsule);
        const auto& managed = *owner.get_pointer<const dlpack::ManagedVersioned>();
        if (managed.major != 1)
            raise_type_error(unshared(name, object, "it came as DLPack " + std::to_string(managed.major) + ", not 1"));
        if ((managed.flags & managed.is_copied) != 0)
            raise_type_error(unshared(name, object, "its __dlpack__ makes a copy"));
        return array_over(managed.tensor, owner, (managed.flags & managed.read_only) != 0, name, object);
    }
    if (PyCapsule_IsValid(capsule.ptr(), dlpack::Managed::name)) {
        const auto owner = dlpack::taken_from<dlpack::Managed>(capsule);
        return array_over(owner.get_pointer<const dlpack::Managed>()->tensor, owner, true, name, object);
    }
    raise_type_error(unshared(name, object, "its __dlpack__ gave no tensor, but " + text(py::repr(capsule))));
}

// Nothing, if the object is no tensor of PyTorch's. To those, DLPack is not safe: as of PyTorch 2.13 it lets go of lent
// memory when the tensor is resized or given other memory, exports what it would negate on reading as it is, and knows
// version 1.0 for a short time only. Its own `numpy` keeps and locks the memory, refuses the second, and is faster.
inline std::optional<SharedArray> shared_by_torch(const std::string& name, const py::handle& object) {
    const auto torch = py::reinterpret_steal<py::object>(PyImport_GetModule(py::str("torch").ptr()));  // if imported
    if (!torch || !py::hasattr(torch, "Tensor") || !py::isinstance(object, torch.attr("Tensor"))) return std::nullopt;
    if (object.attr("requires_grad").cast<bool>())
        raise_type_error(name + " requires grad: pass its detach(), which shares its memory");
    if (!object.attr("dtype").is(torch.attr("bfloat16"))) return SharedArray{object.attr("numpy")(), false};
    return SharedArray{object.attr("view")(torch.attr("int16")).attr("numpy")().attr("view")("uint16"), true};
}

// Nothing, if what NumPy makes of the object is a copy: of a NumPy scalar, say, or of a string of bytes that the object
// made on the spot, as an image of Pillow's does.
inline std::optional<py::array> shared_by_interface(const py::handle& object) {
    const auto data = py::dict(object.attr("__array_interface__")).attr("get")("data");
    if (!py::isinstance<py::tuple>(data)) return std::nullopt;  // (address, read-only)
    const py::array array = py::module_::import("numpy").attr("asarray")(object);
    if (array.owndata()) return std::nullopt;
    return array;
}

// The array itself, or one that shares the memory of an object of another library and keeps that alive. Otherwise a
// TypeError: never a copy.
inline SharedArray shared_array(const std::string& name, const py::handle& object) {
    if (py::isinstance<py::array>(object)) return {py::reinterpret_borrow<py::array>(object), false};
    try {
        if (auto shared = shared_by_torch(name, object)) return *std::move(shared);
        if (py::hasattr(object, "__dlpack__")) return shared_by_dlpack(name, object);
        if (py::hasattr(object, "__array_interface__"))
            if (auto array = shared_by_interface(object)) return {*std::move(array), false};
    } catch (py::error_already_set& error) {  // of the object's own
        if (!error.matches(PyExc_Exception) || error.matches(PyExc_MemoryError)) throw;
        const std::string message = unshared(name, object, text(error.value()));
        py::raise_from(error, PyExc_TypeError, message.c_str());
        throw py::error_already_set();
    }
    raise_type_error(name + " must be a NumPy array, got " + class_name(object) +
                     ", whose memory cannot be shared: pass numpy.asarray of it");
}

}  // namespace downslope::bindings

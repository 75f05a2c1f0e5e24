// How arrays are stored, and what lies in coded state.
#include <pybind11/numpy.h>

#include "bindings.hpp"
#include "captured.hpp"
#include "downslope/step/codecs.hpp"

namespace py = pybind11;

namespace downslope::bindings {
namespace {

using Codes = py::array_t<std::uint8_t, py::array::c_style>;
using Halves = py::array_t<std::uint16_t, py::array::c_style>;
using Floats = py::array_t<float, py::array::c_style>;

template <class Array>
Array like(const py::array& array) {
    return Array(std::vector<py::ssize_t>(array.shape(), array.shape() + array.ndim()));
}

Floats decode_bfloat16(const Halves& bits) {
    auto values = like<Floats>(bits);
    for (py::ssize_t i = 0; i < bits.size(); ++i)
        values.mutable_data()[i] = static_cast<float>(BFloat16{bits.data()[i]});
    return values;
}

Halves encode_bfloat16(const Floats& values) {
    auto bits = like<Halves>(values);
    for (py::ssize_t i = 0; i < values.size(); ++i) bits.mutable_data()[i] = BFloat16::nearest(values.data()[i]).bits;
    return bits;
}

Floats decode_blocks(const Codes& codes, const Floats& scales, bool never_negative) {
    auto values = like<Floats>(codes);
    for (py::ssize_t i = 0; i < codes.size(); ++i) {
        const std::uint8_t code = codes.data()[i];
        values.mutable_data()[i] =
            scales.data()[i / block_size] *
            (never_negative ? UnsignedCode::value(code) : SignedCode::value(static_cast<SignedCode::Byte>(code)));
    }
    return values;
}

// The same memory in an array whose base is nothing that Python could give other memory.
py::array fixed_in_place(const py::array& array) {
    auto* owner = new py::array(array);
    const py::capsule base(owner, [](void* pointer) { delete static_cast<py::array*>(pointer); });
    return py::array(array.dtype(), std::vector<py::ssize_t>(array.shape(), array.shape() + array.ndim()),
                     std::vector<py::ssize_t>(array.strides(), array.strides() + array.ndim()), array.data(), base);
}

}  // namespace

void bind_codecs(py::module_& module) {
    module.def("fixed_in_place", &fixed_in_place, py::arg("array"),
               "The array in memory that nobody can take away by resizing it.");
    module.def(
        "storage_of",
        [](const py::array& array) -> py::object {
            const auto storage = storage_of_dtype(array.dtype());
            return storage ? py::cast(name_of(*storage)) : py::none();
        },
        py::arg("array"), "The name of the number format of an array that a step can work on, or None.");
    module.def("decode_bfloat16", &decode_bfloat16, py::arg("bits"), "The numbers in an array of bfloat16 bits.");
    module.def("decode_blocks", &decode_blocks, py::arg("codes"), py::arg("scales"), py::arg("never_negative"),
               "The numbers in 8-bit state.");
    module.def("encode_bfloat16", &encode_bfloat16, py::arg("values"), "The bits of the nearest bfloat16 numbers.");
    module.def(
        "encode_constant",
        [](double value) {
            const float x = toward_zero(value);
            const BlockScale block(bits_of(x));
            const std::uint8_t code = block.finite ? UnsignedCode::encode(x * block.inverse, 1u << 19) : 0;
            return py::make_tuple(BFloat16::nearest(x).bits, code, block.scale);
        },
        py::arg("value"),
        "The bits of the bfloat16 number nearest to one that is not negative; and the nearest code of a block full of "
        "it, with the scale.");
    module.attr("block_size") = block_size;
}

}  // namespace downslope::bindings

"""The state of one parameter: a mapping from slot name to array, with its step count and, for NAdam, a product.

State of ``state_dtype="bfloat16"`` is kept as the bits of the numbers, in uint16; ``"uint8"`` as codes, with another
array, ``<slot>_scale``, of one scale for every 256 of them.
"""

import numpy as np

from downslope._extension import core
from downslope.rules.arrays import compute_dtype
from downslope.validation import integer

MAX_STEPS = 2**62  # so that the core can count on
# 0-d arrays, of int64 and float64.
COUNTERS = ("step", "mu_product")


def new_counters(count):
    """The step counts and products of so many parameters, still at the start."""
    # Side by side, not among the arrays that other threads write: sharing cache lines with them costs more than a step.
    steps, products = np.zeros(count, np.int64), np.ones(count)
    return [{"step": steps[i : i + 1].reshape(()), "mu_product": products[i : i + 1].reshape(())} for i in range(count)]


def new_state(rule, hyper, param, storage, state_dtype, known):
    """The state that `param` needs under `hyper`: from `known`, which has at least the counters, or new."""
    layout, fill, carries_product = core.state_layout(rule, hyper)
    slots = {}
    for name, _ in layout:
        made = {key: known[key] for key in (name, _scale(name)) if key in known}
        slots.update(made or _new_slot(name, fill, param, storage, state_dtype))
    for name in COUNTERS if carries_product else COUNTERS[:1]:
        slots[name] = known[name]
    return fixed_in_place(slots)


def _new_slot(name, fill, param, storage, state_dtype):
    """A slot full of one number."""
    bits, code, scale = core.encode_constant(compute_dtype(storage)(fill))
    if state_dtype == "uint8":
        blocks = -(-param.size // core.block_size)
        return {name: _full(param.shape, code, np.uint8), _scale(name): _full(blocks, scale, np.float32)}
    if state_dtype == "bfloat16":
        return {name: _full(param.shape, bits, np.uint16)}
    # A Fortran-ordered parameter gets state in the same order, so that they can be walked together.
    order = "F" if param.flags.f_contiguous and not param.flags.c_contiguous else "C"
    return {name: _full(param.shape, fill, compute_dtype(storage), order)}


def _full(shape, fill, dtype, order="C"):
    array = np.zeros(shape, dtype, order)  # zeros are had from the system without being written
    if fill != 0:
        array.fill(fill)
    return array


def _scale(name):
    return f"{name}_scale"


def slot_values(slots, name, never_negative=False):
    """The numbers in a slot, however it is stored."""
    if _scale(name) in slots:
        return core.decode_blocks(slots[name], slots[_scale(name)], never_negative)
    return core.decode_bfloat16(slots[name]) if slots[name].dtype == np.uint16 else slots[name]


def restored_state(slots, counters):
    """The state of a copy, whose counts `counters` take over."""
    for name in COUNTERS:
        if name in slots:
            counters[name][...] = slots[name]
    return fixed_in_place({name: counters.get(name, writeable(array)) for name, array in slots.items()})


def writeable(array):
    """The array, or a copy of one that was unpickled into memory which must not be written."""
    return array if array.flags.writeable else array.copy(order="K")


def fixed_in_place(slots):
    """The same arrays, as views that nobody can give other memory by resizing them or what they are views of."""
    return {name: core.fixed_in_place(array) for name, array in slots.items()}


def slot_arrays(slots):
    """The arrays that the rule updates, in the core's order, each with its scales or None."""
    scales = {_scale(name) for name in slots}
    return [
        (array, slots.get(_scale(name))) for name, array in slots.items() if name not in COUNTERS and name not in scales
    ]


def saved_state(slots):
    """A copy, with the step count as an integer."""
    return {name: int(array) if name == "step" else array.copy() for name, array in slots.items()}


def fill_state(slots, saved, where):
    """Copy what was saved into state that has the same names, shapes and dtypes; raises ValueError if it doesn't."""
    if set(saved) != set(slots):
        raise ValueError(f"{where} must have {sorted(slots)}, got {sorted(saved)}")
    for name, array in slots.items():
        if name == "step":
            array[...] = integer(f"{where}['step']", saved[name], lower=0, upper=MAX_STEPS)
            continue
        fill_array(array, saved[name], f"{where}[{name!r}]")


def fill_array(array, saved, where):
    """Copy an array that was saved into one of the same shape and dtype; raises ValueError if it isn't."""
    value = np.asarray(saved)
    if value.shape != array.shape or value.dtype != array.dtype:
        raise ValueError(
            f"{where} must have shape {array.shape} and dtype {array.dtype}, got {value.shape} and {value.dtype}"
        )
    array[...] = value

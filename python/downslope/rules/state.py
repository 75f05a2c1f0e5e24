"""The state of one parameter: a mapping from slot name to array, with its step count and, for NAdam, a product."""

import numpy as np

from downslope._extension import core
from downslope.validation import integer

MAX_STEPS = 2**62  # so that the core can count on
# 0-d arrays, of int64 and float64; all other slots have the parameter's shape and dtype.
COUNTERS = ("step", "mu_product")


def new_counters(count):
    """The step counts and products of so many parameters, still at the start."""
    # Side by side, not among the arrays that other threads write: sharing cache lines with them costs more than a step.
    steps, products = np.zeros(count, np.int64), np.ones(count)
    return [{"step": steps[i : i + 1].reshape(()), "mu_product": products[i : i + 1].reshape(())} for i in range(count)]


def new_state(rule, hyper, param, known):
    """The state that `param` needs under `hyper`: from `known`, which has at least the counters, or new."""
    names, fill, carries_product = core.state_layout(rule, hyper)
    # A Fortran-ordered parameter gets state in the same order, so that they can be walked together.
    order = "F" if param.flags.f_contiguous and not param.flags.c_contiguous else "C"
    slots = {}
    for name in names:
        slots[name] = known.get(name)
        if slots[name] is None:
            slots[name] = np.zeros(param.shape, param.dtype, order)
            if fill != 0:
                slots[name].fill(fill)
    for name in COUNTERS if carries_product else COUNTERS[:1]:
        slots[name] = known[name]
    return fixed_in_place(slots)


def restored_state(state):
    """The state of all parameters, from copies of its arrays."""
    restored = []
    for slots, counters in zip(state, new_counters(len(state)), strict=True):
        for name in COUNTERS:
            if name in slots:
                counters[name][...] = slots[name]
        restored.append(fixed_in_place({name: counters.get(name, array) for name, array in slots.items()}))
    return restored


def fixed_in_place(slots):
    """The same arrays as views, which nobody can give other memory by resizing them."""
    return {name: array[...] for name, array in slots.items()}


def slot_arrays(slots):
    """The arrays that the rule updates, in the core's order."""
    return [array for name, array in slots.items() if name not in COUNTERS]


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
        value = np.asarray(saved[name])
        if value.shape != array.shape or value.dtype != array.dtype:
            raise ValueError(
                f"{where}[{name!r}] must have shape {array.shape} and dtype {array.dtype}, "
                f"got {value.shape} and {value.dtype}"
            )
        array[...] = value

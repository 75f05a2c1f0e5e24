"""What a parameter must be so that it can be updated in place: checked once, when an optimizer is made.

That no two of them share memory is checked by the core, which keeps their addresses to check gradients.
"""

import numpy as np


def check_parameter(name, array):
    """Raise TypeError or ValueError unless the array can be updated in place."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {type(array).__name__}; it is updated in place")
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array: fill it first, and keep the result: it is updated in place")
    native = array.dtype.newbyteorder("=")
    if native in (np.float32, np.float64) and not array.dtype.isnative:
        raise TypeError(f"{name} is byte-swapped ({array.dtype.str}): {_convert(native)}")
    if native not in (np.float32, np.float64):
        castable = array.dtype.kind in "fiu"
        advice = f": {_convert(np.dtype(np.float64))}" if castable else ""
        raise TypeError(f"{name} must have dtype float32 or float64, got {array.dtype}{advice}")
    if not array.flags.writeable:
        raise ValueError(f"{name} is read-only, so it cannot be updated in place: make a copy first, and keep that")
    if overlaps_itself(array):
        raise ValueError(
            f"{name} has elements that share memory (a broadcast or overlapping view): make a copy first, and keep that"
        )


def _convert(dtype):
    return f'convert it first, w = w.astype("{dtype}"), and keep that: it is updated in place'


def overlaps_itself(array):
    """Whether two elements of the array share memory."""
    if array.size <= 1:
        return False
    axes = sorted(
        (abs(stride), extent) for extent, stride in zip(array.shape, array.strides, strict=True) if extent > 1
    )
    reach = array.itemsize  # bytes that the axes so far span
    for stride, extent in axes:
        if stride < reach:
            break
        reach += (extent - 1) * stride
    else:
        return False  # each axis steps over all that the smaller ones span
    if sum((extent - 1) * stride for stride, extent in axes) + array.itemsize < array.size * array.itemsize:
        return True  # they do not fit side by side
    # Only strides made by hand come here; list the addresses, which are no more than the memory that they span.
    offsets = np.zeros(1, dtype=np.int64)
    for stride, extent in axes:
        offsets = np.add.outer(offsets, stride * np.arange(extent)).ravel()
    return bool((np.diff(np.sort(offsets)) < array.itemsize).any())

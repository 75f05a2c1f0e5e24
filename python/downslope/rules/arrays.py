"""What a parameter must be so that it can be updated in place: checked once, when an optimizer is made.

That no two of them share memory is checked by the core, which keeps their addresses to check gradients.
"""

import numpy as np

from downslope._extension import core

_COPY = "make a copy first, w = numpy.array(w), and keep that"


def parameter_array(name, given):
    """The array, or one that shares the memory of one of another library, and how it stores its numbers.

    Raises TypeError or ValueError unless it can be updated in place.
    """
    array, is_bfloat16 = core.shared_array(name, given)
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array: fill it first, and keep the result: it is updated in place")
    storage = "bfloat16" if is_bfloat16 else core.storage_of(array)
    if storage is None and not array.dtype.isnative and core.storage_of(np.empty(0, array.dtype.newbyteorder("="))):
        raise TypeError(f"{name} is byte-swapped ({array.dtype.str}): {_convert(array.dtype.newbyteorder('='))}")
    if storage is None:
        castable = array.dtype.kind in "fiu"
        advice = f": {_convert(np.dtype(np.float64))}" if castable else ""
        raise TypeError(f"{name} must have dtype float32, float64, float16 or bfloat16, got {array.dtype}{advice}")
    if not array.flags.writeable:
        raise ValueError(f"{name} is read-only, so it cannot be updated in place: {_COPY}")
    if overlaps_itself(array):
        raise ValueError(f"{name} has elements that share memory (a broadcast or overlapping view): {_COPY}")
    return array, storage


def compute_dtype(storage):
    """The dtype in which an array stored like that is updated."""
    return np.float64 if storage == "float64" else np.float32


def computed(array, storage):
    """A copy in the dtype in which the array is updated; in the same order."""
    if storage == "bfloat16":
        return core.decode_bfloat16(array.view(np.uint16))
    return array.astype(compute_dtype(storage), order="K", subok=False)


def stored(values, array, storage):
    """`values`, as `computed` gave them, in the array's dtype, rounded to the nearest."""
    if storage == "bfloat16":
        return core.encode_bfloat16(values).view(array.dtype)
    return np.asarray(values).astype(array.dtype, copy=False)


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

"""What a parameter must be so that it can be updated in place: checked once, when an optimizer is made."""

import numpy as np


def check_parameters(labels, arrays):
    """Raise TypeError or ValueError unless each array, and all of them together, can be updated in place."""
    for label, array in zip(labels, arrays, strict=True):
        check_parameter(f"params{label}", array)
    check_apart(labels, arrays)


def check_parameter(name, array):
    """Raise TypeError or ValueError unless the array can be updated in place."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {type(array).__name__}")
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array: pass its filled() data")
    if not array.dtype.isnative:
        raise TypeError(f"{name} is byte-swapped ({array.dtype.str}): pass {_native(array)}")
    if array.dtype not in (np.float32, np.float64):
        castable = array.dtype.kind in "fiu"
        advice = ': pass params.astype("float64") or astype("float32")' if castable else ""
        raise TypeError(f"{name} must have dtype float32 or float64, got {array.dtype}{advice}")
    if not array.flags.writeable:
        raise ValueError(f"{name} is read-only, so it cannot be updated in place: pass a copy")
    if overlaps_itself(array):
        raise ValueError(f"{name} has elements that share memory (a broadcast or overlapping view): pass a copy")


def _native(array):
    return f'params.astype("{array.dtype.newbyteorder("=").str[1:]}")'


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
    # Only strides made by hand come here; list the addresses.
    offsets = np.zeros(1, dtype=np.int64)
    for stride, extent in axes:
        offsets = np.add.outer(offsets, stride * np.arange(extent)).ravel()
    return bool((np.diff(np.sort(offsets)) < array.itemsize).any())


def check_apart(labels, arrays):
    """Raise ValueError if two parameters share memory."""
    by_address = sorted((*_byte_bounds(array), i) for i, array in enumerate(arrays) if array.size > 0)
    open_intervals = []  # those that reach the address we have come to
    for low, high, i in by_address:
        open_intervals = [(end, j) for end, j in open_intervals if end > low]
        for _, j in open_intervals:
            if np.shares_memory(arrays[i], arrays[j]):
                first, second = sorted((i, j))
                same = "is" if arrays[i] is arrays[j] else "shares memory with"
                raise ValueError(f"params{labels[second]} {same} params{labels[first]}: each may be passed only once")
        open_intervals.append((high, i))


def _byte_bounds(array):
    """The addresses [low, high) between which the elements lie."""
    first = array.__array_interface__["data"][0]
    reaches = [(extent - 1) * stride for extent, stride in zip(array.shape, array.strides, strict=True)]
    return first + sum(r for r in reaches if r < 0), first + sum(r for r in reaches if r > 0) + array.itemsize

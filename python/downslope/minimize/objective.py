"""What a user's functions return, as the core takes it."""

import numpy as np


def to_float(value):
    """The number that `fun` has returned: any real one, or an array with one element."""
    array = np.asarray(value)
    if array.size != 1 or not np.can_cast(array.dtype, np.float64):
        raise TypeError(f"fun must return a real number, got {value!r}")
    return float(array.reshape(())[()])


def to_array(shape, source):
    """A function that makes the gradient that `source` has returned a float64 array; it may be flat."""
    size = int(np.prod(shape))

    def convert(value):
        array = np.asarray(value)
        if not np.can_cast(array.dtype, np.float64):
            raise TypeError(f"{source} must return real numbers that float64 can hold, got dtype {array.dtype}")
        if array.shape != shape and array.shape != (size,):
            raise ValueError(f"{source} must return a gradient of shape {shape}, got {array.shape}")
        return np.ascontiguousarray(array, dtype=np.float64)

    return convert

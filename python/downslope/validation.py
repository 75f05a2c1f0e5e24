"""Checks of arguments: every message names the argument, its bound and the value."""

import math
import numbers
import operator

import numpy as np


def integer(name, value, lower, upper=None):
    """`value` as an int between `lower` and `upper`."""
    try:
        if isinstance(value, bool):
            raise TypeError
        value = operator.index(value)
    except TypeError:  # of an array, too, although it has an __index__
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if value < lower or (upper is not None and value > upper):
        raise ValueError(f"{name} must be >= {lower}{'' if upper is None else f' and <= {upper}'}, got {value}")
    return value


def real(name, value):
    """`value` as a float, infinite and NaN included."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def number(name, value, lower=-math.inf, upper=math.inf, includes_upper=False):
    """`value` as a finite float in [lower, upper), or in [lower, upper] if that `includes_upper`."""
    x = real(name, value)
    if not (math.isfinite(x) and lower <= x and (x <= upper if includes_upper else x < upper)):
        bounds = [f">= {lower:g}"] if lower > -math.inf else []
        bounds.append("finite" if upper == math.inf else f"<{'=' * includes_upper} {upper:g}")
        # An integer that overflows may have too many digits to be shown.
        raise ValueError(f"{name} must be {' and '.join(bounds)}, got {x if math.isinf(x) else value!r}")
    return x


def boolean(name, value):
    """`value` as a bool; an integer is none."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def choice(name, value, allowed):
    """`value`, if it is one of those that are `allowed`: strings, and perhaps None."""
    is_string = isinstance(value, str)
    if (is_string or value is None) and value in allowed:
        return value
    *others, last = map(repr, allowed)
    raise (ValueError if is_string else TypeError)(f"{name} must be {', '.join(others)} or {last}, got {value!r}")


def function(name, value):
    """`value`, if it can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, got {value!r}")
    return value


def sequence(name, value, what="a sequence"):
    """The elements of `value` as a tuple, if it is a list, a tuple, a range or an array with an axis."""
    if not (isinstance(value, (list, tuple, range)) or (isinstance(value, np.ndarray) and value.ndim > 0)):
        raise TypeError(f"{name} must be {what}, got {value!r}")
    return tuple(value)


def any_array(name, given):
    """`given` as an array of whatever class and dtype."""
    try:
        return np.asanyarray(given)
    except ValueError as error:  # of rows that differ in shape
        raise ValueError(f"{name} must be an array: {error}") from None


def plain_array(name, given):
    """`given` as an array of NumPy's own class, of whatever dtype; one that is masked is refused."""
    array = any_array(name, given)
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array: fill it first")
    return np.asarray(array)


def real_array(name, given):
    """`given` as an array of real numbers, in its own dtype."""
    array = plain_array(name, given)
    if not np.can_cast(array.dtype, np.float64):
        raise TypeError(f"{name} must be an array of real numbers that float64 can hold, got dtype {array.dtype}")
    return array


def float64_array(name, given):
    """`given` as a float64 array, which is `given` itself if it is one."""
    return real_array(name, given).astype(np.float64, copy=False)


def one_number(name, given):
    """The number that `given` is, or that it has as its only element."""
    if isinstance(given, numbers.Real) and np.asarray(given).dtype == object:  # a Fraction, an int beyond 64 bits
        return real(name, given)
    array = float64_array(name, given)
    if array.size != 1:
        raise TypeError(f"{name} must be a number, got an array of shape {array.shape}")
    return array.item()

"""Objectives as the core takes them: Python functions, with what converts their results, or compiled ones."""

import math
from typing import NamedTuple

import numpy as np

from downslope._extension import core
from downslope.minimize.compiled import compiled
from downslope.validation import float64_array, one_number

DIFFERENCES = ("2-point", "3-point")


class CompiledObjective(NamedTuple):
    """What the core calls, and what must stay alive until it returns."""

    functions: object
    owners: tuple


class CompiledPair(NamedTuple):
    """Addresses of a function and of its derivative, 0 where there is none, and of the data of the first problem."""

    function: int
    derivative: int
    differences: str | None
    data: int
    row_bytes: int
    owners: tuple


def compiled_objective(fun, jac, hess, hessp, args, data, rows=None):
    """The objective if `fun` is compiled, else None. With `rows`, `data` has one row for each of so many problems."""
    roles = ("value_and_gradient", "value", "gradient")
    pair = compiled_pair(fun, jac, args, data, rows, roles, DIFFERENCES[0])
    if pair is None:
        if _compiled(hess, "hessian", "hess") is not None:
            raise TypeError("hess must be a Python function where fun is one, got a compiled one")
        return None
    if hessp is not None:
        raise TypeError(f"hessp must be None where fun is compiled: give hess, got {hessp!r}")
    owners = list(pair.owners)
    hessian = 0 if hess is None else _address(hess, "hessian", "hess", "None", owners)
    functions = core.CompiledFunctions(
        pair.function, pair.derivative, hessian, pair.differences, pair.data, pair.row_bytes
    )
    return CompiledObjective(functions, tuple(owners))


def compiled_pair(fun, jac, args, data, rows, roles, differences):
    """`fun` and `jac` if `fun` is compiled, else None; the roles are of both together, of `fun`, and of `jac`."""
    together, apart, derivative = roles
    value = compiled(fun, [together, apart], "fun")
    if value is None:
        if _compiled(jac, derivative, "jac") is not None:
            raise TypeError("jac must be a Python function where fun is one, got a compiled one")
        if data is not None:
            raise TypeError("data is what compiled functions get: hand it to a Python function by args")
        return None
    if not isinstance(args, tuple) or args:
        raise TypeError(f"args are for Python functions: a compiled one gets its numbers by data, got {args!r}")
    gradient = 0
    owners = [value]
    if value.role == together:
        if jac is not None and jac is not True:
            raise TypeError(
                f"jac must be None or True where the compiled fun has {together.replace('_', ' ')}, got {jac!r}"
            )
        differences = None
    elif jac is None or (isinstance(jac, str) and jac in DIFFERENCES):
        differences = jac or differences
    else:
        gradient, differences = _address(jac, derivative, "jac", f"None or one of {DIFFERENCES}", owners), None
    address, row_bytes = value.user_data or 0, 0
    if data is not None:
        if address:
            raise TypeError("data must not be given where fun brings its own user_data")
        array = float64_array("data", data)
        if rows is not None and (array.ndim == 0 or len(array) != rows):
            raise ValueError(f"data must have a row for each of the {rows} problems, got shape {array.shape}")
        array = np.ascontiguousarray(array)
        if rows:
            row_bytes = array.nbytes // rows
        address = array.ctypes.data
        owners.append(array)
    return CompiledPair(value.address, gradient, differences, address, row_bytes, tuple(owners))


def _compiled(function, role, name):
    """`function`, if it is compiled, else None."""
    may_be = callable(function) or not isinstance(function, (str, bool, type(None)))
    return compiled(function, [role], name) if may_be else None


def _address(function, role, name, otherwise, owners):
    """Of a compiled derivative, which comes to the `owners`, of whom the first is the compiled `fun`."""
    found = _compiled(function, role, name)
    if found is None:
        raise TypeError(f"{name} must be compiled, as fun is, or {otherwise}, got {function!r}")
    if found.user_data not in (None, owners[0].user_data):
        raise TypeError(f"{name} must not bring a user_data of its own: it gets that of fun, or data")
    owners.append(found)
    return found.address


def python_objective(jac, hess, hessp, args, shape):
    """What the core takes of Python functions beside `fun`: the others, `args`, and what converts results."""
    jac = python_derivative(jac, DIFFERENCES[0])
    for name, function in (("hess", hess), ("hessp", hessp)):
        if function is not None and not callable(function):
            raise TypeError(f"{name} must be a function or None, got {function!r}")
    args = args if isinstance(args, tuple) else (args,)
    size = math.prod(shape)
    converters = {
        "to_float": _to_float,
        "to_gradient": _to_array("jac" if callable(jac) else "fun", "the gradient", shape, (size,)),
        "to_hessian": _to_array("hess", "the Hessian", (size, size), shape + shape),
        "to_product": _to_array("hessp", "the product", shape, (size,)),
    }
    return jac, hess, hessp, args, converters


def python_derivative(jac, differences):
    """`jac`, or `differences` for None, if it is what goes with a Python function."""
    if jac is None or jac is False:
        return differences
    if not (callable(jac) or jac is True or (isinstance(jac, str) and jac in DIFFERENCES)):
        names = ", ".join(map(repr, DIFFERENCES))
        raise (ValueError if isinstance(jac, str) else TypeError)(
            f"jac must be a function, True, None or one of {names}, got {jac!r}"
        )
    return jac


def _to_float(value):
    """The number that `fun` has returned: any real one, or an array with one element."""
    if isinstance(value, tuple):
        raise TypeError(f"fun must return a real number, or a value and a gradient with jac=True, got {value!r}")
    return one_number("what fun returns", value)


def _to_array(source, what, shape, other_shape):
    """A function that makes a float64 array of what `source` has returned, in either of two shapes."""
    name = f"{what} that {source} returns"

    def convert(value):
        array = float64_array(name, value)
        if array.shape not in (shape, other_shape):
            raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
        return np.ascontiguousarray(array)

    return convert

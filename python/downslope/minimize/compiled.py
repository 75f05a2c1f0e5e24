"""Objectives that are compiled: recognised, their signatures checked, their addresses taken.

SciPy, numba and cffi are never imported: if an object is of one of their types, its module has been imported already.
"""

import ctypes
import datetime
import re
import sys
from _ctypes import FUNCFLAG_PYTHONAPI, _Pointer
from dataclasses import dataclass
from functools import lru_cache
from types import FunctionType, MethodType
from typing import NamedTuple

import numpy as np

# What a compiled function may be asked for, and the signature that it then has. Matrices are row-major.
SIGNATURES = {
    "value_and_gradient": "double (int n, const double *x, double *grad, void *user_data)",
    "value": "double (int n, const double *x, void *user_data)",
    "gradient": "void (int n, const double *x, double *grad, void *user_data)",
    "hessian": "void (int n, const double *x, double *hess, void *user_data)",
    "residuals_and_jacobian": "void (int m, int n, const double *x, double *r, double *jac, void *user_data)",
    "residuals": "void (int m, int n, const double *x, double *r, void *user_data)",
    "jacobian": "void (int m, int n, const double *x, double *jac, void *user_data)",
}


@dataclass(frozen=True)
class CompiledFunction:
    """A function that C++ can call without the GIL, for as long as this object lives.

    Attributes
    ----------
    address : int
        Of the function's code.
    user_data : int or None
        The address that the function brings as its last argument, if it does.
    owner : object
        What was given; it keeps the code and its `user_data` alive.
    role : str
        The key of its signature in `SIGNATURES`.
    """

    address: int
    user_data: int | None
    owner: object
    role: str


def compiled(fun, roles, name):
    """`fun` as a `CompiledFunction`, or None if it is a Python callable.

    Types are compared without white space, `const` and names of parameters. The last parameter, `user_data`, may be
    declared as a pointer to anything, unless this could be another accepted signature that lacks its `user_data`.

    Parameters
    ----------
    fun : object
        Compiled are a SciPy `LowLevelCallable`, a numba `cfunc`, a ctypes or cffi function pointer, and a capsule whose
        name is its signature, and whose context, if it has one, its `user_data`, as SciPy has it.
    roles : sequence of str
        Keys of `SIGNATURES`, of the signatures that are accepted: no two with the same types.
    name : str
        What error messages call `fun`.

    Raises
    ------
    TypeError
        If `fun` is compiled and its signature is unknown or none of the accepted ones; if it needs the GIL; or if it is
        neither compiled nor callable.
    ValueError
        If it is a NULL pointer.

    Examples
    --------
    >>> import ctypes
    >>> double_p = ctypes.POINTER(ctypes.c_double)
    >>> square = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int, double_p, ctypes.c_void_p)(lambda n, x, _: x[0] ** 2)
    >>> compiled(square, ["value"], "fun").role
    'value'
    >>> compiled(lambda x: x @ x, ["value"], "fun") is None
    True
    """
    read = _reader(fun)
    if read is None:
        if callable(fun):
            return None
        raise TypeError(f"{name} must be callable, or compiled with the signature {_expected(roles)}, got {fun!r}")
    try:
        code = read(fun)
    except _Unusable as reason:
        raise TypeError(f"{name} must have the signature {_expected(roles)}, got {fun!r}, {reason}") from None
    role = _role(code.signature, roles)
    if role is None:
        raise TypeError(f"{name} must have the signature {_expected(roles)}, got {code.signature!r}")
    if not code.address:
        raise ValueError(f"{name} must not be a NULL pointer, got {fun!r}")
    return CompiledFunction(code.address, code.user_data or None, fun, role)


def is_compiled(fun):
    """Whether `fun` is compiled, of whatever signature."""
    return _reader(fun) is not None


# ---- signatures ----


def _expected(roles):
    return " or ".join(repr(SIGNATURES[role]) for role in roles)


_VOID_POINTER = "void *"
# Words that may follow a type and belong to it; any other is the name of the parameter.
_TYPE_WORDS = {"int", "double", "short", "long", "signed", "unsigned", "complex", "_Complex"}


def _type(text):
    """A type in one spelling, without `const` and the name behind it."""
    words = [word for word in re.findall(r"\w+|\S", text) if word != "const"]
    if len(words) > 1 and words[-1].isidentifier() and words[-1] not in _TYPE_WORDS:
        words.pop()
    return " ".join(words)


@lru_cache(maxsize=64)  # the same few, solve after solve
def _types(signature):
    """The types of the result and of each parameter; None if the text is no signature."""
    found = re.fullmatch(r"([^()]*)\(([^()]*)\)\s*", signature)
    return found and (_type(found[1]), *map(_type, found[2].split(",")))


_TYPES = {role: _types(signature) for role, signature in SIGNATURES.items()}


def _role(signature, roles):
    """The accepted role that has this signature, or None."""
    types = _types(signature)
    accepted = {_TYPES[role]: role for role in roles}
    if types is None or types in accepted:
        return accepted.get(types)
    # What is declared as a pointer to double may be the user's data, or an output of a function without any.
    if not types[-1].endswith("*") or (*types, _VOID_POINTER) in accepted:
        return None
    return accepted.get((*types[:-1], _VOID_POINTER))


# ---- where compiled functions come from ----


class _Code(NamedTuple):
    """What an object tells of its function; an address that is None or 0 is NULL."""

    address: int | None
    user_data: int | None
    signature: str


class _Unusable(Exception):
    """Why a function can't be called, whatever its types are."""


# Prototypes of their own: those that attributes of ctypes.pythonapi are given, all users of ctypes share.
def _capsule_function(name, result, *parameters):
    return ctypes.PYFUNCTYPE(result, ctypes.py_object, *parameters)((name, ctypes.pythonapi))


_Capsule = type(datetime.datetime_CAPI)
_capsule_name = _capsule_function("PyCapsule_GetName", ctypes.c_char_p)
_capsule_pointer = _capsule_function("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.c_char_p)
_capsule_context = _capsule_function("PyCapsule_GetContext", ctypes.c_void_p)


def _from_capsule(fun):
    name = _capsule_name(fun)
    if name is None:
        raise _Unusable("without a name: name a capsule with its signature")
    return _Code(_capsule_pointer(fun, name), _capsule_context(fun), name.decode(errors="replace"))


def _from_low_level_callable(fun):
    """Whatever it was made from, its first item is a capsule, with that signature and that user_data."""
    return _from_capsule(tuple.__getitem__(fun, 0))


def _from_numba(fun):
    result, *parameters = map(_numba_type, (fun._sig.return_type, *fun._sig.args))
    return _Code(fun.address, None, f"{result} ({', '.join(parameters)})")


def _numba_type(numba_type):
    """The C type, double * of float64*; of a record, which numba prints with all its fields, the word will do."""
    text = str(numba_type)
    word, stars = re.match(r"\w*", text)[0], re.search(r"\**$", text)[0]
    return f"{_NUMBA_TYPES.get(word, word)} {stars}".strip()


_NUMBA_TYPES = {"none": "void", "int32": "int", "float64": "double"}


def _from_cffi(fun):
    ffi = sys.modules["_cffi_backend"].FFI()
    signature = ffi.typeof(fun).cname.replace("(*)", " ")
    # Anything else than a function, such as a structure that has no address, is refused for its type.
    return _Code(int(ffi.cast("uintptr_t", fun)) if "(" in signature else None, None, signature)


def _from_ctypes(fun):
    if fun._flags_ & FUNCFLAG_PYTHONAPI:
        raise _Unusable("which needs the GIL: take ctypes.CDLL or CFUNCTYPE instead of PyDLL or PYFUNCTYPE")
    if fun.argtypes is None:
        raise _Unusable("without argtypes: set its argtypes and restype")
    result, *parameters = map(_ctypes_type, (fun.restype, *fun.argtypes))
    return _Code(ctypes.cast(fun, ctypes.c_void_p).value, None, f"{result} ({', '.join(parameters)})")


def _ctypes_type(ctypes_type):
    """The C type; one that no signature has keeps its name in Python."""
    if ctypes_type in _CTYPES_TYPES:
        return _CTYPES_TYPES[ctypes_type]
    if hasattr(ctypes_type, "_dtype_"):  # of numpy.ctypeslib.ndpointer; None if it takes any
        dtype = ctypes_type._dtype_
        return _VOID_POINTER if dtype is None else "double *" if dtype == np.float64 else f"{dtype.name} *"
    if isinstance(ctypes_type, type) and issubclass(ctypes_type, _Pointer):
        return f"{_ctypes_type(ctypes_type._type_)} *"
    return getattr(ctypes_type, "__name__", repr(ctypes_type))


_CTYPES_TYPES = {None: "void", ctypes.c_int: "int", ctypes.c_double: "double", ctypes.c_void_p: _VOID_POINTER}

_PYTHON = (FunctionType, MethodType)

# Module, class, and what reads its instances. A module that has not been imported has none.
_SOURCES = [
    ("scipy", "LowLevelCallable", _from_low_level_callable),
    ("numba.core.ccallback", "CFunc", _from_numba),
    ("_cffi_backend", "_CDataBase", _from_cffi),
    ("_ctypes", "CFuncPtr", _from_ctypes),
    (__name__, "_Capsule", _from_capsule),
]


def _reader(fun):
    if isinstance(fun, _PYTHON):  # as most are: at once
        return None
    for module, class_name, read in _SOURCES:
        if isinstance(fun, getattr(sys.modules.get(module), class_name, ())):
            return read
    return None

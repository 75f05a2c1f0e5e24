"""Compiled objectives: where they come from, which signatures they may have, and the page that explains them."""

import ctypes
import functools
import gc
import re
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import cffi
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import LowLevelCallable

import downslope as ds
from downslope.minimize.compiled import SIGNATURES, compiled

DOUBLES = ctypes.POINTER(ctypes.c_double)
INT, POINTER = ctypes.c_int, ctypes.c_void_p
PROTOTYPES = {
    "value_and_gradient": ctypes.CFUNCTYPE(ctypes.c_double, INT, DOUBLES, DOUBLES, POINTER),
    "value": ctypes.CFUNCTYPE(ctypes.c_double, INT, DOUBLES, POINTER),
    "gradient": ctypes.CFUNCTYPE(None, INT, DOUBLES, DOUBLES, POINTER),
    "hessian": ctypes.CFUNCTYPE(None, INT, DOUBLES, DOUBLES, POINTER),
    "residuals_and_jacobian": ctypes.CFUNCTYPE(None, INT, INT, DOUBLES, DOUBLES, DOUBLES, POINTER),
    "residuals": ctypes.CFUNCTYPE(None, INT, INT, DOUBLES, DOUBLES, POINTER),
    "jacobian": ctypes.CFUNCTYPE(None, INT, INT, DOUBLES, DOUBLES, POINTER),
}
ROLES = pytest.mark.parametrize("role", SIGNATURES)
BOTH = "double (int, const double *, double *, void *)"  # of value_and_gradient
SOURCE = """
double both(int n, const double *x, double *grad, void *user_data)
{
    double c = *(double *)user_data, sum = 0;
    for (int i = 0; i < n; i++) {
        sum += c * x[i] * x[i];
        grad[i] = 2 * c * x[i];
    }
    return sum;
}
"""
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="needs the compiler under the name cc")


@pytest.fixture(scope="module")
def library_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("compiled") / "both.so"
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=SOURCE, text=True, check=True)
    return path


@pytest.fixture
def library_function(library_path):
    """Afresh for each test, without argtypes and restype."""
    return ctypes.CDLL(str(library_path)).both


def typed(function, *argtypes):
    function.restype, function.argtypes = ctypes.c_double, argtypes or PROTOTYPES["value_and_gradient"]._argtypes_
    return function


def in_python(n, x, grad, user_data):
    c = ctypes.cast(user_data, DOUBLES)[0]
    for i in range(n):
        grad[i] = 2 * c * x[i]
    return sum(c * x[i] * x[i] for i in range(n))


def assert_is_both(fun, user_data=None):
    """It is c sum(x^2), with gradient 2 c x, where its user_data points to c; called by the address alone."""
    found = compiled(fun, ["value_and_gradient"], "fun")
    assert found.role == "value_and_gradient" and found.owner is fun and found.user_data == user_data
    c, x, grad = np.array([3.0]), np.array([1.0, -2.0]), np.zeros(2)
    call = PROTOTYPES["value_and_gradient"](found.address)
    value = call(2, x.ctypes.data_as(DOUBLES), grad.ctypes.data_as(DOUBLES), user_data or c.ctypes.data)
    assert value == 15.0 and grad.tolist() == [6.0, -12.0]


names_of_capsules = []  # a capsule points to its name, and doesn't copy it


def capsule(address, name, context=None):
    names_of_capsules.append(name)
    api = ctypes.pythonapi
    new = ctypes.PYFUNCTYPE(ctypes.py_object, POINTER, ctypes.c_char_p, POINTER)(("PyCapsule_New", api))
    set_context = ctypes.PYFUNCTYPE(INT, ctypes.py_object, POINTER)(("PyCapsule_SetContext", api))
    made = new(address, name, None)
    set_context(made, context)
    return made


def capsule_of(name):
    return capsule(1, name)


def address_of(fun):
    return ctypes.cast(fun, POINTER).value


def refused(fun, roles, message, error=TypeError):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        compiled(fun, roles, "fun")


# ---- Python ----


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: x @ x,
        np.sum,
        abs,
        functools.partial(np.sum, axis=0),
        numba.njit(lambda x: x @ x),
        PROTOTYPES["value"],  # a class
    ],
    ids=["function", "ufunc-like", "builtin", "partial", "njit", "class"],
)
@ROLES
def test_python_callables_are_not_compiled(fun, role):
    assert compiled(fun, [role], "fun") is None


@pytest.mark.parametrize("garbage", [None, 3, 0x7F0000000000, "fun", (1, 2, 3), np.zeros(2)], ids=repr)
def test_what_cannot_be_called(garbage):
    expected = "'double (int n, const double *x, void *user_data)'"
    message = f"hess must be callable, or compiled with the signature {expected}, got {garbage!r}"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        compiled(garbage, ["value"], "hess")


def test_no_other_library_is_imported():
    code = """
import ctypes, sys
from downslope.minimize.compiled import compiled
assert compiled(abs, ["value"], "fun") is None
pointer = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int, ctypes.POINTER(ctypes.c_double), ctypes.c_void_p)(3)
assert compiled(pointer, ["value"], "fun").address == 3
assert not {"scipy", "numba", "cffi", "_cffi_backend"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


# ---- signatures ----


@ROLES
def test_every_role_by_ctypes(role):
    pointer = PROTOTYPES[role](123456)
    found = compiled(pointer, [role], "fun")
    assert (found.address, found.user_data, found.role) == (123456, None, role) and found.owner is pointer


@ROLES
def test_every_role_by_capsule(role):
    assert compiled(capsule(123456, SIGNATURES[role].encode()), [role], "fun").role == role


@pytest.mark.parametrize("roles", [["value_and_gradient", "value"], ["residuals_and_jacobian", "residuals"]])
def test_the_signature_tells_the_role(roles):
    for role in roles:
        assert compiled(PROTOTYPES[role](1), roles, "fun").role == role
        assert compiled(PROTOTYPES[role](1), roles[::-1], "fun").role == role


@ROLES
def test_each_role_takes_its_own_types_alone(role):
    """Gradient and Hessian look alike, and so do residuals and Jacobian."""
    alike = [{"gradient", "hessian"}, {"residuals", "jacobian"}]
    for other in SIGNATURES:
        if other == role or {role, other} in alike:
            assert compiled(PROTOTYPES[other](1), [role], "fun").role == role
        else:
            with pytest.raises(TypeError, match="^fun must have the signature "):
                compiled(PROTOTYPES[other](1), [role], "fun")


def space(minimum=0):
    return st.text(alphabet=" \t\n", min_size=minimum, max_size=2)


@st.composite
def spelling(draw, c_type):
    """A type with `const` wherever C allows it, white space, and perhaps a name that could be a type's beginning."""
    base, *stars = c_type.split()
    words = draw(st.sampled_from([[base], ["const", base], [base, "const"]]))
    text = draw(space(1)).join(words)
    for star in stars:
        text += draw(space()) + star + draw(st.sampled_from(["", "const"]))
    name = draw(st.sampled_from(["", "n", "x", "doubles", "int_", "Void", "constant", "_"]))
    if name:
        text += draw(space(0 if text.endswith("*") else 1)) + name
    return draw(space()) + text + draw(space())


TYPES = {
    role: tuple(re.findall(r"(double|int|void)( \*)?", text)) for role, text in SIGNATURES.items()
}  # (base, star) of the result and of each parameter, read otherwise than by the package


@st.composite
def signature(draw, types):
    result, *parameters = [draw(spelling("".join(c_type))) for c_type in types]
    return f"{result}({','.join(parameters)}){draw(space())}".encode()


@settings(deadline=None)
@given(st.data(), st.sampled_from(list(SIGNATURES)))
def test_spelling_does_not_matter(data, role):
    assert compiled(capsule_of(data.draw(signature(TYPES[role]))), [role], "fun").role == role


@settings(deadline=None)
@given(st.data(), st.sampled_from(list(SIGNATURES)))
def test_every_type_matters(data, role):
    types = list(TYPES[role])
    i = data.draw(st.integers(0, len(types) - 1))
    wrong = [("float", ""), ("int", ""), ("double", ""), ("void", ""), ("long int", "")]
    if i < len(types) - 1:  # user_data may be any pointer
        wrong += [("double", " *"), ("void", " *"), ("float", " *"), ("double", " * *")]
    types[i] = data.draw(st.sampled_from([c_type for c_type in wrong if c_type != types[i]]))
    name = data.draw(signature(types))
    with pytest.raises(TypeError, match="^fun must have the signature"):
        compiled(capsule_of(name), [role], "fun")


@settings(deadline=None)
@given(st.text(alphabet="double int*(), voxgr_", max_size=60), st.sampled_from(list(SIGNATURES)))
def test_garbage_is_refused(text, role):
    with pytest.raises(TypeError, match="^fun must have the signature"):
        compiled(capsule_of(text.encode()), [role], "fun")


@pytest.mark.parametrize(
    "name",
    [
        "double (int, double *, double *)",
        "double (int, double *, double *, void *, void *)",
        "double (int long, double *, double *, void *)",
        "double (unsigned int, double *, double *, void *)",
        "double (int64_t, double *, double *, void *)",
        "double complex (int, double *, double *, void *)",
        "double * (int, double *, double *, void *)",
        "double (int, double *, double *, ...)",
        "double (int, double x[], double *, void *)",
        "double (int, do uble *, double *, void *)",
        "double (i nt, double *, double *, void *)",
        "double (int, double *, double *, void *",
        "double int, double *, double *, void *",
        "(int, double *, double *, void *)",
        "double ()",
        "()",
        "",
        "dltensor",
        "double (int, double *, double *, void *) \xff",
    ],
)
def test_wrong_signatures(name):
    encoded = name.encode("latin-1")
    shown = encoded.decode(errors="replace")
    message = f"fun must have the signature '{SIGNATURES['value_and_gradient']}', got {shown!r}"
    refused(capsule_of(encoded), ["value_and_gradient"], message)


def test_all_accepted_signatures_are_printed():
    roles = ["residuals_and_jacobian", "residuals"]
    expected = f"'{SIGNATURES['residuals_and_jacobian']}' or '{SIGNATURES['residuals']}'"
    refused(
        PROTOTYPES["value"](1),
        roles,
        f"fun must have the signature {expected}, got 'double (int, double *, void *)'",
    )


@ROLES
def test_user_data_may_be_declared_as_any_pointer(role):
    for pointer in ["double *", "const double *", "struct constants *", "void **"]:
        name = SIGNATURES[role].replace("void *user_data", pointer).encode()
        assert compiled(capsule_of(name), [role], "fun").role == role


@pytest.mark.parametrize("roles", [["value", "value_and_gradient"], ["residuals", "residuals_and_jacobian"]])
def test_an_output_is_not_taken_for_user_data(roles):
    """A function of the second kind that lacks its user_data would write where that of the first points to."""
    without = SIGNATURES[roles[1]].replace(", void *user_data", "").encode()
    with pytest.raises(TypeError, match="^fun must have the signature"):
        compiled(capsule_of(without), roles, "fun")
    assert compiled(capsule_of(without), roles[:1], "fun").role == roles[0]


# ---- ctypes ----


def test_ctypes_callback():
    assert_is_both(PROTOTYPES["value_and_gradient"](in_python))


NDPOINTER = np.ctypeslib.ndpointer(np.float64, ndim=1, flags="C_CONTIGUOUS")


@needs_cc
@pytest.mark.parametrize(
    "argtypes",
    [
        (INT, DOUBLES, DOUBLES, POINTER),
        (ctypes.c_int32, NDPOINTER, np.ctypeslib.ndpointer("f8"), np.ctypeslib.ndpointer()),
        (INT, DOUBLES, NDPOINTER, DOUBLES),
        (INT, DOUBLES, DOUBLES, ctypes.POINTER(ctypes.c_char)),
    ],
    ids=["plain", "ndpointer", "doubles", "chars"],
)
def test_ctypes_library(library_function, argtypes):
    assert_is_both(typed(library_function, *argtypes))


SWAPPED = ctypes.c_double.__ctype_be__ if sys.byteorder == "little" else ctypes.c_double.__ctype_le__


@pytest.mark.parametrize(
    "argtype, shown",
    [
        (ctypes.c_float, "c_float"),
        (ctypes.c_void_p, "void *"),
        (ctypes.POINTER(ctypes.c_float), "c_float *"),
        (ctypes.POINTER(DOUBLES), "double * *"),
        (SWAPPED, SWAPPED.__name__),
        (np.ctypeslib.ndpointer(np.float32), "float32 *"),
        (np.ctypeslib.ndpointer(), "void *"),
        (ctypes.py_object, "py_object"),
    ],
    ids=["float", "void", "floats", "pointers", "swapped", "ndpointer", "any", "object"],
)
def test_wrong_argtypes(argtype, shown):
    fun = PROTOTYPES["value"](1)
    fun.argtypes = INT, argtype, POINTER
    message = f"fun must have the signature '{SIGNATURES['value']}', got 'double (int, {shown}, void *)'"
    refused(fun, ["value"], message)


def test_an_argtype_that_is_no_class():
    class Anything:
        @staticmethod
        def from_param(value):
            return value

    anything = Anything()
    fun = PROTOTYPES["value"](1)
    fun.argtypes = INT, anything, POINTER
    refused(
        fun, ["value"], f"fun must have the signature '{SIGNATURES['value']}', got 'double (int, {anything!r}, void *)'"
    )


def test_missing_restype_and_argtypes():
    expected = f"fun must have the signature '{SIGNATURES['value']}'"
    fun = ctypes.CDLL(None).abs
    refused(fun, ["value"], f"{expected}, got {fun!r}, without argtypes: set its argtypes and restype")
    fun.argtypes = INT, DOUBLES, POINTER
    refused(fun, ["value"], f"{expected}, got 'int (int, double *, void *)'")


def test_functions_that_need_the_gil():
    prototype = ctypes.PYFUNCTYPE(ctypes.c_double, INT, DOUBLES, POINTER)
    of_python = ctypes.PyDLL(None).PyLong_FromLong
    of_python.restype, of_python.argtypes = ctypes.c_double, [INT, DOUBLES, POINTER]
    for fun in (prototype(lambda n, x, user_data: 0.0), of_python):
        reason = "which needs the GIL: take ctypes.CDLL or CFUNCTYPE instead of PyDLL or PYFUNCTYPE"
        refused(fun, ["value"], f"fun must have the signature '{SIGNATURES['value']}', got {fun!r}, {reason}")


# ---- numba ----


@pytest.fixture(scope="module")
def numba_both():
    return numba_compiled(numba.types.voidptr)


def numba_compiled(user_data, read=numba.njit(lambda user_data: numba.carray(user_data, 1, np.float64)[0])):
    doubles = numba.types.CPointer(numba.types.double)

    @numba.cfunc(numba.types.double(numba.types.intc, doubles, doubles, user_data))
    def both(n, x, grad, user_data):
        c, total = read(user_data), 0.0
        for i in range(n):
            total += c * x[i] * x[i]
            grad[i] = 2 * c * x[i]
        return total

    return both


def test_numba(numba_both):
    assert_is_both(numba_both)
    assert_is_both(numba_both.ctypes)


def test_numba_user_data():
    doubles = numba.types.CPointer(numba.types.float64)
    assert_is_both(numba_compiled(doubles, numba.njit(lambda user_data: user_data[0])))
    record = numba.types.Record.make_c_struct([("c", numba.types.float64)])
    of_record = numba.njit(lambda user_data: numba.carray(user_data, 1)[0].c)
    assert_is_both(numba_compiled(numba.types.CPointer(record), of_record))


def test_numba_of_no_result():
    doubles = numba.types.CPointer(numba.types.float64)

    @numba.cfunc(numba.types.void(numba.types.int32, numba.types.int32, doubles, doubles, numba.types.voidptr))
    def residuals(m, n, x, r, user_data):
        r[0] = m + n

    found = compiled(residuals, ["residuals_and_jacobian", "residuals"], "fun")
    r = np.zeros(1)
    PROTOTYPES["residuals"](found.address)(3, 2, None, r.ctypes.data_as(DOUBLES), None)
    assert found.role == "residuals" and r[0] == 5


def test_numba_of_wrong_types():
    record = numba.types.Record.make_c_struct([("c", numba.types.float64)])
    pointers = [numba.types.CPointer(t) for t in (numba.types.float32, record)]

    @numba.cfunc(numba.types.int64(numba.types.int64, *pointers))
    def wrong(n, x, user_data):
        return n

    expected = f"fun must have the signature '{SIGNATURES['value']}'"
    refused(wrong, ["value"], f"{expected}, got 'int64 (int64, float32 *, Record *)'")


# ---- cffi ----


@pytest.fixture
def ffi():
    ffi = cffi.FFI()
    ffi.cdef("double both(int n, const double *x, double *grad, void *user_data);")
    return ffi


@needs_cc
def test_cffi_library(ffi, library_path):
    library = ffi.dlopen(str(library_path))
    assert_is_both(library.both)


def test_cffi_callback(ffi):
    callback = ffi.callback(BOTH.replace("(", "(*)(", 1))(
        lambda n, x, grad, user_data: in_python(n, x, grad, int(ffi.cast("uintptr_t", user_data)))
    )
    assert_is_both(callback)


@pytest.mark.parametrize(
    "c_type, shown",
    [
        ("double (*)(int, double *)", "double (int, double *)"),
        ("double (*)(int, const double *, double *, ...)", "double (int, double *, double *, ...)"),
        ("double (**)(int, const double *, double *, void *)", "double(* *)(int, double *, double *, void *)"),
        ("double (*)(int32_t, double *, double *, void *)", "double (int32_t, double *, double *, void *)"),
        ("void *", "void *"),
        ("int", "int"),
    ],
)
def test_cffi_of_wrong_types(ffi, c_type, shown):
    expected = f"fun must have the signature '{SIGNATURES['value_and_gradient']}'"
    refused(ffi.cast(c_type, 1), ["value_and_gradient"], f"{expected}, got {shown!r}")


def test_cffi_objects_without_an_address(ffi):
    ffi.cdef("struct s { double c; };")
    allocated = ffi.new("struct s *")
    refused(allocated[0], ["value"], f"fun must have the signature '{SIGNATURES['value']}', got 'struct s'")


# ---- capsules and LowLevelCallable ----


def test_capsule():
    fun = PROTOTYPES["value_and_gradient"](in_python)
    name = SIGNATURES["value_and_gradient"].encode()
    assert_is_both(capsule(address_of(fun), name))
    c = ctypes.c_double(3.0)
    assert_is_both(capsule(address_of(fun), name, ctypes.addressof(c)), user_data=ctypes.addressof(c))


def test_capsule_without_a_name():
    fun = capsule(1, None)
    expected = f"fun must have the signature '{SIGNATURES['value']}'"
    refused(fun, ["value"], f"{expected}, got {fun!r}, without a name: name a capsule with its signature")


@needs_cc
def test_low_level_callable_of_each_source(library_function, library_path, ffi, numba_both):
    name = BOTH.encode()
    library = ffi.dlopen(str(library_path))
    from_capsule = capsule(address_of(library_function), name)
    for fun in [typed(library_function), library.both, numba_both.ctypes, from_capsule]:
        assert_is_both(LowLevelCallable(fun))
        assert_is_both(LowLevelCallable(LowLevelCallable(fun)))


@needs_cc
def test_low_level_callable_with_user_data(library_function, ffi):
    fun = typed(library_function)
    c = ctypes.c_double(3.0)
    address = ctypes.addressof(c)
    assert_is_both(LowLevelCallable(fun, ctypes.cast(ctypes.pointer(c), POINTER)), user_data=address)
    assert_is_both(LowLevelCallable(fun, ffi.cast("void *", address)), user_data=address)
    assert_is_both(LowLevelCallable(fun, capsule(address, None)), user_data=address)


@needs_cc
def test_low_level_callable_with_a_signature(library_function):
    """What SciPy is told counts, be it right or wrong."""
    library_function.argtypes = []
    assert_is_both(LowLevelCallable(library_function, signature=BOTH))
    wrong = LowLevelCallable(library_function, signature="double (int)")
    refused(wrong, ["value"], f"fun must have the signature '{SIGNATURES['value']}', got 'double (int)'")


# ---- NULL, and lives ----


def test_null_pointers(ffi):
    for fun in [PROTOTYPES["value_and_gradient"](), ffi.cast(BOTH.replace("(", "(*)(", 1), 0)]:
        refused(fun, ["value_and_gradient"], f"fun must not be a NULL pointer, got {fun!r}", ValueError)


def test_the_owner_lives_as_long_as_what_was_found():
    def square(n, x, user_data):
        return x[0] ** 2

    pointer = PROTOTYPES["value"](square)
    found = compiled(pointer, ["value"], "fun")
    code = weakref.ref(square)
    del pointer, square
    gc.collect()
    assert PROTOTYPES["value"](found.address)(1, (ctypes.c_double * 1)(3.0), None) == 9.0
    del found
    gc.collect()
    assert code() is None


def test_user_data_of_a_low_level_callable_lives_as_long():
    constants = (ctypes.c_double * 1)(7.0)
    pointer = PROTOTYPES["value"](lambda n, x, user_data: ctypes.cast(user_data, DOUBLES)[0])
    found = compiled(LowLevelCallable(pointer, ctypes.cast(constants, POINTER)), ["value"], "fun")
    life = weakref.ref(constants)
    del constants, pointer
    gc.collect()
    assert PROTOTYPES["value"](found.address)(0, None, found.user_data) == 7.0
    del found
    gc.collect()
    assert life() is None


# ---- the page about them ----

PAGE = (Path(__file__).parent.parent / "docs" / "compiled-objectives.md").read_text()


# The loops that the examples call are not there yet.
CAN_SOLVE = callable(getattr(ds, "minimize", None)) and hasattr(ds, "minimize_many")


def run_section(heading, names):
    """What a reader does: save the sources, whose first line names them, give the commands, run the Python code."""
    (section,) = [text for text in PAGE.split("\n## ") if text.startswith(f"{heading}\n")]
    for language, code in re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL):
        if language == "sh":
            subprocess.run(code, shell=True, check=True)
        elif language != "python":
            Path(code.split()[1]).write_text(code)
        elif CAN_SOLVE or "ds.minimize" not in code:
            exec(code, names)


@pytest.mark.parametrize(
    "headings, minimum", [(["numba"], [1, 1]), pytest.param(["C", "Constants"], [2, 4], marks=needs_cc)]
)
def test_the_examples_of_the_page_run(headings, minimum, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for heading in headings:
        run_section(heading, names)
    for fun in [names["valley"], names.get("two", names["valley"])]:
        assert compiled(fun, ["value_and_gradient"], "fun").role == "value_and_gradient"
    if CAN_SOLVE:
        a = names["rows"][:, 0]
        assert np.abs(names["res"].x - minimum).max() < 1e-4
        assert np.abs(names["many"].x - np.column_stack([a, a**2])).max() < 1e-4


def test_the_page_lists_all_signatures():
    assert re.findall(r"^\|.*`((?:double|void) \(.*\))` \|$", PAGE, re.MULTILINE) == list(SIGNATURES.values())

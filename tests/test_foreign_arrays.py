"""Arrays of other libraries: updated where they are, or refused with a word on what to pass instead."""

import copy
import ctypes
import gc
import pickle
import re
import weakref

import ml_dtypes
import numpy as np
import pytest
from rule_cases import CASES, assert_same_bits, case_id

import downslope as ds
from downslope._extension import core

# ---- exporters written here ----


class Tensor(ctypes.Structure):
    """DLTensor of DLPack 1.0."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class Managed(ctypes.Structure):
    _fields_ = [("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


class ManagedVersioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    ]


READ_ONLY, IS_COPIED = 1, 2  # flags
CPU, CUDA, CUDA_HOST, ROCM_HOST, CUDA_MANAGED = 1, 2, 3, 11, 13  # device types
INT, UINT, FLOAT, OPAQUE, BFLOAT, COMPLEX, BOOL, FLOAT8 = 0, 1, 2, 3, 4, 5, 6, 10  # type codes

capsule_new = ctypes.pythonapi.PyCapsule_New
capsule_new.restype, capsule_new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
capsule_is_valid = ctypes.pythonapi.PyCapsule_IsValid
capsule_is_valid.restype, capsule_is_valid.argtypes = ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p]
capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
capsule_pointer.restype, capsule_pointer.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]

exported = {}  # address of a managed tensor -> all that it needs


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def delete(address):
    owner, *_ = exported.pop(address)  # a KeyError, the second time, is an unraisable exception: it fails the test
    owner.deleted += 1


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def end_capsule(capsule):
    """What an exporter's capsule does in the end: nothing, once it has been renamed."""
    for name in (b"dltensor", b"dltensor_versioned"):
        if capsule_is_valid(capsule, name):
            delete(capsule_pointer(capsule, name))


class Exporter:
    """An array of another library, by DLPack alone; what it says of itself can be overridden."""

    def __init__(self, array, version=1, flags=None, has_deleter=True, **says):
        self.array, self.version, self.says, self.has_deleter = array, version, says, has_deleter
        self.flags = flags if flags is not None else 0 if array.flags.writeable else READ_ONLY
        self.made = self.deleted = 0

    def __dlpack__(self, **keywords):
        if self.version == 0 and keywords:
            raise TypeError("__dlpack__() got an unexpected keyword argument 'max_version'")
        assert keywords in ({}, {"max_version": (1, 0)})
        array = self.array
        values = {
            "data": array.ctypes.data,
            "device_type": CPU,
            "ndim": array.ndim,
            "code": {"i": INT, "u": UINT, "f": FLOAT, "c": COMPLEX, "b": BOOL}[array.dtype.kind],
            "bits": array.itemsize * 8,
            "lanes": 1,
            "shape": (ctypes.c_int64 * array.ndim)(*array.shape),
            "strides": (ctypes.c_int64 * array.ndim)(*(stride // array.itemsize for stride in array.strides)),
            **self.says,
        }
        shape, strides = (ctypes.cast(values[name], ctypes.POINTER(ctypes.c_int64)) for name in ("shape", "strides"))
        tensor = Tensor(**{**values, "shape": shape, "strides": strides})
        deleter = ctypes.cast(delete, ctypes.c_void_p) if self.has_deleter else None
        if self.version:
            name, managed = b"dltensor_versioned", ManagedVersioned(self.version, 0, None, deleter, self.flags, tensor)
        else:
            name, managed = b"dltensor", Managed(tensor, None, deleter)
        address = ctypes.addressof(managed)
        exported[address] = (self, managed, values)
        self.made += 1
        return capsule_new(address, name, ctypes.cast(end_capsule, ctypes.c_void_p))


class Interface:
    """An array of another library, by ``__array_interface__`` alone."""

    def __init__(self, array):
        self.array = array

    @property
    def __array_interface__(self):
        return self.array.__array_interface__


class Wrapper:
    """An array of another library that lets NumPy speak DLPack for it."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **keywords):
        return self.array.__dlpack__(**keywords)


class OnlyArray:
    """What NumPy may have to copy."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array)

    def __iter__(self):
        return iter(self.array)


@pytest.fixture(autouse=True)
def nothing_is_left():
    """Every memory that was exported has been given back."""
    gc.freeze()  # nothing to look at but what the test has made
    yield
    gc.collect()
    gc.unfreeze()
    assert not exported


EXPORTERS = [Exporter, Interface]


@pytest.mark.parametrize("foreign", EXPORTERS)
def test_parameters_and_gradients_are_used_where_they_are(foreign, rng):
    p, g = rng.standard_normal((2, 30)).astype(np.float32)
    expected = ds.Adam(p.copy())
    opt = ds.Adam(foreign(p))
    for _ in range(3):
        opt.step(foreign(g))
        expected.step(g)
        g *= 0.5
    assert_same_bits(p, expected.params)
    assert np.shares_memory(opt.params, p) and type(opt.params) is np.ndarray


def test_what_numpy_exports(rng):
    p, g = rng.standard_normal((2, 4, 5))
    g.flags.writeable = False
    expected = ds.Adam(p.copy())
    expected.step(g)
    try:
        p.__dlpack__(max_version=(1, 0))
    except TypeError:  # NumPy before 2.1: then it is read-only
        pytest.skip("this NumPy knows no DLPack 1.0")
    opt = ds.Adam(Wrapper(p))
    opt.step(Wrapper(g))
    assert_same_bits(p, expected.params)


VIEWS = {
    "strided": np.zeros((8, 9))[::2, ::3],
    "transposed": np.zeros((3, 4)).T,
    "reversed": np.zeros((3, 4))[::-1],
    "offset": np.zeros(9)[3:],
    "no axes": np.zeros(()),
    "empty": np.zeros((3, 0, 2)),
    "one element": np.zeros((1, 1, 1)),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("foreign", EXPORTERS)
def test_views(foreign, view, rng):
    p, g = VIEWS[view].copy(order="K"), VIEWS[view]
    g[...] = rng.standard_normal(g.shape)
    opt, expected = ds.SGD([foreign(p)], lr=1.0), ds.SGD([p.copy()], lr=1.0)
    opt.step([foreign(g)])
    expected.step([g])
    assert_same_bits(np.array(p), expected.params[0])
    g[...] = rng.standard_normal(g.shape)
    opt = ds.SGD(foreign(g), lr=1.0)
    before = g.copy()
    opt.step(before)
    assert (g == 0).all()


def test_the_parts_of_a_dlpack_tensor(rng):
    memory = rng.standard_normal(8)
    tail = memory[2:]
    c_order = Exporter(tail.reshape(2, 3), data=memory.ctypes.data, byte_offset=16, strides=None)
    opt = ds.SGD(c_order, lr=1.0)
    assert_same_bits(opt.params, tail.reshape(2, 3))
    opt.step(tail.reshape(2, 3).copy())
    assert (tail == 0).all() and (memory[:2] != 0).all()
    opt = ds.SGD(Exporter(np.ones((3, 0)), data=None))
    assert opt.params.shape == (3, 0)
    opt = ds.SGD(Exporter(np.ones(2), has_deleter=False), lr=1.0)
    opt.step(np.ones(2))
    del opt
    exported.clear()  # nobody was to be told


@pytest.mark.parametrize("device", [CPU, CUDA_HOST, ROCM_HOST])
def test_memory_of_the_host(device):
    p = np.ones(2)
    ds.SGD(Exporter(p, device_type=device), lr=1.0).step(np.ones(2))
    assert (p == 0).all()


SUPPORTED = "must have dtype float32, float64, float16 or bfloat16, got "
REFUSED = {
    "device": (
        lambda: Exporter(np.ones(2), device_type=CUDA),
        TypeError,
        "DLPack's device type 2 is no CPU.*on the CPU",
    ),
    "managed": (lambda: Exporter(np.ones(2), device_type=CUDA_MANAGED), TypeError, "device type 13 is no CPU"),
    "version": (lambda: Exporter(np.ones(2), version=2), TypeError, "it came as DLPack 2, not 1"),
    "copy": (lambda: Exporter(np.ones(2), flags=IS_COPIED), TypeError, "its __dlpack__ makes a copy"),
    "no memory": (lambda: Exporter(np.ones(2), data=None), TypeError, "it has none"),
    "lanes": (lambda: Exporter(np.ones(2), lanes=2), TypeError, "code 2 with 64 bits and 2 lanes .*: pass float32 or"),
    "opaque": (lambda: Exporter(np.ones(2), code=OPAQUE), TypeError, "type code 3"),
    "float8": (lambda: Exporter(np.ones(2, np.uint8), code=FLOAT8), TypeError, "type code 10 with 8 bits"),
    "nibbles": (lambda: Exporter(np.ones(2, np.uint8), code=INT, bits=4), TypeError, "type code 0 with 4 bits"),
    "wide bfloat": (lambda: Exporter(np.ones(2), code=BFLOAT), TypeError, "type code 4 with 64 bits"),
    "float of 8 bits": (lambda: Exporter(np.ones(2, np.uint8), code=FLOAT), TypeError, "cannot be shared .*'f1'"),
    "integers": (lambda: Exporter(np.ones(2, int)), TypeError, SUPPORTED + "int64"),
    "bytes": (lambda: Exporter(np.ones(2, np.uint8)), TypeError, SUPPORTED + "uint8"),
    "bools": (lambda: Exporter(np.ones(2, bool)), TypeError, SUPPORTED + "bool$"),
    "complex": (lambda: Exporter(np.ones(2, complex)), TypeError, SUPPORTED + "complex128$"),
    "negative shape": (
        lambda: Exporter(np.ones(2), shape=(ctypes.c_int64 * 1)(-2)),
        TypeError,
        "cannot be shared .*negative",
    ),
    "interface of integers": (lambda: Interface(np.ones(2, int)), TypeError, SUPPORTED + "int64"),
}


@pytest.mark.parametrize("role", ["parameter", "gradient", "binding"])
@pytest.mark.parametrize("what", REFUSED)
def test_refused(what, role):
    """With the name of the argument; and what was exported is given back (the fixture sees to it)."""
    make, error, message = REFUSED[what]
    foreign = make()
    if role == "parameter":
        with pytest.raises(error, match=rf"^params\[1\].*{message}"):
            ds.SGD([np.ones(2), foreign])
    else:
        p = np.ones(2)
        opt = ds.SGD([p.copy(), p], lr=1.0)
        with pytest.raises(error, match=rf"^grads\[1\].*{message}"):
            getattr(opt, "step" if role == "gradient" else "bind")([np.ones(2), foreign])
        assert (p == 1).all() and opt.step_count == 0
    if isinstance(foreign, Exporter):
        assert foreign.made == 1


SIXTEEN_BITS = {
    "float16": (np.float16, Exporter),
    "float16 by interface": (np.float16, Interface),
    "bfloat16": (ml_dtypes.bfloat16, lambda array: Exporter(array.view(np.uint16), code=BFLOAT)),
}


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("what", SIXTEEN_BITS)
def test_parameters_of_16_bits(what, rounding, rng):
    """They and their gradients are used where they are; and a strided view of them."""
    dtype, foreign = SIXTEEN_BITS[what]
    memory, grads = rng.standard_normal((2, 90)).astype(dtype)
    params = [memory[:30], memory[30::2]]
    ref = ds.reference.Optimizer("adam", [p.copy() for p in params], lr=0.1, rounding=rounding, seed=5)
    between = memory[31::2].tobytes()
    opt = ds.Adam([foreign(p) for p in params], lr=0.1, rounding=rounding, seed=5)
    for _ in range(4):
        opt.step([foreign(grads[:30]), foreign(grads[60:])])
        ref.step([grads[:30], grads[60:]])
    for given, param, expected in zip(params, opt.params, ref.params, strict=True):
        assert_same_bits(np.ascontiguousarray(given).view(np.uint16), expected.view(np.uint16))
        assert np.shares_memory(param, given) and param.dtype == (np.uint16 if what == "bfloat16" else dtype)
    for slots, expected in zip(opt.state, ref.state, strict=True):
        assert_same_bits(slots["exp_avg"], expected["exp_avg"])
    assert memory[31::2].tobytes() == between


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("grad_dtype", [np.float16, ml_dtypes.bfloat16])
def test_gradients_of_16_bits(grad_dtype, version, dtype, rng):
    p, g = rng.standard_normal(30).astype(dtype), rng.standard_normal(30).astype(grad_dtype)
    ref = ds.reference.Optimizer("adam", [p.copy()])
    opt = ds.Adam(p)
    is_bfloat16 = grad_dtype == ml_dtypes.bfloat16
    exporter = Exporter(g.view(np.uint16), version, code=BFLOAT) if is_bfloat16 else Exporter(g, version)
    opt.bind(exporter)
    for _ in range(3):
        opt.step()
        opt.step(exporter)
        ref.step([g])
        ref.step([g])
        g *= np.asarray(0.5, g.dtype)
    assert_same_bits(p, ref.params[0])


def test_the_bits_of_bfloat16_are_no_integers():
    """A gradient of integers, at the address where one of bfloat16 was."""
    p, bits = np.zeros(2, np.float32), np.full(2, 0x3F80, np.uint16)
    opt = ds.SGD([p], lr=1.0)
    opt.step([Exporter(bits, code=BFLOAT)])
    assert (p == -1).all()
    for grad in (bits, Exporter(bits)):
        with pytest.raises(TypeError, match=r"grads\[0\] must have dtype .*, got uint16"):
            opt.step([grad])
    with pytest.raises(TypeError, match=r"params\[0\] must have dtype .*, got uint16"):
        ds.SGD([bits])
    assert (p == -1).all()


class Failing:
    device = "mars:0"

    def __init__(self, error):
        self.error, self.calls = error, 0

    def __dlpack__(self, **keywords):
        self.calls += 1
        raise self.error


def test_an_exporter_that_raises():
    """Its own words are in the message, and its exception is the cause; what is no error of its own passes."""
    error = BufferError("the elements are encrypted")
    message = re.escape(
        "grads is a Failing on the device mars:0, whose memory cannot be shared (the elements are encrypted): "
        "pass a dense copy on the CPU"
    )
    opt = ds.SGD(np.ones(2))
    with pytest.raises(TypeError, match=f"^{message}$") as raised:
        opt.step(Failing(error))
    assert raised.value.__cause__ is error
    for error in (TypeError("no"), ValueError("no"), AttributeError("no")):
        failing = Failing(error)
        with pytest.raises(TypeError, match=r"cannot be shared \(no\)"):
            opt.step(failing)
        assert failing.calls == 1 + isinstance(error, TypeError)  # which may have been about the keyword
    for error in (KeyboardInterrupt, MemoryError):
        with pytest.raises(error):
            opt.step(Failing(error))


def test_a_capsule_that_is_none():
    class Sloppy(Exporter):
        def __dlpack__(self, **keywords):
            return self.answer

    sloppy = Sloppy(np.ones(2))
    for sloppy.answer in (None, 7, np.ones(2)):
        with pytest.raises(TypeError, match="its __dlpack__ gave no tensor, but "):
            ds.SGD(sloppy)
    sloppy.answer = Exporter(np.ones(2)).__dlpack__()
    ds.SGD(sloppy)
    with pytest.raises(TypeError, match='gave no tensor, but .*"used_dltensor_versioned"'):
        ds.SGD(sloppy)
    del sloppy.answer


@pytest.mark.parametrize(
    "make",
    [
        lambda array: Exporter(array, flags=READ_ONLY),
        lambda array: Exporter(array, version=0),  # which cannot tell
        lambda array: Interface(np.broadcast_to(array, array.shape)),
    ],
)
def test_read_only_memory_is_for_gradients_alone(make):
    p, g = np.ones(2), np.ones(2)
    with pytest.raises(ValueError, match=r"^params is read-only.*: make a copy first, w = numpy.array\(w\), and keep"):
        ds.SGD(make(g))
    opt = ds.SGD(p, lr=0.5)
    opt.step(make(g))
    opt.bind(make(g))
    opt.step()
    assert (p == 0).all()


class Picture:
    """As an image of Pillow's: its interface makes a string of bytes on the spot."""

    @property
    def __array_interface__(self):
        return {"version": 3, "shape": (2,), "typestr": "<f8", "data": np.ones(2).tobytes()}


@pytest.mark.parametrize("thing", [OnlyArray(np.ones(2)), np.float64(1), Picture(), OnlyArray(np.ones((2, 2)))])
def test_what_may_be_a_copy_is_refused(thing):
    kind = type(thing).__name__
    message = f"must be a NumPy array, got {kind}, whose memory cannot be shared: pass numpy.asarray of it$"
    for params in (thing, [{"params": thing}]):
        with pytest.raises(TypeError, match=rf"^params(\[0\])? {message}"):
            ds.SGD(params)
    with pytest.raises(TypeError, match=rf"^params\['w'\] {message}"):
        ds.SGD({"w": thing})
    with pytest.raises(TypeError, match=f"^grads {message}"):
        ds.SGD(np.ones(2)).step(thing)


def test_an_interface_that_makes_no_sense():
    class Nonsense:
        __array_interface__ = {"version": 3, "shape": (2,), "typestr": "<x8", "data": (1, False)}

    class NoMapping:
        __array_interface__ = 3

    for thing in (Nonsense(), NoMapping()):
        with pytest.raises(TypeError, match="^params is a No.*, whose memory cannot be shared "):
            ds.SGD(thing)


# ---- the life of what is shared ----


@pytest.mark.parametrize("foreign", EXPORTERS)
def test_the_owner_lives_as_long_as_it_is_used(foreign):
    owner, grad = foreign(np.ones(2)), foreign(np.ones(2))
    alive, grad_alive = weakref.ref(owner), weakref.ref(grad)
    opt = ds.SGD(owner)
    opt.bind(grad)
    del owner, grad
    gc.collect()
    assert alive() is not None and grad_alive() is not None
    opt.bind(np.ones(2))
    gc.collect()
    assert alive() is not None and grad_alive() is None
    view = opt.params
    del opt
    gc.collect()
    assert alive() is not None
    del view
    gc.collect()
    assert alive() is None


def test_gradients_are_exported_once_a_step_or_once_a_binding():
    p, g = np.zeros(2), Exporter(np.ones(2))
    opt = ds.SGD([p], lr=1.0)
    for count in (1, 2, 3):
        opt.step([g])
        assert g.made == g.deleted == count
    opt.bind([g])
    for _ in range(3):
        opt.step()
    assert g.made == 4 and g.deleted == 3
    g.array[...] = 0
    opt.step()
    assert (p == -6).all()


def test_a_deleter_finds_a_pending_exception_in_order():
    """And leaves it as it was: the gradient is let go of while the error about the next one is on its way."""

    class Careless(Exporter):
        @property
        def deleted(self):
            return 0

        @deleted.setter
        def deleted(self, value):
            try:
                raise KeyError
            except KeyError:
                pass

    with pytest.raises(ValueError, match=r"^grads\[1\] must have the shape"):
        ds.SGD([np.ones(2), np.ones(2)]).step([Careless(np.ones(2)), np.ones(3)])


@pytest.mark.parametrize("call", ["step", "bind"])
def test_an_exporter_that_meddles_with_the_arrays(call):
    """Exporting runs first of all, so whatever it does is seen by the checks."""
    p, q, g = np.ones(2), np.ones(2), np.ones(2)

    class Meddler(Exporter):
        def __dlpack__(self, **keywords):
            self.meddle()
            return super().__dlpack__(**keywords)

    opt = ds.SGD([p, q])
    use = getattr(opt, call)
    meddler = Meddler(np.ones(2))
    meddler.meddle = lambda: g.resize(5000, refcheck=False)
    with pytest.raises(ValueError, match=r"grads\[0\] must have the shape"):
        use([g, meddler])
    meddler.meddle = lambda: p.resize(5000, refcheck=False)
    with pytest.raises(ValueError, match=r"params\[0\] has been given other memory"):
        use([np.ones(2), meddler])
    meddler.meddle = lambda: opt.step([np.ones(2), None])
    with pytest.raises(TypeError, match="cannot be used by code that it runs to check arrays"):
        use([np.ones(2), meddler])


def test_copies_carry_numpy_arrays():
    p = np.ones(3)
    opt = ds.Adam({"w": Exporter(p)}, lr=0.1)
    opt.step({"w": np.ones(3)})
    for twin in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        assert type(twin.params["w"]) is np.ndarray and not np.shares_memory(twin.params["w"], p)
        before = p.copy()
        twin.step({"w": Exporter(np.ones(3))})
        assert_same_bits(p, before)
        assert (twin.params["w"] < p).all()


@pytest.mark.parametrize("foreign", EXPORTERS)
def test_shared_memory_is_found_across_libraries(foreign):
    a = np.ones((4, 4))
    for params in ([a, foreign(a)], [foreign(a[1:]), foreign(a[:2])]):
        with pytest.raises(ValueError, match="share memory: pass each array only once"):
            ds.SGD(params)
    with pytest.raises(ValueError, match="grads shares memory with params: pass a copy"):
        ds.SGD(a).step(foreign(a))
    with pytest.raises(ValueError, match="grads shares memory with params: pass a copy"):
        ds.SGD(foreign(a)).step(a[::-1])
    ds.SGD([foreign(a[:, ::2]), foreign(a[:, 1::2])])
    assert (a == 1).all()


# ---- structures ----


class Rows(Exporter):
    """As a tensor: its rows are tensors, too."""

    def __iter__(self):
        return (Rows(row) for row in self.array)

    def __len__(self):
        return len(self.array)


def test_one_array_and_a_collection_of_them():
    def pair():
        return Rows(np.ones((2, 2))), Rows(np.ones(3))

    a, b = pair()
    assert ds.SGD(a).params.shape == (2, 2)
    assert [p.shape for p in ds.SGD([a, b]).params] == [(2, 2), (3,)]
    assert [p.shape for p in ds.SGD(iter(pair())).params] == [(2, 2), (3,)]
    assert {name: p.shape for name, p in ds.SGD({"a": a, "b": b}).params.items()} == {"a": (2, 2), "b": (3,)}
    opt = ds.SGD([{"params": a, "lr": 0.5}, {"params": [b]}], lr=1.0)
    opt.step([Rows(np.ones((2, 2))), Rows(np.ones(3))])
    assert (a.array == 0.5).all() and (b.array == 0).all()
    opt.add_param_group({"params": Rows(np.ones((2, 2)))})
    assert [p.shape for p in opt.params] == [(2, 2), (3,), (2, 2)]
    with pytest.raises(ValueError, match="grads must be a list or tuple of arrays, as params is, got one array"):
        opt.step(Rows(np.ones((3, 2))))
    with pytest.raises(ValueError, match="grads must have 3 arrays, as params has, got 1"):
        opt.step([a])


def test_lookahead():
    p = np.array([1.0, -2.0])
    foreign, plain = ds.NAG(Exporter(p), lr=0.1), ds.NAG(p.copy(), lr=0.1)
    for _ in range(3):
        with foreign.lookahead(), plain.lookahead():
            assert_same_bits(p, plain.params)
            g = 2 * p
        foreign.step(Exporter(g))
        plain.step(g)
        assert_same_bits(p, plain.params)


# ---- PyTorch itself ----


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("case", CASES, ids=case_id)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_rule_moves_tensors_as_arrays(torch, case, dtype, rng):
    name, options = case
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in [(), (7,), (30, 40), (0, 2)]]
    tensors = [torch.tensor(array) for array in arrays]
    addresses = [tensor.data_ptr() for tensor in tensors]
    foreign, plain = ds.OPTIMIZERS[name](tensors, **options), ds.OPTIMIZERS[name](arrays, **options)
    for _ in range(6):
        grads = [rng.standard_normal(array.shape).astype(dtype) for array in arrays]
        foreign.step([torch.tensor(grad) for grad in grads])
        plain.step(grads)
    for tensor, array, address in zip(tensors, arrays, addresses, strict=True):
        assert_same_bits(tensor.numpy(), array)
        assert tensor.data_ptr() == address


TENSOR_VIEWS = {
    "every other row": lambda t: t[::2],
    "every third column": lambda t: t[:, ::3],
    "transposed": lambda t: t.T,
    "permuted": lambda t: t.reshape(4, 15, 30).permute(2, 0, 1),
    "block": lambda t: t[5:35, 7:27],
    "tail": lambda t: t.flatten()[11:],
    "one element": lambda t: t[3, 4],
    "empty": lambda t: t[:, 5:5],
}


@pytest.mark.parametrize("view", TENSOR_VIEWS)
def test_views_of_tensors(torch, view, rng):
    values = rng.standard_normal((2, 60, 30)).astype(np.float32)
    tensor, grad = torch.tensor(values[0]), torch.tensor(values[1])
    arrays = [values[0].copy(), values[1].copy()]
    take = TENSOR_VIEWS[view]
    ds.Adam(take(tensor), lr=0.1).step(take(grad))
    p, g = (take(torch.from_numpy(array)).numpy() for array in arrays)
    ds.Adam(p, lr=0.1).step(g)
    assert_same_bits(tensor.numpy(), arrays[0])  # all around the view, too


def test_tensors_that_are_refused(torch):
    """By what to pass instead, as parameters and as gradients."""
    negated = torch.complex(torch.ones(2), torch.ones(2)).conj().imag
    refused = [
        (torch.ones(2, requires_grad=True), TypeError, r"requires grad: pass its detach\(\)"),
        (torch.nn.Parameter(torch.ones(2)), TypeError, r"requires grad: pass its detach\(\)"),
        (torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16)), TypeError, r"requires grad: pass its detach\(\)"),
        (torch.ones(2, device="meta"), TypeError, "is a Tensor on the device meta, .*: pass a dense copy on the CPU"),
        (torch.ones(2).to_sparse(), TypeError, "is a Tensor on the device cpu, .*Sparse.*: pass a dense copy"),
        (negated, TypeError, r"cannot be shared .*negative bit.*resolve_neg\(\)"),
        (torch.ones(2, dtype=torch.int64), TypeError, "got int64"),
        (torch.ones(2, dtype=torch.bool), TypeError, "got bool"),
        (torch.ones(2, dtype=torch.complex64), TypeError, "got complex64"),
        (torch.ones(2).to(torch.float8_e5m2), TypeError, "unsupported ScalarType Float8_e5m2"),
        (torch.ones(3), ValueError, r"must have the shape of its parameter, \(2,\), got \(3,\)"),
        (torch.ones(2, dtype=torch.float64), TypeError, "does not cast safely to float32"),
    ]
    p = torch.ones(2)
    opt = ds.SGD(p)
    for tensor, error, message in refused:
        with pytest.raises(error, match=message):
            opt.step(tensor)
    for tensor, error, message in refused[:-2]:
        with pytest.raises(error, match=message):
            ds.SGD([tensor])
    with pytest.raises(ValueError, match="share memory"):
        ds.SGD(torch.ones(1).expand(3))
    with pytest.raises(ValueError, match=r"params\[1\] and params\[0\] share memory"):
        ds.SGD([p, p.numpy()])
    with pytest.raises(ValueError, match="grads shares memory with params"):
        opt.step(p.numpy())
    assert p.tolist() == [1, 1]


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_tensors_of_16_bits(torch, name, rng):
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    start, grads = rng.standard_normal(500).astype(dtype), rng.standard_normal((4, 500)).astype(dtype)
    ref = ds.reference.Optimizer("adam", [start.copy()], lr=0.1)
    # By their bits, since torch.tensor knows no bfloat16 of NumPy's.
    w, *tensors = (torch.tensor(a.view(np.int16)).view(getattr(torch, name)) for a in (start, *grads))
    address = w.data_ptr()
    opt = ds.Adam([w], lr=0.1)
    for tensor, grad in zip(tensors, grads, strict=True):
        opt.step([tensor])
        ref.step([grad])
    assert w.data_ptr() == address
    assert_same_bits(w.view(torch.int16).numpy(), ref.params[0].view(np.int16))


def test_training_with_autograd(torch):
    """The .grad of a backward pass, new at each step or bound, moves the weights that the next forward pass reads."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(200, 3, generator=generator)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 3
    models = [torch.nn.Linear(3, 1) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    ours = [ds.Adam([w.detach() for w in model.parameters()], lr=0.05) for model in models]

    def backward(model, set_to_none):
        model.zero_grad(set_to_none=set_to_none)
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss.item()

    losses = [backward(model, True) for model in models]
    ours[1].bind([w.grad for w in models[1].parameters()])
    for _ in range(300):
        ours[0].step([w.grad for w in models[0].parameters()])
        ours[1].step()
        losses = [backward(model, model is models[0]) for model in models]
    assert losses[0] == losses[1] < 1e-3
    torch.testing.assert_close(models[0].weight.detach(), torch.tensor([[1.0, -2.0, 0.5]]), atol=0.02, rtol=0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_bits_of_a_tensor(torch, dtype):
    """As the core has them, of either dtype."""
    tensor = torch.tensor([[1.0, -2.5], [0.0, 3.0]], dtype=getattr(torch, dtype)).T
    array, is_bfloat16 = core.shared_array("x", tensor)
    assert is_bfloat16 == (dtype == "bfloat16")
    assert array.dtype == ("uint16" if is_bfloat16 else dtype)
    values = (array.astype(np.uint32) << 16).view(np.float32) if is_bfloat16 else array
    assert values.tolist() == tensor.tolist() and array.ctypes.data == tensor.data_ptr()


def test_a_tensor_that_is_given_other_memory(torch):
    """The optimizer keeps what it was given, and goes on with that; memory that it holds cannot be freed."""
    w, g = torch.full((1000,), 2.0), torch.ones(1000)
    opt = ds.SGD(w, lr=1.0)
    opt.bind(g)
    for tensor in (w, g):
        with pytest.raises(RuntimeError, match="not resizable"):
            tensor.resize_(10**6)
        with pytest.raises(RuntimeError, match="not resizable"):
            tensor.untyped_storage().resize_(0)
    w.set_(torch.full((3,), 7.0))
    g.data = torch.full((1000,), 5.0)
    others = [torch.full((1000,), 9.0) for _ in range(50)]  # which would take the place of freed memory
    opt.step()
    assert (opt.params == 1).all() and w.tolist() == [7, 7, 7] and all((other == 9).all() for other in others)


def test_copies_of_an_optimizer_on_tensors(torch):
    w = torch.ones(2)
    opt = ds.Adam({"w": w})
    for twin in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        twin.step({"w": torch.ones(2)})
        assert type(twin.params["w"]) is np.ndarray and w.tolist() == [1, 1] != twin.params["w"].tolist()


def test_lookahead_on_tensors(torch):
    w = torch.tensor([1.0, -2.0], dtype=torch.float64)
    opt = ds.NAG(w, lr=0.1)
    for _ in range(2):
        with opt.lookahead():
            g = 2 * w
        opt.step(g)
    np.testing.assert_allclose(w.numpy(), [0.496, -0.992])

"""`minimize_many`: the same bits as a loop of `minimize`, however it goes about it."""

import _thread
import ctypes
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from objectives import START, assert_same_results, gradient, rosenbrock, rows, value

import downslope as ds
from downslope._extension import core

needs_openmp = pytest.mark.skipif(not core.has_openmp, reason="needs OpenMP")

FIELDS = ("x", "fun", "jac", "nit", "nfev", "njev", "status", "success")
METHODS = {
    "l-bfgs": {},
    "adam": {"lr": 0.05, "maxiter": 300, "gtol": 0.5},
    "nag": {"lr": 1e-4, "maxiter": 200, "gtol": 1.0},
    "nadam": {"lr": ds.schedules.Exponential(0.1, gamma=0.99), "maxiter": 200, "xtol": 1e-4},
}
METHOD = pytest.mark.parametrize("method", METHODS)
THREADS = pytest.mark.parametrize("threads", [1, 2, 3, 50])


@pytest.fixture
def starts():
    """With one where the objective is not finite, one at the solution, and one far away."""
    X0 = np.random.default_rng(3).uniform(-2, 2, (23, 2))
    X0[4], X0[7], X0[11] = np.nan, 1.0, (300.0, -200.0)
    return X0


@pytest.fixture
def constants():
    """a and b of each problem."""
    return np.random.default_rng(4).uniform((0.5, 1), (2, 100), (23, 2))


def in_a_loop(fun, X0, rows_of_args=None, **keywords):
    """What `minimize` gives for each row, as arrays."""
    args = rows_of_args if rows_of_args is not None else [()] * len(X0)
    each = [ds.minimize(fun, x0, tuple(more), **keywords) for x0, more in zip(X0, args, strict=True)]
    return {name: np.array([res[name] for res in each]) for name in FIELDS}


def assert_equal_fields(res, expected):
    assert_same_results({name: res[name] for name in FIELDS}, expected)


# ---- equal to a loop ----

# How fun and jac are evaluated, as Python functions and as compiled ones.
WAYS = {
    "together": (rosenbrock, True, "both", None),
    "apart": (value, gradient, "value", "gradient"),
    "2-point": (value, None, "value", None),
    "3-point": (value, "3-point", "value", "3-point"),
}


@METHOD
@THREADS
@pytest.mark.parametrize("way", WAYS)
def test_compiled(library, starts, constants, way, threads, method, silent):
    fun, jac, name, compiled_jac = WAYS[way]
    options = METHODS[method]
    expected = in_a_loop(fun, starts, constants, jac=jac, method=method, options=options)
    compiled_jac = library.gradient if compiled_jac == "gradient" else compiled_jac
    with ds.num_threads(threads):
        res = ds.minimize_many(
            getattr(library, name), starts, jac=compiled_jac, method=method, data=constants, options=options
        )
    assert_equal_fields(res, expected)
    assert len(set(res.nit.tolist())) > 3 and set(res.status.tolist()) > {6}


@METHOD
@THREADS
def test_vectorized(starts, constants, threads, method, forced_threads, silent):
    options = METHODS[method]
    expected = in_a_loop(rosenbrock, starts, constants, jac=True, method=method, options=options)
    for jac in (None, True):
        with forced_threads(threads):
            res = ds.minimize_many(rows, starts, constants, jac=jac, method=method, vectorized=True, options=options)
        assert_equal_fields(res, expected)


@METHOD
@pytest.mark.parametrize("way", WAYS)
def test_one_by_one(starts, way, method, silent):
    fun, jac, *_ = WAYS[way]
    options = METHODS[method]
    expected = in_a_loop(fun, starts, [(1.5, 20.0)] * 23, jac=jac, method=method, options=options)
    res = ds.minimize_many(fun, starts, (1.5, 20.0), jac=jac, method=method, options=options)
    assert_equal_fields(res, expected)


@pytest.fixture(params=["compiled", "vectorized", "one by one"])
def objective(request):
    """Keywords for `minimize_many` of Rosenbrock's function."""
    if request.param == "compiled":
        return {"fun": request.getfixturevalue("library").both}
    return {"fun": rows, "vectorized": True} if request.param == "vectorized" else {"fun": rosenbrock, "jac": True}


@pytest.mark.parametrize("k", [0, 1])
def test_few_problems(objective, k):
    X0 = np.array([START])[:k]
    res = ds.minimize_many(**objective, X0=X0)
    assert type(res).__mro__[1] is ds.OptimizeResult and list(res)[0] == "message"
    assert res.message == f"{k} of {k} problems converged."
    shapes = {name: (res[name].shape, res[name].dtype) for name in FIELDS}
    table = dict.fromkeys(("x", "jac"), ((k, 2), np.dtype(float))) | {"fun": ((k,), np.dtype(float))}
    table |= dict.fromkeys(("nit", "nfev", "njev", "status"), ((k,), np.dtype(np.int64)))
    assert shapes == table | {"success": ((k,), np.dtype(bool))}
    if k:
        assert_equal_fields(res, in_a_loop(rosenbrock, X0, jac=True))


def test_starts_of_any_kind(objective):
    X0 = np.arange(12.0).reshape(6, 2) - 5
    expected = ds.minimize_many(**objective, X0=X0)
    frozen = X0.copy()
    frozen.flags.writeable = False
    for given in (
        X0.tolist(),
        X0.astype(np.int8),
        np.float32(X0),
        np.asfortranarray(X0),
        np.repeat(X0, 2, 0)[::2],
        frozen,
    ):
        before = np.array(given)
        assert_same_results(ds.minimize_many(**objective, X0=given), expected)
        assert np.array_equal(given, before)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.tolist(),
        np.float32,
        np.asfortranarray,
        lambda data: np.repeat(data, 3, axis=1)[:, ::3],
        lambda data: data[::-1].copy()[::-1],
        lambda data: data.reshape(-1, 2, 1),
        lambda data: data.astype(data.dtype.newbyteorder()),
        lambda data: np.concatenate([data, data], axis=1),  # more of it than the function reads
    ],
    ids=["list", "float32", "Fortran", "every third", "reversed", "three axes", "swapped", "longer rows"],
)
def test_data_of_any_kind(library, starts, constants, spoil):
    constants = np.float32(constants).astype(float)  # which float32 holds, too
    expected = ds.minimize_many(library.both, starts, data=constants)
    given = spoil(constants)
    before = np.array(given)
    assert_same_results(ds.minimize_many(library.both, starts, data=given), expected)
    assert np.array_equal(given, before)


def test_data_of_one_number_each(library):
    """An array that needs no copy is handed over itself; this function counts in it."""
    data = np.array([1e6, 2e6, 3e6])
    res = ds.minimize_many(library.endless, np.zeros((3, 1)), method="sgd", data=data, options={"maxiter": 4})
    assert res.nfev.tolist() == [5, 5, 5] and data.tolist() == [1e6 - 5, 2e6 - 5, 3e6 - 5]


def test_a_compiled_function_of_its_own_user_data(library):
    """All problems share it."""
    scipy = pytest.importorskip("scipy")
    constants = np.array([2.0, 30.0])
    fun = scipy.LowLevelCallable(library.both, ctypes.c_void_p(constants.ctypes.data))
    X0 = np.array([START, (0.5, 0.5)])
    expected = ds.minimize_many(library.both, X0, data=[constants, constants])
    assert_same_results(ds.minimize_many(fun, X0), expected)
    with pytest.raises(TypeError, match="^data must not be given where fun brings its own user_data$"):
        ds.minimize_many(fun, X0, data=[constants, constants])


# ---- vectorized functions ----


def test_vectorized_functions_see_who_still_runs(starts, silent):
    """Every row once for each evaluation that it counts; what is kept never changes."""
    calls, copies = [], []

    def fun(X, index):
        calls.append((X, index))
        copies.append((X.copy(), index.copy()))
        returned = rows(X, index)
        X[...] = index[...] = -1
        calls[-1][0][...], calls[-1][1][...] = copies[-1]
        return returned

    res = ds.minimize_many(fun, starts, vectorized=True)
    for call, copy in zip(calls, copies, strict=True):
        assert call[0].dtype == float and call[0].flags.c_contiguous and call[1].dtype == np.int64
        assert np.array_equal(call[0], copy[0], equal_nan=True) and np.array_equal(call[1], copy[1])
        assert np.all(np.diff(call[1]) > 0)
    assert np.array_equal(calls[0][0], starts, equal_nan=True)
    counts = np.bincount(np.concatenate([index for _, index in calls]), minlength=len(starts))
    assert np.array_equal(counts, res.nfev) and len(calls) == res.nfev.max()


def test_a_vectorized_function_may_spoil_its_arguments(starts, silent):
    def spoiling(X, index):
        returned = rows(X, index)
        X[...], index[...] = np.nan, 0
        return returned

    expected = ds.minimize_many(rows, starts, vectorized=True)
    assert_same_results(ds.minimize_many(spoiling, starts, vectorized=True), expected)


def of_float32(X, index):
    return tuple(np.float32(each) for each in rows(X, index))


def fortran(X, index):
    f, G = rows(X, index)
    return f.tolist(), np.asfortranarray(G)


@pytest.mark.parametrize("fun", [of_float32, fortran])
def test_what_a_vectorized_function_may_return(fun):
    assert ds.minimize_many(fun, [START, (0.5, 0.5)], vectorized=True, options={"gtol": 1e-2}).success.all()


def test_max_seconds_of_vectorized_problems():
    def slow(X, index):
        time.sleep(0.002)
        return rows(X, index)

    res = ds.minimize_many(slow, np.array([START, (1.0, 1.0)]), vectorized=True, options={"max_seconds": 0.01})
    assert res.status.tolist() == [3, 0] and res.nfev[0] <= 6 and res.message == "1 of 2 problems converged."


# ---- results ----


def test_best():
    def himmelblau(x):
        a, b = x[0] ** 2 + x[1] - 11, x[0] + x[1] ** 2 - 7
        return a * a + b * b + x[0], np.array([4 * a * x[0] + 2 * b + 1, 2 * a + 4 * b * x[1]])

    X0 = np.random.default_rng(0).uniform(-5, 5, (20, 2))
    X0[0] = np.nan
    res = ds.minimize_many(himmelblau, X0, jac=True)
    best = res.best()
    assert best.index == np.nanargmin(res.fun) and type(best.index) is int
    alone = ds.minimize(himmelblau, X0[best.index], jac=True)
    assert_same_results(best, {**alone, "index": best.index})
    assert {name: type(entry) for name, entry in best.items() if name != "index"} == {
        name: type(entry) for name, entry in alone.items()
    }
    best.x[0] = 7  # a copy
    assert res.x[best.index, 0] != 7


@pytest.mark.parametrize("X0", [np.zeros((0, 2)), np.full((3, 2), np.nan)])
def test_no_best(X0):
    with pytest.raises(ValueError, match=r"^best\(\) needs a problem whose fun is not NaN$"):
        ds.minimize_many(rosenbrock, X0, jac=True).best()


def test_disp_and_message(objective, capsys):
    X0 = np.full((1200, 2), 1.0)
    X0[:3] = 1e200, -1e200
    with np.errstate(all="ignore"):
        res = ds.minimize_many(**objective, X0=X0)
        assert capsys.readouterr().out == ""
        ds.minimize_many(**objective, X0=X0, options={"disp": True})
    assert res.message == "1,197 of 1,200 problems converged."
    assert capsys.readouterr().out == res.message + "\n"


def test_progress(objective, starts, capsys, silent):
    pytest.importorskip("tqdm")
    expected = ds.minimize_many(**objective, X0=starts)
    assert_same_results(ds.minimize_many(**objective, X0=starts, options={"progress": True}), expected)
    assert "23/23" in capsys.readouterr().err


# ---- interrupts ----


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(2), StopIteration()], ids=repr)
@pytest.mark.parametrize("vectorized", [True, False])
def test_exceptions_leave_as_they_are(error, vectorized):
    calls = []

    def fails(*args):
        calls.append(args)
        if len(calls) > 4:
            raise error
        return (rows if vectorized else rosenbrock)(*args)

    with pytest.raises(type(error)) as caught:
        ds.minimize_many(fails, [START, (0.5, 0.5)], jac=True, vectorized=vectorized)
    assert caught.value is error and len(calls) == 5


ENDLESS = {"lr": 0.0, "maxiter": 2**60, "max_seconds": 60.0}


@THREADS
def test_ctrl_c(library, threads):
    timer = threading.Timer(0.05, _thread.interrupt_main)
    with ds.num_threads(threads), pytest.raises(KeyboardInterrupt):
        timer.start()
        ds.minimize_many(library.endless, np.zeros((7, 2)), method="sgd", options=ENDLESS)
    timer.join()


def test_ctrl_c_while_a_function_runs(library):
    """Of two problems, one waits inside its function; a thread is left with nothing to solve."""
    data = np.zeros((2, 2))
    timer = threading.Timer(0.05, _thread.interrupt_main)

    def release():
        timer.join()
        data[:, 1] = 1

    releaser = threading.Thread(target=release)
    with ds.num_threads(2), pytest.raises(KeyboardInterrupt):
        timer.start()
        releaser.start()
        ds.minimize_many(library.wait_for, [[1.0], [0.0]], data=data)
    releaser.join()


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()], ids=repr)
def test_exceptions_of_the_progress_bar(library, monkeypatch, error):
    tqdm = pytest.importorskip("tqdm")

    def update(self, by):
        raise error

    monkeypatch.setattr(tqdm.tqdm, "update", update)
    with ds.num_threads(2), pytest.raises(type(error)) as caught:
        options = {**ENDLESS, "progress": True}
        ds.minimize_many(library.endless, np.zeros((7, 2)), method="sgd", options=options)
    assert caught.value is error


# ---- threads and memory ----


@needs_openmp
def test_several_threads_without_the_gil(library):
    """Two problems wait until a thread of Python has seen both begin."""
    data = np.zeros((2, 2))

    def release():
        while not data[:, 0].all():
            time.sleep(0.001)
        data[:, 1] = 1

    thread = threading.Thread(target=release)
    thread.start()
    with ds.num_threads(2):
        res = ds.minimize_many(library.wait_for, np.ones((2, 1)), data=data)
    thread.join()
    assert res.success.all() and data.tolist() == [[1, 1], [1, 1]]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("method", ["l-bfgs", "adam"])
def test_memory_does_not_grow_with_rows(library, method):
    """Beyond its inputs and results, 113 bytes a row here: nothing."""
    code = f"""
import ctypes, resource, sys
import numpy as np
sys.path.insert(0, {str(__file__.rsplit("/", 1)[0])!r})
import downslope as ds
library = ctypes.CDLL({library._name!r})
doubles = ctypes.POINTER(ctypes.c_double)
library.both.restype, library.both.argtypes = ctypes.c_double, [ctypes.c_int, doubles, doubles, ctypes.c_void_p]

def peak(rows):
    ds.minimize_many(library.both, np.full((rows, 2), 0.5), method={method!r}, options={{"maxiter": 3}})
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = peak(1000)
print((peak(500_000) - before) / 500_000)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    # X0 and its copy, x and jac: 16 bytes each; fun, four counts, status: 8; success: 1
    assert float(printed) < 4 * 16 + 6 * 8 + 1 + 4


# ---- errors ----


def arguments(**changes):
    return {"fun": rows, "X0": [START, START], "vectorized": True} | changes


def returns(*returned):
    return arguments(fun=lambda X, index: returned)


ONES = np.ones((2, 2))
WRONG = {
    "one axis": (arguments(X0=START), ValueError, r"X0 must have one row a problem, .*, got shape \(2,\)"),
    "three axes": (arguments(X0=np.ones((1, 2, 2))), ValueError, r"X0 must have .*, got shape \(1, 2, 2\)"),
    "no elements": (arguments(X0=np.ones((2, 0))), ValueError, r"X0 must have .*, got shape \(2, 0\)"),
    "no elements one by one": (
        arguments(X0=np.ones((2, 0)), vectorized=False),
        ValueError,
        r"X0 must have .*, got shape \(2, 0\)",
    ),
    "X0 complex": (arguments(X0=[[1j]]), TypeError, "X0 must be an array of real numbers .*, got dtype complex128"),
    "X0 masked": (arguments(X0=np.ma.ones((2, 2))), TypeError, "X0 must not be a masked array: fill it first"),
    "method": (arguments(method="newtn"), ValueError, "method must be one of .*, got 'newtn'"),
    "option": (arguments(options={"lr": 1}), TypeError, "unknown option 'lr' of method 'l-bfgs'.*"),
    "vectorized": (arguments(vectorized=1), TypeError, "vectorized must be True or False, got 1"),
    "fun": (arguments(fun=3), TypeError, "fun must be a Python function .* with vectorized=True, got 3"),
    "jac": (arguments(jac=gradient), TypeError, "jac must be None or True with vectorized=True, got .*"),
    "jac by name": (
        arguments(jac="2-point"),
        TypeError,
        "jac must be None or True with vectorized=True, got '2-point'",
    ),
    "data": (arguments(data=ONES), TypeError, "data is what compiled functions get: a vectorized one selects .*"),
    "data one by one": (
        {"fun": value, "X0": [START], "data": ONES},
        TypeError,
        "data is what compiled functions get: hand it to a Python function by args",
    ),
    "jac without rows": ({"fun": value, "X0": np.ones((0, 2)), "jac": 3}, TypeError, "jac must be .*, got 3"),
    "values alone": (
        arguments(fun=lambda X, index: ONES),
        TypeError,
        "fun must return a tuple of values and gradients.*",
    ),
    "triple": (returns(ONES[0], ONES, 1), TypeError, "fun must return a tuple of values and gradients, got .*"),
    "values": (returns(ONES, ONES), ValueError, r"fun must return values of shape \(2,\), got \(2, 2\)"),
    "one value": (returns(1.0, ONES), ValueError, r"fun must return values of shape \(2,\), got \(\)"),
    "gradients": (returns(ONES[0], ONES[:1]), ValueError, r"fun must return gradients of shape \(2, 2\), got \(1, 2\)"),
    "transposed": (
        arguments(X0=np.ones((2, 3)), fun=lambda X, index: (ONES[0], np.ones((3, 2)))),
        ValueError,
        r"fun must return gradients of shape \(2, 3\), got \(3, 2\)",
    ),
    "complex": (returns(ONES[0], ONES * 1j), TypeError, "gradients must be an array of real .*, got dtype complex128"),
    "None": (returns(None, ONES), TypeError, "values must be an array of real numbers .*, got dtype object"),
}


@pytest.mark.parametrize("what", WRONG)
def test_errors(what):
    given, error, message = WRONG[what]
    with pytest.raises(error, match=f"(?s)^{message}$"):
        ds.minimize_many(**given)


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"vectorized": True}, TypeError, "fun must be a Python function .* with vectorized=True, got .*"),
        ({"args": (1.0,)}, TypeError, r"args are for Python functions.*, got \(1.0,\)"),
        ({"data": np.ones((3, 2))}, ValueError, r"data must have a row for each of the 2 problems, got shape \(3, 2\)"),
        ({"data": 3.0}, ValueError, r"data must have a row for each of the 2 problems, got shape \(\)"),
        ({"data": [["a"], ["b"]]}, TypeError, "data must be an array of real numbers .*, got dtype <U1"),
    ],
)
def test_errors_of_compiled_objectives(library, changes, error, message):
    with pytest.raises(error, match=f"(?s)^{message}$"):
        ds.minimize_many(library.both, [START, START], **changes)


def test_hess_is_not_used(objective):
    with pytest.warns(RuntimeWarning, match="^method 'l-bfgs' does not use hess$") as caught:
        ds.minimize_many(**objective, X0=[START], hess=lambda x: np.eye(2))
    assert caught[0].filename == __file__

"""`minimize`: its methods, what it takes and returns, when it ends, and what it says when it can't go on."""

import _thread
import math
import re
import sys
import threading
import time
import tracemalloc
import warnings
from fractions import Fraction

import numpy as np
import pytest
from objectives import START, assert_same_results, gradient, recording, rosenbrock, square, value, waves
from rule_cases import assert_same_bits

import downslope as ds

LBFGS_AND_ADAM = pytest.mark.parametrize("method", ["l-bfgs", "adam"])


# ---- derivatives ----

WAYS = {
    "together": (rosenbrock, True, 1),
    "apart": (value, gradient, 1),
    "none": (value, None, 3),
    "false": (value, False, 3),
    "2-point": (value, "2-point", 3),
    "3-point": (value, "3-point", 5),
}


@LBFGS_AND_ADAM
@pytest.mark.parametrize("way", WAYS)
def test_where_derivatives_come_from(way, method):
    fun, jac, evaluations = WAYS[way]
    calls, options = [], {} if method == "l-bfgs" else {"lr": 0.02, "gtol": 1e-3}
    res = ds.minimize(recording(fun, calls), START, jac=jac, method=method, options=options)
    assert res.nfev == len(calls) == evaluations * res.njev
    exact = ds.minimize(rosenbrock, START, method=method, jac=True, options=options)
    if evaluations == 1:
        assert_same_results(res, exact)
    elif res.status != 8:  # gtol may be below what differences can tell
        assert res.success and np.allclose(res.x, exact.x, atol=1e-2)


def test_forward_differences_are_scipys():
    optimize = pytest.importorskip("scipy.optimize")
    x = np.array([-1.2, 1.0, 50.0, 0.0, -0.0, -7e5])
    steps = np.sqrt(np.finfo(float).eps) * np.maximum(1, np.abs(x)) * np.where(x < 0, -1, 1)
    for jac in (None, "2-point"):
        res = ds.minimize(optimize.rosen, x, jac=jac, options={"maxiter": 0})
        assert_same_bits(res.jac, optimize.approx_fprime(x, optimize.rosen, steps))


def test_central_differences_are_symmetric():
    x, points = np.array([-1.2, 300.0]), []
    res = ds.minimize(recording(value, points), x, jac="3-point", options={"maxiter": 0})
    steps = np.finfo(float).eps ** (1 / 3) * np.array([1.2, 300.0])
    expected = [x, *(x + sign * step for step in np.diag(steps) for sign in (1, -1))]
    np.testing.assert_allclose(points, expected, rtol=1e-15)
    np.testing.assert_allclose(res.jac, gradient(x), rtol=1e-8)


def test_args():
    for args in [(2.0, 50.0), 2.0]:
        expected = ds.minimize(lambda x, args=args: rosenbrock(x, *np.atleast_1d(args)), START, jac=True)
        assert_same_results(ds.minimize(rosenbrock, START, args, jac=True), expected)
        assert_same_results(ds.minimize(value, START, args, jac=gradient), expected)
        assert expected.x[0] == pytest.approx(2)


# ---- points ----

MANY_SHAPES = {
    "integers": [3, -4],
    "tuple": (3.0, -4.0),
    "integer": 3,
    "zero axes": np.array(3.0),
    "nested": [[3, 1, 4], [1, 5, 9]],
    "three axes": np.arange(1.0, 9).reshape(2, 2, 2),
    "Fortran": np.asfortranarray(np.arange(1.0, 7).reshape(2, 3)),
    "every other": np.arange(1.0, 9)[::-2],
    "float32": np.float32([3, -4]),
    "bools": [True, True],
    "swapped": np.array([3.0, -4.0]).astype(np.dtype(float).newbyteorder()),
}


@LBFGS_AND_ADAM
@pytest.mark.parametrize("jac", [True, None], ids=["jac", "differences"])
@pytest.mark.parametrize("shape", MANY_SHAPES)
def test_any_start(shape, jac, method):
    x0, points = MANY_SHAPES[shape], []
    before = np.array(x0)
    fun = recording(square if jac else lambda x: square(x)[0], points)
    res = ds.minimize(fun, x0, jac=jac, method=method, options={"maxiter": 20})
    assert np.array_equal(x0, before)
    assert {(x.shape, x.dtype) for x in (res.x, res.jac, *points)} == {(before.shape, np.dtype(float))}
    assert np.array_equal(points[0], before) and res.fun < square(before)[0]
    if method == "l-bfgs":
        assert np.allclose(res.x, 0, atol=1e-6)


def test_x0_may_be_read_only():
    x0 = np.array(START)
    x0.flags.writeable = False
    assert ds.minimize(rosenbrock, x0, jac=True).success


def flat(x):
    return square(x)[0], 2 * x.ravel()


def as_lists(x):
    f, g = square(x)
    return [[f]], g.tolist()


def of_other_types(x):
    f, g = square(np.round(x))
    return np.float32(f), g.astype(np.float32)


@pytest.mark.parametrize("fun", [flat, as_lists, of_other_types])
def test_what_fun_may_return(fun):
    res = ds.minimize(fun, [[3.0, 1.0], [4.0, 1.0]], jac=True)
    assert res.success and res.x.shape == (2, 2)


@pytest.mark.parametrize(
    "f, expected",
    [(Fraction(1, 3), 1 / 3), (2**64, 2.0**64), (10**400, math.inf)],
    ids=["fraction", "beyond 64 bits", "beyond float64"],
)
def test_real_numbers_that_are_objects_to_numpy(f, expected):
    res = ds.minimize(lambda x: (f, x), [0.0], jac=True)
    assert res.fun == expected and res.success == math.isfinite(expected)


def nan_fill(x):
    x[...] = np.nan


def freeze(x):
    x.flags.writeable = False


def reshape(x):
    x.shape = (2, 1)


def retype(x):
    x.dtype = np.int64


def shrink(x):
    x.resize(0, refcheck=False)


@LBFGS_AND_ADAM
@pytest.mark.parametrize("jac", [True, None], ids=["jac", "differences"])
@pytest.mark.parametrize("change", [nan_fill, freeze, reshape, retype, shrink])
def test_fun_may_do_anything_to_its_x(change, jac, method):
    def destructive(x):
        returned = rosenbrock(x) if jac else value(x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy would rather not have shapes and dtypes set
            change(x)
        return returned

    options = {"maxiter": 30}
    expected = ds.minimize(rosenbrock if jac else value, START, jac=jac, method=method, options=options)
    assert_same_results(ds.minimize(destructive, START, jac=jac, method=method, options=options), expected)


@LBFGS_AND_ADAM
def test_what_fun_keeps_never_changes(method):
    kept, views, copies = [], [], []

    def keeping(x):
        kept.append(x)
        copies.append(x.copy())
        return rosenbrock(x)

    ds.minimize(keeping, START, jac=True, method=method, options={"maxiter": 20})
    assert len(kept) > 20 and np.array_equal(kept, copies)
    del kept[:], copies[:]
    ds.minimize(lambda x: (views.append(x[:1]), keeping(x))[1], START, jac=True, method=method, options={"maxiter": 20})
    assert np.array_equal(np.ravel(views), np.array(copies)[:, 0])


def test_a_gradient_that_is_its_x_or_one_buffer():
    """f = |x|^2 / 2 has x itself as its gradient."""
    buffer = np.empty(2)

    def reusing(x):
        buffer[:] = x
        return x @ x / 2, buffer

    expected = ds.minimize(lambda x: (x @ x / 2, x.copy()), [3.0, 4.0], jac=True)
    assert_same_results(ds.minimize(lambda x: (x @ x / 2, x), [3.0, 4.0], jac=True), expected)
    assert_same_results(ds.minimize(lambda x: x @ x / 2, [3.0, 4.0], jac=lambda x: x), expected)
    assert_same_results(ds.minimize(reusing, [3.0, 4.0], jac=True), expected)


@LBFGS_AND_ADAM
def test_fun_may_minimize(method):
    def outer(x):
        inner = ds.minimize(lambda y: ((y - x) @ (y - x), 2 * (y - x)), np.zeros(2), method=method, jac=True)
        return rosenbrock(inner.x)[0]

    assert ds.minimize(outer, START, options={"maxiter": 2}).nit == 2


# ---- callbacks ----


@pytest.fixture(params=["Python", "compiled"])
def objective(request):
    """Keywords for `minimize` of Rosenbrock's function."""
    if request.param == "Python":
        return {"fun": rosenbrock, "jac": True}
    return {"fun": request.getfixturevalue("library").both}


@LBFGS_AND_ADAM
def test_callbacks_see_every_iteration(objective, method):
    results, points = [], []

    def by_name(intermediate_result):
        results.append(intermediate_result)

    def by_position(x):
        points.append(x)

    options = {"maxiter": 15}
    expected = ds.minimize(**objective, x0=START, method=method, options=options)
    for callback in (by_name, by_position):
        res = ds.minimize(**objective, x0=START, method=method, callback=callback, options=options)
        assert_same_results(res, expected)
    assert [each.nit for each in results] == list(range(1, 16))
    assert all(type(each) is ds.OptimizeResult and list(each) == ["x", "fun", "nit", "nfev"] for each in results)
    assert [each.fun for each in results] == [value(each.x) for each in results]
    assert np.array_equal([each.x for each in results], points)
    assert results[-1].nfev == res.nfev and np.all(np.diff([each.nfev for each in results]) > 0)
    assert any(np.array_equal(res.x, x) for x in points)


@LBFGS_AND_ADAM
def test_callbacks_get_copies(objective, method):
    expected = ds.minimize(**objective, x0=START, method=method, options={"maxiter": 15})
    spoilt = ds.minimize(**objective, x0=START, method=method, callback=nan_fill, options={"maxiter": 15})
    assert_same_results(spoilt, expected)


def test_callbacks_of_any_kind():
    class WithMethod:
        def __call__(self, intermediate_result):
            self.last = intermediate_result

    keeper = WithMethod()
    ds.minimize(rosenbrock, START, jac=True, callback=keeper, options={"maxiter": 2})
    assert keeper.last.nit == 2
    seen = []
    ds.minimize(rosenbrock, START, jac=True, callback=seen.append, options={"maxiter": 2})  # a builtin
    ds.minimize(rosenbrock, START, jac=True, callback=lambda result, *more: seen.append(result), options={"maxiter": 2})
    assert len(seen) == 4 and np.array_equal(seen[:2], seen[2:])


@LBFGS_AND_ADAM
def test_stop_iteration(objective, method):
    seen = []

    def third(x):
        seen.append(x)
        if len(seen) == 3:
            raise StopIteration

    res = ds.minimize(**objective, x0=START, method=method, callback=third)
    assert (res.status, res.success, res.nit) == (99, False, 3) and "StopIteration" in res.message


ERRORS = [ValueError("mine"), KeyboardInterrupt(), SystemExit(3), BaseException(), RuntimeError("\N{SNOWMAN}")]


@LBFGS_AND_ADAM
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["fun", "jac", "callback", "together", "differences"])
def test_exceptions_leave_as_they_are(where, error, method):
    def failing(fun, after=4):
        calls = []

        def fails(x):
            calls.append(x)
            if len(calls) > after:
                raise error
            return fun(x)

        return fails

    arguments = {
        "fun": {"fun": failing(value), "jac": gradient},
        "jac": {"fun": value, "jac": failing(gradient)},
        "callback": {"fun": rosenbrock, "jac": True, "callback": failing(lambda x: None)},
        "together": {"fun": failing(rosenbrock), "jac": True},
        "differences": {"fun": failing(value)},
    }[where]
    with pytest.raises(type(error)) as caught:
        ds.minimize(x0=START, method=method, **arguments)
    assert caught.value is error


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_exceptions_from_callbacks_of_compiled_objectives(error, library):
    def fails(x):
        raise error

    with pytest.raises(type(error)) as caught:
        ds.minimize(library.both, START, callback=fails)
    assert caught.value is error


def test_stop_iteration_of_fun_is_no_end():
    def fails(x):
        raise StopIteration

    with pytest.raises(StopIteration):
        ds.minimize(fails, START)
    with pytest.raises(StopIteration):
        ds.minimize(value, START, jac=fails)


ENDLESS = {"lr": 0.0, "maxiter": 2**60, "max_seconds": 60.0}


@pytest.mark.parametrize("observed", [False, True])
def test_ctrl_c(library, observed):
    callback = (lambda x: None) if observed else None
    timer = threading.Timer(0.05, _thread.interrupt_main)
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        ds.minimize(library.endless, START, method="sgd", callback=callback, options=ENDLESS)
    timer.join()


# ---- not finite ----

NAN, INF = np.nan, np.inf


@LBFGS_AND_ADAM
@pytest.mark.parametrize(
    "f, g",
    [(NAN, 1.0), (INF, 1.0), (-INF, 1.0), (1.0, NAN), (1.0, INF), (1.0, -INF), (NAN, NAN)],
)
def test_not_finite_at_the_start(f, g, method):
    res = ds.minimize(lambda x: (f, np.array([1.0, g])), START, jac=True, method=method)
    assert (res.success, res.status, res.nit, res.nfev) == (False, 6, 0, 1)
    assert res.message == "Failed: the objective or its gradient is not finite at x0."
    assert res.x.tolist() == list(START) and np.array_equal([res.fun, res.jac[1]], [f, g], equal_nan=True)


@LBFGS_AND_ADAM
@pytest.mark.parametrize("f, g", [(NAN, 1.0), (INF, 1.0), (-INF, 1.0), (1.0, NAN), (1.0, -INF)])
def test_not_finite_everywhere_else(f, g, method):
    res = ds.minimize(lambda x: (2.0, x) if x[0] == 1 else (f, np.array([g])), [1.0], jac=True, method=method)
    assert (res.success, res.status, res.nit) == (False, 7, 0)
    assert res.message == "Failed: the objective or its gradient is not finite where the method has to go."
    assert (res.x, res.fun, res.jac) == ([1.0], 2.0, [1.0])
    assert res.nfev <= 100


@pytest.mark.parametrize("beyond", [NAN, INF, -INF, 1e300, np.finfo(float).max])
@pytest.mark.parametrize("start", [[5.0, 1e-3], [1e-6, 1e-6], [30.0, 0.5]])
def test_line_searches_stay_before_a_wall(beyond, start):
    """100 sum(x - log x), with its minimum 100 n at 1."""

    def barrier(x):
        if x.min() <= 0:
            return beyond, np.zeros_like(x)
        return 100 * float(np.sum(x - np.log(x))), 100 * (1 - 1 / x)

    res = ds.minimize(barrier, start, jac=True)
    assert res.success and res.fun == pytest.approx(200) and np.allclose(res.x, 1)
    assert res.nfev < 100


def test_a_minimum_at_a_wall():
    res = ds.minimize(lambda x: (-x[0] if x[0] <= 1 else NAN, -np.ones(1)), [0.0], jac=True)
    assert not res.success and res.x[0] == pytest.approx(1, abs=1e-6) and res.fun == -res.x[0]


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: (x.sum(), np.ones_like(x)),
        lambda x: (-x @ x, -2 * x),
        lambda x: (-np.exp(x).sum(), -np.exp(x)),
        lambda x: (-((x @ x) ** 3), -6 * (x @ x) ** 2 * x),
    ],
    ids=["linear", "quadratic", "exponential", "sixth power"],
)
@LBFGS_AND_ADAM
def test_unbounded_below(fun, method, silent):
    res = ds.minimize(
        fun,
        [1.0, 0.5],
        jac=True,
        method=method,
        options={"maxiter": 200, "lr": 10.0} if method == "adam" else {"maxiter": 200},
    )
    assert not res.success and np.isfinite(res.fun) and res.fun < -1e3
    assert res.fun == fun(res.x)[0]


def test_rules_end_where_they_overflow(silent):
    res = ds.minimize(square, [1.0, 2.0], method="sgd", jac=True, options={"lr": 1e3})
    assert (res.success, res.status, res.fun) == (False, 7, 5.0)


@pytest.mark.parametrize("wrong", [lambda x: -2 * x, lambda x: 2 * x + 7, lambda x: -x[::-1]])
def test_wrong_gradients(wrong):
    res = ds.minimize(lambda x: x @ x, [1.0, 2.0], jac=wrong)
    assert (res.success, res.status) == (False, 8) and "gradient may be wrong" in res.message
    assert res.fun <= 5.0 and res.nfev < 200


def test_slopes_that_underflow():
    res = ds.minimize(lambda x: (1e-200 * (x @ x), 2e-200 * x), [1.0, 2.0], jac=True, options={"gtol": 0})
    assert res.status == 8 and res.nfev <= 3


# ---- when it ends ----


@LBFGS_AND_ADAM
@pytest.mark.parametrize(
    "options, status, message",
    [
        ({}, 0, "Converged: the largest element of the gradient is at most gtol."),
        ({"maxiter": 7}, 1, "Stopped: maxiter iterations have been done."),
        ({"maxiter": 0}, 1, "Stopped: maxiter iterations have been done."),
        ({"maxfev": 9}, 2, "Stopped: the objective has been evaluated maxfev times."),
        ({"maxfev": 1}, 2, "Stopped: the objective has been evaluated maxfev times."),
        ({"ftol": 1e-3}, 4, "Converged: the last iteration lowered the objective by at most ftol * max(1, |f|)."),
        ({"xtol": 1e-3}, 5, "Converged: the last iteration moved x by at most xtol * max(1, max |x|)."),
    ],
    ids=str,
)
def test_each_end(options, status, message, method, objective):
    lr = {"lr": 0.02} if method == "adam" else {}
    path = []
    res = ds.minimize(
        **objective,
        x0=START,
        method=method,
        options={**options, **lr},
        callback=lambda intermediate_result: path.append(intermediate_result),
    )
    assert (res.status, res.message, res.success) == (status, message, status in (0, 4, 5))
    assert res.nit == len(path)
    if "maxiter" in options:
        assert res.nit == options["maxiter"]
    if "maxfev" in options:
        assert res.nfev == options["maxfev"]
    points, values = [np.array(START), *(each.x for each in path)], [value(START), *(each.fun for each in path)]
    held = [  # the condition, at each iteration
        {
            0: np.abs(gradient(y)).max() <= 1e-6,
            4: f <= before and before - f <= options.get("ftol", 0) * max(1, abs(f)),
            5: np.abs(y - x).max() <= options.get("xtol", 0) * max(1, np.abs(y).max()),
        }.get(status)
        for x, y, before, f in zip(points, points[1:], values, values[1:], strict=False)
    ]
    if res.success:
        assert held == [False] * (res.nit - 1) + [True]


def test_zeros_turn_tolerances_off():
    """A plateau that a rule does not leave, nor moves on."""
    res = ds.minimize(
        lambda x: (1.0, np.full(2, 1e-3)), START, method="sgd", jac=True, options={"lr": 0.0, "maxiter": 50}
    )
    assert (res.status, res.nit) == (1, 50)
    assert ds.minimize(rosenbrock, [1.0, 1.0], jac=True, options={"gtol": 0}).success


def test_tol_is_gtol():
    for method in ("l-bfgs", "adam"):
        expected = ds.minimize(rosenbrock, START, method=method, jac=True, options={"gtol": 1e-2})
        assert_same_results(ds.minimize(rosenbrock, START, method=method, jac=True, tol=1e-2), expected)
    res = ds.minimize(rosenbrock, START, jac=True, tol=1e-9, options={"gtol": 1e-2})
    assert_same_results(res, ds.minimize(rosenbrock, START, jac=True, options={"gtol": 1e-2}))


def test_options_of_none_are_the_defaults():
    nones = dict.fromkeys(["maxiter", "maxfev", "gtol", "ftol", "xtol", "max_seconds"])
    assert_same_results(
        ds.minimize(rosenbrock, START, jac=True, options=nones), ds.minimize(rosenbrock, START, jac=True)
    )


@LBFGS_AND_ADAM
def test_max_seconds(method):
    def slow(x):
        time.sleep(0.002)
        return rosenbrock(x)

    res = ds.minimize(slow, [-30.0, 500.0], method=method, jac=True, options={"max_seconds": 0.02, "gtol": 0})
    assert (res.status, res.success, res.message) == (3, False, "Stopped: max_seconds have passed.")
    assert res.nfev <= 12  # since each takes two milliseconds at least


def test_max_seconds_of_a_compiled_function_that_becomes_slow(library):
    """After 200,000 fast calls, 0.1 seconds have room for at most 400 slow ones, and looks at the clock are near."""
    calls = np.array([200_000.0])
    res = ds.minimize(library.endless, START, method="sgd", data=calls, options={**ENDLESS, "max_seconds": 0.1})
    assert res.status == 3 and res.nfev < 202_000 and res.nfev == 200_000 - calls[0]


@pytest.mark.parametrize("maxfev", [3, 5, 8, 13, 40])
@pytest.mark.parametrize("method", ["l-bfgs", "momentum", "adam", "lion", "nag"])
def test_the_best_point_is_returned(method, maxfev):
    points = []
    options = {"maxfev": maxfev} | ({} if method == "l-bfgs" else {"lr": 0.3})
    res = ds.minimize(recording(waves, points), [3.0, -2.0], method=method, jac=True, options=options)
    assert res.fun == min(waves(x)[0] for x in points) == waves(res.x)[0]
    assert res.jac.tolist() == waves(res.x)[1].tolist() and res.nfev == len(points)


# ---- what it prints ----


def test_disp(capsys):
    res = ds.minimize(rosenbrock, START, jac=True)
    assert capsys.readouterr().out == ""
    ds.minimize(rosenbrock, START, jac=True, options={"disp": True})
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        res.message,
        "Current function value: 0.000000",
        f"Iterations: {res.nit}",
        f"Function evaluations: {res.nfev}",
        f"Gradient evaluations: {res.njev}",
    ]


@LBFGS_AND_ADAM
def test_progress(objective, method, capsys):
    pytest.importorskip("tqdm")
    plain = ds.minimize(**objective, x0=START, method=method, options={"maxiter": 20})
    shown = ds.minimize(**objective, x0=START, method=method, options={"maxiter": 20, "progress": True})
    assert_same_results(shown, plain)
    err = capsys.readouterr().err
    assert "20/20" in err and "fun=" in err


def test_progress_without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match="^progress=True needs the library tqdm: pip install"):
        ds.minimize(rosenbrock, START, jac=True, options={"progress": True})
    assert ds.minimize(rosenbrock, START, jac=True).success


# ---- errors ----


def call_of(**changes):
    return {"fun": rosenbrock, "x0": START, "jac": True} | changes


WRONG = {
    "method": (call_of(method="newtn"), ValueError, "method must be one of sgd, nag, .*, l-bfgs, .*, got 'newtn'"),
    "no method": (call_of(method=None), TypeError, "method must be a string, got None"),
    "option": (call_of(options={"lr": 1}), TypeError, "unknown option 'lr' of method 'l-bfgs'; known are maxiter, .*"),
    "option of a rule": (
        call_of(method="adam", options={"momentum": 1}),
        TypeError,
        "unknown option 'momentum' of method 'adam'; known are .*, lr, betas, eps, .*",
    ),
    "options": (call_of(options=[("maxiter", 3)]), TypeError, r"options must be a dict, got \[\('maxiter', 3\)\]"),
    "maxiter": (call_of(options={"maxiter": 1.5}), TypeError, "maxiter must be an integer, got 1.5"),
    "maxiter < 0": (call_of(options={"maxiter": -1}), ValueError, "maxiter must be >= 0 and <= .*, got -1"),
    "maxfev": (call_of(options={"maxfev": 0}), ValueError, "maxfev must be >= 1 and <= .*, got 0"),
    "gtol": (call_of(options={"gtol": -1.0}), ValueError, "gtol must be >= 0 and finite, got -1.0"),
    "ftol": (call_of(options={"ftol": NAN}), ValueError, "ftol must be >= 0 and finite, got nan"),
    "xtol": (call_of(options={"xtol": "1"}), TypeError, "xtol must be a number, got '1'"),
    "max_seconds": (call_of(options={"max_seconds": -1}), ValueError, "max_seconds must be >= 0.*, got -1"),
    "maxcor": (call_of(options={"maxcor": 0}), ValueError, "maxcor must be >= 1 and <= 2147483647, got 0"),
    "large maxcor": (call_of(options={"maxcor": 10**20}), ValueError, "maxcor must be >= 1 and <= .*, got 10{20}"),
    "lr": (call_of(method="sgd", options={"lr": -0.1}), ValueError, "lr must be >= 0 and finite, got -0.1"),
    "schedule": (
        call_of(method="sgd", options={"lr": lambda t: 2 - t, "maxiter": 5}),
        ValueError,
        r"lr\(3\) must be >= 0 and finite, got -1",
    ),
    "betas": (call_of(method="adam", options={"betas": (0.9, 1.0)}), ValueError, r"betas\[1\] must be .*, got 1.0"),
    "nesterov": (call_of(method="nesterov", options={"momentum": 0}), ValueError, "nesterov=True needs momentum > 0.*"),
    "tol": (call_of(tol=-1), ValueError, "tol must be >= 0 and finite, got -1"),
    "tol of letters": (call_of(tol="1e-3"), TypeError, "tol must be a number, got '1e-3'"),
    "x0 complex": (call_of(x0=[1j]), TypeError, "x0 must be an array of real numbers .*, got dtype complex128"),
    "x0 None": (call_of(x0=None), TypeError, "x0 must be an array of real numbers .*, got dtype object"),
    "x0 letters": (call_of(x0="ab"), TypeError, "x0 must be an array of real numbers .*, got dtype <U2"),
    "x0 masked": (call_of(x0=np.ma.ones(2)), TypeError, "x0 must not be a masked array: fill it first"),
    "x0 ragged": (call_of(x0=[[1], [1, 2]]), ValueError, "x0 must be an array: .*inhomogeneous.*"),
    "x0 empty": (call_of(x0=[]), ValueError, r"x0 must have at least one element, got shape \(0,\)"),
    "fun": (call_of(fun=3), TypeError, "fun must be callable, or compiled with the signature .*, got 3"),
    "jac": (call_of(jac=3), TypeError, "jac must be callable.*, got 3"),
    "jac by name": (
        call_of(jac="cs"),
        ValueError,
        "jac must be a function, True, None or one of '2-point', .*, got 'cs'",
    ),
    "callback": (call_of(callback=3), TypeError, "callback must be callable, got 3"),
    "data": (
        call_of(data=[1.0]),
        TypeError,
        "data is what compiled functions get: hand it to a Python function by args",
    ),
    "no pair": (
        call_of(fun=lambda x: [1.0, x]),
        TypeError,
        r"with jac=True, fun must return a tuple of value and gradient, got \[1.0, array\(\[-1.2,  1. \]\)\]",
    ),
    "a triple": (call_of(fun=lambda x: (1.0, x, x)), TypeError, "with jac=True, fun must return a tuple of value.*"),
    "a value alone": (call_of(fun=value), TypeError, "with jac=True, fun must return a tuple of value.*, got .*24.*"),
    "complex value": (
        call_of(fun=lambda x: (1j, x)),
        TypeError,
        "what fun returns must be an array of real numbers.*got dtype complex128",
    ),
    "masked gradient": (
        call_of(fun=lambda x: (1.0, np.ma.ones(2))),
        TypeError,
        "the gradient that fun returns must not be a masked array: fill it first",
    ),
    "no value": (
        call_of(fun=lambda x: None, jac=None),
        TypeError,
        "what fun returns must be an array of real numbers.*got dtype object",
    ),
    "two values": (
        call_of(fun=lambda x: x, jac=None),
        TypeError,
        r"what fun returns must be a number, got an array of shape \(2,\)",
    ),
    "ragged value": (
        call_of(fun=lambda x: [[1], [1, 2]], jac=None),
        ValueError,
        "what fun returns must be an array: .*inhomogeneous.*",
    ),
    "letters": (
        call_of(fun=lambda x: "1", jac=None),
        TypeError,
        "what fun returns must be an array of real numbers.*got dtype <U1",
    ),
    "pair for a value": (
        call_of(jac=None),
        TypeError,
        r"fun must return a real number, or a value and a gradient with jac=True, got \(.*\)",
    ),
    "gradient's shape": (
        call_of(fun=lambda x: (1.0, np.ones(3))),
        ValueError,
        r"the gradient that fun returns must have shape \(2,\), got \(3,\)",
    ),
    "gradient would broadcast": (
        call_of(fun=value, jac=lambda x: 1.0),
        ValueError,
        r"the gradient that jac returns must have shape \(2,\), got \(\)",
    ),
    "complex gradient": (
        call_of(fun=value, jac=lambda x: x * 1j),
        TypeError,
        "the gradient that jac returns must be an array of real numbers.*got dtype complex128",
    ),
    "ragged gradient": (
        call_of(fun=value, jac=lambda x: [[1], [1, 2]]),
        ValueError,
        "the gradient that jac returns must be an array: .*inhomogeneous.*",
    ),
    "no gradient": (
        call_of(fun=value, jac=lambda x: None),
        TypeError,
        "the gradient that jac returns must be an array of real numbers.*got dtype object",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_errors(what):
    arguments, error, message = WRONG[what]
    with pytest.raises(error, match=f"(?s)^{message}$"):
        ds.minimize(**arguments)


@pytest.mark.parametrize("what", ["no pair", "gradient's shape", "complex gradient", "no value"])
def test_errors_of_later_calls(what):
    """The first call is in order."""
    arguments, error, message = WRONG[what]
    calls = []

    def good_once(good, bad):
        def fun(x):
            calls.append(x)
            return good(x) if len(calls) == 1 else bad(x)

        return fun

    good = rosenbrock if arguments["jac"] is True else value
    changed = "jac" if callable(arguments["jac"]) else "fun"
    good = gradient if changed == "jac" else good
    with pytest.raises(error):
        ds.minimize(**{**arguments, changed: good_once(good, arguments[changed])})
    assert len(calls) == 2


@pytest.mark.parametrize("name", ["hess", "hessp"])
def test_what_is_not_used(name):
    with pytest.warns(RuntimeWarning, match=f"^method 'l-bfgs' does not use {name}$") as caught:
        res = ds.minimize(rosenbrock, START, jac=True, **{name: lambda x: np.eye(2)})
    assert caught[0].filename == __file__
    assert_same_results(res, ds.minimize(rosenbrock, START, jac=True))


# ---- compiled objectives ----

DATA = pytest.mark.parametrize("constants", [None, (2.0, 30.0)], ids=["", "data"])


@LBFGS_AND_ADAM
@DATA
@pytest.mark.parametrize("way", [way for way in WAYS if way != "false"])
def test_compiled_equals_python(library, way, constants, method):
    fun, jac, _ = WAYS[way]
    options = {} if method == "l-bfgs" else {"lr": 0.02, "maxiter": 400}
    expected = ds.minimize(fun, START, constants or (), jac=jac, method=method, options=options)
    compiled = {"together": library.both}.get(way, library.value)
    compiled_jac = library.gradient if way == "apart" else jac
    actual = ds.minimize(compiled, START, jac=compiled_jac, data=constants, method=method, options=options)
    assert_same_results(actual, expected)
    assert actual.nit > 10


@LBFGS_AND_ADAM
def test_numba_equals_python(method):
    numba = pytest.importorskip("numba")
    doubles = numba.types.CPointer(numba.types.float64)

    @numba.cfunc(numba.types.float64(numba.types.int32, doubles, doubles, numba.types.voidptr))
    def both(n, x, grad, user_data):
        r, s = 1 - x[0], x[1] - x[0] * x[0]
        grad[0], grad[1] = -2 * r - 400 * s * x[0], 200 * s
        return r * r + 100 * (s * s)

    options = {"maxiter": 300}
    for jac in (None, True):
        actual = ds.minimize(both, START, jac=jac, method=method, options=options)
        assert_same_results(actual, ds.minimize(rosenbrock, START, jac=True, method=method, options=options))


def test_data_of_any_kind(library):
    expected = ds.minimize(library.both, START, data=np.array([2.0, 30.0]))
    for data in ([2, 30], np.float32([2, 30]), np.array([2.0, 0.0, 30.0])[::2], np.array([[2.0], [30.0]])):
        assert_same_results(ds.minimize(library.both, START, data=data), expected)


def test_compiled_functions_run_without_the_gil(library):
    """One waits for what only another thread of Python writes; it is handed the array itself."""
    data = np.zeros(2)

    def release():
        while data[0] == 0:
            time.sleep(0.001)
        data[1] = 1

    thread = threading.Thread(target=release)
    thread.start()
    res = ds.minimize(library.wait_for, [1.0], data=data)
    thread.join()
    assert res.success and data.tolist() == [1, 1]


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"args": (1.0,)}, TypeError, r"args are for Python functions.*, got \(1.0,\)"),
        ({"args": np.zeros(2)}, TypeError, r"args are for Python functions.*, got array\(\[0., 0.\]\)"),
        (
            {"jac": gradient},
            TypeError,
            "jac must be None or True where the compiled fun has value and gradient, got .*",
        ),
        ({"fun": "value", "jac": gradient}, TypeError, "jac must be compiled, as fun is, or None or one of .*, got .*"),
        ({"fun": "value", "jac": True}, TypeError, "jac must be compiled, as fun is, or None or one of .*, got True"),
        ({"fun": "value", "jac": "value"}, TypeError, "jac must have the signature .*, got 'double .*"),
        ({"fun": "gradient"}, TypeError, "fun must have the signature .* or .*, got 'void .*"),
        ({"data": [1j]}, TypeError, "data must be an array of real numbers .*, got dtype complex128"),
        ({"data": np.ma.ones(2)}, TypeError, "data must not be a masked array: fill it first"),
    ],
)
def test_errors_of_compiled_objectives(library, changes, error, message):
    arguments = {"fun": "both"} | changes
    for name in ("fun", "jac"):
        if isinstance(arguments.get(name), str):
            arguments[name] = getattr(library, arguments[name])
    with pytest.raises(error, match=f"(?s)^{message}$"):
        ds.minimize(x0=START, **arguments)


def test_a_compiled_jac_of_a_python_function(library):
    with pytest.raises(
        TypeError, match=re.escape("jac must be a Python function where fun is one, got a compiled one")
    ):
        ds.minimize(value, START, jac=library.gradient)


# ---- memory ----


def test_nothing_leaks(library):
    """Neither results nor errors keep references or memory."""

    def fails(x):
        raise ValueError

    def callback(x):
        pass

    x0, args, data = np.array(START), (1.0, 100.0), np.array([1.0, 100.0])
    kept = [rosenbrock, value, gradient, fails, callback, x0, *args, data, library.both]

    def solve_all(repeats):
        for _ in range(repeats):
            ds.minimize(rosenbrock, x0, args, jac=True, callback=callback, options={"maxiter": 2})
            ds.minimize(value, x0, args, jac=gradient, options={"maxiter": 2})
            ds.minimize(value, x0, options={"maxiter": 1})
            ds.minimize(library.both, x0, data=data, callback=callback, options={"maxiter": 2})
            for bad in ({"fun": fails}, {"fun": value, "jac": fails}, {"fun": library.both, "callback": fails}):
                try:
                    ds.minimize(x0=x0, **bad)
                except ValueError:
                    pass

    solve_all(10)
    counts = [sys.getrefcount(each) for each in kept]
    tracemalloc.start()
    try:
        solve_all(10)
        before = tracemalloc.get_traced_memory()[0]
        solve_all(1500)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert [sys.getrefcount(each) for each in kept] == counts
    assert grown < 20_000

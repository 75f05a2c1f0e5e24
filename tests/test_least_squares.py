"""Least squares: closed forms, certified fits, the peer, and how it ends."""

import _thread
import ctypes
import re
import signal
import threading

import numpy as np
import pytest
import scipy.optimize
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import downslope as ds
from downslope.lab.problems import MORE_GARBOW_HILLSTROM, PROBLEMS, rescaled

METHODS = pytest.mark.parametrize("method", ["lm", "dogleg", "gauss-newton"])
DOUBLES = ctypes.POINTER(ctypes.c_double)
TOGETHER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_int, DOUBLES, DOUBLES, DOUBLES, ctypes.c_void_p)
APART = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_int, DOUBLES, DOUBLES, ctypes.c_void_p)
ROSENBROCK = PROBLEMS["extended-rosenbrock"]
# What arguments must be.
REAL = "an array of real numbers that float64 can hold"
ROWS = "X0 must have one row a problem, shape (k, n) with n >= 1"


def rosenbrock(x):
    return np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def rosenbrock_jac(x):
    return np.array([[-20 * x[0], 10.0], [-1.0, 0.0]])


# ---- certified fits: the Statistical Reference Datasets of NIST, nonlinear regression ----


def misra1a(x, a, b):
    return a * (1 - np.exp(-b * x))


def rat43(x, a, b, c, d):
    return a / (1 + np.exp(b - c * x)) ** (1 / d)


def mgh09(x, a, b, c, d):
    return a * (x**2 + x * b) / (x**2 + x * c + d)


def thurber(x, a, b, c, d, e, f, g):
    return (a + x * (b + x * (c + x * d))) / (1 + x * (e + x * (f + x * g)))


# x, y, starts, parameters, their standard deviations, sum of squares
NIST = {
    misra1a: (
        "77.6 114.9 141.1 190.8 239.9 289.0 332.8 378.4 434.8 477.3 536.8 593.1 689.1 760.0",
        "10.07 14.73 17.94 23.93 29.61 35.18 40.02 44.82 50.76 55.05 61.01 66.40 75.47 81.78",
        ["500 0.0001", "250 0.0005"],
        "2.3894212918e+02 5.5015643181e-04",
        "2.7070075241e+00 7.2668688436e-06",
        1.2455138894e-01,
    ),
    rat43: (
        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
        "16.08 33.83 65.80 97.20 191.55 326.20 386.87 520.53 590.03 651.92 724.93 699.56 689.96 637.56 717.41",
        ["100 10 1 1", "700 5 0.75 1.3"],
        "6.9964151270e+02 5.2771253025e+00 7.5962938329e-01 1.2792483859e+00",
        "1.6302297817e+01 2.0828735829e+00 1.9566123451e-01 6.8761936385e-01",
        8.7864049080e03,
    ),
    mgh09: (
        "4 2 1 0.5 0.25 0.167 0.125 0.1 0.0833 0.0714 0.0625",
        "0.1957 0.1947 0.1735 0.16 0.0844 0.0627 0.0456 0.0342 0.0323 0.0235 0.0246",
        ["25 39 41.5 39", "0.25 0.39 0.415 0.39"],
        "1.9280693458e-01 1.9128232873e-01 1.2305650693e-01 1.3606233068e-01",
        "1.1435312227e-02 1.9633220911e-01 8.0842031232e-02 9.0025542308e-02",
        3.0750560385e-04,
    ),
    thurber: (
        "-3.067 -2.981 -2.921 -2.912 -2.840 -2.797 -2.702 -2.699 -2.633 -2.481 -2.363 -2.322 -1.501 -1.460 -1.274"
        " -1.212 -1.100 -1.046 -0.915 -0.714 -0.566 -0.545 -0.400 -0.309 -0.109 -0.103 0.010 0.119 0.377 0.790 0.963"
        " 1.006 1.115 1.572 1.841 2.047 2.200",
        "80.574 84.248 87.264 87.195 89.076 89.608 89.868 90.101 92.405 95.854 100.696 101.060 401.672 390.724 567.534"
        " 635.316 733.054 759.087 894.206 990.785 1090.109 1080.914 1122.643 1178.351 1260.531 1273.514 1288.339"
        " 1327.543 1353.863 1414.509 1425.208 1421.384 1442.962 1464.350 1468.705 1447.894 1457.628",
        ["1000 1000 400 40 0.7 0.3 0.03", "1300 1500 500 75 1 0.4 0.05"],
        "1.2881396800e+03 1.4910792535e+03 5.8323836877e+02 7.5416644291e+01 9.6629502864e-01 3.9797285797e-01"
        " 4.9727297349e-02",
        "4.6647963344e+00 3.9571156086e+01 2.8698696102e+01 5.5675370270e+00 3.1333340687e-02 1.4984928198e-02"
        " 6.5842344623e-03",
        5.6427082397e03,
    ),
}


def numbers(text):
    return np.array(text.split(), dtype=float)


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("model", NIST, ids=lambda f: f.__name__)
def test_certified_fits(model, start):
    """To eight digits at least: all that are certified but two."""
    x, y, starts, parameters, deviations, sum_of_squares = NIST[model]
    x, y = numbers(x), numbers(y)

    def jac(p):
        """Exact, by a complex step."""
        return np.stack([model(x, *(p + 1e-100j * unit)).imag for unit in np.eye(len(p))], axis=1) / 1e-100

    res = ds.least_squares(lambda p: model(x, *p) - y, numbers(starts[start]), jac, ftol=0, xtol=1e-14)
    assert res.success
    assert np.allclose(res.x, numbers(parameters), rtol=1e-8, atol=0)
    assert np.allclose(np.sqrt(np.diag(res.covariance)), numbers(deviations), rtol=1e-7, atol=0)
    assert np.isclose(2 * res.cost, sum_of_squares, rtol=1e-9, atol=0)
    assert res.dof == len(x) - len(res.x) and np.isclose(res.residual_std**2 * res.dof, sum_of_squares, rtol=1e-9)


# ---- linear problems ----


@METHODS
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_linear_problem_is_solved_as_by_lstsq(method, data):
    n = data.draw(st.integers(1, 8))
    m = data.draw(st.integers(n, 30))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    A, b = rng.standard_normal((m, n)), rng.standard_normal(m)
    assume(np.linalg.cond(A) < 1e3)
    units = 10.0 ** rng.integers(-8, 9, n)
    res = ds.least_squares(lambda x: A @ (x * units) - b, np.zeros(n), lambda x: A * units, method=method)
    expected = np.linalg.lstsq(A, b, rcond=None)[0]
    assert res.success
    assert np.allclose(res.x * units, expected, rtol=1e-9, atol=1e-9)
    assert np.allclose(res.fun, A @ expected - b, atol=1e-9) and np.isclose(res.cost, 0.5 * res.fun @ res.fun)
    assert np.array_equal(res.jac, A * units) and np.allclose(
        res.grad, res.jac.T @ res.fun, rtol=1e-9, atol=1e-12 * units
    )
    assert res.optimality == np.abs(res.grad).max()
    if m > n:
        variance = 2 * res.cost / (m - n)
        assert np.allclose(res.covariance * np.outer(units, units), variance * np.linalg.inv(A.T @ A), rtol=1e-8)
        assert np.isclose(res.residual_std, np.sqrt(variance))


@METHODS
@pytest.mark.parametrize("shape", [(20, 5), (5, 5), (3, 5)])
def test_a_jacobian_without_full_rank(method, shape, rng):
    """The fit is as good as any; what the data leave open has an infinite covariance."""
    A = rng.standard_normal(shape)
    A[:, 3] = A[:, 0] + 2 * A[:, 1]
    b = rng.standard_normal(shape[0])
    res = ds.least_squares(lambda x: A @ x - b, np.zeros(5), lambda x: A, method=method)
    best = A @ np.linalg.lstsq(A, b, rcond=None)[0] - b
    assert res.success and np.allclose(res.fun, best, atol=1e-8)
    assert np.isinf(res.covariance).all()
    assert np.isnan(res.residual_std) == (shape[0] <= 5)


def test_an_infinite_covariance_stays_so_where_the_fit_is_perfect():
    res = ds.least_squares(lambda x: np.full(3, x[0] + x[1]), [1.0, -1.0], lambda x: np.ones((3, 2)))
    assert res.cost == 0 and np.isinf(res.covariance).all()


@METHODS
def test_a_parameter_without_effect_stays(method):
    res = ds.least_squares(lambda x: np.array([x[0] - 1, x[0] - 3]), [5.0, 7.0], method=method)
    assert res.success and np.isclose(res.x[0], 2) and res.x[1] == 7


# ---- the peer ----


def solves(x, problem):
    return problem.fun(x) - problem.minimum <= 1e-8 * max(1, abs(problem.minimum))


@pytest.mark.parametrize("given", ["jacobian", "differences"])
def test_it_solves_what_minpack_solves(given, silent):
    """Over the problems of More, Garbow & Hillstrom from their starts, ten and a hundred times as far."""
    ours = theirs = 0
    for problem in map(PROBLEMS.get, MORE_GARBOW_HILLSTROM):
        options = {"jac": problem.jac} if given == "jacobian" else {}
        for x0 in problem.x0 * np.array([[1], [10], [100]]):
            ours += solves(ds.least_squares(problem.residuals, x0, **options).x, problem)
            tolerances = dict.fromkeys(("ftol", "xtol", "gtol"), 1e-10)
            try:
                x = scipy.optimize.least_squares(
                    problem.residuals, x0, method="lm", x_scale="jac", **tolerances, **options
                ).x
            except ValueError:  # residuals that are not finite at x0
                continue
            theirs += solves(x, problem)
    assert ours >= theirs >= 40


@pytest.mark.parametrize("name", ["gulf", "wood", "box-3d", "penalty-1", "brown-badly-scaled"])
def test_the_steps_are_minpacks(name):
    """From the usual start, as many evaluations to within the last ones, where rounding decides."""
    problem = PROBLEMS[name]
    tolerances = dict.fromkeys(("ftol", "xtol", "gtol"), 1e-6)
    ours = ds.least_squares(problem.residuals, problem.x0, problem.jac, **tolerances)
    theirs = scipy.optimize.least_squares(
        problem.residuals, problem.x0, problem.jac, method="lm", x_scale="jac", **tolerances
    )
    assert abs(ours.nfev - theirs.nfev) <= 1
    assert np.allclose(ours.x, theirs.x, rtol=1e-4, atol=1e-8)


@METHODS
def test_units_do_not_matter(method):
    """A power of two in the unit of each parameter changes no bit of the fit."""
    units = 2.0 ** np.array([40, -33])
    x0 = np.array([-1.2, 1.0])
    plain = ds.least_squares(rosenbrock, x0, rosenbrock_jac, method=method)
    scaled = ds.least_squares(
        lambda x: rosenbrock(x * units), x0 / units, lambda x: rosenbrock_jac(x * units) * units, method=method
    )
    assert plain.success and np.array_equal(plain.x, scaled.x * units) and plain.nfev == scaled.nfev


@METHODS
@pytest.mark.parametrize("name", ["rosenbrock", "helical-valley", "variably-dimensioned", "penalty-1"])
def test_rescaled_problems_are_solved(method, name):
    """In coordinates turned at random, of sizes between 0.1 and 10."""
    for seed in range(3):
        problem = rescaled(PROBLEMS[name], seed)
        res = ds.least_squares(problem.residuals, problem.x0, problem.jac, method=method)
        assert res.success and solves(res.x, problem)


def test_x_scale_is_the_reciprocal_of_the_scale():
    x0 = [-1.2, 1.0]
    sizes = [2.0, 0.5]
    ours = ds.least_squares(rosenbrock, x0, rosenbrock_jac, x_scale=sizes)
    theirs = scipy.optimize.least_squares(rosenbrock, x0, rosenbrock_jac, method="lm", x_scale=sizes)
    assert ours.success and abs(ours.nfev - theirs.nfev) <= 1
    assert ours.nfev != ds.least_squares(rosenbrock, x0, rosenbrock_jac).nfev
    assert ds.least_squares(rosenbrock, x0, x_scale=1).nfev == ds.least_squares(rosenbrock, x0, x_scale=[1, 1]).nfev


# ---- what is not finite ----


@METHODS
def test_it_backs_off_from_where_residuals_are_not_finite(method, silent):
    """The first step would go to log(-9)."""
    res = ds.least_squares(lambda x: np.log(x) - np.log(0.1), [10.0], lambda x: 1 / x[:, None], method=method)
    assert res.success and np.isclose(res.x[0], 0.1)
    res = ds.least_squares(lambda x: [np.inf if x[0] > 2.5 else x[0] - 2], [-100.0], lambda x: [[0.5]], method=method)
    assert np.isclose(res.x[0], 2) and np.isfinite(res.fun).all()


@METHODS
def test_it_backs_off_from_where_the_jacobian_is_not_finite(method):
    def jac(x):
        return [[2 * x[0] if abs(x[0]) < 2 else np.nan]]

    res = ds.least_squares(lambda x: [x[0] ** 2 - 1], [0.1], jac, method=method)
    assert res.success and np.isclose(res.x[0], 1)


@pytest.mark.parametrize("fun, jac", [(np.nan, 1.0), (1.0, np.inf)])
@METHODS
def test_a_start_that_is_not_finite_is_no_success(method, fun, jac):
    res = ds.least_squares(lambda x: [fun], [3.0], lambda x: [[jac]], method=method)
    assert (res.success, res.status, res.nfev) == (False, 6, 1) and res.x == 3
    assert np.isnan(res.grad).all() and np.isinf(res.covariance).all()


@METHODS
def test_no_way_but_to_infinity(method):
    res = ds.least_squares(lambda x: [1.0 if x[0] == 1 else np.nan], [1.0], lambda x: [[1.0]], method=method)
    assert (res.success, res.status) == (False, 7) and res.x == 1


def test_residuals_whose_squares_overflow():
    res = ds.least_squares(lambda x: 1e200 * rosenbrock(x), [-1.2, 1.0], lambda x: 1e200 * rosenbrock_jac(x))
    assert res.success and np.allclose(res.x, 1)


# ---- how it ends ----


@METHODS
def test_a_wrong_jacobian_is_no_success(method):
    res = ds.least_squares(rosenbrock, [-1.2, 1.0], lambda x: -rosenbrock_jac(x), method=method)
    assert (res.success, res.status, res.nit) == (False, 8, 0)


@METHODS
def test_max_nfev(method):
    res = ds.least_squares(rosenbrock, [-1.2, 1.0], rosenbrock_jac, method=method, max_nfev=3)
    assert (res.success, res.status, res.nfev) == (False, 2, 3)


@pytest.mark.parametrize("name, status", [("gtol", 0), ("ftol", 4), ("xtol", 5)])
@METHODS
def test_each_tolerance_alone(method, name, status):
    """Of residuals that stay, so that each is met in time."""
    options = dict.fromkeys(("ftol", "xtol", "gtol"), 0.0) | {name: 1e-6}
    res = ds.least_squares(lambda x: np.append(rosenbrock(x), x[0] + 2.1), [-1.2, 1.0], method=method, **options)
    assert res.success and res.status == status
    assert res.message.startswith("Converged") and name in res.message


@METHODS
def test_without_tolerances_it_goes_on_to_rounding(method):
    """The gradient decides where the sum of squares can't: x has all digits, not half of them."""

    def fun(x):
        return np.append(rosenbrock(x), x[0] + 2.1)

    def jac(x):
        return np.vstack([rosenbrock_jac(x), [1, 0]])

    options = dict.fromkeys(("ftol", "xtol", "gtol"), 0.0)
    res = ds.least_squares(fun, [-1.2, 1.0], jac, method=method, **options)
    assert res.status == 8 and np.allclose(res.x, [-0.55, 0.3025], rtol=1e-13)


def test_a_perfect_start_is_the_end():
    res = ds.least_squares(rosenbrock, [1.0, 1.0], rosenbrock_jac, gtol=0)
    assert (res.success, res.nit, res.nfev, res.njev, res.cost) == (True, 0, 1, 1, 0)


# ---- Python functions ----


@pytest.mark.parametrize("jac, evaluations", [(None, 5), ("3-point", 5), ("2-point", 3)])
def test_differences(jac, evaluations):
    calls = []

    def counted(x, a):
        calls.append(x)
        return a * rosenbrock(x)

    res = ds.least_squares(counted, [-1.2, 1.0], jac, args=(2,))
    assert res.success and np.allclose(res.x, 1) and res.nfev == len(calls)
    assert res.njev == res.nit + 1
    exact = ds.least_squares(rosenbrock, [-1.2, 1.0], rosenbrock_jac)
    assert res.nfev - res.njev * (evaluations - 1) <= exact.nfev + 2
    assert len({id(x) for x in calls}) == len(calls), "what a function keeps never changes"


def test_differences_are_relative_to_each_parameter():
    """Of sizes 1e9 and 1e-9; a step that is absolute would be all or nothing of the second."""

    def fun(x):
        return np.array([np.expm1(x[0] / 1e9) - 1, np.expm1(x[1] * 1e9) - 2, 1e-3])

    exact = np.array([1e9 * np.log(2), 1e-9 * np.log(3)])
    res = ds.least_squares(fun, [1e9, 1e-9], ftol=0)
    assert res.success and np.allclose(res.x, exact, rtol=1e-10, atol=0)


def test_jac_true_and_a_scalar_of_any_shape():
    both = ds.least_squares(lambda x: (rosenbrock(x.ravel()), rosenbrock_jac(x.ravel())), [[-1.2], [1.0]], True)
    apart = ds.least_squares(rosenbrock, [-1.2, 1.0], rosenbrock_jac)
    assert both.x.shape == both.grad.shape == (2, 1) and both.jac.shape == (2, 2)
    assert np.array_equal(both.x.ravel(), apart.x) and both.nfev == apart.nfev
    scalar = ds.least_squares(lambda x: x - 3, 1.0)
    assert scalar.x.shape == () and np.isclose(scalar.x, 3) and scalar.fun.shape == (1,)


def test_an_exception_leaves_as_itself():
    class Mine(BaseException):
        pass

    def fails(x):
        raise Mine

    with pytest.raises(Mine):
        ds.least_squares(fails, [1.0])
    with pytest.raises(Mine):
        ds.least_squares(lambda x: x, [1.0], fails)


def test_ctrl_c_ends_it():
    def fun(x):
        if len(seen) == 3:
            signal.raise_signal(signal.SIGINT)
        seen.append(x)
        return rosenbrock(x)

    seen = []
    with pytest.raises(KeyboardInterrupt):
        ds.least_squares(fun, [-1.2, 1.0])


@pytest.mark.parametrize(
    "error, message, change",
    [
        (ValueError, "method must be 'lm', 'gauss-newton' or 'dogleg', got 'trf'", {"method": "trf"}),
        (TypeError, "method must be 'lm', 'gauss-newton' or 'dogleg', got 3", {"method": 3}),
        (ValueError, "ftol must be >= 0 and finite, got -1", {"ftol": -1}),
        (TypeError, "gtol must be a number, got None", {"gtol": None}),
        (ValueError, "max_nfev must be >= 1 and <= 4611686018427387904, got 0", {"max_nfev": 0}),
        (ValueError, "x_scale must be > 0 and finite, got [1, 0]", {"x_scale": [1, 0]}),
        (ValueError, 'x_scale must be "jac", a number or an array of shape (2,), got shape (3,)', {"x_scale": [1] * 3}),
        (ValueError, "x_scale must be \"jac\", a number or an array of shape (2,), got 'a'", {"x_scale": "a"}),
        (ValueError, "x0 must have at least one element, got shape (0,)", {"x0": []}),
        (TypeError, f"x0 must be {REAL}, got dtype complex128", {"x0": [1j]}),
        (ValueError, "fun must return residuals of shape (m,), got (2, 1)", {"fun": lambda x: [[1.0], [2.0]]}),
        (ValueError, "fun must return residuals of shape (m,), got (0,)", {"fun": lambda x: []}),
        (TypeError, f"the residuals that fun returns must be {REAL}, got dtype complex128", {"fun": lambda x: [1j]}),
        (ValueError, "jac must return a Jacobian of shape (2, 2), got (2,)", {"jac": lambda x: [1.0, 2.0]}),
        (TypeError, f"the Jacobian that jac returns must be {REAL}, got dtype complex128", {"jac": lambda x: [[1j]]}),
        (TypeError, "the residuals that fun returns must not be a masked array: fill it first", {"fun": np.ma.array}),
        (
            TypeError,
            "the Jacobian that jac returns must not be a masked array: fill it first",
            {"jac": lambda x: np.ma.ones((2, 2))},
        ),
        (
            TypeError,
            "with jac=True, fun must return a tuple of residuals and Jacobian, got 1",
            {"jac": True, "fun": int},
        ),
        (ValueError, "jac must be a function, True, None or one of '2-point', '3-point', got 'cs'", {"jac": "cs"}),
        (TypeError, "n_residuals is for a compiled fun: a Python function tells by itself, got 2", {"n_residuals": 2}),
        (TypeError, "data is what compiled functions get: hand it to a Python function by args", {"data": [1.0]}),
    ],
)
def test_errors(error, message, change):
    if change.get("fun") is int:
        change["fun"] = lambda x: 1
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        ds.least_squares(**({"fun": rosenbrock, "x0": [-1.2, 1.0]} | change))


@pytest.mark.parametrize(
    "what, change",
    [
        ("residuals that fun returns", {"fun": lambda x: (rosenbrock(x), rosenbrock_jac(x))}),  # and no jac=True
        ("Jacobian that jac returns", {"jac": lambda x: [[1], [1, 2]]}),
    ],
)
def test_ragged_results(what, change):
    with pytest.raises(ValueError, match=f"^the {what} must be an array: .*inhomogeneous"):
        ds.least_squares(**({"fun": rosenbrock, "x0": [-1.2, 1.0]} | change))


def test_residuals_that_change_their_number():
    with pytest.raises(ValueError, match=re.escape("fun must return residuals of shape (2,), got (3,)")):
        ds.least_squares(lambda x: np.ones(2 if x[0] == 1 else 3), [1.0])


# ---- compiled ----


def decay_values(m, p, t):
    return [p[0] * np.exp(-p[1] * t[i]) for i in range(m)]


def write_residuals(m, n, p, r, row):
    data = ctypes.cast(row, DOUBLES)
    for i in range(m):
        r[i] = p[0] * np.exp(-p[1] * data[i]) - data[m + i]


def write_jacobian(m, n, p, jac, row):
    data = ctypes.cast(row, DOUBLES)
    for i in range(m):
        e = np.exp(-p[1] * data[i])
        jac[2 * i], jac[2 * i + 1] = e, -p[0] * data[i] * e


def write_both(m, n, p, r, jac, row):
    write_residuals(m, n, p, r, row)
    write_jacobian(m, n, p, jac, row)


COMPILED = {
    "together": {"fun": TOGETHER(write_both)},
    "apart": {"fun": APART(write_residuals), "jac": APART(write_jacobian)},
    "3-point": {"fun": APART(write_residuals)},
    "2-point": {"fun": APART(write_residuals), "jac": "2-point"},
}
TIMES = np.linspace(0, 4, 12)


def decays(count, seed=0):
    """Rows of times and observations."""
    rng = np.random.default_rng(seed)
    a, b = rng.uniform([1, 0.5], [5, 3], (count, 2)).T[..., None]
    Y = a * np.exp(-b * TIMES) + 0.05 * rng.standard_normal((count, len(TIMES)))
    return np.hstack([np.broadcast_to(TIMES, Y.shape), Y])


@pytest.mark.parametrize("kind", COMPILED)
@METHODS
def test_compiled_equals_python_bit_for_bit(kind, method):
    (row,) = decays(1)

    def residuals(p):
        r = np.zeros(12)
        write_residuals(12, 2, p, r, row.ctypes.data)
        return r

    def jacobian(p):
        J = np.zeros(24)
        write_jacobian(12, 2, p, J, row.ctypes.data)
        return J.reshape(12, 2)

    jac = kind if kind.endswith("point") else jacobian
    expected = ds.least_squares(residuals, [1.0, 1.0], jac, method=method)
    res = ds.least_squares(x0=[1.0, 1.0], data=row, n_residuals=12, method=method, **COMPILED[kind])
    assert res.success and set(res) == set(expected)
    for name, value in expected.items():
        assert np.array_equal(res[name], value), name


@pytest.mark.parametrize("kind", COMPILED)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_many_equal_a_loop_bit_for_bit(kind, threads):
    rows = decays(9)
    rows[4, -1] = np.nan
    starts = np.random.default_rng(1).uniform(0.5, 2, (9, 2))
    with ds.num_threads(threads):
        many = ds.least_squares_many(X0=starts, data=rows, n_residuals=12, **COMPILED[kind])
    assert many.success.sum() == 8 and many.status[4] == 6 and many.message == "8 of 9 problems converged."
    for i in range(9):
        one = ds.least_squares(x0=starts[i], data=rows[i], n_residuals=12, **COMPILED[kind])
        for name in set(many) - {"message", "dof"}:
            assert np.array_equal(many[name][i], one[name], equal_nan=True), name
        assert many.dof == one.dof


def test_many_of_a_python_function():
    starts = np.array([[-1.2, 1.0], [2.0, 2.0], [0.0, 0.0]])
    many = ds.least_squares_many(rosenbrock, starts, rosenbrock_jac)
    for i, x0 in enumerate(starts):
        one = ds.least_squares(rosenbrock, x0, rosenbrock_jac)
        for name in set(many) - {"message", "dof"}:
            assert np.array_equal(many[name][i], one[name], equal_nan=True), name


ENDLESS = dict.fromkeys(("ftol", "xtol", "gtol"), 0.0) | {"n_residuals": 2, "max_nfev": 2**60}


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_ctrl_c_ends_compiled_ones(library, threads):
    """One problem, or several on so many threads."""
    timer = threading.Timer(0.05, _thread.interrupt_main)
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        if threads is None:
            ds.least_squares(library.endless_residuals, [1.0], **ENDLESS)
        else:
            with ds.num_threads(threads):
                ds.least_squares_many(library.endless_residuals, np.ones((5, 1)), **ENDLESS)
    timer.join()


@pytest.mark.parametrize("fun", [rosenbrock, COMPILED["together"]["fun"]], ids=["Python", "compiled"])
def test_progress(fun, capsys):
    pytest.importorskip("tqdm")
    more = {} if fun is rosenbrock else {"data": decays(7), "n_residuals": 12}
    expected = ds.least_squares_many(fun, np.ones((7, 2)), **more)
    assert capsys.readouterr().err == ""
    shown = ds.least_squares_many(fun, np.ones((7, 2)), **more, progress=True)
    assert np.array_equal(shown.x, expected.x) and "7/7" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()], ids=repr)
def test_exceptions_of_the_progress_bar(library, monkeypatch, error):
    tqdm = pytest.importorskip("tqdm")

    def update(self, by):
        raise error

    monkeypatch.setattr(tqdm.tqdm, "update", update)
    with pytest.raises(type(error)) as caught:
        ds.least_squares_many(library.endless_residuals, np.ones((5, 1)), **ENDLESS, progress=True)
    assert caught.value is error


def test_many_of_none():
    for fun, m in ((rosenbrock, None), (COMPILED["together"]["fun"], 12)):
        res = ds.least_squares_many(fun, np.zeros((0, 2)), n_residuals=m)
        assert res.x.shape == (0, 2) and res.covariance.shape == (0, 2, 2) and res.success.shape == (0,)


def test_an_error_in_one_of_many_leaves():
    with pytest.raises(ZeroDivisionError):
        ds.least_squares_many(lambda x: [1 / float(x[0])], [[1.0], [0.0]], lambda x: [[0.0]])


@pytest.mark.parametrize(
    "error, message, change",
    [
        (TypeError, "n_residuals must be given for a compiled fun", {"n_residuals": None}),
        (ValueError, "n_residuals must be >= 1 and <= 2147483647, got 0", {"n_residuals": 0}),
        (TypeError, "n_residuals must be an integer, got 12.0", {"n_residuals": 12.0}),
        (ValueError, "data must have a row for each of the 2 problems, got shape (1, 24)", {"data": decays(1)}),
        (ValueError, f"{ROWS}, got shape (2,)", {"X0": [1.0, 2.0]}),
        (ValueError, f"{ROWS}, got shape (2, 0)", {"X0": np.ones((2, 0))}),
        (TypeError, "args are for Python functions", {"args": (1,)}),
        (TypeError, "progress must be True or False, got 'yes'", {"progress": "yes"}),
        (TypeError, "jac must be None or True where the compiled fun has residuals and jacobian", {"jac": "2-point"}),
        (TypeError, "fun must have the signature", {"fun": ctypes.CFUNCTYPE(None, ctypes.c_int)(int)}),
    ],
)
def test_errors_of_compiled_ones(error, message, change):
    usual = {"X0": np.ones((2, 2)), "data": decays(2), "n_residuals": 12, **COMPILED["together"]}
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        ds.least_squares_many(**(usual | change))

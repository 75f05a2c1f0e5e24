"""Test problems: published values, textbook formulas, derivatives against complex steps, properties of minimizers."""

import numpy as np
import pytest

from downslope.lab.problems import MORE_GARBOW_HILLSTROM, PROBLEMS, rescaled

EVERY = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)

# Where the authors' Fortran (Algorithm 566) starts, in dimensions of its own, and what it prints for f there.
PUBLISHED_AT_START = {
    "helical-valley": ([-1, 0, 0], "2.50e+03"),
    "biggs-exp6": ([1, 2, 1, 1, 1, 1], "7.79e-01"),
    "gaussian": ([0.4, 1, 0], "3.89e-06"),
    "powell-badly-scaled": ([0, 1], "1.14e+00"),
    "box-3d": ([0, 10, 20], "1.03e+03"),
    "variably-dimensioned": (1 - np.arange(1, 41) / 40, "9.39e+10"),
    "watson": (np.zeros(9), "3.00e+01"),
    "penalty-1": (np.arange(1, 61), "5.45e+09"),
    "penalty-2": (np.full(65, 0.5), "2.87e+05"),
    "brown-badly-scaled": ([1, 1], "1.00e+12"),
    "brown-dennis": ([25, 5, -5, -1], "7.93e+06"),
    "gulf": ([5, 2.5, 0.15], "1.21e+01"),
    "trigonometric": (np.full(40, 1 / 40), "2.01e-03"),
    "extended-rosenbrock": ([-1.2, 1] * 20, "4.84e+02"),
    "extended-powell-singular": ([3, -1, 0, 1] * 15, "3.23e+03"),
    "beale": ([1, 1], "1.42e+01"),
    "wood": ([-3, -1, -3, -1], "1.92e+04"),
    "chebyquad": (np.arange(1, 51) / 51, "1.39e-02"),
}
PUBLISHED_NUMBERS = [7, 18, 9, 3, 12, 25, 20, 23, 24, 4, 16, 11, 26, 21, 22, 5, 14, 35]

# The minima that are not zero, cut off as in the paper; for landscapes, as in surveys of test functions.
PUBLISHED_MINIMA = {
    "gaussian": "1.12793...e-08",
    "watson": "1.39976...e-06",
    "penalty-1": "7.08765...e-05",
    "penalty-2": "2.93660...e-04",
    "brown-dennis": "8.58222...e+04",
    "chebyquad": "3.51687...e-03",
    "six-hump-camel": "-1.03162...e+00",
    "branin": "3.97887...e-01",
    "mccormick": "-1.91322...e+00",
    "goldstein-price": "3.00000...e+00",
    "easom": "-1.00000...e+00",
    "styblinski-tang": "-7.83323...e+01",
}

pi, cos, sin, exp, sqrt = np.pi, np.cos, np.sin, np.exp, np.sqrt
TEXTBOOK = {
    "rosenbrock": lambda x, y: 100 * (y - x**2) ** 2 + (1 - x) ** 2,
    "himmelblau": lambda x, y: (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2,
    "booth": lambda x, y: (x + 2 * y - 7) ** 2 + (2 * x + y - 5) ** 2,
    "sphere": lambda x, y: x**2 + y**2,
    "ill-conditioned": lambda x, y: (x**2 + 1000 * y**2) / 2,
    "matyas": lambda x, y: 0.26 * (x**2 + y**2) - 0.48 * x * y,
    "three-hump-camel": lambda x, y: 2 * x**2 - 1.05 * x**4 + x**6 / 6 + x * y + y**2,
    "six-hump-camel": lambda x, y: (4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + (-4 + 4 * y**2) * y**2,
    "branin": lambda x, y: (y - 5.1 / (4 * pi**2) * x**2 + 5 / pi * x - 6) ** 2 + 10 * (1 - 1 / (8 * pi)) * cos(x) + 10,
    "mccormick": lambda x, y: sin(x + y) + (x - y) ** 2 - 1.5 * x + 2.5 * y + 1,
    "goldstein-price": lambda x, y: (
        (1 + (x + y + 1) ** 2 * (19 - 14 * x + 3 * x**2 - 14 * y + 6 * x * y + 3 * y**2))
        * (30 + (2 * x - 3 * y) ** 2 * (18 - 32 * x + 12 * x**2 + 48 * y - 36 * x * y + 27 * y**2))
    ),
    "easom": lambda x, y: -cos(x) * cos(y) * exp(-((x - pi) ** 2) - (y - pi) ** 2),
    "griewank": lambda x, y: 1 + (x**2 + y**2) / 4000 - cos(x) * cos(y / sqrt(2)),
    "ackley": lambda x, y: (
        -20 * exp(-0.2 * sqrt((x**2 + y**2) / 2)) - exp((cos(2 * pi * x) + cos(2 * pi * y)) / 2) + np.e + 20
    ),
    "styblinski-tang": lambda x, y: (x**4 - 16 * x**2 + 5 * x + y**4 - 16 * y**2 + 5 * y) / 2,
    "rastrigin": lambda x, y: 20 + x**2 - 10 * cos(2 * pi * x) + y**2 - 10 * cos(2 * pi * y),
    "levy": lambda x, y: (
        sin(pi * (3 + x) / 4) ** 2
        + ((x - 1) / 4) ** 2 * (1 + 10 * sin(pi * (3 + x) / 4 + 1) ** 2)
        + ((y - 1) / 4) ** 2 * (1 + sin(2 * pi * (3 + y) / 4) ** 2)
    ),
}


def complex_step(function, x):
    """Derivatives of a function, scalar or not, exact to rounding: the last axis is that of x."""
    return np.stack([function(x + 1e-30j * e).imag / 1e-30 for e in np.eye(len(x))], axis=-1)


def assert_close(actual, expected, rtol=1e-12):
    """Elements within `rtol` of the largest of them: sums of terms of that size leave no more."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * np.abs(expected).max())


def points(problem, rng):
    """Near the start, on the way to a minimizer, and near the minimizer."""
    way = problem.minimizers[0] - problem.x0
    for part in (0, 0, 0.3, 0.6, 0.99):
        yield problem.x0 + part * way + 0.1 * rng.standard_normal(len(problem.x0))


def test_the_18_are_those_of_the_paper_in_its_order():
    sources = [PROBLEMS[name].source for name in MORE_GARBOW_HILLSTROM]
    assert sources == [f"More, Garbow & Hillstrom 1981, problem {number}" for number in PUBLISHED_NUMBERS]
    assert set(MORE_GARBOW_HILLSTROM) == PUBLISHED_AT_START.keys() and len(PROBLEMS) >= 30
    assert set(PROBLEMS) == {*MORE_GARBOW_HILLSTROM, *TEXTBOOK}


@pytest.mark.parametrize("name", PUBLISHED_AT_START)
def test_values_at_the_standard_start_are_the_published_ones(name):
    start, value = PUBLISHED_AT_START[name]
    half_a_digit = 0.005 * 10 ** int(value[-3:])
    assert abs(PROBLEMS[name].fun(start) - float(value)) <= half_a_digit


def test_values_at_the_standard_start_in_closed_form():
    closed = {
        "helical-valley": 2500,
        "watson": 30,
        "brown-badly-scaled": (1 - 1e6) ** 2 + (1 - 2e-6) ** 2 + 1,
        "extended-rosenbrock": 5 * 24.2,
        "rosenbrock": 24.2,
        "extended-powell-singular": 3 * 215,
        "beale": 14.203125,
        "wood": 19192,
    }
    for name, value in closed.items():
        assert PROBLEMS[name].fun(PROBLEMS[name].x0) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize("name", PUBLISHED_AT_START)
def test_standard_starts_are_the_published_ones(name):
    """Some there have another dimension: what grows with n is as at the published n, or repeats."""
    start, x0 = np.asarray(PUBLISHED_AT_START[name][0]), PROBLEMS[name].x0
    n = len(x0)
    rescaled = {
        "variably-dimensioned": 1 - np.arange(1, n + 1) / n,
        "trigonometric": np.full(n, 1 / n),
        "chebyquad": np.arange(1, n + 1) / (n + 1),
    }
    assert np.array_equal(x0, rescaled.get(name, start[:n]))


@pytest.mark.parametrize("name", TEXTBOOK)
def test_landscapes_are_the_textbook_formulas(rng, name):
    problem = PROBLEMS[name]
    for x in (problem.x0, *3 * rng.standard_normal((20, 2))):
        assert problem.fun(x) == pytest.approx(TEXTBOOK[name](*x), rel=1e-12, abs=1e-13)


@EVERY
def test_derivatives_are_those_of_the_function(rng, problem):
    for x in points(problem, rng):
        assert problem.fun(x + 0j) == pytest.approx(problem.fun(x), rel=1e-14)
        assert_close(problem.grad(x), complex_step(problem.fun, x))
        assert_close(problem.hess(x), complex_step(problem.grad, x))
        assert np.array_equal(problem.hess(x), problem.hess(x).T)


@pytest.mark.parametrize("name", ["helical-valley", "gulf"])
def test_derivatives_on_the_other_branch(name):
    """Of the angle, and of an absolute value."""
    problem, x = PROBLEMS[name], np.array({"helical-valley": [0.5, -0.7, 0.2], "gulf": [50, 31, 1.5]}[name])
    assert_close(problem.grad(x), complex_step(problem.fun, x))
    assert_close(problem.hess(x), complex_step(problem.grad, x))


@pytest.mark.parametrize("name", [name for name, (start, _) in PUBLISHED_AT_START.items() if len(start) > 9])
def test_derivatives_in_another_dimension(rng, name):
    problem, start = PROBLEMS[name], PUBLISHED_AT_START[name][0]
    x = start + 0.1 * rng.standard_normal(len(start))
    assert_close(problem.grad(x), complex_step(problem.fun, x))
    assert_close(problem.hess(x), complex_step(problem.grad, x))


@EVERY
def test_sums_of_squares_bring_their_residuals(rng, problem):
    if problem.residuals is None:
        assert problem.jac is None and problem.name not in MORE_GARBOW_HILLSTROM
        return
    for x in points(problem, rng):
        assert problem.fun(x) == pytest.approx(np.sum(problem.residuals(x) ** 2), rel=1e-14)
        assert_close(problem.jac(x), complex_step(problem.residuals, x))


def test_the_angle_of_the_helix_on_the_axis():
    """100 (x3 - 10 theta)^2 + x3^2 with theta = 1/4 above and -1/4 below."""
    fun = PROBLEMS["helical-valley"].fun
    assert fun([0, 1, 2.5]) == fun([0, -1, -2.5]) == 2.5**2
    assert fun([1e-12, -1, -2.5]) == pytest.approx(2.5**2)


@EVERY
def test_minima_are_the_published_ones(problem):
    mantissa, exponent = PUBLISHED_MINIMA.get(problem.name, "0.00000...e+00").split("...")
    printed = f"{problem.minimum:.12e}"
    assert printed.startswith(mantissa) and printed.endswith(exponent)


@EVERY
def test_minimizers(problem):
    """The minimum is attained, the gradient is zero to rounding, and the Hessian is positive semidefinite."""
    assert len(problem.minimizers) >= 1 and problem.minimizers.shape[1:] == problem.x0.shape
    for x in problem.minimizers:
        eigenvalues = np.linalg.eigvalsh(problem.hess(x))
        # The residuals, about the root of f, are rounded as the terms that cancel in them.
        rounding = 4e-15 * np.sqrt(abs(problem.minimum)) * max(1, np.abs(x).max())
        assert problem.fun(x) == pytest.approx(problem.minimum, rel=1e-15, abs=rounding + 1e-27)
        assert np.abs(problem.grad(x)).max() <= 1e-14 * eigenvalues[-1] * max(1, np.abs(x).max())
        assert eigenvalues[0] >= -1e-14 * eigenvalues[-1]


@EVERY
def test_nothing_lies_below_the_minimum(rng, problem):
    for spread in (1e-4, 1e-2, 1, 5):
        for x in problem.minimizers:
            shifted = x + spread * rng.standard_normal((50, len(x)))
            if problem.name == "mccormick":  # elsewhere it falls forever
                shifted = np.clip(shifted, [-1.5, -3], 4)
            with np.errstate(over="ignore"):  # Gulf's and Biggs's exponentials
                values = [problem.fun(y) for y in shifted if problem.name != "gulf" or y[0] > 0]
            assert min(values) >= problem.minimum - 1e-14 * max(1e-13, abs(problem.minimum))


def test_the_kink_of_ackley():
    """In the minimizer: the gradient is taken for zero, and the Hessian for that of a needle."""
    ackley = PROBLEMS["ackley"]
    assert np.array_equal(ackley.grad([0, 0]), [0, 0])
    H = ackley.hess([0, 0])
    assert np.isfinite(H).all() and H[0, 0] == H[1, 1] > 1e299 and H[0, 1] == 0


@EVERY
def test_starts_and_minimizers_cannot_be_overwritten(problem):
    for array in (problem.x0, problem.minimizers):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize("name", ["wood", "rosenbrock", "ackley"])
def test_rescaled(name, rng):
    """The derivatives are those of z, by differences along a direction; the minimum stays where it is."""
    problem = PROBLEMS[name]
    turned = rescaled(problem, seed=3)
    assert np.isclose(turned.fun(turned.x0), problem.fun(problem.x0))
    for z in turned.minimizers:
        assert np.isclose(turned.fun(z), problem.minimum, atol=1e-12)
    d, h = rng.standard_normal(turned.x0.size), 1e-6
    up, down = turned.x0 + h * d, turned.x0 - h * d
    assert np.isclose(turned.grad(turned.x0) @ d, (turned.fun(up) - turned.fun(down)) / (2 * h), rtol=1e-5)
    slopes = (turned.grad(up) - turned.grad(down)) / (2 * h)
    assert np.allclose(turned.hess(turned.x0) @ d, slopes, rtol=1e-4, atol=1e-4 * np.abs(slopes).max())
    if problem.residuals is not None:
        assert np.allclose(turned.residuals(turned.x0), problem.residuals(problem.x0))
        slopes = (turned.residuals(up) - turned.residuals(down)) / (2 * h)
        assert np.allclose(turned.jac(turned.x0) @ d, slopes, rtol=1e-5, atol=1e-5 * np.abs(slopes).max())

"""L-BFGS: its directions, its line search, and how it does beside SciPy's."""

import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from objectives import START, recording, rosenbrock

import downslope as ds
from downslope.lab.problems import MORE_GARBOW_HILLSTROM, PROBLEMS


@pytest.fixture(scope="module")
def beside_scipy():
    """For each problem, from three starts: what both solve, and how many evaluations it takes them."""
    optimize = pytest.importorskip("scipy.optimize")
    outcomes = {}
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, problem in PROBLEMS.items():
            for scale in (1, 10, 100):
                both = [
                    ds.minimize(problem.fun, problem.x0 * scale, jac=problem.grad),
                    optimize.minimize(
                        problem.fun,
                        problem.x0 * scale,
                        jac=problem.grad,
                        method="L-BFGS-B",
                        options={"gtol": 1e-6, "ftol": 0, "maxfun": 10**6},
                    ),
                ]
                bound = problem.minimum + 1e-8 * max(1, abs(problem.minimum))
                outcomes[name, scale] = [(res.fun <= bound, res.nfev) for res in both]
    return outcomes


@pytest.mark.parametrize("names", [MORE_GARBOW_HILLSTROM, tuple(PROBLEMS)], ids=["18", "all"])
def test_as_good_as_scipys(beside_scipy, names):
    outcomes = [both for (name, _), both in beside_scipy.items() if name in names]
    ours, theirs = (sum(bool(solved) for solved, _ in column) for column in zip(*outcomes, strict=True))
    assert ours >= theirs
    evaluations = [(a, b) for (a_solved, a), (b_solved, b) in outcomes if a_solved and b_solved]
    assert np.median([a / b for a, b in evaluations]) <= 1.2


@settings(deadline=None)
@given(st.integers(1, 12), st.floats(0, 3), st.integers(0, 2**32 - 1))
@example(10, 2.875, 10389917)  # at the end rounding hides how f decreases
def test_quadratics(n, decades, seed):
    """At max |A x - b| <= gtol, |x - A^-1 b| <= sqrt(n) gtol / (the least eigenvalue)."""
    rng = np.random.default_rng(seed)
    Q, eigenvalues = np.linalg.qr(rng.standard_normal((n, n)))[0], 10 ** np.linspace(-decades, 0, n)
    A, b = (Q * eigenvalues) @ Q.T, rng.standard_normal(n)
    res = ds.minimize(lambda x: (x @ A @ x / 2 - b @ x, A @ x - b), np.zeros(n), jac=True, options={"gtol": 1e-6})
    assert res.success and res.status == 0 and np.abs(res.jac).max() <= 1e-6
    solution = np.linalg.solve(A, b)
    assert np.linalg.norm(res.x - solution) <= 1.01 * np.sqrt(n) * 1e-6 / eigenvalues[0]
    assert res.fun == pytest.approx(-b @ solution / 2, abs=1e-9 * 10**decades)


@pytest.mark.parametrize("name", ["rosenbrock", "wood", "beale", "himmelblau", "brown-dennis", "trigonometric", "levy"])
def test_each_iteration_keeps_the_strong_wolfe_conditions(name):
    problem = PROBLEMS[name]
    path = [problem.x0]
    with np.errstate(over="ignore"):
        ds.minimize(problem.fun, path[0], jac=problem.grad, callback=path.append, options={"gtol": 1e-3})
    assert len(path) > 4
    for x, y in zip(path, path[1:], strict=False):
        slope, slope_after = problem.grad(x) @ (y - x), problem.grad(y) @ (y - x)
        assert slope < 0
        assert problem.fun(y) <= problem.fun(x) + 1e-3 * slope * (1 - 1e-9)
        assert abs(slope_after) <= 0.9 * abs(slope) * (1 + 1e-9)


@pytest.mark.parametrize("maxcor", [1, 3, 50])
def test_maxcor(maxcor):
    points, default = [], []
    res = ds.minimize(recording(rosenbrock, points), START, jac=True, options={"maxcor": maxcor})
    ds.minimize(recording(rosenbrock, default), START, jac=True)
    assert res.success and np.allclose(res.x, 1)
    assert np.array_equal(points[:3], default[:3]) and not np.array_equal(points, default)


def test_many_variables():
    """Vectors are added up in lanes: 1001 is no multiple of them."""
    weights = np.linspace(1, 50, 1001)
    res = ds.minimize(lambda x: (x @ (weights * x) / 2 - x.sum(), weights * x - 1), np.zeros(1001), jac=True)
    assert res.success
    np.testing.assert_allclose(res.x, 1 / weights, atol=1e-6)


def two_loops(g, pairs):
    """-H g: Nocedal & Wright 2006, algorithm 7.4, with H0 = s.y / y.y of the newest pair."""
    q, alphas = g.copy(), []
    for s, y in reversed(pairs):
        alphas.append(s @ q / (s @ y))
        q -= alphas[-1] * y
    if pairs:
        s, y = pairs[-1]
        q *= s @ y / (y @ y)
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        q += (alpha - y @ q / (s @ y)) * s
    return -q


@pytest.mark.parametrize("maxcor", [1, 2, 5, 10])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 9])
def test_directions_are_those_of_the_book(n, maxcor):
    """A quartic and convex function, so that every pair is kept: each step is along -H g."""
    weights = 10 ** np.linspace(0, 1.5, n)

    def fun(x):
        z = x - np.roll(x, 1) / 2
        g = weights * (z + z**3)
        return float(np.sum(weights * (z**2 / 2 + z**4 / 4))), g - np.roll(g, -1) / 2

    path = [np.linspace(1, 2, n)]
    options = {"maxcor": maxcor, "gtol": 1e-5}
    assert ds.minimize(fun, path[0], jac=True, callback=path.append, options=options).success
    assert len(path) > 5
    gradients = [fun(x)[1] for x in path]
    pairs = [(np.diff(path, axis=0)[k], np.diff(gradients, axis=0)[k]) for k in range(len(path) - 1)]
    for k, (step, _) in enumerate(pairs):
        d = two_loops(gradients[k], pairs[max(0, k - maxcor) : k])
        np.testing.assert_allclose(step / np.linalg.norm(step), d / np.linalg.norm(d), atol=1e-7)

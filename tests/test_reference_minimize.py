"""The loops of the second order against plain dense ones, step by step."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import downslope as ds
from downslope.lab.problems import PROBLEMS
from downslope.reference import minimize as reference

STEPS = {
    "trust-exact": reference.exact_step,
    "trust-ncg": reference.steihaug_step,
    "dogleg": reference.dogleg_step,
}


def quadratic(rng, eigenvalues):
    """H and g of a model with these eigenvalues."""
    Q, _ = np.linalg.qr(rng.standard_normal((len(eigenvalues), len(eigenvalues))))
    H = Q * eigenvalues @ Q.T
    return (H + H.T) / 2, rng.standard_normal(len(eigenvalues))


def iterates(method, fun, grad, hess, x0, iterations, **options):
    points = [x0]
    options |= {"maxiter": iterations, "gtol": 0}
    ds.minimize(fun, x0, method=method, jac=grad, hess=hess, callback=points.append, options=options)
    return points


def step_of(method, H, g, radius):
    """One iteration from 0 on a quadratic, of which the model is exact: the step is accepted."""
    options = {"initial_trust_radius": radius, "max_trust_radius": max(radius, 1.0)}
    functions = (lambda x: g @ x + x @ H @ x / 2, lambda x: g + H @ x, lambda x: H)
    return iterates(method, *functions, np.zeros_like(g), 1, **options)[1]


@pytest.mark.parametrize("method", STEPS)
@settings(deadline=None)
@given(st.integers(1, 12), st.floats(1e-2, 1e2), st.booleans(), st.integers(0, 999))
def test_steps_in_a_trust_region(method, n, radius, convex, seed):
    rng = np.random.default_rng(seed)
    eigenvalues = rng.uniform(0.1, 10, n)
    if not convex and method != "dogleg":
        eigenvalues[0] = -1
    H, g = quadratic(rng, eigenvalues)
    expected = STEPS[method](H, g, radius)
    assert np.linalg.norm(expected) <= radius * (1 + 1e-9)
    assert np.allclose(step_of(method, H, g, radius), expected, rtol=0, atol=1e-6 * np.linalg.norm(expected))


@pytest.mark.parametrize("method", STEPS)
@pytest.mark.parametrize("radius", [0.1, 1.0, 1e3])
def test_steps_of_many_variables(rng, method, radius):
    """More than one tile of a factorization, and more than one radius of lengths: short steps, long ones, Newton's."""
    eigenvalues = rng.uniform(0.1, 10, 150)
    for least in (0.1,) if method == "dogleg" else (0.1, 0, -1):
        eigenvalues[0] = least
        H, g = quadratic(rng, eigenvalues)
        expected = STEPS[method](H, g, radius)
        assert np.allclose(step_of(method, H, g, radius), expected, rtol=0, atol=1e-6 * np.linalg.norm(expected))


@pytest.mark.parametrize("n", [1, 5, 20])
@pytest.mark.parametrize("reach", [3, 30, 300])
def test_steps_after_rejected_ones(rng, n, reach):
    """Newton's point for sum sqrt(1 + x^2) is -x^3: the farther off, the more radii are tried. The steps are the same
    whether lambda is found by factorizations of H, or of its tridiagonal form, which takes over after many."""
    A = np.eye(n) + rng.standard_normal((n, n)) / (4 * n)

    def hess(x):
        return A.T @ np.diag((1 + (A @ x) ** 2) ** -1.5) @ A

    functions = (
        lambda x: np.sqrt(1 + (A @ x) ** 2).sum(),
        lambda x: A.T @ (A @ x / np.sqrt(1 + (A @ x) ** 2)),
        hess,
    )
    x0, tried = reach * rng.uniform(0.5, 1, n), []

    def fun(x):
        tried.append(x)
        return functions[0](x)

    radius, iterations = 1e9, 4
    options = {"initial_trust_radius": radius, "max_trust_radius": radius}
    ours = iterates("trust-exact", fun, *functions[1:], x0, iterations, **options)
    assert len(tried) - 1 - iterations >= np.log(reach) / np.log(4)  # radii that were too large
    expected = reference.trust_region(reference.exact_step, *functions, x0, iterations, radius)
    assert np.allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_the_hard_case(rng):
    """What the division by zero leaves open, along the least eigenvector, takes either sign."""
    H, g = quadratic(rng, np.array([-3.0, 1, 2, 4]))
    u = np.linalg.eigh(H)[1][:, 0]
    g -= u * (u @ g)
    for radius in (2.0, 20.0):
        ours, expected = step_of("trust-exact", H, g, radius), reference.exact_step(H, g, radius)
        assert np.allclose(abs(u @ ours), abs(u @ expected), rtol=1e-6) and abs(u @ ours) > 1
        assert np.allclose(ours - u * (u @ ours), expected - u * (u @ expected), atol=1e-6)


@pytest.mark.parametrize("n", [1, 3, 6])
@pytest.mark.parametrize("reach", [0.1, 1e6])
def test_steps_of_levenberg_marquardt(rng, n, reach):
    """The first one of a linear problem: to its solution, or, within a tenth, to 100 |D x0|; of either length it is the
    best one."""
    A, b, scale = rng.standard_normal((10, n)), rng.standard_normal(10), 10 ** rng.uniform(-1, 1, n)
    x0 = reach * 1e-4 * rng.standard_normal(n)
    res = ds.least_squares(lambda x: A @ x - b, x0, lambda x: A, x_scale=1 / scale, max_nfev=2)
    p, allowed = res.x - x0, 100 * np.linalg.norm(scale * x0)
    length = np.linalg.norm(scale * p)
    assert res.nit == 1 and length <= 1.1 * allowed and (length >= 0.9 * allowed) == (reach < 1)
    assert np.allclose(p, reference.levenberg_marquardt_step(A, A @ x0 - b, scale, length), rtol=1e-6)


@pytest.mark.parametrize("method", STEPS)
@pytest.mark.parametrize("name", ["rosenbrock", "beale", "helical-valley"])
def test_iterates_of_trust_regions(method, name):
    """Rejected steps included; the dogleg's from nearby, where Hessians are positive definite."""
    problem = PROBLEMS[name]
    x0, radius = (problem.minimizers[0] + 0.1, 0.05) if method == "dogleg" else (problem.x0, 1.0)
    functions = (problem.fun, problem.grad, problem.hess)
    iterations = 4 if method == "dogleg" else 8
    ours = iterates(method, *functions, x0, iterations, initial_trust_radius=radius)
    expected = reference.trust_region(STEPS[method], *functions, x0, iterations, radius)
    assert np.allclose(ours, expected, rtol=1e-5, atol=1e-7)


def test_iterates_of_newton_where_all_is_convex(rng):
    """The first of each two steps is whole, and the second as long as the change of curvature says."""
    H, _ = quadratic(rng, rng.uniform(0.1, 10, 12))
    functions = (
        lambda x: x @ H @ x / 2 + (x**4).sum(),
        lambda x: H @ x + 4 * x**3,
        lambda x: H + np.diag(12 * x**2),
    )
    x0 = rng.uniform(-2, 2, 12)
    ours = iterates("newton", *functions, x0, 7)
    assert np.allclose(ours, reference.newton(*functions, x0, 7), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", ["rosenbrock", "wood", "helical-valley"])
def test_newton_ends_where_the_dense_one_does(name):
    """Searches along the line, and shifts of Hessians, are others'."""
    problem = PROBLEMS[name]
    x = reference.newton(problem.fun, problem.grad, problem.hess, problem.x0, 60)[-1]
    res = ds.minimize(problem.fun, problem.x0, method="newton", jac=problem.grad, hess=problem.hess)
    assert res.success and np.allclose(res.x, x, atol=1e-5)

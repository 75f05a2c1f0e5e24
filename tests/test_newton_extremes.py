"""Methods of the second order where it gets difficult: saddle points, walls, curvature that underflows, rounding."""

import numpy as np
import pytest
from newton_cases import TRUST_REGIONS, WITH_PRODUCTS, Quadratic, all_methods, same, solve

import downslope as ds
from downslope.lab.problems import PROBLEMS, rescaled

# ---- saddle points ----


SADDLE = (lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4 / 2, lambda x: np.array([2 * x[0], -2 * x[1] + 2 * x[1] ** 3]))


def saddle_hess(x):
    return np.diag([2.0, -2 + 6 * x[1] ** 2])


@all_methods
@pytest.mark.parametrize("start", [(0.0, 0.0), (1.0, 0.0), (-3.0, 0.0), (1e-9, 1e-9)])
@pytest.mark.parametrize("hess", [saddle_hess, None])
def test_a_saddle_point_is_left(method, start, hess):
    fun, grad = SADDLE
    res = ds.minimize(fun, start, method=method, jac=grad, hess=hess)
    assert res.success and np.allclose(np.abs(res.x), [0, 1], atol=1e-6) and np.isclose(res.fun, -0.5)


@all_methods
def test_a_saddle_point_at_the_end_of_a_step_from_where_all_is_convex_is_left(method):
    """The curvature along y turns negative on the way along x, in which the model is exact."""

    def fun(x):
        return (x[0] - 1) ** 2 / 2 + x[1] ** 2 * (0.5 - x[0]) / 2 + x[1] ** 4

    def grad(x):
        return np.array([x[0] - 1 - x[1] ** 2 / 2, x[1] * (0.5 - x[0]) + 4 * x[1] ** 3])

    def hess(x):
        return np.array([[1, -x[1]], [-x[1], 0.5 - x[0] + 12 * x[1] ** 2]])

    res = ds.minimize(fun, [0.0, 0.0], method=method, jac=grad, hess=hess)
    assert res.success and res.fun < -1e-3 and np.linalg.eigvalsh(hess(res.x))[0] > 0


@pytest.mark.parametrize("method", WITH_PRODUCTS)
def test_a_saddle_point_is_left_by_products(method):
    fun, grad = SADDLE
    res = ds.minimize(fun, [0.0, 0.0], method=method, jac=grad, hessp=lambda x, p: saddle_hess(x) @ p)
    assert res.success and np.allclose(np.abs(res.x), [0, 1], atol=1e-6)


@all_methods
@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_maximum_is_left(method, n):
    res = ds.minimize(
        lambda x: np.cos(x).sum(),
        np.zeros(n),
        method=method,
        jac=lambda x: -np.sin(x),
        hess=lambda x: np.diag(-np.cos(x)),
    )
    assert res.success and np.isclose(res.fun, -n)


@all_methods
@pytest.mark.parametrize("limits", [{"maxiter": 0}, {"maxfev": 1}])
def test_no_success_at_a_saddle_point_when_limits_are_reached(method, limits):
    fun, grad = SADDLE
    res = ds.minimize(fun, [0.0, 0.0], method=method, jac=grad, hess=saddle_hess, options=limits)
    assert not res.success and res.status == (1 if "maxiter" in limits else 2)


@all_methods
@pytest.mark.parametrize("options", [{"ftol": 1e-3, "gtol": 0}, {"xtol": 1e-3, "gtol": 0}])
def test_small_steps_at_a_saddle_point_are_no_success(method, options):
    fun, grad = SADDLE
    res = ds.minimize(fun, [1.0, 1e-9], method=method, jac=grad, hess=saddle_hess, options=options)
    assert res.success and np.allclose(np.abs(res.x), [0, 1], atol=0.05)


@all_methods
def test_a_minimum_with_a_zero_gradient_takes_no_step(method):
    res = solve(Quadratic(np.diag([0.0, 1.0, 2.0]), np.zeros(3)), np.zeros(3), method)
    assert res.success and res.nit == 0 and res.nfev == 1 and res.nhev == 1


@all_methods
@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("diagonal", [(1.0, -1.0), (-1.0, -1.0), (1.0, 0.0), (0.0, 0.0)])
def test_no_bottom(method, diagonal):
    """Down for ever: it ends without success, and without NaN."""
    res = solve(Quadratic(np.diag(diagonal), [1.0, 1.0]), np.zeros(2), method, options={"maxiter": 100})
    assert res.fun < -1e3 or method == "trust-ncg"
    assert not res.success and np.isfinite(res.fun) and np.isfinite(res.x).all()


# ---- walls ----


@all_methods
@pytest.mark.parametrize("beyond", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("start", [0.01, 30.0])
def test_walls_are_backed_off_from(method, beyond, start):
    """f = x - log(x), whose Newton step from beyond 2 leads to negative x."""

    def fun(x):
        return x[0] - np.log(x[0]) if x[0] > 0 else beyond

    def grad(x):
        return 1 - 1 / x if x[0] > 0 else np.full(1, beyond)

    with np.errstate(all="ignore"):
        res = ds.minimize(fun, [start], method=method, jac=grad, hess=lambda x: np.diag(1 / x**2))
    assert res.success and np.isclose(res.x[0], 1, atol=1e-5)


@all_methods
@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e308])
def test_without_a_finite_hessian_it_goes_along_the_gradient(method, bad):
    problem, poisoned = Quadratic(np.diag([1.0, 2.0]), [1.0, 1.0]), []

    def hess(x):
        poisoned.append(1)
        return problem.A if len(poisoned) > 2 else np.full((2, 2), bad)

    res = ds.minimize(problem.fun, [5.0, 5.0], method=method, jac=problem.grad, hess=hess)
    assert res.success and np.allclose(res.x, [-1, -0.5], atol=1e-5) and res.nhev > 2


@all_methods
def test_not_finite_at_the_start(method):
    res = ds.minimize(lambda x: np.nan, [1.0], method=method, jac=lambda x: x, hess=lambda x: np.eye(1))
    assert not res.success and res.status == 6 and res.nhev == 0


# ---- numbers at their ends ----


class Decay:
    """The sum of x + exp(-x), whose curvature vanishes far out."""

    @staticmethod
    def fun(x):
        return np.sum(x + np.exp(-x))

    @staticmethod
    def grad(x):
        return 1 - np.exp(-x)

    @staticmethod
    def hess(x):
        return np.diag(np.exp(-x))


@pytest.mark.parametrize("x0", [[250.0], [300.0], [740.0], [700.0, 800.0], [712.0, 800.0], [745.0, 800.0]])
@pytest.mark.parametrize("method", TRUST_REGIONS)
def test_trust_regions_where_curvature_underflows(method, x0, silent):
    seen = []
    res = ds.minimize(
        lambda x: seen.append(x) or Decay.fun(x),
        x0,
        method=method,
        jac=Decay.grad,
        hess=Decay.hess,
        options={"maxfev": 999},
    )
    assert res.success and np.allclose(res.x, 0, atol=1e-6)
    lengths = np.linalg.norm(np.diff(seen, axis=0), axis=1)
    assert lengths[0] <= 1 + 1e-7 and lengths.max() < 1e4


def test_newton_comes_back_from_far_beyond_what_is_finite(silent):
    """Some twenty steps back, each to a tenth, do not count against the search that follows."""
    assert solve(Decay, [50.0], "newton").success


@all_methods
def test_what_converges_is_the_result(method):
    """On the way, some trial steps are lower, but beyond another minimum."""

    def fun(x):
        return -0.1 * np.sin(8.3 * x[0]) - 0.4 * np.cos(x[0]) + 0.1 * x[0] ** 2

    def grad(x):
        return -0.83 * np.cos(8.3 * x) + 0.4 * np.sin(x) + 0.2 * x

    def hess(x):
        return np.diag(6.889 * np.sin(8.3 * x) + 0.4 * np.cos(x) + 0.2)

    for x0 in np.linspace(-4, 4, 81):
        res = ds.minimize(fun, [x0], method=method, jac=grad, hess=hess)
        assert res.success and abs(res.jac[0]) <= 1e-6, x0
        assert res.fun == fun(res.x) and np.array_equal(res.jac, grad(res.x))


@all_methods
def test_the_best_point_is_the_result_of_what_does_not_converge(rng, method):
    """Even if on the way there was convergence in doubt, here by a gradient that is always zero."""
    stopped = 0
    for _ in range(300):
        A, c = rng.standard_normal((4, 4)), rng.standard_normal(4)
        problem = Quadratic(A + A.T, c)
        values = []

        def fun(x, problem=problem, values=values):
            values.append(problem.fun(x) + (x**4).sum())
            return values[-1]

        res = ds.minimize(
            fun,
            rng.standard_normal(4),
            method=method,
            jac=np.zeros_like,
            hess=lambda x, problem=problem, scale=10 ** rng.uniform(0, 5): scale * problem.hess(x),
            options={"maxiter": 1},
        )
        if not res.success:
            stopped += 1
            assert res.fun <= min(values) + 1e-12 * abs(min(values))  # rounding apart
    assert stopped > 20


@pytest.mark.parametrize("method", ["newton", "newton-cg"])
def test_newton_ends_where_rounding_is_all_that_is_left(method):
    s = 1e10
    res = ds.minimize(
        lambda x: s * np.cos(x).sum(),
        [0.3, 0.4],
        method=method,
        jac=lambda x: -s * np.sin(x),
        hess=lambda x: -s * np.diag(np.cos(x)),
    )
    assert res.status == 8 and res.nit < 20 and np.allclose(np.cos(res.x), -1)


@pytest.mark.parametrize("method", ["newton", "trust-exact", "dogleg"])
@pytest.mark.parametrize("antisymmetric", [1e18, 1e30, 1e308])
def test_shifts_go_by_the_symmetric_part(method, antisymmetric):
    K = antisymmetric * np.array([[0, 1], [-1, 0]])
    saddle = Quadratic(np.diag([-1.0, 1.0]), np.zeros(2))
    functions = (
        lambda x: x[0] ** 4 + saddle.fun(x),
        lambda x: np.array([4 * x[0] ** 3, 0]) + saddle.grad(x),
        lambda x: np.diag([12 * x[0] ** 2 - 1, 1.0]),
    )
    a, b = (
        ds.minimize(functions[0], [0.1, 1.0], method=method, jac=functions[1], hess=hess)
        for hess in (functions[2], lambda x: functions[2](x) + K)
    )
    assert a.success and same(a, b)


def test_newton_accepts_no_value_that_is_not_finite():
    """Even if the objective is, but for the first two evaluations."""
    seen, calls = [], []

    def fun(x):
        calls.append(x)
        return (x**4 + x**2).sum() if len(calls) <= 2 else np.nan

    res = ds.minimize(
        fun,
        [1.0],
        method="newton",
        jac=lambda x: 4 * x**3 + 2 * x,
        hess=lambda x: np.diag(12 * x**2 + 2),
        callback=lambda intermediate_result: seen.append(intermediate_result.fun),
    )
    assert not res.success and np.isfinite(seen).all() and np.allclose(res.x, 1 - 6 / 14)


@pytest.mark.parametrize("method", WITH_PRODUCTS)
@pytest.mark.parametrize("seed", [9, 10])
def test_where_gradients_are_mostly_rounding(method, seed):
    """In a valley with a curvature of 1e11 across, what is left of the gradient there hides the way along, unless
    conjugate gradients go on."""
    problem = rescaled(PROBLEMS["powell-badly-scaled"], seed)
    assert solve(problem, problem.x0, method, options={"gtol": 1e-8}).fun <= 1e-12

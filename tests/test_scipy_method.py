"""The methods of `minimize` inside the real SciPy."""

import numpy as np
import pytest

import downslope as ds

optimize = pytest.importorskip("scipy.optimize")

START = np.array([-1.2, 1.0])


def value_and_gradient(x, shift=0.0):
    return optimize.rosen(x) + shift, optimize.rosen_der(x)


# ---- what is handed on ----


@pytest.fixture
def calls(monkeypatch):
    """Calls of `minimize`, which return None, as pairs of arguments by position and by keyword."""
    made = []
    monkeypatch.setattr("downslope.minimize", lambda *args, **kwargs: made.append((args, kwargs)))
    return made


def test_everything_is_handed_on(calls):
    def hess(x):
        return np.eye(2)

    def hessp(x, p):
        return p

    def callback(x):
        pass

    solve = ds.scipy_method("newton-cg", maxiter=5, gtol=1e-3)
    optimize.minimize(
        optimize.rosen,
        START,
        (3.0,),
        method=solve,
        jac=optimize.rosen_der,
        hess=hess,
        hessp=hessp,
        tol=1e-4,
        callback=callback,
        options={"gtol": 1e-2, "disp": True},
    )
    (((fun, x0, args), keywords),) = calls
    assert fun is optimize.rosen and x0.tolist() == START.tolist() and args == (3.0,)
    assert keywords == {
        "method": "newton-cg",
        "jac": optimize.rosen_der,
        "hess": hess,
        "hessp": hessp,
        "tol": 1e-4,
        "callback": callback,
        "options": {"maxiter": 5, "gtol": 1e-2, "disp": True},
    }
    optimize.minimize(optimize.rosen, START, method=solve)
    assert calls[1][1]["options"] == {"maxiter": 5, "gtol": 1e-3}
    assert calls[1][0][2] == () and calls[1][1]["jac"] is None and calls[1][1]["tol"] is None


@pytest.mark.parametrize(
    "given, name",
    [
        ({"bounds": [(0, 1), (0, 1)]}, "bounds"),
        ({"bounds": optimize.Bounds([0, 0], [1, 1])}, "bounds"),
        ({"constraints": {"type": "ineq", "fun": np.sum}}, "constraints"),
        ({"constraints": [{"type": "ineq", "fun": np.sum}]}, "constraints"),
        ({"constraints": optimize.LinearConstraint(np.eye(2), 0, 1)}, "constraints"),
    ],
)
def test_bounds_and_constraints_are_refused(calls, given, name):
    with pytest.raises(ValueError, match=f"^{name} must not be given: method 'adam' heeds none, got"):
        optimize.minimize(optimize.rosen, START, method=ds.scipy_method("adam"), **given)
    assert not calls


@pytest.mark.parametrize("constraints", [(), [], None])
def test_no_constraints(calls, constraints):
    optimize.minimize(optimize.rosen, START, method=ds.scipy_method("adam"), constraints=constraints)
    assert len(calls) == 1


# ---- at work ----


@pytest.mark.parametrize("method, options", [("adam", {"lr": 0.05, "maxiter": 300}), ("l-bfgs", {})])
@pytest.mark.parametrize("jac", ["apart", "together", "differences"])
def test_equals_minimize(method, options, jac):
    fun, derivative = {
        "apart": (lambda x, shift: optimize.rosen(x) + shift, lambda x, shift: optimize.rosen_der(x)),
        "together": (value_and_gradient, True),
        "differences": (lambda x, shift: optimize.rosen(x) + shift, None),
    }[jac]
    there = optimize.minimize(fun, START, 1.0, method=ds.scipy_method(method, **options), jac=derivative)
    here = ds.minimize(fun, START, (1.0,), method=method, jac=derivative, options=options)
    assert type(there) is ds.OptimizeResult
    assert there.x.tolist() == here.x.tolist() and there.fun == here.fun
    assert (there.nit, there.success, there.status, there.message) == (
        here.nit,
        here.success,
        here.status,
        here.message,
    )
    assert there.fun < 1 + optimize.rosen(START)


def test_value_and_gradient_are_taken_once():
    calls = []

    def fun(x):
        calls.append(x.copy())
        return value_and_gradient(x)

    res = optimize.minimize(fun, START, method=ds.scipy_method("l-bfgs"), jac=True)
    assert res.success and np.allclose(res.x, 1)
    assert len(calls) <= res.nfev


def test_callbacks():
    seen = []

    def by_name(intermediate_result):
        seen.append(intermediate_result.x)
        if len(seen) == 3:
            raise StopIteration

    solve = ds.scipy_method("adam", maxiter=10)
    res = optimize.minimize(value_and_gradient, START, jac=True, method=solve, callback=by_name)
    assert len(seen) == res.nit == 3 and not res.success
    positions = []
    optimize.minimize(value_and_gradient, START, jac=True, method=solve, callback=lambda x: positions.append(x))
    assert len(positions) == 10 and positions[0].tolist() == seen[0].tolist()


def test_unknown_options():
    with pytest.raises(TypeError, match="rate"):
        optimize.minimize(value_and_gradient, START, jac=True, method=ds.scipy_method("adam", rate=0.1))


def wavy(x):
    """SciPy's own example for `basinhopping`: a parabola with a deep valley every 0.43; least at -0.1951."""
    x = x[0]
    return np.cos(14.5 * x - 0.3) + (x + 0.2) * x, np.array([-14.5 * np.sin(14.5 * x - 0.3) + 2 * x + 0.2])


@pytest.mark.parametrize(
    "method", [ds.scipy_method("l-bfgs"), ds.scipy_method("adam", lr=0.02, maxiter=300)], ids=["l-bfgs", "adam"]
)
def test_basinhopping(method):
    res = optimize.basinhopping(wavy, [1.0], niter=30, minimizer_kwargs={"method": method, "jac": True}, seed=1)
    assert res.fun == pytest.approx(-1.0008761844426555, abs=1e-6)
    assert res.x[0] == pytest.approx(-0.19506755, abs=1e-4)
    assert type(res.lowest_optimization_result) is ds.OptimizeResult


def rastrigin(x):
    return 10 * x.size + np.sum(x * x - 10 * np.cos(2 * np.pi * x))


@pytest.mark.parametrize(
    "jac", [None, lambda x: 2 * x + 20 * np.pi * np.sin(2 * np.pi * x)], ids=["differences", "jac"]
)
def test_dual_annealing(jac):
    res = optimize.dual_annealing(
        rastrigin,
        [(-5.12, 5.12)] * 2,
        maxiter=500,
        minimizer_kwargs={"method": ds.scipy_method("l-bfgs"), "jac": jac},
        seed=1,
    )
    assert res.fun < 1e-8 and np.abs(res.x).max() < 1e-4

"""Methods of the second order in `minimize`: newton, newton-cg, trust-exact, trust-ncg, dogleg."""

import ctypes
import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from newton_cases import (
    METHODS,
    ROSENBROCK,
    TRUST_REGIONS,
    WITH_PRODUCTS,
    Quadratic,
    all_methods,
    iterates,
    random_quadratic,
    same,
    solve,
)

import downslope as ds
from downslope.lab.problems import MORE_GARBOW_HILLSTROM, PROBLEMS, rescaled

# ---- what the formulas say ----


@pytest.mark.parametrize("method", ["newton", "trust-exact", "dogleg"])
@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_a_convex_quadratic_takes_one_step(rng, method, n):
    problem, _ = random_quadratic(rng, np.linspace(1, 10, n))
    options = {"initial_trust_radius": 100.0} if method != "newton" else {}
    res = solve(problem, rng.standard_normal(n), method, options=options)
    assert res.success and (res.nit, res.nhev, res.nfev) == (1, 2, 2)  # a long step: the Hessian is looked at again
    assert np.allclose(res.x, np.linalg.solve(problem.A, -problem.b), rtol=0, atol=1e-13 * n)


@pytest.mark.parametrize("method", WITH_PRODUCTS)
def test_conjugate_gradients_on_a_convex_quadratic(rng, method):
    problem, _ = random_quadratic(rng, np.linspace(1, 10, 20))
    res = solve(problem, rng.standard_normal(20), method, options={"gtol": 1e-10})
    assert res.success and np.allclose(res.x, np.linalg.solve(problem.A, -problem.b), rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", ["trust-exact", "dogleg"])
def test_convergence_is_quadratic(method):
    X, res = iterates(ROSENBROCK, ROSENBROCK.x0, method, options={"gtol": 1e-13})
    error = np.linalg.norm(X - 1, axis=1)
    close = [k for k in range(len(error) - 1) if 1e-8 < error[k] < 1e-2]
    assert res.success and len(close) >= 2
    assert all(error[k + 1] <= 100 * error[k] ** 2 for k in close)


def test_convergence_of_newton_is_cubic(rng):
    """By a second step of each Hessian, of which there is one an iteration."""
    A = rng.standard_normal((12, 4))
    problem = Quadratic(np.zeros((4, 4)), np.zeros(4))
    problem.fun = lambda x: (np.expm1(A @ x) - A @ x).sum()
    problem.grad = lambda x: A.T @ np.expm1(A @ x)
    problem.hess = lambda x: (A.T * np.exp(A @ x)) @ A
    pairs = []
    for x0 in rng.uniform(-0.5, 0.5, (20, 4)):
        X, res = iterates(problem, x0, "newton", options={"gtol": 1e-13})
        assert res.success and res.nhev <= res.nit + 1 < res.nfev
        error = np.linalg.norm(X, axis=1)
        pairs += [(a, b) for a, b in zip(error, error[1:], strict=False) if 1e-4 < a < 0.5]
    assert len(pairs) >= 25
    assert all(b <= 3 * a**3 + 1e-14 for a, b in pairs)


@pytest.mark.parametrize("beyond", [np.nan, 1e9])
def test_newton_turns_to_the_next_hessian_where_the_second_step_fails(beyond):
    """The objective is of use at the first two points alone, and the second is the result."""
    useful = []

    def fun(x):
        if len(useful) < 2:
            useful.append(x.copy())
        return (x**4 + x**2).sum() if any(np.array_equal(x, point) for point in useful) else beyond

    res = ds.minimize(
        fun, [1.0], method="newton", jac=lambda x: 4 * x**3 + 2 * x, hess=lambda x: np.diag(12 * x**2 + 2)
    )
    assert not res.success and res.nhev == 2 and res.nit == 1
    assert np.array_equal(res.x, useful[1]) and np.allclose(res.x, 1 - 6 / 14)


@pytest.mark.parametrize("method", WITH_PRODUCTS)
def test_convergence_of_truncated_steps_is_superlinear(rng, method):
    quadratic, _ = random_quadratic(rng, np.linspace(1, 10, 20))
    A = quadratic.A
    X = []
    res = ds.minimize(
        lambda x: x @ A @ x / 2 + (x**4).sum(),
        np.full(20, 1.5),
        method=method,
        jac=lambda x: A @ x + 4 * x**3,
        hess=lambda x: A + np.diag(12 * x**2),
        callback=X.append,
        options={"gtol": 1e-12},
    )
    error = np.linalg.norm(X, axis=1)
    ratios = (error[1:] / error[:-1])[-3:]
    assert res.success and (np.diff(ratios) < 0).all() and ratios[-1] < 1e-3


def least_and_multiplier(A, b, p):
    """Of More & Sorensen's conditions: the residual, lambda, and the least eigenvalue of A + lambda I."""
    force = -(b + A @ p)
    lam = force @ p / (p @ p)
    return np.linalg.norm(force - lam * p), lam, np.linalg.eigvalsh(A)[0] + lam


@settings(deadline=None)
@given(
    st.integers(1, 12),
    st.floats(1e-3, 1e3),
    st.sampled_from(["convex", "any", "singular", "hard"]),
    st.integers(0, 999),
)
def test_the_step_of_trust_exact_is_the_minimum_in_the_ball(n, radius, kind, seed):
    """One iteration from 0 on a quadratic, of which the model is exact: the step is accepted."""
    rng = np.random.default_rng(seed)
    eigenvalues = np.sort(rng.standard_normal(n) * 10 ** rng.uniform(-2, 2))
    if kind == "convex":
        eigenvalues = np.abs(eigenvalues)
    if kind == "singular":
        eigenvalues -= eigenvalues[0]
    problem, Q = random_quadratic(rng, eigenvalues)
    if kind == "hard" and n > 1:  # with one variable, the gradient would vanish
        eigenvalues[0] = -np.abs(eigenvalues).max() - 1
        problem = Quadratic(Q * eigenvalues @ Q.T, problem.b - Q[:, 0] * (Q[:, 0] @ problem.b))
    options = {"maxiter": 1, "initial_trust_radius": radius, "max_trust_radius": max(radius, 1.0), "gtol": 0}
    (_, p), _ = iterates(problem, np.zeros(n), "trust-exact", options=options)
    size = np.abs(eigenvalues).max()
    scale = size * np.linalg.norm(p) + np.linalg.norm(problem.b)
    residual, lam, least = least_and_multiplier(problem.A, problem.b, p)
    assert np.linalg.norm(p) <= radius * (1 + 1e-7)
    assert residual <= 1e-9 * scale
    assert lam >= -1e-7 * scale / np.linalg.norm(p) and least >= -1e-9 * (size + lam)
    assert np.linalg.norm(p) >= radius * (1 - 1e-7) or abs(lam) <= 1e-9 * scale / np.linalg.norm(p)


def test_the_hard_case_by_hand():
    """With A = diag(-2, 1) and b = (0, 3): lambda = 2, p_1 = -1, and what is missing to the radius along the first."""
    problem = Quadratic(np.diag([-2.0, 1.0]), [0.0, 3.0])
    options = {"maxiter": 1, "initial_trust_radius": 2.0}
    (_, p), _ = iterates(problem, np.zeros(2), "trust-exact", options=options)
    assert np.allclose(np.abs(p), [np.sqrt(3), 1], rtol=1e-8) and p[1] < 0


@pytest.mark.parametrize("method", TRUST_REGIONS)
def test_the_trust_radius(method):
    slope = Quadratic(np.zeros((3, 3)), [3.0, 0.0, -4.0])
    options = {"initial_trust_radius": 0.5, "max_trust_radius": 3.0, "maxiter": 5}
    X, _ = iterates(slope, np.zeros(3), method, options=options)
    lengths = np.linalg.norm(np.diff(X, axis=0), axis=1)
    assert np.allclose(lengths, [0.5, 1, 2, 3, 3], rtol=1e-6)


@pytest.mark.parametrize("method", ["newton", "dogleg"])
@pytest.mark.parametrize("least", [-1e-6, -1e-2, -1, -100])
def test_shifts_are_at_most_about_twice_the_smallest_that_works(rng, method, least):
    """The first step is along p with (A + shift I) p = -t b; least squares find shift and t."""
    problem, _ = random_quadratic(rng, np.concatenate([[least], np.linspace(1, 10, 30)]))
    options = {"maxiter": 1, "gtol": 0}
    if method == "dogleg":
        options |= {"initial_trust_radius": 1e9, "max_trust_radius": 1e9}
    (_, p), _ = iterates(problem, np.zeros(31), method, options=options)
    p /= np.linalg.norm(p)
    terms = np.stack([p, problem.b], axis=1)
    shift, t = np.linalg.lstsq(terms, -problem.A @ p)[0]
    assert np.allclose(terms @ [shift, t], -problem.A @ p, atol=1e-12) and 1.49 <= shift / -least <= 2.01


# ---- where second derivatives come from ----


@all_methods
@pytest.mark.parametrize("name", ["rosenbrock", "wood", "helical-valley"])
def test_hess_hessp_and_differences_agree(method, name):
    p = PROBLEMS[name]
    results = [solve(p, p.x0, method), ds.minimize(p.fun, p.x0, method=method, jac=p.grad)]
    if method in WITH_PRODUCTS:
        results.append(ds.minimize(p.fun, p.x0, method=method, jac=p.grad, hessp=lambda x, v: p.hess(x) @ v))
    for jac in ("2-point", "3-point"):
        results.append(ds.minimize(p.fun, p.x0, method=method, jac=jac, options={"gtol": 1e-4}))
    for res in results[:-2]:
        assert res.success and np.allclose(res.x, p.minimizers[0], atol=1e-5)
    for res in results[-2:]:
        assert np.allclose(res.x, p.minimizers[0], atol=1e-2)


@all_methods
def test_counts(method):
    """Of every function, as it was called; Hessians at accepted points only, and once at each."""
    calls = {"fun": 0, "jac": 0}
    hessians, accepted = [], [ROSENBROCK.x0]

    def fun(x):
        calls["fun"] += 1
        return ROSENBROCK.fun(x)

    def jac(x):
        calls["jac"] += 1
        return ROSENBROCK.grad(x)

    def hess(x):
        hessians.append(x)
        return ROSENBROCK.hess(x)

    res = ds.minimize(fun, ROSENBROCK.x0, method=method, jac=jac, hess=hess, callback=accepted.append)
    assert res.success and res.nfev == calls["fun"] and res.njev == calls["jac"] and res.nhev == len(hessians)
    assert res.nit == len(accepted) - 1 and res.nit < res.nfev - 1  # some trial points are rejected
    assert np.array_equal(hessians, accepted[: len(hessians)]) and len(hessians) in (res.nit, res.nit + 1)


@all_methods
def test_counts_of_differences(method):
    calls = {"fun": 0, "jac": 0}

    def fun(x):
        calls["fun"] += 1
        return ROSENBROCK.fun(x)

    def jac(x):
        calls["jac"] += 1
        return ROSENBROCK.grad(x)

    res = ds.minimize(fun, ROSENBROCK.x0, method=method, jac=jac)
    assert res.nfev == calls["fun"] and res.njev == calls["jac"] == res.nfev + res.nhev * (
        1 if method in WITH_PRODUCTS else 2
    )
    calls["fun"] = 0
    assert ds.minimize(fun, ROSENBROCK.x0, method=method).nfev == calls["fun"]


@pytest.mark.parametrize("method", WITH_PRODUCTS)
def test_counts_of_products(method):
    products = []

    def hessp(x, p, scale):
        products.append((x, p))
        return scale * ROSENBROCK.hess(x) @ p

    res = ds.minimize(
        lambda x, scale: scale * ROSENBROCK.fun(x),
        ROSENBROCK.x0,
        (2.0,),
        method=method,
        jac=lambda x, scale: scale * ROSENBROCK.grad(x),
        hessp=hessp,
    )
    assert res.success and res.nhev == len(products) and len({id(x) for x, _ in products}) == len(products)


@all_methods
def test_only_the_symmetric_part_counts(method):
    skew = np.array([[0.0, 7.0], [-7.0, 0.0]])
    a = solve(ROSENBROCK, ROSENBROCK.x0, method)
    b = ds.minimize(
        ROSENBROCK.fun,
        ROSENBROCK.x0,
        method=method,
        jac=ROSENBROCK.grad,
        hess=lambda x: np.round(ROSENBROCK.hess(x)) + skew,
    )
    c = ds.minimize(
        ROSENBROCK.fun, ROSENBROCK.x0, method=method, jac=ROSENBROCK.grad, hess=lambda x: np.round(ROSENBROCK.hess(x))
    )
    assert same(b, c) and a.success


@all_methods
def test_any_shape_of_x(method):
    def hess(x):
        assert x.shape == (2, 2)
        return PROBLEMS["wood"].hess(x.ravel())

    wood = PROBLEMS["wood"]
    flat = solve(wood, wood.x0, method)
    for shape in ((4, 4), (2, 2, 2, 2)):
        res = ds.minimize(
            lambda x: wood.fun(x.ravel()),
            wood.x0.reshape(2, 2),
            method=method,
            jac=lambda x: wood.grad(x.ravel()).reshape(2, 2),
            hess=lambda x, shape=shape: hess(x).reshape(shape),
        )
        assert res.x.shape == (2, 2) and (res.x.ravel() == flat.x).all() and res.nhev == flat.nhev


DOUBLES = ctypes.POINTER(ctypes.c_double)


def compiled_rosenbrock(apart):
    """Python's own bits, through pointers to functions."""

    def pair(n, x, grad, data):
        point = np.ctypeslib.as_array(x, (n,))
        np.ctypeslib.as_array(grad, (n,))[:] = ROSENBROCK.grad(point)
        return ROSENBROCK.fun(point)

    def value(n, x, data):
        return ROSENBROCK.fun(np.ctypeslib.as_array(x, (n,)))

    def gradient(n, x, grad, data):
        np.ctypeslib.as_array(grad, (n,))[:] = ROSENBROCK.grad(np.ctypeslib.as_array(x, (n,)))

    def hessian(n, x, hess, data):
        np.ctypeslib.as_array(hess, (n, n))[:] = ROSENBROCK.hess(np.ctypeslib.as_array(x, (n,)))

    three = (ctypes.c_int, DOUBLES, DOUBLES, ctypes.c_void_p)
    hess = ctypes.CFUNCTYPE(None, *three)(hessian)
    if apart:
        fun = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int, DOUBLES, ctypes.c_void_p)(value)
        return fun, ctypes.CFUNCTYPE(None, *three)(gradient), hess
    return ctypes.CFUNCTYPE(ctypes.c_double, *three)(pair), None, hess


@all_methods
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("has_hess", [False, True])
def test_compiled_functions_give_the_bits_of_python_functions(method, apart, has_hess):
    fun, jac, hess = compiled_rosenbrock(apart)
    a = ds.minimize(fun, ROSENBROCK.x0, method=method, jac=jac, hess=hess if has_hess else None)
    python = {"jac": ROSENBROCK.grad} if apart else {"jac": True}
    function = ROSENBROCK.fun if apart else lambda x: (ROSENBROCK.fun(x), ROSENBROCK.grad(x))
    b = ds.minimize(function, ROSENBROCK.x0, method=method, hess=ROSENBROCK.hess if has_hess else None, **python)
    assert a.success and same(a, b)


@pytest.mark.parametrize("method", ["newton", "trust-exact", "dogleg"])
def test_threads_change_no_bit(forced_threads, method):
    """Large enough for its factorizations to be shared out; the Hessian is indefinite at some of the iterates."""
    problem, x0 = PROBLEMS["trigonometric"], np.full(270, 1 / 270)
    results = []
    for threads in (1, 2, 3):
        with forced_threads(threads):
            results.append(solve(problem, x0, method, options={"maxiter": 10}))
    assert results[0].nit == 10
    assert same(*results[:2])
    assert same(*results[1:])


@all_methods
@pytest.mark.parametrize("name", ["rosenbrock", "wood"])
def test_hess_may_return_memory_that_other_functions_write_to(method, name):
    problem = PROBLEMS[name]
    scratch = np.empty((len(problem.x0), len(problem.x0)))

    def spoiling(f):
        def call(x):
            scratch[:] = np.nan
            return f(x)

        return call

    def hess(x):
        scratch[:] = problem.hess(x)
        return scratch

    x0 = 10 * problem.x0
    spoiled = ds.minimize(spoiling(problem.fun), x0, method=method, jac=spoiling(problem.grad), hess=hess)
    assert spoiled.nfev > spoiled.nhev
    assert same(spoiled, solve(problem, x0, method))


# ---- many ----


def starts(rng):
    return np.concatenate([rng.uniform(-2, 2, (30, 2)), [[1.0, 1.0], [np.nan, 0.0]]])


def assert_many_equals_a_loop(many, loop):
    for name in ("x", "fun", "jac", "nit", "nfev", "njev", "nhev", "status", "success"):
        assert np.array_equal(many[name], [res[name] for res in loop], equal_nan=True), name


@all_methods
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("has_hess", [False, True])
def test_many_compiled_problems_equal_a_loop(rng, forced_threads, method, threads, has_hess):
    X0, (fun, _, hess) = starts(rng), compiled_rosenbrock(apart=False)
    hess = hess if has_hess else None
    with forced_threads(threads):
        many = ds.minimize_many(fun, X0, method=method, hess=hess)
    assert_many_equals_a_loop(many, [ds.minimize(fun, x0, method=method, hess=hess) for x0 in X0])


@all_methods
@pytest.mark.parametrize("has_hess", [False, True])
def test_vectorized_problems_equal_a_loop(rng, method, has_hess):
    X0 = starts(rng)

    def fun(X, index):
        assert (np.diff(index) > 0).all()
        return np.array([ROSENBROCK.fun(x) for x in X]), np.array([ROSENBROCK.grad(x) for x in X])

    def hess(X, index):
        return np.array([ROSENBROCK.hess(x) for x in X])

    many = ds.minimize_many(fun, X0, method=method, hess=hess if has_hess else None, vectorized=True)
    one = [
        ds.minimize(
            lambda x: (ROSENBROCK.fun(x), ROSENBROCK.grad(x)),
            x0,
            method=method,
            jac=True,
            hess=ROSENBROCK.hess if has_hess else None,
        )
        for x0 in X0
    ]
    assert_many_equals_a_loop(many, one)
    assert many.best().nhev == many.nhev[np.nanargmin(many.fun)]


@all_methods
def test_many_python_problems_equal_a_loop(rng, method):
    X0 = starts(rng)[:5]
    many = ds.minimize_many(ROSENBROCK.fun, X0, method=method, jac=ROSENBROCK.grad, hess=ROSENBROCK.hess)
    assert_many_equals_a_loop(many, [solve(ROSENBROCK, x0, method) for x0 in X0])


# ---- against SciPy ----


@all_methods
@pytest.mark.parametrize("name", ["rosenbrock", "helical-valley", "extended-powell-singular", "penalty-1"])
def test_rescaled_problems_are_solved(method, name):
    """In coordinates turned at random, of sizes between 0.1 and 10."""
    for seed in range(3):
        problem = rescaled(PROBLEMS[name], seed)
        res = solve(problem, problem.x0, method, options={"gtol": 1e-8})
        assert res.success and res.fun - problem.minimum <= 1e-8


@all_methods
def test_at_least_what_scipy_solves_with_no_more_hessians(method):
    """Where there is no such method in SciPy, its exact trust region stands in."""
    optimize = pytest.importorskip("scipy.optimize")
    namesake = "trust-exact" if method == "newton" else method
    solved, ratios = {"ours": 0, "SciPy": 0}, []
    with np.errstate(all="ignore"):
        for name in MORE_GARBOW_HILLSTROM:
            for factor in (1, 10, 100):
                ours, theirs = both(optimize, PROBLEMS[name], factor * PROBLEMS[name].x0, method, namesake)
                solved["ours"] += ours is not None
                solved["SciPy"] += theirs is not None
                if ours is not None and theirs is not None:
                    ratios.append(ours / theirs)
    assert solved["ours"] >= solved["SciPy"] and np.median(ratios) <= 1


def both(optimize, problem, x0, method, namesake):
    """How many Hessians each needs, or None if it does not find the minimum."""
    calls = []

    def hess(x):
        calls.append(1)
        return problem.hess(x)

    def count(f):
        return len(calls) if f - problem.minimum <= 1e-8 * max(1, abs(problem.minimum)) else None

    tolerance = {"xtol": 1e-8} if namesake == "newton-cg" else {"gtol": 1e-8}
    res = ds.minimize(problem.fun, x0, method=method, jac=problem.grad, hess=hess, options={"gtol": 1e-8})
    ours = count(res.fun)
    calls.clear()
    try:
        options = {"maxiter": 300, **tolerance}
        res = optimize.minimize(problem.fun, x0, method=namesake, jac=problem.grad, hess=hess, options=options)
    except (ValueError, np.linalg.LinAlgError):  # an indefinite or infinite Hessian
        return ours, None
    return ours, count(res.fun)


# ---- arguments ----


@pytest.mark.parametrize("method", ["l-bfgs", "adam", "newton"])
def test_what_is_not_used_warns(method):
    given_ = {"hessp": lambda x, p: p} if method == "newton" else {"hess": ROSENBROCK.hess}
    with pytest.warns(RuntimeWarning, match=f"method '{method}' does not use {next(iter(given_))}"):
        ds.minimize(ROSENBROCK.fun, ROSENBROCK.x0, method=method, jac=ROSENBROCK.grad, **given_, options={"maxiter": 2})
    if method != "newton":
        with pytest.warns(RuntimeWarning, match="does not use hess"):
            ds.minimize_many(ROSENBROCK.fun, [ROSENBROCK.x0], method=method, jac=ROSENBROCK.grad, **given_)


@pytest.mark.parametrize(
    "returned, error, message",
    [
        (np.eye(3), ValueError, r"the Hessian that hess returns must have shape \(2, 2\), got \(3, 3\)"),
        (np.ones(4), ValueError, r"the Hessian that hess returns must have shape \(2, 2\), got \(4,\)"),
        (
            np.eye(2) * 1j,
            TypeError,
            "the Hessian that hess returns must be an array of real numbers .*, got dtype complex128",
        ),
        (None, TypeError, "the Hessian that hess returns must be an array of real numbers .*, got dtype object"),
    ],
)
def test_what_hess_returns_is_checked(returned, error, message):
    with pytest.raises(error, match=message):
        ds.minimize(ROSENBROCK.fun, ROSENBROCK.x0, method="newton", jac=ROSENBROCK.grad, hess=lambda x: returned)
    with pytest.raises(ValueError, match=r"hess must return Hessians of shape \(1, 2, 2\), got \(1, 2\)"):
        ds.minimize_many(
            lambda X, index: ((X**2).sum(1), 2 * X),
            np.ones((1, 2)),
            method="newton",
            hess=lambda X, index: X,
            vectorized=True,
        )


def test_what_hessp_returns_is_checked():
    with pytest.raises(ValueError, match=r"the product that hessp returns must have shape \(2,\), got \(3,\)"):
        ds.minimize(
            ROSENBROCK.fun, ROSENBROCK.x0, method="newton-cg", jac=ROSENBROCK.grad, hessp=lambda x, p: np.ones(3)
        )


def test_derivatives_of_another_kind_than_fun_are_refused():
    fun, _, hess = compiled_rosenbrock(apart=False)
    with pytest.raises(TypeError, match="hess must be a Python function where fun is one"):
        ds.minimize(ROSENBROCK.fun, ROSENBROCK.x0, method="newton", jac=ROSENBROCK.grad, hess=hess)
    with pytest.raises(TypeError, match="hess must be compiled, as fun is, or None, got"):
        ds.minimize(fun, ROSENBROCK.x0, method="newton", hess=ROSENBROCK.hess)
    with pytest.raises(TypeError, match="hessp must be None where fun is compiled"):
        ds.minimize(fun, ROSENBROCK.x0, method="newton-cg", hessp=lambda x, p: p)
    with pytest.raises(TypeError, match="hess must have the signature .*, got 'double"):
        ds.minimize(fun, ROSENBROCK.x0, method="newton", hess=fun)


@pytest.mark.parametrize("hess", ["2-point", 3, np.eye(2)])
def test_hess_must_be_a_function(hess):
    with pytest.raises(TypeError, match="hess must be "):
        ds.minimize(ROSENBROCK.fun, ROSENBROCK.x0, method="newton", jac=ROSENBROCK.grad, hess=hess)
    with pytest.raises(TypeError, match="hess must be a function"):
        ds.minimize_many(lambda X, i: (X.sum(1), X), np.ones((1, 2)), method="newton", hess=hess, vectorized=True)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"initial_trust_radius": 0}, ValueError, "initial_trust_radius must be > 0, got 0.0"),
        ({"initial_trust_radius": -1.0}, ValueError, "initial_trust_radius must be >= 0 and finite, got -1.0"),
        ({"max_trust_radius": np.inf}, ValueError, "max_trust_radius must be >= 0 and finite, got inf"),
        ({"max_trust_radius": "1"}, TypeError, "max_trust_radius must be a number, got '1'"),
        ({"max_trust_radius": 0.5}, ValueError, "initial_trust_radius must be <= max_trust_radius = 0.5, got 1.0"),
        ({"lr": 0.5}, TypeError, "unknown option 'lr' of method 'dogleg'; known are .*max_trust_radius"),
    ],
)
def test_options_are_checked(options, error, message):
    with pytest.raises(error, match=message):
        solve(ROSENBROCK, ROSENBROCK.x0, "dogleg", options=options)


@all_methods
def test_errors_of_hess_leave_as_they_are(method):
    def hess(x):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        ds.minimize(ROSENBROCK.fun, ROSENBROCK.x0, method=method, jac=ROSENBROCK.grad, hess=hess)


def test_default_limits_are_as_documented():
    assert "1,000 for the others" in inspect.getdoc(ds.minimize)
    fun = Quadratic(np.zeros((1, 1)), [1.0])
    assert solve(fun, [0.0], "dogleg", options={"max_trust_radius": 1.0}).nit == 1000


def test_disp_counts_hessians(capsys):
    res = solve(ROSENBROCK, ROSENBROCK.x0, "newton", options={"disp": True})
    assert f"Hessian evaluations: {res.nhev}" in capsys.readouterr().out


def test_inside_scipy():
    optimize = pytest.importorskip("scipy.optimize")
    for method in METHODS:
        res = optimize.minimize(
            optimize.rosen,
            [-1.2, 1.0],
            jac=optimize.rosen_der,
            hess=optimize.rosen_hess,
            method=ds.scipy_method(method),
        )
        assert res.success and np.allclose(res.x, 1, atol=1e-5) and res.nhev > 0

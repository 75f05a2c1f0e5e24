"""Estimates of curvature against closed forms and the reference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rule_cases import assert_same_bits

import downslope as ds
from downslope.reference import curvature as reference

curvature = ds.curvature


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def rosenbrock_grad(x):
    g = np.zeros_like(x)
    inner = x[1:] - x[:-1] ** 2
    g[:-1] = -400 * x[:-1] * inner - 2 * (1 - x[:-1])
    g[1:] += 200 * inner
    return g


def rosenbrock_hessian(x):
    H = np.diag(np.r_[1200 * x[:-1] ** 2 - 400 * x[1:] + 2, 0] + np.r_[0, np.full(len(x) - 1, 200.0)])
    off = np.diag(-400 * x[:-1], 1)
    return H + off + off.T


@pytest.mark.parametrize("fun, error", [(rosenbrock, 1e-6), (rosenbrock_grad, 1e-9)])
@pytest.mark.parametrize("x", [[-1.2, 1.0], [1.0, 1.0, 1.0, 1.0], [3.0, -2.0, 0.5], [100.0, 7.0]])
def test_hessian(fun, error, x):
    H, expected = curvature.hessian(fun, x), rosenbrock_hessian(np.array(x))
    assert np.array_equal(H, H.T) and H.dtype == np.float64
    scale = np.abs(expected).max()
    assert np.abs(H - expected).max() <= error * scale * max(1, np.abs(x).max())


def test_the_hessian_of_a_quadratic_is_exact_to_rounding(rng):
    A = rng.standard_normal((5, 5))
    A = A + A.T
    x = rng.standard_normal(5)
    for fun, error in ((lambda x: A @ x, 1e-9), (lambda x: x @ A @ x / 2, 1e-6)):
        assert np.abs(curvature.hessian(fun, x) - A).max() < error


def test_the_point_of_a_hessian_is_not_changed():
    x = np.array([1.0, 2.0])

    def careless(y):
        y *= 0
        return 0.0

    assert not curvature.hessian(careless, x).any()
    assert x.tolist() == [1.0, 2.0]


@given(rows=st.integers(1, 9), n=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
def test_gauss_newton_and_fisher(rows, n, seed):
    rng = np.random.default_rng(seed)
    J, weights = rng.standard_normal((rows, n)), rng.uniform(0, 2, rows)
    pairs = [
        (curvature.gauss_newton(J), reference.gauss_newton(J)),
        (curvature.gauss_newton(J, weights), reference.gauss_newton(J, weights)),
        (curvature.empirical_fisher(J), reference.empirical_fisher(J)),
        (curvature.empirical_fisher(J, centered=True), reference.empirical_fisher(J, centered=True)),
    ]
    for C, expected in pairs:
        np.testing.assert_allclose(C.to_dense(), expected, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(np.asarray(C), expected, rtol=1e-12, atol=1e-13)


def test_block_fisher(rng):
    G = rng.standard_normal((20, 6))
    for centered in (False, True):
        C = curvature.empirical_fisher(G, centered, sizes=[2, 1, 3])
        expected = reference.empirical_fisher(G, centered)
        for rows in (slice(0, 2), slice(2, 3), slice(3, 6)):
            np.testing.assert_allclose(C.to_dense()[rows, rows], expected[rows, rows], rtol=1e-12)
        assert not C.to_dense()[:2, 2:].any()


@pytest.mark.parametrize("bias", [False, True])
def test_kronecker_fisher(bias, rng):
    """Exact where inputs and output gradients are independent: here, every input meets every gradient."""
    x, g = rng.standard_normal((4, 3)), rng.standard_normal((5, 2))
    X, G = np.repeat(x, 5, axis=0), np.tile(g, (4, 1))
    extended = np.column_stack([X, np.ones(20)]) if bias else X
    grads = (extended[:, :, None] * G[:, None, :]).reshape(20, -1)  # of W, row-major, the bias as its last row
    C = curvature.kronecker_fisher(X, G, bias=bias)
    np.testing.assert_allclose(C.to_dense(), reference.empirical_fisher(grads), rtol=1e-12, atol=1e-14)


def test_hutchinson_is_exact_for_a_diagonal_hessian(rng):
    d = rng.standard_normal((2, 3))
    assert_same_bits(curvature.hutchinson_diagonal(lambda z: d * z, (2, 3), samples=1), d)


def test_hutchinson_has_the_variance_that_it_says(rng):
    """Of 4,000 samples the mean is within five standard deviations, and the same seed gives the same bits."""
    A = rng.standard_normal((6, 6))
    A = A + A.T
    deviation = np.sqrt(((A - np.diag(np.diag(A))) ** 2).sum(axis=1) / 4000)
    estimate = curvature.hutchinson_diagonal(lambda z: A @ z, 6, samples=4000, seed=3)
    assert (np.abs(estimate - np.diag(A)) < 5 * deviation).all()
    assert (np.abs(estimate - np.diag(A)) > 0.01 * deviation).any()
    assert_same_bits(curvature.hutchinson_diagonal(lambda z: A @ z, 6, samples=4000, seed=3), estimate)
    assert (curvature.hutchinson_diagonal(lambda z: A @ z, 6, samples=4000, seed=4) != estimate).any()


@given(values=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12), decay=st.floats(0, 0.99))
def test_running_average(values, decay):
    average = curvature.RunningAverage(decay)
    assert average.value is None
    expected = 0.0
    for k, x in enumerate(values, start=1):
        average.update(np.array([x, -x]))
        weight = min(1 - 1 / k, decay)
        expected = weight * expected + (1 - weight) * x
        np.testing.assert_allclose(average.value, [expected, -expected], rtol=1e-12, atol=1e-12)
    assert average.count == len(values)


def test_a_running_average_starts_as_the_mean_and_moves_what_refers_to_it(rng):
    factors = rng.standard_normal((5, 3, 3))
    factors = factors @ factors.swapaxes(1, 2)
    average = curvature.RunningAverage(0.95)
    average.update(factors[0])
    C = curvature.Dense(average.value)
    for factor in factors[1:]:
        average.update(factor)
    np.testing.assert_allclose(average.value, factors.mean(axis=0), rtol=1e-12)
    assert_same_bits(C.to_dense(), average.value)
    before = average.value.copy()
    for bad, message in ((np.ones(3), r"x must have shape \(3, 3\), got \(3,\)"), (np.full((3, 3), np.inf), "finite")):
        with pytest.raises(ValueError, match=message):
            average.update(bad)
    assert_same_bits(average.value, before)
    assert average.count == 5


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: curvature.hessian(rosenbrock, [[1.0]]), ValueError, "x must have one axis and be finite"),
        (lambda: curvature.hessian(rosenbrock, [np.nan, 1.0]), ValueError, "x must have one axis and be finite"),
        (lambda: curvature.hessian(rosenbrock, "x"), TypeError, "x must be an array of real numbers"),
        (lambda: curvature.hessian(lambda x: x[:1], [1.0, 2.0]), ValueError, r"shape \(2,\), got shape \(1,\)"),
        (
            lambda: curvature.hessian(lambda x: None, [1.0, 2.0]),
            TypeError,
            r"fun_or_grad\(x\) must be an array of real",
        ),
        (lambda: curvature.hessian(3, [1.0, 2.0]), TypeError, "^fun_or_grad must be callable, got 3"),
        (lambda: curvature.hutchinson_diagonal(3, 2), TypeError, "^hvp must be callable, got 3"),
        (lambda: curvature.hutchinson_diagonal(lambda z: z, -1), ValueError, "^shape must be >= 0, got -1"),
        (lambda: curvature.hutchinson_diagonal(lambda z: z, (2, -3)), ValueError, "^shape must be >= 0, got -3"),
        (lambda: curvature.hutchinson_diagonal(lambda z: z, 2.0), TypeError, "^shape must be an integer, got .*2.0"),
        (lambda: curvature.hutchinson_diagonal(lambda z: z, 2, samples=0), ValueError, "samples must be >= 1, got 0"),
        (lambda: curvature.hutchinson_diagonal(lambda z: z, 2, seed=-1), ValueError, "seed must be >= 0, got -1"),
        (lambda: curvature.hutchinson_diagonal(lambda z: z[0], 2), ValueError, r"hvp\(z\) must have shape \(2,\)"),
        (lambda: curvature.gauss_newton(np.ones(2)), ValueError, "J must have 2 axes"),
        (lambda: curvature.gauss_newton([[np.nan]]), ValueError, "J must be finite"),
        (lambda: curvature.gauss_newton(np.ones((2, 1)), [1.0]), ValueError, r"weights must have shape \(2,\)"),
        (lambda: curvature.gauss_newton(np.ones((1, 1)), [-1.0]), ValueError, "weights must be >= 0 and finite"),
        (lambda: curvature.gauss_newton(np.ones((1, 1)), [-1.0]), ValueError, r"finite, got array\(\[-1\.\]\)"),
        (lambda: curvature.gauss_newton([[1e200, 1.0]]), ValueError, r"^J must have finite products .* to 1e\+200$"),
        (lambda: curvature.empirical_fisher([[-1e200]]), ValueError, r"^G must have finite products .* to 1e\+200$"),
        (lambda: curvature.kronecker_fisher([[1e200]], [[1.0]]), ValueError, "^inputs must have finite products"),
        (lambda: curvature.kronecker_fisher([[1.0]], [[1e200]]), ValueError, "^output_grads must have finite products"),
        (lambda: curvature.empirical_fisher([[1.0]], sizes=1), TypeError, "^sizes must be a sequence, got 1"),
        (lambda: curvature.empirical_fisher([[1j]]), TypeError, "G must be an array of real numbers"),
        (lambda: curvature.empirical_fisher([[1.0]], centered=1), TypeError, "centered must be True or False, got 1"),
        (lambda: curvature.empirical_fisher(np.ones((1, 3)), sizes=[2]), ValueError, "sizes must add up to .* 3, got"),
        (lambda: curvature.empirical_fisher(np.ones((1, 3)), sizes=[3, 0]), ValueError, r"sizes\[1\] must be >= 1"),
        (lambda: curvature.kronecker_fisher([[1.0]], np.ones((2, 1))), ValueError, "output_grads must have as many"),
        (lambda: curvature.kronecker_fisher([[1.0]], [[1.0]], bias=None), TypeError, "bias must be True or False"),
        (lambda: curvature.RunningAverage(1.0), ValueError, "decay must be >= 0 and < 1, got 1.0"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()

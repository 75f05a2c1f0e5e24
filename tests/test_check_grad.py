"""A gradient against central differences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import downslope as ds

POINTS = hnp.arrays(np.float64, hnp.array_shapes(min_dims=0, min_side=0, max_side=3), elements=st.floats(-100, 100))


@given(POINTS)
def test_the_error_of_a_wrong_gradient_is_its_norm(x):
    """Differences of a quadratic are exact but for rounding."""
    wrong = 1 + np.arange(x.size, dtype=float).reshape(x.shape)
    tolerance = 1e-8 * (1 + np.sum(x * x))
    assert ds.check_grad(lambda x: np.sum(x * x), lambda x: 2 * x, x) <= tolerance
    error = ds.check_grad(lambda x: np.sum(x * x), lambda x: 2 * x + wrong, x)
    assert abs(error - np.sqrt(np.sum(wrong * wrong))) <= tolerance


@given(st.floats(-30, 30), st.floats(0.1, 2))
def test_central_differences_of_a_cube(x, a):
    """They are 3 a x^2 + a h^2, with h = eps^(1/3) max(1, |x|)."""
    h = np.finfo(float).eps ** (1 / 3) * max(1, abs(x))
    error = ds.check_grad(lambda x, a: a * x**3, lambda x, a: 3 * a * x**2, x, a)
    rounding = 4e-16 * a * (abs(x) + h) ** 3 / h
    assert abs(error - a * h * h) <= 4 * rounding + 1e-15 * 3 * a * x * x


def test_as_scipys_but_closer():
    optimize = pytest.importorskip("scipy.optimize")
    x = np.array([-1.2, 1.0, 0.5])
    right = ds.check_grad(optimize.rosen, optimize.rosen_der, x)
    assert right < 1e-7 < optimize.check_grad(optimize.rosen, optimize.rosen_der, x)
    ours, theirs = (check(optimize.rosen, np.cos, x) for check in (ds.check_grad, optimize.check_grad))
    assert ours == pytest.approx(theirs, rel=1e-7)
    assert type(ours) is float


def test_a_jacobian():
    A = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert ds.check_grad(lambda x: A @ x, lambda x: A, [1.0, 2.0]) < 1e-9
    assert ds.check_grad(lambda x: A @ x, lambda x: A + 1, [1.0, 2.0]) == pytest.approx(6**0.5)


def test_a_function_that_returns_an_array_of_one():
    assert ds.check_grad(lambda x: np.array([x @ x]), lambda x: 2 * x, [1.0, 2.0]) < 1e-9


def test_calls_get_copies_and_a_buffer_may_be_returned():
    x, seen, buffer = np.array([1.0, 2.0]), [], np.empty(1)

    def fun(x):
        buffer[0] = x @ x
        seen.append(x)
        x[:] = np.nan
        return buffer

    def jac(x):
        result = 2 * x
        x[:] = np.nan
        return result

    assert ds.check_grad(fun, jac, x) < 1e-9
    assert x.tolist() == [1.0, 2.0] and len(seen) == 5
    assert not any(np.shares_memory(a, b) for a in seen for b in [x, *seen] if a is not b)


def test_nan_is_returned():
    assert np.isnan(ds.check_grad(lambda x: np.nan, lambda x: x, [1.0]))


@pytest.mark.parametrize(
    "fun, jac, x, error, message",
    [
        (np.sum, lambda x: x[:1], np.ones(3), ValueError, r"jac\(x\) must have shape \(3,\), got \(1,\)"),
        (np.sum, lambda x: x[:, None], np.ones(3), ValueError, r"jac\(x\) must have shape \(3,\), got \(3, 1\)"),
        (np.copy, np.copy, np.ones(3), ValueError, r"jac\(x\) must have shape \(3, 3\), got \(3,\)"),
        (np.sum, np.copy, np.ones(3, complex), TypeError, "^x must be .* got dtype complex128"),
        (lambda x: None, np.copy, np.ones(3), TypeError, r"fun\(x\) must be .* got dtype object"),
        (3, np.copy, np.ones(3), TypeError, "^fun must be callable, got 3"),
        (np.sum, None, np.ones(3), TypeError, "^jac must be callable, got None"),
        (np.sum, lambda x: 1j * x, np.ones(3), TypeError, r"jac\(x\) must be .* got dtype complex128"),
    ],
)
def test_bad_arguments(fun, jac, x, error, message):
    with pytest.raises(error, match=message):
        ds.check_grad(fun, jac, x)

"""Curve fits: SciPy's return values, and many rows of data at once."""

import ctypes
import re

import numpy as np
import pytest
import scipy.optimize
from test_least_squares import APART, DOUBLES, TOGETHER

import downslope as ds

T = np.linspace(0, 4, 25)
P0 = [1.0, 1.0, 0.0]


def decay(t, a, b, c):
    return a * np.exp(-b * t) + c


def decay_jac(t, a, b, c):
    e = np.exp(-b * t)
    return np.stack([e, -a * t * e, np.ones_like(t)], axis=1)


@pytest.fixture
def y(rng):
    return decay(T, 3, 1.3, 0.5) + 0.05 * rng.standard_normal(25)


def sigmas(rng):
    A = rng.standard_normal((25, 25))
    return [None, 0.1, rng.uniform(0.5, 2, 25), A @ A.T / 25 + np.eye(25)]


@pytest.mark.parametrize("absolute_sigma", [False, True])
@pytest.mark.parametrize("jac", [None, decay_jac, "2-point"])
@pytest.mark.parametrize("kind", range(4))
def test_it_returns_what_scipy_does(y, rng, kind, jac, absolute_sigma):
    sigma = sigmas(rng)[kind]
    popt, pcov = ds.curve_fit(decay, T, y, P0, sigma, absolute_sigma, jac)
    options = {"ftol": 1e-12, "xtol": 1e-12, "gtol": 1e-12, "method": "lm", "jac": decay_jac}
    theirs = scipy.optimize.curve_fit(
        decay, T, y, P0, 0.1 * np.ones(25) if kind == 1 else sigma, absolute_sigma, **options
    )
    assert np.allclose(popt, theirs[0], rtol=1e-6, atol=0)
    assert np.allclose(pcov, theirs[1], rtol=1e-5, atol=0)


def test_full_output(y):
    popt, pcov, infodict, message, ier = ds.curve_fit(decay, T, y, P0, full_output=True)
    assert np.array_equal(infodict["fvec"], decay(T, *popt) - y) and infodict["nfev"] > 7
    assert message.startswith("Converged") and ier in (1, 2, 4)


def test_lists_are_arrays_and_other_xdata_is_left_alone():
    line, y = [0, 1, 2], [1.0, 3.0, 5.0]
    assert np.allclose(ds.curve_fit(lambda x, a, b: a + b * x, line, y, [0, 0])[0], [1, 2])
    assert np.allclose(ds.curve_fit(lambda x, a: a * x["t"], {"t": np.ones(3)}, [2.0] * 3, 1.0)[0], [2])


def test_what_the_data_leave_open_has_an_infinite_covariance():
    product = (lambda x, a, b: (a + b) * x, lambda x, a, b: np.stack([x, x], axis=1), [1.0, 2.0, 4.0])
    line = (lambda x, a, b: a + b * x, None, [1.0, 2.0])  # and no degree of freedom
    for f, jac, y in (product, line):
        with pytest.warns(RuntimeWarning, match="the covariance of the parameters could not be estimated"):
            _, pcov = ds.curve_fit(f, np.arange(1.0, len(y) + 1), y, [0, 0], jac=jac)
        assert np.isinf(pcov).all() and pcov.shape == (2, 2)


def test_a_fit_that_does_not_converge_raises(y):
    with pytest.raises(RuntimeError, match="^no optimal parameters found: Stopped: fun has been evaluated max_nfev"):
        ds.curve_fit(decay, T, y, P0, max_nfev=3)


@pytest.mark.parametrize(
    "error, message, change",
    [
        (ValueError, "ydata must be finite, got array([", {"ydata": np.r_[np.nan, np.ones(24)]}),
        (ValueError, "ydata must have shape (m,), got (5, 5)", {"ydata": np.ones((5, 5))}),
        (ValueError, "p0 must have shape (n,), got (1, 3)", {"p0": [P0]}),
        (ValueError, "p0 must have at least one element, got shape (0,)", {"p0": []}),
        (ValueError, "f must return values of shape (24,), as ydata has, got (25,)", {"ydata": np.ones(24)}),
        (TypeError, "what f returns must not be a masked array", {"f": lambda t, a, b, c: np.ma.array(t)}),
        (TypeError, "what f returns must be an array of real numbers", {"f": lambda t, a, b, c: 1j * t}),
        (TypeError, "the Jacobian that jac returns must not be a masked array", {"jac": lambda t, *p: np.ma.ones(3)}),
        (TypeError, "the Jacobian that jac returns must be an array of real numbers", {"jac": lambda t, *p: None}),
        (ValueError, "sigma must be > 0 and finite, got 0", {"sigma": 0}),
        (ValueError, "sigma must be a number or have shape (25,) or (25, 25), got shape (24,)", {"sigma": np.ones(24)}),
        (
            np.linalg.LinAlgError,
            "sigma must be positive definite, got array([[1., 1., 1.,",
            {"sigma": np.ones((25, 25))},
        ),
        (TypeError, "absolute_sigma must be True or False, got 1", {"absolute_sigma": 1}),
        (TypeError, "jac must be a function, None, '2-point' or '3-point', got True", {"jac": True}),
        (TypeError, "unknown option 'maxfev'; known are method, x_scale, ftol, xtol, gtol, max_nfev", {"maxfev": 3}),
        (TypeError, "f must be callable, or compiled", {"f": 3}),
    ],
)
def test_errors(error, message, change):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        ds.curve_fit(**({"f": decay, "xdata": T, "ydata": np.ones(25), "p0": P0} | change))


@pytest.mark.parametrize("sigma", [None, np.eye(25)])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (25,), (1, 3), (3, 25), (25, 1), (1, 25, 3)])
def test_a_jacobian_is_never_broadcast(shape, sigma):
    message = f"jac must return a Jacobian of shape (25, 3), got {shape}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ds.curve_fit(decay, T, np.ones(25), P0, sigma, jac=lambda t, *p: np.ones(shape))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (25,), (25, 1)])
def test_the_jacobian_of_one_parameter(shape):
    def fit():
        return ds.curve_fit(lambda t, a: a + t, T, 2 + T, [0.0], jac=lambda t, a: np.ones(shape))

    if shape[:1] == (25,):
        assert np.allclose(fit()[0], [2])
        return
    with pytest.raises(ValueError, match=re.escape(f"jac must return a Jacobian of shape (25, 1), got {shape}")):
        fit()


# ---- many ----


def write_values(m, n, p, values, xdata):
    t = np.ctypeslib.as_array(ctypes.cast(xdata, DOUBLES), (m,))
    np.ctypeslib.as_array(values, (m,))[:] = decay(t, *p[:n])


def write_jac(m, n, p, jac, xdata):
    t = np.ctypeslib.as_array(ctypes.cast(xdata, DOUBLES), (m,))
    np.ctypeslib.as_array(jac, (m, n))[:] = decay_jac(t, *p[:n])


def write_both(m, n, p, values, jac, xdata):
    write_values(m, n, p, values, xdata)
    write_jac(m, n, p, jac, xdata)


MODELS = {
    "Python": (decay, decay_jac),
    "Python, differences": (decay, None),
    "together": (TOGETHER(write_both), None),
    "apart": (APART(write_values), APART(write_jac)),
    "differences": (APART(write_values), None),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("threads", [1, 3])
def test_many_equal_a_loop_bit_for_bit(rng, kind, threads):
    true = rng.uniform([1, 0.5, -1], [5, 3, 1], (7, 3))
    Y = np.array([decay(T, *p) for p in true]) + 0.05 * rng.standard_normal((7, 25))
    f, jac = MODELS[kind]
    sigma = rng.uniform(0.5, 2, 25)
    plain = {"f": decay, "jac": None if "differences" in kind else decay_jac}
    for absolute_sigma in (False, True):
        with ds.num_threads(threads):
            popt, pcov = ds.curve_fit_many(f, T, Y, P0, sigma, absolute_sigma, jac)
        for i, y in enumerate(Y):
            for model in ({"f": f, "jac": jac}, plain):
                one = ds.curve_fit(xdata=T, ydata=y, p0=P0, sigma=sigma, absolute_sigma=absolute_sigma, **model)
                assert np.array_equal(popt[i], one[0]) and np.array_equal(pcov[i], one[1])


@pytest.mark.parametrize("kind", ["Python", "together"])
def test_rows_that_do_not_converge_are_nan(kind, y):
    f, jac = MODELS[kind]
    Y = np.stack([y, y])
    Y[1, 3] = np.nan
    with pytest.warns(RuntimeWarning, match="^1 of 2 fits did not converge$"):
        popt, pcov = ds.curve_fit_many(f, T, Y, np.tile(P0, (2, 1)), jac=jac)
    assert np.isfinite(popt[0]).all() and np.isnan(popt[1]).all() and np.isnan(pcov[1]).all()


@pytest.mark.parametrize(
    "error, message, change",
    [
        (ValueError, "Y must have shape (k, m), got (25,)", {"Y": np.ones(25)}),
        (ValueError, "P0 must have shape (n,) or (2, n) with n >= 1, got (3, 3)", {"P0": np.ones((3, 3))}),
        (ValueError, "P0 must have shape (n,) or (2, n) with n >= 1, got (0,)", {"P0": []}),
        (ValueError, "jac must return a Jacobian of shape (25, 3), got (1, 3)", {"jac": lambda t, *p: np.ones((1, 3))}),
        (
            TypeError,
            "sigma must not be a matrix where f is compiled",
            {"sigma": np.eye(25), "f": MODELS["together"][0]},
        ),
    ],
)
def test_errors_of_many(error, message, change):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        ds.curve_fit_many(**({"f": decay, "xdata": T, "Y": np.ones((2, 25)), "P0": P0} | change))


def test_progress_of_many(y, capsys):
    pytest.importorskip("tqdm")
    expected, _ = ds.curve_fit_many(decay, T, [y, y, y], P0)
    assert capsys.readouterr().err == ""
    shown, _ = ds.curve_fit_many(decay, T, [y, y, y], P0, progress=True)
    assert np.array_equal(shown, expected) and "3/3" in capsys.readouterr().err

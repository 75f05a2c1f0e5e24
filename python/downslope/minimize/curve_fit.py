"""`curve_fit` and `curve_fit_many`: least squares of a model's distance to data."""

import warnings

import numpy as np

from downslope.minimize.compiled import compiled
from downslope.minimize.least_squares import solve, solve_each, solve_many, to_jacobian
from downslope.minimize.minimize import start
from downslope.validation import boolean, float64_array

_OPTIONS = {"method": "lm", "x_scale": "jac", "ftol": 1e-10, "xtol": 1e-10, "gtol": 1e-10, "max_nfev": None}
_ROLES = ("residuals_and_jacobian", "residuals")


def curve_fit(f, xdata, ydata, p0, sigma=None, absolute_sigma=False, jac=None, full_output=False, **options):
    """Fit a model to data, as `scipy.optimize.curve_fit` does without bounds: ``ydata = f(xdata, *p) + noise``.

    Parameters
    ----------
    f : callable or compiled function
        ``f(xdata, *params)``, an array of shape (m,). Compiled, it has the type of residuals in `least_squares`, but
        writes the model's m values; its ``user_data`` points to `xdata`, as float64.
    xdata : object
        What `f` gets; lists, tuples and arrays as an array of float64.
    ydata : array_like, (m,)
    p0 : array_like, (n,)
        Where to start.
    sigma : array_like, optional
        Standard deviations of `ydata`, a number or shape (m,), or its covariance matrix, (m, m), which a compiled model
        does not take. The sum of squares is of ``(f(xdata, *p) - ydata) / sigma``.
    absolute_sigma : bool, default False
        Whether `sigma` is in the units of `ydata`. If not, only its ratios matter: `pcov` is scaled by the reduced
        chi-square.
    jac : callable, "2-point", "3-point" or compiled function, optional
        ``jac(xdata, *params)``, the Jacobian of `f`, shape (m, n); else differences, as in `least_squares`.
    full_output : bool, default False
        Whether to return more.
    **options
        ``method, x_scale, ftol, xtol, gtol, max_nfev`` of `least_squares`.

    Returns
    -------
    popt : ndarray, (n,)
        The parameters.
    pcov : ndarray, (n, n)
        Their covariance; infinite, with a `RuntimeWarning`, if it can't be estimated. ``np.sqrt(np.diag(pcov))`` are
        standard errors.
    infodict, mesg, ier : dict, str, int
        With `full_output`: ``nfev`` and the residuals ``fvec``, the message, and 1, 2 or 4 for convergence by `ftol`,
        `xtol` or `gtol`.

    Raises
    ------
    RuntimeError
        If the fit does not converge.
    TypeError, ValueError
        As `least_squares` does, and ValueError if `ydata` is not finite or `sigma` not positive.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> t = np.linspace(0, 4, 50)
    >>> y = 3 * np.exp(-1.3 * t) + 0.05 * np.random.default_rng(0).standard_normal(50)
    >>> popt, pcov = ds.curve_fit(lambda t, a, b: a * np.exp(-b * t), t, y, [1.0, 1.0])
    >>> print(popt.round(2), np.sqrt(np.diag(pcov)).round(2))
    [3.01 1.32] [0.03 0.02]
    """
    y = _finite("ydata", _values("ydata", ydata, 1))
    fit = _Fit(f, xdata, y.size, sigma, jac, options)
    res, inverse = fit.one(y, p0)
    if not res.success:
        raise RuntimeError(f"no optimal parameters found: {res.message}")
    pcov = inverse if boolean("absolute_sigma", absolute_sigma) else res.covariance
    if np.isinf(pcov).any():
        warnings.warn("the covariance of the parameters could not be estimated", RuntimeWarning, stacklevel=2)
    if not boolean("full_output", full_output):
        return res.x, pcov
    return res.x, pcov, {"nfev": res.nfev, "fvec": res.fun}, res.message, _IER[res.status]


# Of MINPACK, for statuses 4, 5 and 0.
_IER = {4: 1, 5: 2, 0: 4}


def curve_fit_many(f, xdata, Y, P0, sigma=None, absolute_sigma=False, jac=None, progress=False, **options):
    """Fit one model to many data: ``Y[i] = f(xdata, *P[i]) + noise``.

    Parameters
    ----------
    f : compiled function or callable
        As in `curve_fit`. Compiled, it runs on all cores without the GIL; a Python function is called for one row after
        the other.
    xdata : object
        As in `curve_fit`, the same for all rows.
    Y : array_like, (k, m)
        One row a fit.
    P0 : array_like, (k, n) or (n,)
        Where each fit starts, or all.
    sigma, absolute_sigma, jac, **options : optional
        As in `curve_fit`, the same for all rows.
    progress : bool, default False
        Whether to show a bar that counts fits, which needs tqdm.

    Returns
    -------
    popt : ndarray, (k, n)
        The parameters; NaN, with a `RuntimeWarning`, for fits that do not converge, as for rows with a NaN.
    pcov : ndarray, (k, n, n)
        Their covariances; infinite where they can't be estimated, NaN where there are no parameters.

    Raises
    ------
    TypeError, ValueError
        As `least_squares` does, and ValueError if `sigma` is not positive.
    ImportError
        For a progress bar without tqdm.

    Notes
    -----
    Each fit gets the same bits as from `curve_fit`, whatever the number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> t = np.linspace(0, 4, 50)
    >>> Y = [3 * np.exp(-t), 2 * np.exp(-t / 2)]
    >>> popt, pcov = ds.curve_fit_many(lambda t, a, b: a * np.exp(-b * t), t, Y, [1.0, 1.0])
    >>> popt.round(6)
    array([[3. , 1. ],
           [2. , 0.5]])
    """
    Y = _values("Y", Y, 2)
    given = float64_array("P0", P0)
    P0 = np.tile(given, (len(Y), 1)) if given.ndim == 1 else given
    if P0.ndim != 2 or len(P0) != len(Y) or P0.shape[1] == 0:
        raise ValueError(f"P0 must have shape (n,) or ({len(Y)}, n) with n >= 1, got {given.shape}")
    res, inverse = _Fit(f, xdata, Y.shape[1], sigma, jac, options).many(Y, P0, progress)
    failed = ~res.success
    if failed.any():
        warnings.warn(f"{failed.sum():,} of {len(Y):,} fits did not converge", RuntimeWarning, stacklevel=2)
    pcov = inverse if boolean("absolute_sigma", absolute_sigma) else res.covariance
    res.x[failed] = pcov[failed] = np.nan
    return res.x, pcov


class _Fit:
    """A model with what all fits of it share."""

    def __init__(self, f, xdata, m, sigma, jac, options):
        if jac is True:
            raise TypeError("jac must be a function, None, '2-point' or '3-point', got True")
        for name in options:
            if name not in _OPTIONS:
                raise TypeError(f"unknown option {name!r}; known are {', '.join(_OPTIONS)}")
        self.f, self.m, self.jac, self.options = f, m, jac, _OPTIONS | options
        self.is_compiled = compiled(f, _ROLES, "f") is not None
        self.xdata = float64_array("xdata", xdata) if isinstance(xdata, (list, tuple, np.ndarray)) else xdata
        self.sigma, self.factor = _sigma(sigma, m)
        if self.is_compiled and self.factor is not None:
            raise TypeError("sigma must not be a matrix where f is compiled: give standard deviations")

    def one(self, y, p0):
        p0 = np.atleast_1d(start("p0", p0))
        if p0.ndim != 1:
            raise ValueError(f"p0 must have shape (n,), got {p0.shape}")
        if self.is_compiled:
            return solve(self.f, p0, self.jac, (), self.xdata, self.m, self.options, (y, self.sigma))

        convert = to_jacobian(p0.size, "jac")

        def residuals(p):
            return self._over_sigma(_model_values(self.f(self.xdata, *p), self.m) - y)

        def jacobian(p):
            return self._over_sigma(convert(self.jac(self.xdata, *p), self.m))

        return solve(residuals, p0, jacobian if callable(self.jac) else self.jac, (), None, None, self.options)

    def many(self, Y, P0, progress):
        if self.is_compiled:
            return solve_many(self.f, P0, self.jac, (), self.xdata, self.m, self.options, progress, (Y, self.sigma))
        return solve_each(lambda p0, y: self.one(y, p0), P0, progress, Y)

    def _over_sigma(self, rows):
        if self.factor is not None:
            return np.linalg.solve(self.factor, rows)
        return rows / (self.sigma if rows.ndim == 1 else self.sigma[:, None])


def _values(name, given, ndim):
    array = np.ascontiguousarray(float64_array(name, given))
    if np.ndim(given) != ndim or array.shape[-1] == 0:
        raise ValueError(f"{name} must have shape {'(m,)' if ndim == 1 else '(k, m)'}, got {np.shape(given)}")
    return array


def _model_values(values, m):
    array = float64_array("what f returns", values)
    if array.shape != (m,):
        raise ValueError(f"f must return values of shape {(m,)}, as ydata has, got {array.shape}")
    return array


def _sigma(given, m):
    """Standard deviations, (m,), and of a covariance matrix its Cholesky factor, else None."""
    if given is None:
        return np.ones(m), None
    sigma = float64_array("sigma", given)
    if sigma.shape == (m, m) and m > 1:
        try:
            return None, np.linalg.cholesky(_finite("sigma", sigma))
        except np.linalg.LinAlgError:
            raise np.linalg.LinAlgError(f"sigma must be positive definite, got {given!r}") from None
    if sigma.shape not in ((), (1,), (m,)):
        raise ValueError(f"sigma must be a number or have shape {(m,)} or {(m, m)}, got shape {sigma.shape}")
    if not ((sigma > 0) & (sigma < np.inf)).all():
        raise ValueError(f"sigma must be > 0 and finite, got {given!r}")
    return np.ascontiguousarray(np.broadcast_to(sigma, m)), None


def _finite(name, array):
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array!r}")
    return array

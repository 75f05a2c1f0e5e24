"""`least_squares` and `least_squares_many`: sums of squares of residuals."""

import numpy as np

from downslope._extension import core
from downslope.minimize.minimize import start, starts
from downslope.minimize.objective import CompiledObjective, compiled_pair, python_derivative
from downslope.minimize.progress import problem_bar, progress_bar
from downslope.minimize.result import OptimizeResult
from downslope.validation import boolean, choice, float64_array, integer, number

METHODS = ("lm", "gauss-newton", "dogleg")
_ROLES = ("residuals_and_jacobian", "residuals", "jacobian")
_DIFFERENCES = "3-point"


def least_squares(
    fun,
    x0,
    jac=None,
    args=(),
    data=None,
    n_residuals=None,
    method="lm",
    x_scale="jac",
    ftol=1e-10,
    xtol=1e-10,
    gtol=1e-10,
    max_nfev=None,
):
    """Minimize half the sum of squares of residuals, ``cost(x) = sum(r(x)**2) / 2``.

    Parameters
    ----------
    fun : callable or compiled function
        ``fun(x, *args) -> r``, the residuals, shape (m,), or ``-> (r, J)`` with ``jac=True``. `x` is an array of
        float64 of the shape of `x0`, which never changes behind the function's back. Compiled functions, of the sources
        that `minimize` takes, run without the GIL: ``void (int m, int n, const double *x, double *r, double *jac, void
        *user_data)``, which also writes the Jacobian, row by row, or ``void (int m, int n, const double *x, double *r,
        void *user_data)``.
    x0 : array_like
        Where to start: n real numbers, in any shape. It is never changed.
    jac : callable, True, "2-point", "3-point" or compiled function, optional
        The Jacobian, ``jac(x, *args)[i, j] = d r_i / d x_j``, shape (m, n); True if `fun` returns it, too. None and
        "3-point" take central differences, 2 n more evaluations, "2-point" forward ones, n more; steps are relative to
        each parameter's size. Of a compiled `fun` without Jacobian: ``void (int m, int n, const double *x, double *jac,
        void *user_data)``.
    args : tuple, default ()
        Further arguments of Python functions.
    data : array_like, optional
        What the ``user_data`` of a compiled function points to, as float64.
    n_residuals : int, optional
        m, for a compiled `fun`, which can't tell; it may be less than n.
    method : {"lm", "gauss-newton", "dogleg"}, default "lm"
        "lm" is Levenberg-Marquardt in its trust-region form, as in MINPACK: each step minimizes ``|r + J p|`` in a ball
        ``|D p| <= radius`` [1]_. "dogleg" approximates that by two straight lines, which is cheaper for many
        parameters [2]_. "gauss-newton" goes along the minimum of ``|r + J p|`` as far as the sum of squares goes down
        [3]_: good for small residuals from near starts.
    x_scale : "jac" or array_like, default "jac"
        Characteristic sizes of the parameters, 1/D: a number, or an array of the shape of `x0`. "jac" takes the
        Euclidean norm of each column of the Jacobian, the largest so far, for D, so that units do not matter.
    ftol, xtol, gtol : float, default 1e-10
        Converged if a step reduces the sum of squares, really and as predicted, by at most ftol of it; if steps are at
        most ``xtol * |D x|`` long; if the cosine of the angle between r and any column of J is at most gtol. 0 turns
        each off.
    max_nfev : int, optional
        Bound on evaluations of `fun`, those for differences included; by default 200 (n + 1) for each that a point
        takes.

    Returns
    -------
    OptimizeResult
        ``x``, ``cost``, ``fun`` (the residuals, (m,)), ``jac`` (m, n), ``grad = J^T r`` in the shape of `x`,
        ``optimality = max |grad|``, ``nit, nfev, njev, success, status, message``, and of the estimate:

        - ``dof``: degrees of freedom, m - n.
        - ``residual_std``: the standard deviation s of the residuals, s^2 = 2 cost / dof, which is the reduced
          chi-square where residuals are divided by their errors; NaN if dof < 1.
        - ``covariance``: of the parameters, s^2 (J^T J)^-1, (n, n); infinite if J has not full rank or dof < 1.

        Status 0, 4 and 5 are success, by ``gtol, ftol, xtol``; 2 is ``max_nfev``; 6 and 7 say that r or J is not
        finite, at `x0` or later; 8 that no step lowers the cost.

    Raises
    ------
    TypeError
        If an argument or what a function returns is of a wrong type, or a compiled function has another signature.
    ValueError
        If an argument is out of range, a method unknown, or an array of the wrong shape.
    BaseException
        Whatever `fun` or `jac` raises, and `KeyboardInterrupt`, leaves as it is.

    Notes
    -----
    Where r or J is NaN or infinite, steps become shorter. Steps come from a QR factorization of J D^-1 with column
    pivoting; of columns that depend on each other to rounding, some parameters stay where they are.

    References
    ----------
    .. [1] J. J. More, "The Levenberg-Marquardt algorithm: implementation and theory", Lecture Notes in Mathematics
       630, 1978.
    .. [2] M. J. D. Powell, "A hybrid method for nonlinear equations", in P. Rabinowitz (ed.), Numerical methods for
       nonlinear algebraic equations, 1970.
    .. [3] A. Bjorck, "Numerical methods for least squares problems", 1996, section 9.2.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> t = np.linspace(0, 4, 50)
    >>> y = 3 * np.exp(-1.3 * t)
    >>> res = ds.least_squares(lambda p: p[0] * np.exp(-p[1] * t) - y, [1.0, 1.0])
    >>> res.x.round(6), res.success
    (array([3. , 1.3]), True)
    """
    options = {"method": method, "x_scale": x_scale, "ftol": ftol, "xtol": xtol, "gtol": gtol, "max_nfev": max_nfev}
    return solve(fun, x0, jac, args, data, n_residuals, options)[0]


def least_squares_many(
    fun,
    X0,
    jac=None,
    args=(),
    data=None,
    n_residuals=None,
    method="lm",
    x_scale="jac",
    ftol=1e-10,
    xtol=1e-10,
    gtol=1e-10,
    max_nfev=None,
    progress=False,
):
    """Solve one least-squares problem for each row of `X0`: many small fits, or one from many starts.

    Parameters
    ----------
    fun : compiled function or callable
        As in `least_squares`. Compiled, it runs on all cores without the GIL; a Python function is called for one
        problem after the other.
    X0 : array_like, (k, n)
        Where each problem starts.
    data : array_like, (k, ...), optional
        Row i is what the ``user_data`` of a compiled function points to in problem i, as float64.
    jac, args, n_residuals, method, x_scale, ftol, xtol, gtol, max_nfev : optional
        As in `least_squares`, for each problem; an `x_scale` has shape (n,).
    progress : bool, default False
        Whether to show a bar that counts problems, which needs tqdm.

    Returns
    -------
    OptimizeResult
        ``x`` and ``grad`` (k, n), ``covariance`` (k, n, n), ``cost, optimality, residual_std, nit, nfev, njev, status,
        success`` (k,), the number ``dof``, and a ``message`` that sums up. Residuals and Jacobians are not kept.

    Raises
    ------
    TypeError, ValueError
        As `least_squares` does, and ValueError if `X0` has no two axes.
    ImportError
        For a progress bar without tqdm.

    Notes
    -----
    Each problem gets the same bits as from `least_squares`, whatever the number of threads. Beyond its inputs and
    results, the memory that compiled problems need does not depend on their number.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> def circles(x):  # where two circles meet
    ...     return np.array([x @ x - 1, (x[0] - 1) ** 2 + x[1] ** 2 - 1])
    >>> res = ds.least_squares_many(circles, [[1.0, 1.0], [1.0, -1.0]])
    >>> res.x.round(6)
    array([[ 0.5     ,  0.866025],
           [ 0.5     , -0.866025]])
    """
    options = {"method": method, "x_scale": x_scale, "ftol": ftol, "xtol": xtol, "gtol": gtol, "max_nfev": max_nfev}
    return solve_many(fun, X0, jac, args, data, n_residuals, options, progress)[0]


def solve(fun, x0, jac, args, data, m, options, observations=None):
    """What `least_squares` returns, and (J^T J)^-1. With `observations`, (y, sigma), `fun` is a compiled model."""
    x = start("x0", x0)
    compiled, differences = _compiled_residuals(fun, jac, args, data, m, observations)
    if compiled is not None:
        settings = _settings(options, x.shape, differences)
        outcome = core.least_squares_compiled(settings, x, m, compiled.functions)
    else:
        if m is not None:
            raise TypeError(f"n_residuals is for a compiled fun: a Python function tells by itself, got {m!r}")
        args = args if isinstance(args, tuple) else (args,)
        jac = python_derivative(jac, _DIFFERENCES)
        settings = _settings(options, x.shape, jac if isinstance(jac, str) else None)
        convert = to_jacobian(x.size, "jac" if callable(jac) else "fun")
        outcome = core.least_squares_python(settings, x, fun, jac, args, _to_residuals, convert)
    x, cost, fun, jac, grad, inverse, nit, nfev, njev, status = outcome
    res = OptimizeResult(
        message=core.least_squares_message(status),
        success=core.status_is_success(status),
        status=status,
        fun=fun,
        x=x,
        nit=nit,
        cost=cost,
        jac=jac,
        grad=grad,
        optimality=float(np.abs(grad).max()),
        nfev=nfev,
        njev=njev,
        **_statistics(len(fun) - x.size, cost, inverse),
    )
    return res, inverse


def solve_many(fun, X0, jac, args, data, m, options, progress, observations=None):
    """What `least_squares_many` returns, and each (J^T J)^-1. With `observations`, `data` are shared, y has rows."""
    X = starts("X0", X0)
    rows = len(X) if observations is None else None
    compiled, differences = _compiled_residuals(fun, jac, args, data, m, observations, rows)
    if compiled is None:
        return solve_each(lambda x0: solve(fun, x0, jac, args, data, m, options), X, progress)
    settings = _settings(options, X.shape[1:], differences)
    with problem_bar(boolean("progress", progress), len(X)) as show:
        return _many(m, *core.least_squares_many_compiled(settings, X, m, compiled.functions, show))


def solve_each(solve_one, X, progress, *more):
    """What `solve_many` returns, from pairs as `solve` returns them, of rows of X and of what goes with them."""
    found, n = [], X.shape[1]
    with progress_bar(boolean("progress", progress), total=len(X), done=0, unit="problem") as advance:
        for row in zip(X, *more, strict=True):
            found.append(solve_one(*row))
            advance()
    shapes = {"x": (n,), "grad": (n,)}
    columns = (
        np.array([res[name] for res, _ in found]).reshape(len(found), *shapes.get(name, ()))
        for name in ("x", "cost", "grad", "nit", "nfev", "njev", "status")
    )
    x, cost, grad, *counts = columns
    m = len(found[0][0].fun) if found else n
    return _many(m, x, cost, grad, np.array([inverse for _, inverse in found]).reshape(-1, n, n), *counts)


def _many(m, x, cost, grad, inverse, nit, nfev, njev, status):
    success = core.status_is_success(status)
    res = OptimizeResult(
        message=f"{success.sum():,} of {len(success):,} problems converged.",
        success=success,
        status=status,
        x=x,
        nit=nit,
        cost=cost,
        grad=grad,
        optimality=np.abs(grad).max(axis=1, initial=0),
        nfev=nfev,
        njev=njev,
        **_statistics(m - x.shape[1], cost, inverse),
    )
    return res, inverse


def _statistics(dof, cost, inverse):
    """Of one problem, or of many along the first axis; `inverse` is (J^T J)^-1."""
    if dof < 1:
        return {"dof": dof, "residual_std": cost * np.nan, "covariance": np.full(inverse.shape, np.inf)}
    variance = 2 * cost / dof
    with np.errstate(invalid="ignore"):  # an infinite inverse stays so, whatever the variance
        covariance = np.where(np.isinf(inverse), inverse, np.reshape(variance, (*np.shape(variance), 1, 1)) * inverse)
    std = np.sqrt(variance)
    return {"dof": dof, "residual_std": std if np.ndim(std) else float(std), "covariance": covariance}


def _compiled_residuals(fun, jac, args, data, m, observations, rows=None):
    """What the core calls if `fun` is compiled, else None; and which differences it takes."""
    pair = compiled_pair(fun, jac, args, data, rows, _ROLES, _DIFFERENCES)
    if pair is None:
        return None, None
    if m is None:
        raise TypeError("n_residuals must be given for a compiled fun, which can't tell how many residuals it writes")
    integer("n_residuals", m, lower=1, upper=2**31 - 1)
    y, sigma = (0, 0) if observations is None else (array.ctypes.data for array in observations)
    functions = core.CompiledResidualFunctions(*pair[:-1], y, sigma)
    return CompiledObjective(functions, (*pair.owners, observations)), pair.differences


def _settings(options, shape, differences):
    method = options["method"]
    method = choice("method", method.lower() if isinstance(method, str) else method, METHODS)
    tolerances = {name: number(name, options[name], lower=0) for name in ("ftol", "xtol", "gtol")}
    max_nfev, n = options["max_nfev"], int(np.prod(shape))
    if max_nfev is None:
        evaluations = {None: 1, "2-point": n + 1, "3-point": 2 * n + 1}[differences]
        max_nfev = 200 * (n + 1) * evaluations
    max_nfev = integer("max_nfev", max_nfev, lower=1, upper=2**62)
    return core.LeastSquaresSettings(method, _scale(options["x_scale"], shape), max_nfev=max_nfev, **tolerances)


def _scale(x_scale, shape):
    """As the core takes it: an empty one is "jac"."""
    allowed = f'"jac", a number or an array of shape {shape}'
    if isinstance(x_scale, str):
        if x_scale != "jac":
            raise ValueError(f"x_scale must be {allowed}, got {x_scale!r}")
        return []
    scale = float64_array("x_scale", x_scale)
    if scale.shape not in ((), shape):
        raise ValueError(f"x_scale must be {allowed}, got shape {scale.shape}")
    if not ((scale > 0) & (scale < np.inf)).all():
        raise ValueError(f"x_scale must be > 0 and finite, got {x_scale!r}")
    return np.broadcast_to(scale, shape).ravel()


def _to_residuals(value, m):
    """What `fun` has returned as a float64 array; m is None at first."""
    array = np.atleast_1d(float64_array("the residuals that fun returns", value))
    if array.ndim != 1 or array.size == 0 or m not in (None, array.size):
        raise ValueError(f"fun must return residuals of shape ({'m' if m is None else m},), got {array.shape}")
    return np.ascontiguousarray(array)


def to_jacobian(n, source):
    """A function that makes the Jacobian that `source` has returned, for m residuals, a float64 array."""

    def convert(value, m):
        array = float64_array(f"the Jacobian that {source} returns", value)
        if array.shape != (m, n) and not (n == 1 and array.shape == (m,)):
            raise ValueError(f"{source} must return a Jacobian of shape {(m, n)}, got {array.shape}")
        return np.ascontiguousarray(array.reshape(m, n))

    return convert

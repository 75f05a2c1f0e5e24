"""`minimize_many`: one problem a row."""

import math
import time

import numpy as np

from downslope._extension import core
from downslope.minimize.compiled import is_compiled
from downslope.minimize.methods import Plan
from downslope.minimize.minimize import result, starts, used_hessians
from downslope.minimize.objective import compiled_objective, python_objective
from downslope.minimize.progress import problem_bar, progress_bar
from downslope.minimize.result import OptimizeResult
from downslope.validation import boolean, float64_array


class ManyResult(OptimizeResult):
    """What `minimize_many` returns: arrays with a row, or an element, for each problem."""

    def best(self):
        """The `OptimizeResult` of the problem with the lowest `fun`, and its row as ``index``; NaN is never the lowest.

        Raises
        ------
        ValueError
            If there is no problem, or `fun` is NaN for all.
        """
        if np.isnan(self.fun).all():
            raise ValueError("best() needs a problem whose fun is not NaN")
        i = int(np.nanargmin(self.fun))
        fields = (self.x[i].copy(), float(self.fun[i]), self.jac[i].copy())
        counts = (int(each[i]) for each in (self.nit, self.nfev, self.njev, self.nhev, self.status))
        return OptimizeResult(result((*fields, *counts)), index=i)


def minimize_many(fun, X0, args=(), method="l-bfgs", jac=None, hess=None, data=None, vectorized=False, options=None):
    """Minimize one problem for each row of `X0`: many small problems, or one from many starts.

    Parameters
    ----------
    fun : compiled function or callable
        Compiled, it runs on all cores without the GIL: see `minimize`. With ``vectorized=True``, a function ``fun(X,
        index, *args) -> (f, G)`` of the points of all problems that still run, shape (a, n), and of their rows in
        `X0`, shape (a,), which returns values (a,) and gradients (a, n). Otherwise a function as in `minimize`, which
        is called for one problem after the other.
    X0 : array_like, (k, n)
        Where each problem starts.
    args : tuple, default ()
        Further arguments of Python functions.
    method : str, default "l-bfgs"
        As in `minimize`.
    jac : optional
        As in `minimize`; with `vectorized`, None or True.
    hess : optional
        As in `minimize`; with `vectorized`, ``hess(X, index, *args)`` of shape (a, n, n), for a rows of `X`.
    data : array_like, (k, ...), optional
        Row i is what the ``user_data`` of a compiled function points to in problem i, as float64.
    vectorized : bool, default False
        Whether `fun` evaluates many points at once.
    options : dict, optional
        As in `minimize`, for each problem; but ``max_seconds`` of vectorized problems holds for all together, and
        ``progress`` counts problems.

    Returns
    -------
    ManyResult
        ``x`` and ``jac`` (k, n), ``fun, nit, nfev, njev, nhev, status, success`` (k,), and a ``message`` that sums up.
        ``res.best()`` is the result of the lowest ``fun``.

    Raises
    ------
    TypeError, ValueError, ImportError
        As `minimize` does, and ValueError if `X0` has no two axes or what `fun` returns has another shape.

    Notes
    -----
    Each problem gets the same bits as from `minimize`, whatever the number of threads, wherever `fun` returns the same
    bits. Beyond its inputs and results, the memory that compiled problems need does not depend on their number.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> def himmelblau(X, index):
    ...     x, y = X.T
    ...     a, b = x**2 + y - 11, x + y**2 - 7
    ...     return a**2 + b**2, np.stack([4 * a * x + 2 * b, 2 * a + 4 * b * y], axis=1)
    >>> X0 = np.random.default_rng(0).uniform(-5, 5, (100, 2))
    >>> res = ds.minimize_many(himmelblau, X0, vectorized=True)
    >>> res.success.all(), len(np.unique(res.x.round(3), axis=0))
    (np.True_, 4)
    """
    X = starts("X0", X0)
    plan = Plan(method, options, tol=None)
    (hess,) = used_hessians(plan.name, hess=hess)
    if boolean("vectorized", vectorized):
        outcome = _vectorized(plan, fun, X, args, jac, hess, data)
    elif (compiled := compiled_objective(fun, jac, hess, None, args, data, rows=len(X))) is not None:
        outcome = _compiled(plan, compiled, X)
    else:
        outcome = _one_by_one(plan, fun, X, python_objective(jac, hess, None, args, X.shape[1:]))
    x, fun, jac, nit, nfev, njev, nhev, status = outcome
    success = core.status_is_success(status)
    message = f"{success.sum():,} of {len(success):,} problems converged."
    res = ManyResult(
        message=message,
        success=success,
        status=status,
        fun=fun,
        x=x,
        nit=nit,
        jac=jac,
        nfev=nfev,
        njev=njev,
        nhev=nhev,
    )
    if plan.disp:
        print(message)
    return res


def _compiled(plan, compiled, X):
    with problem_bar(plan.progress, len(X)) as progress:
        return core.minimize_many_compiled(plan.method, plan.limits, X, compiled.functions, progress)


def _vectorized(plan, fun, X, args, jac, hess, data):
    if not callable(fun) or is_compiled(fun):
        raise TypeError(f"fun must be a Python function fun(X, index) with vectorized=True, got {fun!r}")
    if data is not None:
        raise TypeError("data is what compiled functions get: a vectorized one selects its rows by index")
    if jac is not None and jac is not True:
        raise TypeError(f"jac must be None or True with vectorized=True, got {jac!r}")
    if hess is not None and not callable(hess):
        raise TypeError(f"hess must be a function hess(X, index) or None with vectorized=True, got {hess!r}")
    args = args if isinstance(args, tuple) else (args,)
    begin = time.monotonic()
    batch = core.Batch(plan.method, plan.limits, X, hess is not None)
    running = len(X)
    with progress_bar(plan.progress, total=len(X), done=0, unit="problem") as advance:
        while running:
            before = running
            points, index = batch.points(hessians=False)
            if len(index):
                running = batch.tell(*_values_and_gradients(fun(points, index, *args), points.shape))
            points, index = batch.points(hessians=True)
            if len(index):
                running = batch.tell_hessians(_rows("hess", "Hessians", hess(points, index, *args), _square(points)))
            advance(by=before - running)
            if running and math.isfinite(plan.max_seconds) and time.monotonic() - begin >= plan.max_seconds:
                batch.stop_for_time()
                running = 0
    return batch.results()


def _values_and_gradients(returned, shape):
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise TypeError(f"fun must return a tuple of values and gradients, got {returned!r}")
    values, gradients = returned
    return _rows("fun", "values", values, shape[:1]), _rows("fun", "gradients", gradients, shape)


def _square(points):
    """The shape of Hessians at the points."""
    return (*points.shape, points.shape[1])


def _rows(source, what, returned, shape):
    array = float64_array(what, returned)
    if array.shape != shape:
        raise ValueError(f"{source} must return {what} of shape {shape}, got {array.shape}")
    return np.ascontiguousarray(array)


def _one_by_one(plan, fun, X, objective):
    outcomes = []
    with progress_bar(plan.progress, total=len(X), done=0, unit="problem") as advance:
        for x0 in X:
            outcomes.append(core.minimize_python(plan.method, plan.limits, x0, fun, *objective, None))
            advance()
    columns = list(zip(*outcomes, strict=True)) or [()] * 8
    x, fun, jac = (np.array(column, np.float64) for column in columns[:3])
    counts = (np.array(column, np.int64) for column in columns[3:])
    return x.reshape(X.shape), fun, jac.reshape(X.shape), *counts

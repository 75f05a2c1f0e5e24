"""`minimize`: one problem."""

import warnings

from downslope._extension import core
from downslope.minimize.methods import Plan
from downslope.minimize.objective import compiled_objective, python_objective
from downslope.minimize.observer import observer
from downslope.minimize.progress import progress_bar
from downslope.minimize.result import OptimizeResult
from downslope.validation import float64_array


def minimize(
    fun,
    x0,
    args=(),
    method="l-bfgs",
    jac=None,
    hess=None,
    hessp=None,
    data=None,
    tol=None,
    callback=None,
    options=None,
):
    """Minimize a function of one array, as `scipy.optimize.minimize` does without bounds.

    Parameters
    ----------
    fun : callable or compiled function
        ``fun(x, *args) -> float``, or ``-> (float, gradient)`` with ``jac=True``. `x` is an array of float64 of the
        shape of `x0`, which never changes behind the function's back. Compiled functions run without the GIL: a numba
        `cfunc`, a ctypes or cffi function pointer, a SciPy `LowLevelCallable` or a capsule, of the type ``double (int
        n, const double *x, double *grad, void *user_data)``, which also writes the gradient, or ``double (int n, const
        double *x, void *user_data)``.
    x0 : array_like
        Where to start: real numbers, in any shape. It is never changed.
    args : tuple, default ()
        Further arguments of Python functions.
    method : str, default "l-bfgs"
        Whatever the case: "l-bfgs"; or a first-order rule, which makes one step an evaluation: "sgd", "momentum" and
        "nesterov" (SGD with momentum 0.9), "nag", "adagrad", "adadelta", "rmsprop", "adam", "adamw", "adamax", "nadam",
        "adabelief", "radam" or "lion".
    jac : callable, True, "2-point", "3-point" or compiled function, optional
        The gradient, ``jac(x, *args)``, of the shape of `x` or flat; True if `fun` returns it, too. None and
        "2-point" take forward differences, n more evaluations, "3-point" central ones, 2 n more. Of a compiled `fun`
        without gradient: ``void (int n, const double *x, double *grad, void *user_data)``.
    hess, hessp : optional
        Not used by any of these methods; they warn.
    data : array_like, optional
        What the ``user_data`` of a compiled function points to, as float64.
    tol : float, optional
        Sets ``gtol``.
    callback : callable, optional
        Called after each iteration: ``callback(intermediate_result)`` with an `OptimizeResult` of ``x, fun, nit,
        nfev`` if its parameter has that name, else ``callback(x)``, with a copy. If it raises `StopIteration`, the loop
        ends.
    options : dict, optional
        Of a rule, its hyper-parameters under the names of its class, ``lr`` (a number or a schedule) first, and
        ``weight_decay, decoupled_weight_decay``. Of "l-bfgs", ``maxcor``, how many pairs of differences it keeps (10).
        Of all:

        - ``maxiter``: iterations; 15,000 for "l-bfgs", 10,000 for rules.
        - ``maxfev``: evaluations of `fun`, those for differences included.
        - ``gtol``: converged if max \\|gradient\\| is at most this; 1e-6.
        - ``ftol``: ... if an iteration lowers f by at most ``ftol * max(1, |f|)``; 0 turns it off, the default.
        - ``xtol``: ... if one moves x by at most ``xtol * max(1, max |x|)``; 0 turns it off, the default.
        - ``max_seconds``: wall time.
        - ``disp``: print the outcome.
        - ``progress``: show a bar, which needs tqdm.

    Returns
    -------
    OptimizeResult
        ``x, fun, jac`` at the best point evaluated, ``nit, nfev, njev, success, status, message``. Status 0, 4 and 5
        are success, by ``gtol, ftol, xtol``; 1, 2, 3 are ``maxiter, maxfev, max_seconds``; 6 and 7 say that f or its
        gradient is not finite, at `x0` or later; 8 that no lower value is found; 99 that the callback stopped it.

    Raises
    ------
    TypeError
        If an argument or what a function returns is of a wrong type, a compiled function has another signature, or an
        option is unknown.
    ValueError
        If an argument is out of range, a method unknown, or a gradient of the wrong shape.
    ImportError
        For a progress bar without tqdm.
    BaseException
        Whatever `fun`, `jac` or `callback` raises, and `KeyboardInterrupt`, leaves as it is.

    Notes
    -----
    Where f or its gradient is NaN or infinite, "l-bfgs" goes back along its direction; a rule ends. The rules are the
    optimizers' own: n iterations of "adam" give the same bits as n steps of `Adam` on a float64 array.

    References
    ----------
    .. [1] J. Nocedal and S. J. Wright, "Numerical optimization", 2nd edition, 2006, section 7.2.
    .. [2] J. J. More and D. J. Thuente, "Line search algorithms with guaranteed sufficient decrease", ACM TOMS 20(3),
       1994.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> def rosenbrock(x):
    ...     a, b = 1 - x[0], x[1] - x[0] ** 2
    ...     return a**2 + 100 * b**2, np.array([-2 * a - 400 * b * x[0], 200 * b])
    >>> res = ds.minimize(rosenbrock, [-1.2, 1.0], jac=True)
    >>> res.x.round(6), res.nfev
    (array([1., 1.]), 45)
    >>> ds.minimize(rosenbrock, [-1.2, 1.0], method="adam", jac=True, options={"lr": 0.02}).success
    True
    """
    plan = Plan(method, options, tol)
    warn_of_unused(plan.name, hess=hess, hessp=hessp)
    x = start("x0", x0)
    compiled = compiled_objective(fun, jac, args, data)
    with progress_bar(plan.progress, total=plan.maxiter, done=0, unit="it") as advance:
        observe = observer(callback, advance) if callback is not None or plan.progress else None
        if compiled is not None:
            outcome = core.minimize_compiled(plan.method, plan.limits, x, compiled.functions, observe)
        else:
            outcome = core.minimize_python(
                plan.method, plan.limits, x, fun, *python_objective(fun, jac, args, x.shape), observe
            )
    res = result(outcome)
    if plan.disp:
        print(res.message)
        print(f"         Current function value: {res.fun:.6f}")
        print(f"         Iterations: {res.nit}")
        print(f"         Function evaluations: {res.nfev}")
        print(f"         Gradient evaluations: {res.njev}")
    return res


def start(name, x0):
    """A copy of where to start."""
    x = float64_array(name, x0).copy(order="C")
    if x.size == 0:
        raise ValueError(f"{name} must have at least one element, got shape {x.shape}")
    return x


def result(outcome):
    """The result of one problem, of what the core returns."""
    x, fun, jac, nit, nfev, njev, status = outcome
    return OptimizeResult(
        message=core.status_message(status),
        success=core.status_is_success(status),
        status=status,
        fun=fun,
        x=x,
        nit=nit,
        jac=jac,
        nfev=nfev,
        njev=njev,
    )


def warn_of_unused(method, **given):
    """Warn the caller's caller of arguments that are given in vain."""
    for name, value in given.items():
        if value is not None:
            warnings.warn(f"method {method!r} does not use {name}", RuntimeWarning, stacklevel=3)

"""`minimize`: one problem."""

import warnings

from downslope._extension import core
from downslope.minimize.methods import SECOND_ORDER, Plan
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
        "adabelief", "radam" or "lion". Of the second order, "newton" (Newton's step with a shift that makes the Hessian
        positive definite, and a line search), "newton-cg" (the step by conjugate gradients, and a line search),
        "trust-exact" (the exact minimum of the quadratic model in a trust region), "trust-ncg" (by conjugate gradients
        up to the region's boundary) or "dogleg".
    jac : callable, True, "2-point", "3-point" or compiled function, optional
        The gradient, ``jac(x, *args)``, of the shape of `x` or flat; True if `fun` returns it, too. None and
        "2-point" take forward differences, n more evaluations, "3-point" central ones, 2 n more. Of a compiled `fun`
        without gradient: ``void (int n, const double *x, double *grad, void *user_data)``.
    hess : callable or compiled function, optional
        The Hessian, ``hess(x, *args)``, of shape (n, n); its symmetric part counts. None takes forward differences of
        the gradient, n more of it. Of a compiled `fun`: ``void (int n, const double *x, double *hess, void
        *user_data)``, row-major. Only methods of the second order use it; others warn.
    hessp : callable, optional
        ``hessp(x, p, *args)``, the product of the Hessian and a vector, both of the shape of `x`, for "newton-cg" and
        "trust-ncg" without `hess`. Without either they take one difference of gradients a product.
    data : array_like, optional
        What the ``user_data`` of a compiled function points to, as float64.
    tol : float, optional
        Sets ``gtol``.
    callback : callable, optional
        Called after each iteration: ``callback(intermediate_result)`` with an `OptimizeResult` of ``x, fun, nit,
        nfev`` if its parameter has that name, else ``callback(x)``, with a copy. If it raises `StopIteration`, the loop
        ends.
    options : dict, optional
        Of a rule, its hyper-parameters under the names of its class, ``lr`` first, and ``weight_decay,
        decoupled_weight_decay``. ``lr`` is a number, or a schedule, which is called beforehand for every step that
        ``maxiter`` and ``maxfev`` allow, so that it can't be `ReduceOnPlateau`. Of "l-bfgs", ``maxcor``, how many pairs
        of differences it keeps (10). Of "trust-exact", "trust-ncg" and "dogleg", ``initial_trust_radius`` (1) and
        ``max_trust_radius`` (1e10). Of all:

        - ``maxiter``: iterations; 15,000 for "l-bfgs", 10,000 for rules, 1,000 for the others.
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
        ``x, fun, jac``, after success at the iterate that has converged, else at the best point evaluated, ``nit,
        nfev, njev, nhev, success, status, message``, where ``nhev`` counts Hessians, or products where there are only
        these, as they are given or by differences. Status 0, 4 and 5 are success, by ``gtol, ftol, xtol``; 1, 2, 3 are
        ``maxiter, maxfev, max_seconds``; 6 and 7 say that f or its gradient is not finite, at `x0` or later; 8 that no
        lower value is found; 99 that the callback stopped it.

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
        Whatever `fun`, `jac`, `hess`, `hessp` or `callback` raises, and `KeyboardInterrupt`, leaves as it is.

    Notes
    -----
    Where f or its gradient is NaN or infinite, line searches go back along their direction and trust regions shrink; a
    rule ends. The rules are the optimizers' own: n iterations of "adam" give the same bits as n steps of `Adam` on a
    float64 array.

    With g and H the gradient and the Hessian at x, methods of the second order take a step p by the model g.p + p.Hp/2.
    "newton" solves (H + s I) p = -g, with s = 0 or at most about twice the smallest s that makes H + s I positive
    definite [1]_ (section 3.4). Where s = 0 and the gradient at x + p is at most half as large, though above `gtol`, a
    second line search follows in the same iteration, first along q of (c H) q = -g(x + p), for which H is factorized
    already [5]_; c = 1 - 2 p.g(x + p) / p.g(x), but at least 0.2, is how much the curvature along p seems to have
    changed. "trust-exact" minimizes the model in a ball [3]_, "trust-ncg" [4]_ and "newton-cg" [1]_ (algorithm 7.1) do
    so roughly, and more exactly before rounding would end them, "dogleg" [1]_ (section 4.1) along two lines, after such
    a shift of an indefinite H. Trust regions accept a step if f falls by more than 0.15 of what the model predicts;
    below 0.25 of it the radius becomes a quarter of the step's length, above 0.75 of it, for a step that reaches the
    boundary, twice what it was [1]_ (algorithm 4.1). Hessians are evaluated at accepted points only, and where one is
    not finite the step goes along -g. One that is banded is factorized as a band. Where a condition of convergence
    holds, but at `x0`, after a long step or after one from where the model curved down, the Hessian is looked at first:
    if it has negative curvature, which makes x a saddle point or a maximum, the method goes on along that.

    References
    ----------
    .. [1] J. Nocedal and S. J. Wright, "Numerical optimization", 2nd edition, 2006; section 7.2 for "l-bfgs".
    .. [2] J. J. More and D. J. Thuente, "Line search algorithms with guaranteed sufficient decrease", ACM TOMS 20(3),
       1994.
    .. [3] J. J. More and D. C. Sorensen, "Computing a trust region step", SIAM J. Sci. Stat. Comput. 4(3), 1983.
    .. [4] T. Steihaug, "The conjugate gradient method and trust regions in large scale optimization", SIAM J. Numer.
       Anal. 20(3), 1983.
    .. [5] V. E. Shamanskii, "A modification of Newton's method", Ukrainian Math. J. 19, 1967, for equations.

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
    >>> res = ds.minimize(rosenbrock, [-1.2, 1.0], method="trust-exact", jac=True)
    >>> res.x.round(6), res.nhev
    (array([1., 1.]), 23)
    """
    plan = Plan(method, options, tol)
    hess, hessp = used_hessians(plan.name, hess=hess, hessp=hessp)
    x = start("x0", x0)
    compiled = compiled_objective(fun, jac, hess, hessp, args, data)
    with progress_bar(plan.progress, total=plan.maxiter, done=0, unit="it") as advance:
        observe = observer(callback, advance) if callback is not None or plan.progress else None
        if compiled is not None:
            outcome = core.minimize_compiled(plan.method, plan.limits, x, compiled.functions, observe)
        else:
            outcome = core.minimize_python(
                plan.method, plan.limits, x, fun, *python_objective(jac, hess, hessp, args, x.shape), observe
            )
    res = result(outcome)
    if plan.disp:
        print(res.message)
        print(f"         Current function value: {res.fun:.6f}")
        print(f"         Iterations: {res.nit}")
        print(f"         Function evaluations: {res.nfev}")
        print(f"         Gradient evaluations: {res.njev}")
        if plan.name in SECOND_ORDER:
            print(f"         Hessian evaluations: {res.nhev}")
    return res


def start(name, x0):
    """A copy of where to start."""
    x = float64_array(name, x0).copy(order="C")
    if x.size == 0:
        raise ValueError(f"{name} must have at least one element, got shape {x.shape}")
    return x


def starts(name, X0):
    """A copy of where each of many problems starts, one row a problem."""
    X = float64_array(name, X0).copy(order="C")
    if X.ndim != 2 or X.shape[1] == 0:
        raise ValueError(f"{name} must have one row a problem, shape (k, n) with n >= 1, got shape {X.shape}")
    return X


def result(outcome):
    """The result of one problem, of what the core returns."""
    x, fun, jac, nit, nfev, njev, nhev, status = outcome
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
        nhev=nhev,
    )


def used_hessians(method, **given):
    """`hess` and `hessp`, each None if the method does not use it, of which the caller's caller is warned."""
    used = SECOND_ORDER.get(method, ())
    for name, value in given.items():
        if value is not None and name not in used:
            warnings.warn(f"method {method!r} does not use {name}", RuntimeWarning, stacklevel=3)
    return [value if name in used else None for name, value in given.items()]

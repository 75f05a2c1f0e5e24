"""`minimize`: one problem."""

import warnings

import numpy as np

from downslope._extension import core
from downslope.minimize.methods import Plan
from downslope.minimize.objective import to_array, to_float
from downslope.minimize.observer import Observer
from downslope.minimize.result import OptimizeResult
from downslope.validation import real_array


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
    plan = Plan(method, options, tol)
    _warn_of_unused(plan.name, hess=hess, hessp=hessp)
    x = real_array("x0", x0).copy(order="C")
    observer = Observer(callback, plan.progress, plan.maxiter, plan.name)
    try:
        outcome = core.minimize_python(
            plan.method,
            plan.limits,
            x,
            fun,
            jac if jac is not None else "2-point",
            args if isinstance(args, tuple) else (args,),
            to_float,
            to_array(x.shape, "jac" if callable(jac) else "fun"),
            observer if observer.is_needed else None,
        )
    finally:
        observer.close()
    return result(outcome)


def result(outcome):
    """The result of one problem, from what the core returns."""
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


def _warn_of_unused(method, **given):
    for name, value in given.items():
        if value is not None:
            warnings.warn(f"method {method!r} does not use {name}", RuntimeWarning, stacklevel=3)

"""One problem, minimized by one method: the run, and what to say of where it began and ended."""

import numpy as np

import downslope as ds
from downslope.lab.table import format_table

USE_HESSIANS = ("newton", "newton-cg", "trust-exact", "trust-ncg", "dogleg")


def run(problem, method, x0, options, callback=None):
    """Give ``downslope.minimize`` the problem's exact derivatives, and return its result.

    Parameters
    ----------
    problem : Problem
    method : str
    x0 : array_like, (n,)
    options : dict
    callback : callable, optional
        ``callback(x)``, after every iteration.
    """
    hess = problem.hess if method.lower() in USE_HESSIANS else None
    # What overflows far out shows in the result; warnings on the way would say no more.
    with np.errstate(all="ignore"):
        return ds.minimize(
            problem.fun, x0, method=method, jac=problem.grad, hess=hess, callback=callback, options=options
        )


def comparison(problem, x0, x):
    """A table of the value, the gradient, the distance to the nearest minimizer, and x itself, at `x0` and at `x`."""

    def column(x):
        f = problem.fun(x)
        distance = np.linalg.norm(problem.minimizers - x, axis=1).min()
        return [f, f - problem.minimum, np.abs(problem.grad(x)).max(), distance, *x]

    labels = ["f", "f - minimum", "max |gradient|", "to minimizer", *(f"x{i}" for i in range(1, len(x) + 1))]
    with np.errstate(all="ignore"):
        columns = [[f"{number:.6g}" for number in column(np.asarray(at))] for at in (x0, x)]
    return format_table(["\n", "at the\nstart", "at the\nend"], list(zip(labels, *columns)))


def listing(problems):
    """A table of problems: variables, value at the start, and minimum."""
    header = ["\nproblem", "\nn", "f at\nstart", "\nminimum"]
    rows = [[p.name, str(len(p.x0)), f"{p.fun(p.x0):.5g}", f"{p.minimum:.5g}"] for p in problems]
    return format_table(header, rows)

"""What looks on while a loop runs: the user's callback and the progress bar."""

import inspect

from downslope.minimize.result import OptimizeResult
from downslope.validation import function


def observer(callback, advance):
    """What the loop calls after each iteration, with (x, fun, nit, nfev), and what returns whether to stop."""
    if callback is None:
        tell = None
    elif _takes_result(function("callback", callback)):

        def tell(x, fun, nit, nfev):
            callback(intermediate_result=OptimizeResult(x=x, fun=fun, nit=nit, nfev=nfev))
    else:

        def tell(x, fun, nit, nfev):
            callback(x)

    def observe(x, fun, nit, nfev):
        advance(fun)
        try:
            if tell is not None:
                tell(x, fun, nit, nfev)
        except StopIteration:
            return True
        return False

    return observe


def _takes_result(callback):
    """Whether it has one parameter, of the name by which SciPy tells new callbacks from old ones."""
    try:
        return list(inspect.signature(callback).parameters) == ["intermediate_result"]
    except (TypeError, ValueError):  # a builtin without a signature
        return False

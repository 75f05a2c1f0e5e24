"""What looks on while a loop runs: the user's callback, a progress bar."""

import inspect

from downslope.minimize.result import OptimizeResult


class Observer:
    """Called by the loop after each iteration with (x, fun, nit, nfev); returns whether to stop."""

    def __init__(self, callback, progress, maxiter, description):
        self._callback = callback
        self._takes_result = callback is not None and _takes_result(callback)
        self._bar = progress_bar(progress, maxiter, description)

    @property
    def is_needed(self):
        return self._callback is not None or self._bar is not None

    def __call__(self, x, fun, nit, nfev):
        if self._bar is not None:
            self._bar.set_postfix_str(f"f={fun:.6g}", refresh=False)
            self._bar.update(nit - self._bar.n)
        if self._callback is None:
            return False
        try:
            if self._takes_result:
                self._callback(intermediate_result=OptimizeResult(x=x, fun=fun, nit=nit, nfev=nfev))
            else:
                self._callback(x)
        except StopIteration:
            return True
        return False

    def close(self):
        if self._bar is not None:
            self._bar.close()


def _takes_result(callback):
    """Whether it has one parameter, of the name by which SciPy tells new callbacks from old ones."""
    try:
        return list(inspect.signature(callback).parameters) == ["intermediate_result"]
    except (TypeError, ValueError):  # a builtin without a signature
        return False


def progress_bar(wanted, total, description):
    """A bar of tqdm, which an extra brings along, if one is wanted."""
    if not wanted:
        return None
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError("progress=True needs tqdm: pip install 'downslope[demo]'") from error
    return tqdm(total=total, desc=description)

"""What a loop returns: a mapping whose entries are attributes, too."""

import numpy as np


class OptimizeResult(dict):
    """The outcome of an optimization, as SciPy's class of the same name: a dict whose entries are attributes.

    It equals any dict with the same entries, and prints them aligned, the message first.

    Attributes
    ----------
    x : ndarray
        The solution, in the shape of the start.
    success : bool
        Whether a condition was met that was asked for.
    status : int
        Why it ended; each loop lists its own.
    message : str
        The same in words.
    fun : float
        The objective at `x`.
    jac : ndarray
        The gradient at `x`, in its shape.
    nit : int
        Iterations.
    nfev, njev, nhev : int
        Evaluations of the objective, its gradient and its Hessian.

    Notes
    -----
    Not every loop sets all of these, and some add entries of their own: ``dir(res)`` lists what there is. As in SciPy,
    asking for an attribute that isn't there raises `AttributeError`, deleting one `KeyError`.

    Examples
    --------
    >>> import downslope as ds
    >>> res = ds.OptimizeResult(x=[1.0, 2.0], fun=0.5, message="done")
    >>> res.fun
    0.5
    >>> res
     message: done
         fun: 0.5
           x: [1.0, 2.0]
    """

    __setattr__ = dict.__setitem__
    __delattr__ = dict.__delitem__

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __dir__(self):
        return list(self)

    def __repr__(self):
        return _formatted(self, padding=1) if self else f"{type(self).__name__}()"


_FIRST = ("message", "success", "status", "fun", "x", "nit")


def _formatted(value, indent=0, padding=0):
    """The value as text whose first line begins in column `indent`; mappings inside mappings are laid out alike."""
    if not isinstance(value, dict) or not value:
        # As many digits and elements as SciPy shows.
        with np.printoptions(linewidth=76 - indent, edgeitems=2, threshold=12, formatter={"float_kind": _ten_digits}):
            return str(value)
    width = max(len(str(key)) for key in value) + padding
    lines = []
    for key in sorted(value, key=_rank):
        text = _formatted(value[key], indent + width + 2).replace("\n", "\n" + " " * (width + 2))
        lines.append(f"{key!s:>{width}}: {text}")
    return "\n".join(lines)


def _rank(key):
    return _FIRST.index(key) if key in _FIRST else len(_FIRST)


def _ten_digits(number):
    """A float in exactly ten characters."""
    if not np.isfinite(number):
        return f"{number:10}"
    return np.format_float_scientific(number, precision=3, pad_left=2, unique=False)

"""The gradient of some rows of an array."""

import numpy as np

from downslope.validation import plain_array


class RowGrad:
    """The gradient of some rows of an array, for `step`: only they move, and only their state changes.

    Parameters
    ----------
    rows : array_like of int, shape (k,)
        The rows of the parameter, along its first axis, in any order. What is given for one row more than once is
        added up first, in order of appearance.
    values : ndarray, shape (k, *param.shape[1:])
        The gradient of each; any dtype that a gradient may have.

    Notes
    -----
    A step takes time for the rows that it touches, not for all. SGD, Adagrad, Adam and AdamW take such gradients;
    state in 8 bits, whose blocks span rows, and an EMA, which would follow in every row, do not (`ValueError`).

    The semantics is lazy, as that of PyTorch's ``SparseAdam``: a row without a gradient stands still. For SGD without
    momentum and Adagrad that is what a gradient of zero does, too, and the result is the dense one. Adam and momentum,
    given zeros, would let their averages decay and move the row on by them, and weight decay would shrink it; here all
    that waits until the row is touched again. Bias correction and schedules follow the array's step count, which rises
    with every step, whichever rows it touches. Norms are those of the summed rows.

    Rows and values are looked at when `step` is called, not copied before.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> embedding = np.zeros((5, 2))
    >>> opt = ds.SGD(embedding, lr=1.0)
    >>> opt.step(ds.RowGrad([3, 1, 3], np.ones((3, 2))))
    >>> embedding
    array([[ 0.,  0.],
           [-1., -1.],
           [ 0.,  0.],
           [-2., -2.],
           [ 0.,  0.]])
    """

    __slots__ = ("_rows", "values")

    def __init__(self, rows, values):
        rows = plain_array("rows", rows)
        if rows.ndim != 1:
            raise ValueError(f"rows must have one axis, got shape {rows.shape}")
        if rows.size == 0:
            rows = rows.astype(np.int64)  # an empty list has no dtype of its own
        if rows.dtype.kind not in "iu":
            advice = ": pass numpy.flatnonzero of it" if rows.dtype == bool else ""
            raise TypeError(f"rows must be integers, got {rows.dtype}{advice}")
        self._rows, self.values = rows, values

    @property
    def rows(self):
        """The rows: an array, whose elements may change; for another one, make another `RowGrad`."""
        return self._rows

    def __repr__(self):
        return f"RowGrad(rows={self.rows!r}, values={self.values!r})"

"""Batch, mini-batch and stochastic passes over data, from one argument."""

import numpy as np

from downslope.validation import any_array, integer


class minibatches:
    """Batches of rows of one or more arrays of equal length.

    Each pass over the object goes through all rows once, in a new order that depends on `seed` and on the number of the
    pass alone: a new object with the same seed repeats the same passes.

    Parameters
    ----------
    *arrays : array_like
        At least one; their first axes, the examples, have equal length.
    batch_size : int, optional
        Rows in a batch. None, the default, is batch gradient descent: all rows at once, in their own order, without a
        copy. 1 is stochastic gradient descent.
    shuffle : bool
        Whether each pass draws a new order. Without it, batches are views.
    seed : int
        At least 0.
    drop_last : bool
        Whether to leave out a last batch that is smaller than the others.

    Yields
    ------
    ndarray or tuple of ndarray
        A batch; a tuple if more than one array was given.

    Raises
    ------
    TypeError
        If there is no array, or `batch_size` or `seed` is not an integer.
    ValueError
        If lengths differ or an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> X, y = np.arange(10.0).reshape(5, 2), np.arange(5)
    >>> batches = ds.minibatches(X, y, batch_size=2, seed=0)
    >>> len(batches)
    3
    >>> [yb.size for Xb, yb in batches]
    [2, 2, 1]
    """

    def __init__(self, *arrays, batch_size=None, shuffle=True, seed=0, drop_last=False):
        if not arrays:
            raise TypeError("minibatches needs at least one array")
        self._arrays = [any_array(f"arrays[{i}]", array) for i, array in enumerate(arrays)]
        for i, array in enumerate(self._arrays):
            if array.ndim == 0:
                raise ValueError(f"arrays[{i}] must have at least one axis, got a scalar")
            if len(array) != len(self._arrays[0]):
                raise ValueError(
                    f"arrays[{i}] must have the length of arrays[0], {len(self._arrays[0])}, got {len(array)}"
                )
        self._rows = len(self._arrays[0])
        self._whole = batch_size is None
        self._batch_size = max(self._rows, 1) if self._whole else integer("batch_size", batch_size, lower=1)
        self._shuffle, self._seed, self._drop_last = bool(shuffle), integer("seed", seed, lower=0), bool(drop_last)
        self._passes = 0

    def __len__(self):
        whole, rest = divmod(self._rows, self._batch_size)
        return whole + (rest > 0 and not self._drop_last)

    def __iter__(self):
        number = self._passes
        self._passes += 1
        batches = self._batches(number)
        return batches if len(self._arrays) > 1 else (batch for (batch,) in batches)

    def _batches(self, number, first=0):
        """Tuples, in the order of that pass, from batch `first` on."""
        order = None
        if self._shuffle and not self._whole:
            order = np.random.default_rng((self._seed, number)).permutation(self._rows)
        for i in range(first, len(self)):
            rows = slice(i * self._batch_size, (i + 1) * self._batch_size)
            yield tuple(array[rows if order is None else order[rows]] for array in self._arrays)

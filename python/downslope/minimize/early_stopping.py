"""The end of a training that has stopped improving."""

import math

from downslope.validation import integer, number


class EarlyStopping:
    """A callback of `train` that ends it when the loss has stopped improving.

    ::

        an epoch improves when its loss < best - min_delta, and its loss is then the best
        the end comes after `patience` epochs in a row that don't

    Parameters
    ----------
    patience : int
        How many epochs in a row may pass without an improvement, the last of which ends the training; at least 1.
    min_delta : float, default 0.0
        By how much a loss must be less than the best one to count as an improvement, >= 0.

    Raises
    ------
    TypeError
        If an argument is no number.
    ValueError
        If it is out of range.

    Notes
    -----
    The loss is what `validate` returned, if `train` was given it, and else the mean training loss of an epoch. All is
    read from the history, so one object serves several trainings, and there is nothing to save with a checkpoint.

    References
    ----------
    .. [1] L. Prechelt, "Early stopping -- but when?", 1998.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> p = np.array([1.0])
    >>> def fun(p, x):
    ...     return np.mean((p - x) ** 2), 2 * (p - x.mean())
    >>> stop = ds.EarlyStopping(patience=3, min_delta=1e-6)
    >>> res = ds.train(fun, p, np.zeros(8), ds.SGD(p, lr=0.4), batch_size=4, epochs=1000, callbacks=[stop])
    >>> res.message
    'A callback ended it: no improvement by more than 1e-06 in 3 epochs.'
    """

    def __init__(self, patience, min_delta=0.0):
        self.patience = integer("patience", patience, lower=1)
        self.min_delta = number("min_delta", min_delta, lower=0.0)
        self._losses = None

    def __call__(self, intermediate_result):
        """Raise StopIteration if it is time."""
        history = intermediate_result.history
        losses = history.get("validation", history["loss"])
        if losses is not self._losses:  # another training
            self._losses, self._read, self._best, self._waited = losses, 0, math.inf, 0
        for loss in losses[self._read :]:  # of the epoch that has just ended, if one has
            improves = loss < self._best - self.min_delta
            self._best = loss if improves else self._best
            self._waited = 0 if improves else self._waited + 1
        self._read = len(losses)
        if self._waited >= self.patience:
            raise StopIteration(f"no improvement by more than {self.min_delta:g} in {self._waited} epochs")

    def __repr__(self):
        return f"EarlyStopping(patience={self.patience}, min_delta={self.min_delta})"

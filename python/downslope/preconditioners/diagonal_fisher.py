"""The diagonal of the Fisher information."""

import numpy as np

from downslope._extension import core
from downslope.curvature.diagonal import Diagonal
from downslope.curvature.estimates import running_weight
from downslope.preconditioners.array_preconditioner import ArrayPreconditioner
from downslope.validation import number


class DiagonalFisher(ArrayPreconditioner):
    """The diagonal of the Fisher information, from gradients of examples.

    ::

        F = w F + (1 - w) mean(g^2),  w = min(1 - 1/k, decay), at the k-th update
        D = grad / (F + damping)

    Parameters
    ----------
    layers : mapping
        Name of each array -> its shape.
    decay : float, default 0.95
        Of the running average, in [0, 1).
    damping : float, default 1e-3
        At least 0; in units of squared gradients. May be set at any time.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range.

    Notes
    -----
    Unlike Adam's second moment this is of the gradients of single examples, and there is no root. With targets drawn
    from the model's own distribution it is the Fisher's diagonal, with the true ones the empirical Fisher's: see
    `KFAC`.

    References
    ----------
    .. [1] S. Amari, "Natural gradient works efficiently in learning", Neural Computation 10, 1998. The diagonal form:
       S. Becker and Y. LeCun, "Improving the convergence of back-propagation learning with second order methods", 1988.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> fisher = ds.DiagonalFisher({"W": (2,)}, damping=0.0)
    >>> fisher.update({"W": [[1.0, 2.0], [3.0, 4.0]]})                  # two examples: mean squares 5 and 10
    >>> fisher.precondition({"W": np.array([5.0, 5.0])})["W"]
    array([1. , 0.5])
    """

    def __init__(self, layers, decay=0.95, damping=1e-3):
        self.decay = number("decay", decay, lower=0, upper=1)
        self.damping = damping
        super().__init__(layers)

    def update(self, grads):
        """Take in a batch.

        Parameters
        ----------
        grads : mapping
            The name of an array -> the gradients of examples, of shape (batch, *shape of the array). Arrays may be left
            out.

        Raises
        ------
        TypeError
            If something does not hold real numbers.
        ValueError
            If there is no such array, or a shape does not fit. Then nothing is changed.

        Warns
        -----
        RuntimeWarning
            If something is not finite: the array leaves this batch out.
        """
        with self._lock:
            names = self._names_in("grads", grads, all_of_them=False)
            arrays = {name: self._checked_batch(name, grads[name]) for name in names}
            taken, failed = {}, []
            for name, batch in arrays.items():
                if core.finite_moments([batch.reshape(len(batch), -1)]):
                    taken[name] = self._with(self._state[name], batch)
                else:
                    failed.append((name, "grads must be finite: this batch is left out"))
            self._state.update(taken)  # all or, on an interrupt, none
            self._report(failed)

    def _checked_batch(self, name, value):
        shape = self.layers[name]
        if np.ndim(value) != len(shape) + 1 or len(value) == 0:
            raise ValueError(
                f"grads[{name!r}] must have shape (batch, {', '.join(map(str, shape))}), got {np.shape(value)}"
            )
        return self._checked(f"grads[{name!r}]", value, (len(value), *shape))

    def _with(self, slots, batch):
        updates = slots["updates"] + 1
        weight = running_weight(updates, self.decay)
        mean = np.square(batch).mean(axis=0, dtype=np.float64)
        return {**slots, "updates": updates, "mean": weight * slots["mean"] + (1 - weight) * mean}

    def _directions(self, arrays):
        return {name: self._core[name].solve(grad.reshape(-1)).reshape(grad.shape) for name, grad in arrays.items()}

    def _factorize_layers(self, names, damping):
        parts = []
        for name in names:
            try:
                self._core[name] = Diagonal(self._state[name]["mean"].reshape(-1)).factorize(damping)
                parts.append("")
            except np.linalg.LinAlgError:
                parts.append("the diagonal")
        return parts

    def _settings(self):
        return {"decay": self.decay, "damping": self._damping}

    _factorized_arrays = ("mean",)

    def _new_state(self, shape):
        return {"mean": np.zeros(shape)}

    def _new_core(self):
        """The last good factorization of each array."""
        return {}

"""TONGA."""

import numpy as np

from downslope._extension import core
from downslope.curvature.estimates import running_weight
from downslope.preconditioners.array_preconditioner import ArrayPreconditioner
from downslope.preconditioners.base import positive
from downslope.validation import choice, integer, number


class TONGA(ArrayPreconditioner):
    """Topmoumoute online natural gradient: the covariance of gradients, block by block, by its leading eigenvectors.

    ::

        C = w C + (1 - w) g g^T,  w = min(1 - 1/k, decay), at the k-th update
        C = its `rank` leading eigenpairs, every `period` updates
        D = (C + damping I)^-1 grad

    for each block: the elements of an array that belong to one output neuron, or all of them. C is kept as at most
    `rank` + `period` columns and solved by Woodbury's identity, so that neither the matrix nor its inverse is formed.

    Parameters
    ----------
    layers : mapping
        Name of each array -> its shape. The last axis is that of the output neurons; a 1 appended to a layer's inputs,
        and the bias as the last row of W, makes the bias part of the neuron's block.
    block : {"neuron", "layer"}
        What is a block.
    rank : int, default 5
        How many eigenpairs are kept, at least 1.
    period : int, default 10
        How many gradients come between two eigendecompositions, at least 1.
    decay : float, default 0.995
        Of the running average, in [0, 1).
    damping : float, default 1e-3
        Greater than 0; in units of squared gradients. May be set at any time.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range.

    Notes
    -----
    The eigenvectors are had from the Gram matrix of the columns, at O(size (rank + period)^2) for each block and
    period; an update and a direction take O(size (rank + period)). The paper's C is uncentered, as here, and a sum with
    decay where this is a mean: its regularization is the damping times 1/(1 - decay). Given the mean gradients of
    batches, this is their covariance, not the Fisher.

    References
    ----------
    .. [1] N. Le Roux, P.-A. Manzagol and Y. Bengio, "Topmoumoute online natural gradient algorithm", NeurIPS 2007.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> tonga = ds.TONGA({"W": (2, 1)}, damping=1.0)
    >>> tonga.update({"W": [[3.0], [0.0]]})
    >>> tonga.precondition({"W": np.array([[10.0], [10.0]])})["W"].ravel()   # C = diag(9, 0)
    array([ 1., 10.])
    """

    def __init__(self, layers, block="neuron", rank=5, period=10, decay=0.995, damping=1e-3):
        self.block = choice("block", block, ("neuron", "layer"))
        self.rank = integer("rank", rank, lower=1)
        self.period = integer("period", period, lower=1)
        self.decay = number("decay", decay, lower=0, upper=1)
        self.damping = damping
        super().__init__(layers)

    def update(self, grads):
        """Take in a gradient.

        Parameters
        ----------
        grads : mapping
            The name of an array -> its gradient, of the array's shape: the mean over a batch, or that of one example.
            Arrays may be left out.

        Raises
        ------
        TypeError
            If a gradient does not hold real numbers.
        ValueError
            If there is no such array, or a shape does not fit. Then nothing is changed.

        Warns
        -----
        RuntimeWarning
            If a gradient is not finite: it is left out.
        """
        with self._lock:
            names = self._names_in("grads", grads, all_of_them=False)
            arrays = {name: self._checked(f"grads[{name!r}]", grads[name], self.layers[name]) for name in names}
            failed = []
            for name, grad in arrays.items():
                if core.finite_moments([grad.reshape(-1, 1)]):
                    self._push(name, grad)
                else:
                    failed.append((name, "grads must be finite: this gradient is left out"))
            self._report(failed)

    def _push(self, name, grad):
        slots, blocks = self._state[name], self._core[name]
        updates, used = slots["updates"] + 1, slots["used"] + 1
        calls = [(blocks.push, grad, slots["used"], running_weight(updates, self.decay))]
        if updates % self.period == 0:
            kept = min(self.rank, used)
            calls.append((blocks.truncate, used, kept))
            used = kept
        core.in_one_go(*calls, (slots.update, {"updates": updates, "used": used}))

    def _directions(self, arrays):
        return {
            name: self._core[name].solve(grad, self._state[name]["used"], self._damping)
            for name, grad in arrays.items()
        }

    def _new_core(self):
        names = ("columns", "gram", "weights")
        return {name: core.LowRankBlocks(*[slots[key] for key in names]) for name, slots in self._state.items()}

    def _factorize(self):
        """Nothing: the small matrix of Woodbury's identity is factorized with each solution."""

    def _after_load(self):
        for name, slots in self._state.items():
            most = self.rank + slots["updates"] % self.period
            if slots["used"] > most:
                raise ValueError(f"state_dict['state'][{name!r}]['used'] must be <= {most}, got {slots['used']}")

    _checked_damping = staticmethod(positive)

    def _settings(self):
        return {
            "block": self.block,
            "rank": self.rank,
            "period": self.period,
            "decay": self.decay,
            "damping": self._damping,
        }

    def _new_state(self, shape):
        """Column k of block j is columns[j, k], and C the sum of weights[k] times its outer product with itself."""
        size = int(np.prod(shape))
        blocks = shape[-1] if self.block == "neuron" else 1
        capacity = self.rank + self.period
        return {
            "columns": np.zeros((blocks, capacity, size // blocks)),
            "gram": np.zeros((blocks, capacity, capacity)),
            "weights": np.zeros(capacity),
            "used": 0,
        }

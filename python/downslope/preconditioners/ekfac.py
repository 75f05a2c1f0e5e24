"""EKFAC."""

import numpy as np

from downslope._extension import core
from downslope.preconditioners.kronecker_factored import KroneckerFactored


class EKFAC(KroneckerFactored):
    """Eigenvalue-corrected K-FAC: second moments of the gradients in K-FAC's eigenbasis, for each layer y = x @ W + b.

    ::

        A = Qa diag(alpha) Qa^T      G = Qg diag(gamma) Qg^T     running averages as in `KFAC`; every `period` updates
        S = w S + (1 - w) mean((Qa^T a)^2 (Qg^T g)^2^T)          at every update, from S = alpha gamma^T
        D = Qa [(Qa^T grad Qg) / (S + damping)] Qg^T
        clip   D *= min(1, sqrt(max_kl / sum(grad * D)))

    That is the best diagonal in this basis, where K-FAC has alpha gamma^T [1]_.

    Parameters
    ----------
    layers, bias, damping, decay, max_kl
        As for `KFAC`, the damping as in its mode "exact".
    period : int, default 10
        Eigenvectors are computed anew at every so many updates.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range.

    Notes
    -----
    What is said of `KFAC` on sampled and true targets holds here, too.

    References
    ----------
    .. [1] T. George, C. Laurent, X. Bouthillier, N. Ballas and P. Vincent, "Fast approximate natural gradient descent
       in a Kronecker-factored eigenbasis", NeurIPS 2018, arXiv:1806.03884.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> ekfac = ds.EKFAC({"fc": (2, 1)}, bias=False, damping=0.0)
    >>> ekfac.update("fc", [[1.0, 0.0], [0.0, 2.0]], [[1.0], [1.0]])
    >>> ekfac.precondition({"fc": np.array([[1.0], [1.0]])})["fc"].ravel()  # mean squares 1/2 and 2
    array([2. , 0.5])
    """

    def __init__(self, layers, bias=True, damping=1e-3, decay=0.95, period=10, max_kl=None):
        super().__init__(layers, bias, damping, decay, period, max_kl)

    def _settings(self):
        return {
            "bias": self.bias,
            "damping": self._damping,
            "decay": self.decay,
            "period": self.period,
            "max_kl": self._max_kl,
        }

    _factorized_arrays = ("input_eigenvectors", "output_eigenvectors", "second_moments")

    def _new_state(self, shape):
        """Eigenvectors are rows; the square of the gradient's element (i, j) in the basis is second_moments[i, j]."""
        factors = self._new_factors(shape)
        n_in, n_out = len(factors["inputs"]), len(factors["output_grads"])
        return {
            **factors,
            "input_eigenvectors": np.zeros((n_in, n_in)),
            "output_eigenvectors": np.zeros((n_out, n_out)),
            "second_moments": np.zeros((n_in, n_out)),
            "refreshed_updates": 0,
        }

    def _new_core(self):
        names = ("inputs", "output_grads", "input_eigenvectors", "output_eigenvectors", "second_moments")
        return core.EigenbasisLayers([[slots[name] for name in names] for slots in self._state.values()])

    def _after_update(self, taken, failed):
        due = [name for name, *_ in taken if self._needs_basis(self._state[name])]
        for name, refreshed in zip(due, self._core.refresh([self._names.index(name) for name in due]), strict=True):
            if refreshed:
                self._state[name]["refreshed_updates"] = self._state[name]["updates"]
            else:
                failed.append((name, "no eigenvectors were found: the last ones are used"))
        self._core.update(
            [
                (self._names.index(name), x, g, self.bias, weight)
                for name, x, g, weight in taken
                if self._has_basis(name)
            ]
        )

    def _has_basis(self, name):
        return self._state[name]["refreshed_updates"] > 0

    def _needs_basis(self, slots):
        since = slots["updates"] - slots["refreshed_updates"]
        return slots["refreshed_updates"] == 0 or since >= self.period

    def _factorize_layers(self, names, damping):
        parts = super()._factorize_layers(names, damping)
        return [
            part or ("" if self._has_basis(name) else "the curvature") for name, part in zip(names, parts, strict=True)
        ]

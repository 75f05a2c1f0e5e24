"""K-FAC."""

from downslope._extension import core
from downslope.preconditioners.kronecker_factored import KroneckerFactored
from downslope.validation import choice


class KFAC(KroneckerFactored):
    """Kronecker-factored approximate curvature: one block A (x) G of the Fisher for each layer y = x @ W + b.

    ::

        A = E[a a^T], a = (x, 1)     G = E[g g^T]     w = min(1 - 1/k, decay), at the k-th update
        A = w A + (1 - w) mean(a a^T)                 G = w G + (1 - w) mean(g g^T)
        factored   D = (A + pi sqrt(damping) I)^-1 grad (G + sqrt(damping)/pi I)^-1,
                   pi^2 = (tr A / dim A) / (tr G / dim G), or pi = 1 if one of the traces is zero
        exact      (A (x) G + damping I) vec(D) = vec(grad)
        clip       D *= min(1, sqrt(max_kl / sum(grad * D)))

    where grad has the gradient in b as its last row. Any rule steps on what `precondition` returns.

    Parameters
    ----------
    layers : mapping
        Name of each layer -> (n_in, n_out), the shape of its W.
    bias : bool, default True
        Whether layers have a bias b.
    damping : float, default 1e-3
        At least 0; in units of the curvature of the loss. May be set at any time, and holds from the next
        `precondition` on.
    mode : {"factored", "exact"}
        How the damping enters. Factored damping is the larger one, the cheaper one, and the one of the paper.
    decay : float, default 0.95
        Of the running averages, in [0, 1).
    period : int, default 1
        `precondition` factorizes anew once a layer has had so many updates.
    max_kl : float, optional
        The largest D^T C D over all layers, where C is the damped curvature, with which C D = grad before the clip. For
        the Fisher that is about twice the Kullback-Leibler divergence between the model before and after a step by -D;
        after one by -lr D, lr^2 times as much. May be set at any time.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range.

    Notes
    -----
    With `output_grads` of targets drawn from the model's own distribution, the curvature is the Fisher information,
    which equals the generalized Gauss-Newton matrix for squared error (targets output + noise), softmax with
    cross-entropy (labels drawn with the predicted probabilities) and the like; that takes one more backward pass.
    With those of the true targets, at no cost, it is the empirical Fisher, which vanishes as the model fits [2]_, and
    usually makes poorer directions.

    Factors are kept, factorized and solved with in float64; with a period above 1 and factored damping, their inverses
    are formed once and multiplied by. Products over the batch are taken in the dtype of what is
    given, 256 examples at a time, and added up in float64.

    References
    ----------
    .. [1] J. Martens and R. Grosse, "Optimizing neural networks with Kronecker-factored approximate curvature",
       ICML 2015, arXiv:1503.05671; sections 5 and 6.3. The clip is that of J. Ba, R. Grosse and J. Martens,
       "Distributed second-order optimization using Kronecker-factored approximations", ICLR 2017, section 5.
    .. [2] F. Kunstner, L. Balles and P. Hennig, "Limitations of the empirical Fisher approximation for natural gradient
       descent", NeurIPS 2019, arXiv:1905.12558.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((500, 3)) * [1, 10, 100]                 # badly scaled inputs
    >>> y = x @ [[1.0], [0.1], [0.01]] + 5
    >>> W, b = np.zeros((3, 1)), np.zeros(1)
    >>> kfac, opt = ds.KFAC({"fc": W.shape}, damping=1e-6), ds.SGD([W, b], lr=0.5)
    >>> for _ in range(20):
    ...     residual = x @ W + b - y                                      # of the loss mean(residual**2) / 2,
    ...     kfac.update("fc", x, rng.standard_normal(residual.shape))     # by which targets are output + noise
    ...     directions = kfac.precondition({"fc": (x.T @ residual / len(x), residual.mean(axis=0))})
    ...     opt.step(list(directions["fc"]))
    >>> bool(np.abs(W.ravel() - [1, 0.1, 0.01]).max() < 1e-2)
    True
    """

    def __init__(self, layers, bias=True, damping=1e-3, mode="factored", decay=0.95, period=1, max_kl=None):
        self.mode = choice("mode", mode, ("factored", "exact"))
        super().__init__(layers, bias, damping, decay, period, max_kl)

    def _settings(self):
        return {
            "bias": self.bias,
            "damping": self._damping,
            "mode": self.mode,
            "decay": self.decay,
            "period": self.period,
            "max_kl": self._max_kl,
        }

    _factorized_arrays = ("inputs", "output_grads")

    @property
    def _factorization_period(self):
        return self.period

    def _new_state(self, shape):
        return self._new_factors(shape)

    def _new_core(self):
        make = core.FactoredKroneckerLayers if self.mode == "factored" else core.ExactKroneckerLayers
        factors = [(slots["inputs"], slots["output_grads"]) for slots in self._state.values()]
        return make(factors, reuse=self.period > 1)

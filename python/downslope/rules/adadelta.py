"""Adadelta: steps in the units of the parameter, from averages of squared gradients and squared steps."""

from downslope.rules.optimizer import Optimizer


class Adadelta(Optimizer):
    """Adadelta: steps in the units of the parameter, from averages of squared gradients and squared steps.

    ::

        v = rho v + (1-rho) g^2
        d = g sqrt(u + eps) / sqrt(v + eps)
        u = rho u + (1-rho) d^2
        p -= lr d

    Parameters
    ----------
    params
        The arrays to update: see `Optimizer`.
    lr : float or callable, default 1.0
        Learning rate, >= 0, or a schedule ``lr(step) -> float``.
    rho : float, default 0.9
        Decay of both averages, in [0, 1].
    eps : float, default 1e-6
        Added below both roots, >= 0.
    **options
        What every optimizer takes, from `weight_decay` to `ema_decay`: see `Optimizer`.

    Notes
    -----
    State: ``square_avg`` (v) and ``acc_delta`` (u).

    References
    ----------
    .. [1] M. D. Zeiler, "ADADELTA: an adaptive learning rate method", arXiv:1212.5701, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> p = np.array([1.0, -2.0])
    >>> opt = ds.Adadelta(p)
    >>> opt.step(np.array([0.5, -0.5]))
    >>> p
    array([ 0.99683779, -1.99683779])
    """

    rule = "adadelta"
    source = "Zeiler 2012, arXiv:1212.5701"

    def __init__(self, params, lr=1.0, rho=0.9, eps=1e-6, **options):
        super().__init__(params, lr=lr, rho=rho, eps=eps, **options)

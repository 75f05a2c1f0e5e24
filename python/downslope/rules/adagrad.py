"""Adagrad: steps divided by the root of the sum of all squared gradients."""

from downslope.rules.optimizer import Optimizer


class Adagrad(Optimizer):
    """Adagrad: steps divided by the root of the sum of all squared gradients.

    ::

        s += g^2
        p -= lr / (1 + (t-1) lr_decay) * g / (sqrt(s) + eps)

    Parameters
    ----------
    params
        The arrays to update: see `Optimizer`.
    lr : float or callable, default 1e-2
        Learning rate, >= 0, or a schedule ``lr(step) -> float``.
    lr_decay : float, default 0.0
        At least 0. Decoupled weight decay uses the lr without it.
    initial_accumulator_value : float, default 0.0
        Where s starts, at least 0.
    eps : float, default 1e-10
        Added to the root in the denominator, >= 0.
    **options
        What every optimizer takes, from `weight_decay` to `ema_decay`: see `Optimizer`.

    Notes
    -----
    State: ``sum``.

    References
    ----------
    .. [1] J. Duchi, E. Hazan and Y. Singer, "Adaptive subgradient methods for online learning and stochastic
           optimization", JMLR 12, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> p = np.array([1.0, -2.0])
    >>> opt = ds.Adagrad(p, lr=0.1)
    >>> opt.step(np.array([0.5, -0.5]))
    >>> p
    array([ 0.9, -1.9])
    """

    rule = "adagrad"
    source = "Duchi, Hazan & Singer 2011"

    def __init__(self, params, lr=1e-2, lr_decay=0.0, initial_accumulator_value=0.0, eps=1e-10, **options):
        super().__init__(
            params, lr=lr, lr_decay=lr_decay, initial_accumulator_value=initial_accumulator_value, eps=eps, **options
        )

"""Adamax: Adam with the infinity norm."""

from downslope.rules.optimizer import Optimizer


class Adamax(Optimizer):
    """Adamax: Adam with the infinity norm.

    ::

        m = beta1 m + (1-beta1) g
        u = max(beta2 u, |g| + eps)
        p -= lr / (1 - beta1^t) * m / u

    Parameters
    ----------
    params
        The arrays to update: see `Optimizer`.
    lr : float or callable, default 2e-3
        Learning rate, >= 0, or a schedule ``lr(step) -> float``.
    betas : (float, float), default (0.9, 0.999)
        Decay of the moving averages, each in [0, 1).
    eps : float, default 1e-8
        Added to the gradient's magnitude, >= 0.
    **options
        What every optimizer takes, from `weight_decay` to `ema_decay`: see `Optimizer`.

    Notes
    -----
    State: ``exp_avg`` (m) and ``exp_inf`` (u).

    References
    ----------
    .. [1] D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, arXiv:1412.6980.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> p = np.array([1.0, -2.0])
    >>> opt = ds.Adamax(p, lr=0.1)
    >>> opt.step(np.array([0.5, -0.5]))
    >>> p
    array([ 0.9, -1.9])
    """

    rule = "adamax"
    source = "Kingma & Ba 2015, arXiv:1412.6980"

    def __init__(self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, **options):
        super().__init__(params, lr=lr, betas=betas, eps=eps, **options)

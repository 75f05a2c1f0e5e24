"""NAdam: Adam with Nesterov momentum."""

from downslope.rules.optimizer import Optimizer


class NAdam(Optimizer):
    """NAdam: Adam with Nesterov momentum.

    ::

        mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2),  P_t = mu_1 ... mu_t
        d = (1-mu_t) g / (1 - P_t) + mu_(t+1) m / (1 - P_(t+1))
        p -= lr d / (sqrt(v/c2) + eps)

    Parameters
    ----------
    params
        The arrays to update: see `Optimizer`.
    lr : float or callable, default 2e-3
        Learning rate, >= 0, or a schedule ``lr(step) -> float``.
    betas : (float, float), default (0.9, 0.999)
        Decay of the moving averages, each in [0, 1).
    eps : float, default 1e-8
        Added to the root in the denominator, >= 0.
    momentum_decay : float or None, default 4e-3
        At least 0. None is the form with constant momentum,
        d = beta1 m / (1 - beta1^(t+1)) + (1-beta1) g / c1.
    **options
        What every optimizer takes, from `weight_decay` to `ema_decay`: see `Optimizer`.

    Notes
    -----
    m, v and c are those of `Adam`. State: ``exp_avg`` (m), ``exp_avg_sq`` (v), and ``mu_product`` (P, in float64).
    The power 0.96^momentum_decay is the C library's: with another one, its last bit may differ.

    References
    ----------
    .. [1] T. Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> p = np.array([1.0, -2.0])
    >>> opt = ds.NAdam(p, lr=0.1, momentum_decay=None)
    >>> opt.step(np.array([0.5, -0.5]))
    >>> p
    array([ 0.85263158, -1.85263158])
    """

    rule = "nadam"
    source = "Dozat 2016"

    def __init__(self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, momentum_decay=4e-3, **options):
        super().__init__(params, lr=lr, betas=betas, eps=eps, momentum_decay=momentum_decay, **options)

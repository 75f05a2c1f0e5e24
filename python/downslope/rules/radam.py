"""RAdam: Adam that rectifies the variance of its adaptive step."""

from downslope.rules.optimizer import Optimizer


class RAdam(Optimizer):
    """RAdam: Adam that rectifies the variance of its adaptive step.

    ::

        rho_inf = 2 / (1-beta2) - 1,  rho_t = rho_inf - 2 t beta2^t / c2
        r = sqrt((rho_t-4) (rho_t-2) rho_inf / ((rho_inf-4) (rho_inf-2) rho_t))
        p -= lr/c1 * r sqrt(c2) m / (sqrt(v) + eps)  if rho_t > 5,  else  lr/c1 * m

    Parameters
    ----------
    params
        The arrays to update: see `Optimizer`.
    lr : float or callable, default 1e-3
        Learning rate, >= 0, or a schedule ``lr(step) -> float``.
    betas : (float, float), default (0.9, 0.999)
        Decay of the moving averages, each in [0, 1).
    eps : float, default 1e-8
        Added to the root in the denominator, >= 0.
    **options
        What every optimizer takes, from `weight_decay` to `ema_decay`: see `Optimizer`.

    Notes
    -----
    m, v, c and the state are those of `Adam`. In exact arithmetic rho_t exceeds 5 from step 6 on at the earliest; with
    beta2 within 1e-7 of 1, rounding can make that step 5.

    References
    ----------
    .. [1] L. Liu et al., "On the variance of the adaptive learning rate and beyond", ICLR 2020, arXiv:1908.03265.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> p = np.array([1.0, -2.0])
    >>> opt = ds.RAdam(p, lr=0.1)
    >>> opt.step(np.array([0.5, -0.5]))
    >>> p
    array([ 0.95, -1.95])
    """

    rule = "radam"
    source = "Liu et al. 2020, arXiv:1908.03265"

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, **options):
        super().__init__(params, lr=lr, betas=betas, eps=eps, **options)

"""Lion: the sign of an interpolation between gradient and momentum."""

from downslope.rules.optimizer import Optimizer


class Lion(Optimizer):
    """Lion: the sign of an interpolation between gradient and momentum.

    ::

        p -= lr sign(beta1 m + (1-beta1) g)
        m = beta2 m + (1-beta2) g

    Parameters
    ----------
    params
        The arrays to update: see `Optimizer`.
    lr : float or callable, default 1e-4
        Learning rate, >= 0, or a schedule ``lr(step) -> float``.
    betas : (float, float), default (0.9, 0.99)
        Weight of the momentum in the interpolation, and its decay, each in [0, 1).
    **options
        What every optimizer takes, from `weight_decay` to `ema_decay`: see `Optimizer`.

    Notes
    -----
    State: ``exp_avg`` (m).

    References
    ----------
    .. [1] X. Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023, arXiv:2302.06675.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> p = np.array([1.0, -2.0])
    >>> opt = ds.Lion(p, lr=0.1)
    >>> opt.step(np.array([0.5, -0.5]))
    >>> p
    array([ 0.9, -1.9])
    """

    rule = "lion"
    source = "Chen et al. 2023, arXiv:2302.06675"

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), **options):
        super().__init__(params, lr=lr, betas=betas, **options)

"""Lion: the sign of an interpolation between gradient and momentum."""

from downslope.rules.optimizer import Optimizer


class Lion(Optimizer):
    r"""Lion: the sign of an interpolation between gradient and momentum.

    .. math::

       p_t &= p_{t-1} - \gamma \operatorname{sign}(\beta_1 m_{t-1} + (1-\beta_1) g_t) \\
       m_t &= \beta_2 m_{t-1} + (1-\beta_2) g_t

    Parameters
    ----------
    params
        The arrays to update: see `Optimizer`.
    lr : float or callable, default 1e-4
        Learning rate, >= 0, or a schedule ``lr(step) -> float``.
    betas : (float, float), default (0.9, 0.99)
        Weight of the momentum in the interpolation, and its decay, each in [0, 1).
    **options
        `weight_decay`, `decoupled_weight_decay`, `maximize` and `grad_scale`: see `Optimizer`.

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

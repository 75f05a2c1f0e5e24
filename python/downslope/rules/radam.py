"""RAdam: Adam that rectifies the variance of its adaptive step."""

from downslope.rules.optimizer import Optimizer


class RAdam(Optimizer):
    r"""RAdam: Adam that rectifies the variance of its adaptive step.

    .. math::

       \rho_\infty &= \frac{2}{1-\beta_2} - 1, \qquad \rho_t = \rho_\infty - \frac{2 t \beta_2^t}{c_2} \\
       r_t &= \sqrt{\frac{(\rho_t-4)(\rho_t-2)\rho_\infty}{(\rho_\infty-4)(\rho_\infty-2)\rho_t}} \\
       p_t &= p_{t-1} - \frac{\gamma}{c_1} r_t \sqrt{c_2} \frac{m_t}{\sqrt{v_t} + \epsilon} \quad (\rho_t > 5) \\
       p_t &= p_{t-1} - \frac{\gamma}{c_1} m_t \quad (\rho_t \le 5)

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
        `weight_decay`, `decoupled_weight_decay`, `maximize` and `grad_scale`: see `Optimizer`.

    Notes
    -----
    m, v, c and the state are those of `Adam`.

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

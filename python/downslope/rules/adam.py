"""Adam: adaptive moment estimation."""

from downslope.rules.optimizer import Optimizer


class Adam(Optimizer):
    r"""Adam: adaptive moment estimation.

    .. math::

       m_t &= \beta_1 m_{t-1} + (1-\beta_1) g_t, \qquad c_1 = 1 - \beta_1^t \\
       v_t &= \beta_2 v_{t-1} + (1-\beta_2) g_t^2, \qquad c_2 = 1 - \beta_2^t \\
       p_t &= p_{t-1} - \frac{\gamma}{c_1} \frac{m_t}{\sqrt{v_t} / \sqrt{c_2} + \epsilon}

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
    amsgrad : bool, default False
        Whether the denominator uses the largest average so far, ``max_exp_avg_sq``.
    bias_correction : bool, default True
        If false, :math:`c_1 = c_2 = 1`.
    **options
        `weight_decay`, `decoupled_weight_decay`, `maximize` and `grad_scale`: see `Optimizer`.

    Notes
    -----
    State: ``exp_avg`` (m), ``exp_avg_sq`` (v), and ``max_exp_avg_sq`` if amsgrad. With ``weight_decay`` alone, the
    decay goes into the gradient and its averages; for decoupled decay see `AdamW`.

    References
    ----------
    .. [1] D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, arXiv:1412.6980.
    .. [2] S. J. Reddi, S. Kale and S. Kumar, "On the convergence of Adam and beyond", ICLR 2018.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> p = np.array([1.0, -2.0])
    >>> opt = ds.Adam(p, lr=0.1)
    >>> opt.step(np.array([0.5, -0.5]))
    >>> p
    array([ 0.9, -1.9])
    """

    rule = "adam"
    source = "Kingma & Ba 2015, arXiv:1412.6980; amsgrad: Reddi, Kale & Kumar 2018"

    def __init__(
        self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, *, amsgrad=False, bias_correction=True, **options
    ):
        super().__init__(
            params, lr=lr, betas=betas, eps=eps, amsgrad=amsgrad, bias_correction=bias_correction, **options
        )

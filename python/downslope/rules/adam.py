"""Adam: adaptive moment estimation."""

from downslope.rules.optimizer import Optimizer


class Adam(Optimizer):
    """Adam: adaptive moment estimation.

    ::

        m = beta1 m + (1-beta1) g,    c1 = 1 - beta1^t
        v = beta2 v + (1-beta2) g^2,  c2 = 1 - beta2^t
        p -= lr/c1 * m / (sqrt(v)/sqrt(c2) + eps)

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
        If false, c1 = c2 = 1.
    **options
        What every optimizer takes, from `weight_decay` to `ema_decay`: see `Optimizer`.

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

"""AdaBelief: steps scaled by the belief in the gradient, its deviation from its own moving average."""

from downslope.rules.optimizer import Optimizer


class AdaBelief(Optimizer):
    """AdaBelief: steps scaled by the belief in the gradient, its deviation from its own moving average.

    ::

        m = beta1 m + (1-beta1) g
        s = beta2 s + (1-beta2) (g-m)^2 + eps_root
        p -= lr/c1 * m / (sqrt(s/c2) + eps)

    Parameters
    ----------
    params
        The arrays to update: see `Optimizer`.
    lr : float or callable, default 1e-3
        Learning rate, >= 0, or a schedule ``lr(step) -> float``.
    betas : (float, float), default (0.9, 0.999)
        Decay of the moving averages, each in [0, 1).
    eps : float, default 1e-16
        Added to the root in the denominator, >= 0.
    eps_root : float, default 1e-16
        Added to s at every step, >= 0; it accumulates there. 0 is the plain form.
    amsgrad : bool, default False
        Whether the denominator uses the largest average so far, ``max_exp_avg_var``.
    rectify : bool, default False
        Whether to rectify the variance as `RAdam` does, with momentum alone until it is tractable.
    **options
        What every optimizer takes, from `weight_decay` to `ema_decay`: see `Optimizer`.

    Notes
    -----
    State: ``exp_avg`` (m), ``exp_avg_var`` (s), and ``max_exp_avg_var`` if amsgrad.

    References
    ----------
    .. [1] J. Zhuang et al., "AdaBelief optimizer: adapting stepsizes by the belief in observed gradients",
           NeurIPS 2020, arXiv:2010.07468.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> p = np.array([1.0, -2.0])
    >>> opt = ds.AdaBelief(p, lr=0.09)
    >>> opt.step(np.array([0.5, -0.5]))
    >>> p
    array([ 0.9, -1.9])
    """

    rule = "adabelief"
    source = "Zhuang et al. 2020, arXiv:2010.07468"

    def __init__(
        self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-16, eps_root=1e-16, *, amsgrad=False, rectify=False, **options
    ):
        super().__init__(
            params, lr=lr, betas=betas, eps=eps, eps_root=eps_root, amsgrad=amsgrad, rectify=rectify, **options
        )

"""AdamW: Adam with decoupled weight decay."""

from downslope.rules.optimizer import Optimizer


class AdamW(Optimizer):
    """AdamW: Adam with decoupled weight decay.

    ::

        p *= 1 - lr weight_decay
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
    weight_decay : float, default 1e-2
        At least 0.
    amsgrad : bool, default False
        Whether the denominator uses the largest average so far, ``max_exp_avg_sq``.
    bias_correction : bool, default True
        If false, c1 = c2 = 1.
    decoupled_weight_decay : bool, default True
        Without it, this is `Adam`.
    **options
        What every optimizer takes, from `weight_decay` to `ema_decay`: see `Optimizer`.

    Notes
    -----
    m, v, c and the state are those of `Adam`.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019, arXiv:1711.05101.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> p = np.array([1.0, -2.0])
    >>> opt = ds.AdamW(p, lr=0.1)
    >>> opt.step(np.array([0.5, -0.5]))
    >>> p
    array([ 0.899, -1.898])
    """

    rule = "adam"
    source = "Loshchilov & Hutter 2019, arXiv:1711.05101"

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=1e-2,
        *,
        amsgrad=False,
        bias_correction=True,
        decoupled_weight_decay=True,
        **options,
    ):
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            bias_correction=bias_correction,
            decoupled_weight_decay=decoupled_weight_decay,
            **options,
        )

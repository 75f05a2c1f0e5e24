"""RMSprop: steps divided by the root of a moving average of squared gradients."""

from downslope.rules.optimizer import Optimizer


class RMSprop(Optimizer):
    """RMSprop: steps divided by the root of a moving average of squared gradients.

    ::

        v = alpha v + (1-alpha) g^2
        a = alpha a + (1-alpha) g,  v' = max(v - a^2, 0)  (centered;  else v' = v)
        d = g / (sqrt(v') + eps)
        b = momentum b + d  (with momentum;  else b = d)
        p -= lr b

    Parameters
    ----------
    params
        The arrays to update: see `Optimizer`.
    lr : float or callable, default 1e-2
        Learning rate, >= 0, or a schedule ``lr(step) -> float``.
    alpha : float, default 0.99
        Decay of the averages, in [0, 1].
    eps : float, default 1e-8
        Added to the root in the denominator, >= 0.
    momentum : float, default 0.0
        At least 0.
    centered : bool, default False
        Whether to divide by an estimate of the gradient's standard deviation instead of its root mean square.
    **options
        What every optimizer takes, from `weight_decay` to `ema_decay`: see `Optimizer`.

    Notes
    -----
    State: ``square_avg`` (v), ``grad_avg`` (a, if centered), ``momentum_buffer`` (b, with momentum).

    References
    ----------
    .. [1] T. Tieleman and G. Hinton, "Lecture 6.5 - rmsprop", Coursera: Neural Networks for Machine Learning, 2012.
    .. [2] A. Graves, "Generating sequences with recurrent neural networks", arXiv:1308.0850, 2013.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> p = np.array([1.0, -2.0])
    >>> opt = ds.RMSprop(p, alpha=0.75, lr=0.1, eps=0.0)
    >>> opt.step(np.array([0.5, -0.5]))
    >>> p
    array([ 0.8, -1.8])
    """

    rule = "rmsprop"
    source = "Tieleman & Hinton 2012, lecture 6.5; centered: Graves 2013, arXiv:1308.0850"

    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8, momentum=0.0, centered=False, **options):
        super().__init__(params, lr=lr, alpha=alpha, eps=eps, momentum=momentum, centered=centered, **options)

    @staticmethod
    def _check_group(values, state_dtype):
        if values["centered"] and state_dtype is not None:
            raise ValueError(
                f"centered must be False with state_dtype={state_dtype!r}: the variance is the difference of two "
                "averages, and rounding them would make it zero"
            )

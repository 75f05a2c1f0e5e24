"""Stochastic gradient descent, with momentum and Nesterov's variant of it."""

from downslope.rules.optimizer import Optimizer


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and Nesterov's variant of it.

    ::

        b = momentum b + (1 - dampening) g,  and b = g at the first step
        d = g + momentum b  (nesterov),  b  (momentum),  g  (neither)
        p -= lr d

    Parameters
    ----------
    params
        The arrays to update: see `Optimizer`.
    lr : float or callable, default 1e-2
        Learning rate, >= 0, or a schedule ``lr(step) -> float``.
    momentum : float, default 0.0
        At least 0, which keeps no state.
    dampening : float, default 0.0
        How much less than the whole gradient enters the buffer.
    nesterov : bool, default False
        Needs momentum > 0 and dampening 0.
    **options
        What every optimizer takes, from `weight_decay` to `ema_decay`: see `Optimizer`.

    Notes
    -----
    State: ``momentum_buffer``, with momentum. This is PyTorch's dialect: the learning rate multiplies the buffer, and
    isn't in it. For Nesterov's method with the gradient taken at the look-ahead point, see `NAG`.

    References
    ----------
    .. [1] H. Robbins and S. Monro, "A stochastic approximation method", 1951.
    .. [2] B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
    .. [3] I. Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> p = np.array([1.0, -2.0])
    >>> opt = ds.SGD(p, lr=0.1)
    >>> opt.step(np.array([0.5, -0.5]))
    >>> p
    array([ 0.95, -1.95])
    """

    rule = "sgd"
    source = "Robbins & Monro 1951; Polyak 1964; Sutskever et al. 2013"

    def __init__(self, params, lr=1e-2, momentum=0.0, dampening=0.0, nesterov=False, **options):
        super().__init__(params, lr=lr, momentum=momentum, dampening=dampening, nesterov=nesterov, **options)

    @staticmethod
    def _check_group(values, state_dtype):
        if values["nesterov"] and values["momentum"] <= 0:
            raise ValueError(f"nesterov=True needs momentum > 0, got {values['momentum']}")
        if values["nesterov"] and values["dampening"] != 0:
            raise ValueError(f"nesterov=True needs dampening 0, got {values['dampening']}")

"""Nesterov's accelerated gradient in its look-ahead form."""

from downslope.rules.arrays import compute_dtype, computed
from downslope.rules.optimizer import Optimizer
from downslope.rules.state import slot_values


class NAG(Optimizer):
    """Nesterov's accelerated gradient in its look-ahead form.

    ::

        v = momentum v - lr grad(p + momentum v)
        p += v

    Parameters
    ----------
    params
        The arrays to update: see `Optimizer`.
    lr : float or callable, default 1e-2
        Learning rate, >= 0, or a schedule ``lr(step) -> float``.
    momentum : float, default 0.9
        At least 0.
    **options
        What every optimizer takes, from `weight_decay` to `ema_decay`: see `Optimizer`.

    Notes
    -----
    State: ``velocity`` (v). Take the gradient inside ``with opt.lookahead():``, where the parameters stand at
    p + momentum v, and call `step` outside it. For PyTorch's variant, which needs no look-ahead, see `SGD`.

    References
    ----------
    .. [1] Y. Nesterov, "A method for solving the convex programming problem with convergence rate O(1/k^2)", 1983.
    .. [2] I. Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> p = np.array([1.0, -2.0])
    >>> opt = ds.NAG(p, lr=0.1)
    >>> for _ in range(2):
    ...     with opt.lookahead():
    ...         g = 2 * p
    ...     opt.step(g)
    >>> p
    array([ 0.496, -0.992])
    """

    rule = "nag"
    source = "Nesterov 1983; Sutskever et al. 2013"

    def __init__(self, params, lr=1e-2, momentum=0.9, **options):
        super().__init__(params, lr=lr, momentum=momentum, **options)

    def lookahead(self):
        """Shift the parameters in place to where the gradient is to be taken, and afterwards restore their very bits.

        Raises
        ------
        RuntimeError
            If it is nested, or `step` or a copy is asked for inside.
        """
        return self._displaced("lookahead()", self._look_ahead)

    def _look_ahead(self, member):
        T = compute_dtype(member.storage)
        velocity = slot_values(member.state, "velocity").astype(T, copy=False)
        return computed(member.param, member.storage) + T(self._values[member.group]["momentum"]) * velocity

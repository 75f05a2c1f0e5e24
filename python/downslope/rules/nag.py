"""Nesterov's accelerated gradient in its look-ahead form."""

from contextlib import contextmanager

import numpy as np

from downslope.rules.optimizer import Optimizer


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
        `weight_decay`, `decoupled_weight_decay`, `maximize` and `grad_scale`: see `Optimizer`.

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
        self._saved = None  # pairs of parameter and copy, while the parameters stand at the look-ahead point
        super().__init__(params, lr=lr, momentum=momentum, **options)

    @contextmanager
    def lookahead(self):
        """Shift the parameters in place to where the gradient is to be taken, and afterwards restore their very bits.

        Raises
        ------
        RuntimeError
            If it is nested, or `step` or a copy is asked for inside.
        """
        saved = None
        try:
            with self._stepper:
                self._check_at_home("lookahead()")
                saved = self._saved = []
            for param, slots, i in zip(self._params, self._state, self._numbers, strict=True):
                shift = param.dtype.type(self._values[i]["momentum"]) * slots["velocity"]
                bits = param.copy()
                np.add(param, shift, out=param)
                saved.append((param, bits))
            yield
        finally:
            if saved is not None:
                self._saved = None
                _restore(saved)

    def step(self, grads=None):
        with self._stepper:
            self._check_at_home("step()")
            super().step(grads)

    step.__doc__ = Optimizer.step.__doc__

    def __getstate__(self):
        with self._stepper:
            self._check_at_home("a copy")
            return super().__getstate__()

    def _check_at_home(self, what):
        if self._saved is not None:
            raise RuntimeError(f"{what} inside lookahead(): the parameters do not stand where they belong")


def _restore(saved):
    """Every parameter that can still be written gets its bits back, whatever has become of another one."""
    failure = None
    for param, bits in saved:
        try:
            param[...] = bits
        except ValueError as error:
            failure = error
    if failure is not None:
        raise failure

"""The machinery around K-FAC's direction: step size and momentum from a quadratic model, adaptation of the damping."""

import sys
from collections.abc import Mapping

import numpy as np

from downslope.preconditioners.base import floating, positive
from downslope.validation import float64_array, integer, number, real


class QuadraticModel:
    """Step size and momentum that minimize the quadratic model of the loss along two directions.

    ::

        M(u) = u^T (F + damping I) u / 2 - grad^T u        the loss after params -= u, less the loss
        u = alpha direction + mu u_before,                 alpha and mu minimize M
        v^T F w = mean over examples of (J v)^T metric(J w)

    where J is the Jacobian of the network's outputs and the metric the Fisher information of its output distribution
    (equally, the Hessian of the loss in the outputs). So F is exact here, where the direction's was an approximation;
    and what is returned replaces both the learning rate and the rule's momentum: ``ds.SGD(params, lr=1.0)`` steps on
    it.

    Attributes
    ----------
    step_size, momentum : float
        The last alpha and mu.
    decrease : float
        -M(u) for the last u, at least 0: by so much should the loss decrease. See `adapt_damping`.

    References
    ----------
    .. [1] J. Martens and R. Grosse, "Optimizing neural networks with Kronecker-factored approximate curvature",
       ICML 2015, arXiv:1503.05671; sections 6.4 and 7.

    Examples
    --------
    For the loss x^2 of the output y = x, the Hessian in the output is 2, and the model exact:

    >>> import numpy as np
    >>> import downslope as ds
    >>> model = ds.preconditioners.QuadraticModel()
    >>> x = np.array([[3.0]])
    >>> grads = {"x": 2 * x}
    >>> u = model.step(grads, grads, damping=0.0, jvp=lambda v: v["x"], metric=lambda dy: 2 * dy)
    >>> x - u["x"], model.step_size, model.decrease
    (array([[0.]]), 0.5, 9.0)
    """

    def __init__(self):
        self.step_size = 0.0
        self.momentum = 0.0
        self.decrease = 0.0
        self._before = None

    def step(self, grads, direction, damping, jvp, metric):
        """The best combination of a direction and the step before.

        Parameters
        ----------
        grads : mapping
            The mean gradients, name -> array or tuple of arrays.
        direction : mapping
            In the same structure, such as what ``kfac.precondition(grads)`` returns.
        damping : float
            At least 0; that of the direction, and of weight decay, if there is one.
        jvp : callable
            ``jvp(v)`` is the derivative of the network's outputs when the parameters move along `v`, which has the
            structure of `grads`; an array of shape (examples, outputs). A part of the batch, such as an eighth, will
            do.
        metric : callable
            ``metric(dy)`` is the Hessian of each example's loss in its outputs times `dy`, of the same shape: for the
            loss sum((y - t)^2), 2 dy; for softmax p with cross-entropy, p (dy - sum(p dy)).

        Returns
        -------
        dict
            u, in the structure of `grads`, to be subtracted from the parameters; float32 where `direction` is, and
            float64 otherwise.

        Raises
        ------
        TypeError, ValueError
            If `damping` is no number or out of range, something does not hold real numbers, or structures or shapes do
            not fit.
        FloatingPointError
            If something is not finite; then the model is as it was.
        """
        damping = number("damping", damping, lower=0)
        if not isinstance(grads, Mapping) or not grads:
            raise ValueError(f"grads must be a mapping from names to arrays, with at least one, got {grads!r:.80}")
        g = _flat("grads", grads, grads)
        trees = [direction] if self._before is None else [direction, self._before]
        directions = np.stack([_flat("direction", tree, grads) for tree in trees])
        tangents = [_outputs("jvp(v)", jvp(tree)) for tree in trees]
        moved = np.stack([_outputs("metric(dy)", metric(dy), dy.shape).ravel() for dy in tangents])
        fisher = np.stack([dy.ravel() for dy in tangents]) @ moved.T / len(tangents[0])
        curvature = (fisher + fisher.T) / 2 + damping * (directions @ directions.T)
        slope = directions @ g
        if not (np.isfinite(curvature).all() and np.isfinite(slope).all()):
            raise FloatingPointError("grads, direction, jvp(v) and metric(dy) must be finite, got NaN or infinity")
        factors = _minimizer(curvature, slope)
        self.step_size, self.momentum = float(factors[0]), float(factors[1]) if len(factors) > 1 else 0.0
        self.decrease = max(0.0, float(slope @ factors) / 2)
        self._before = _in_structure(factors.astype(directions.dtype) @ directions, direction)
        return self._before


def adapt_damping(damping, decrease, predicted, steps=5):
    """Levenberg-Marquardt adaptation of the damping: less of it where the quadratic model can be trusted, and more
    where it can't.

    ::

        ratio = decrease / predicted,     omega = 0.95^steps
        damping omega if ratio > 3/4,     damping / omega if ratio < 1/4,     else damping

    Parameters
    ----------
    damping : float
        So far; greater than 0.
    decrease : float
        By how much the loss decreased in the last step, on the same batch. NaN and infinity count as an increase.
    predicted : float
        By how much the model said that it would: `QuadraticModel.decrease`.
    steps : int, default 5
        Once in how many steps this is done.

    Returns
    -------
    float
        The new damping, for the preconditioner and the model; a normal number, however many steps there were.

    Raises
    ------
    TypeError, ValueError
        If an argument is no number or out of range.

    References
    ----------
    .. [1] J. Martens and R. Grosse, arXiv:1503.05671, section 6.5.

    Examples
    --------
    >>> import downslope as ds
    >>> ds.preconditioners.adapt_damping(1.0, decrease=0.9, predicted=1.0, steps=1)
    0.95
    """
    damping = positive("damping", damping)
    decrease, predicted = real("decrease", decrease), number("predicted", predicted, lower=0)
    omega = 0.95 ** min(integer("steps", steps, lower=1), 10_000)  # of more, the power would be zero
    if not np.isfinite(decrease) or decrease < predicted / 4:
        damping /= omega
    elif decrease > 3 * predicted / 4:
        damping *= omega
    return min(max(damping, sys.float_info.min), sys.float_info.max)


def _flat(name, tree, like):
    """The arrays of a tree in the structure of another, as one vector."""
    if not isinstance(tree, Mapping) or set(tree) != set(like):
        raise ValueError(f"{name} must be a mapping with the names of grads, {list(like)}, got {tree!r:.80}")
    flat = []
    for key, model in like.items():
        arrays, expected = _parts(f"{name}[{key!r}]", tree[key]), _parts(f"grads[{key!r}]", model)
        if [array.shape for array in arrays] != [array.shape for array in expected]:
            raise ValueError(
                f"{name}[{key!r}] must have the shapes {[array.shape for array in expected]}, "
                f"got {[array.shape for array in arrays]}"
            )
        flat += [array.ravel() for array in arrays]
    return np.concatenate(flat)


def _in_structure(vector, like):
    """The opposite, in the dtypes of another tree."""
    tree, at = {}, 0
    for key, model in like.items():
        arrays = []
        for array in _parts(key, model):
            arrays.append(vector[at : at + array.size].reshape(array.shape).astype(array.dtype, copy=False))
            at += array.size
        tree[key] = tuple(arrays) if isinstance(model, (tuple, list)) else arrays[0]
    return tree


def _parts(name, value):
    return [floating(name, part) for part in (value if isinstance(value, (tuple, list)) else (value,))]


def _outputs(name, value, shape=None):
    array = float64_array(name, value)
    if array.ndim != 2 or array.size == 0 or (shape is not None and array.shape != shape):
        raise ValueError(f"{name} must have shape {shape or '(examples, outputs)'}, got {array.shape}")
    return array


def _minimizer(curvature, slope):
    """The shortest minimizer of x^T curvature x / 2 - slope^T x, in the scale in which the diagonal is 1: directions
    that do not move the model get nothing, and parallel ones share."""
    scale = np.sqrt(np.maximum(np.diag(curvature), 0))
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    return inverse * (np.linalg.pinv(inverse[:, None] * curvature * inverse, hermitian=True) @ (inverse * slope))

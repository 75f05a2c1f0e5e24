"""The machinery around K-FAC's direction: step size and momentum from a quadratic model, adaptation of the damping."""

import numpy as np

from downslope.validation import integer, number, real


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
            u, in the structure of `grads`, to be subtracted from the parameters.

        Raises
        ------
        TypeError, ValueError
            If `damping` is no number or out of range, structures or shapes do not fit.
        FloatingPointError
            If something is not finite; then the model is as it was.
        """
        damping = number("damping", damping, lower=0)
        g = _leaves("grads", grads, grads)
        trees = [direction] if self._before is None else [direction, self._before]
        directions = [_leaves("direction", tree, grads) for tree in trees]
        products = [_outputs("jvp(v)", jvp(tree)) for tree in trees]
        metrics = [_outputs("metric(dy)", metric(dy), dy.shape) for dy in products]
        curvature = np.array(
            [
                [_dot([dy], [m]) / len(dy) + damping * _dot(v, w) for m, w in zip(metrics, directions)]
                for dy, v in zip(products, directions)
            ]
        )
        slope = np.array([_dot(g, v) for v in directions])
        if not (np.isfinite(curvature).all() and np.isfinite(slope).all()):
            raise FloatingPointError("grads, direction, jvp(v) and metric(dy) must be finite, got NaN or infinity")
        factors = _minimizer((curvature + curvature.T) / 2, slope)
        self.step_size, self.momentum = float(factors[0]), float(factors[1]) if len(factors) > 1 else 0.0
        self.decrease = max(0.0, float(slope @ factors) / 2)
        self._before = _combined(factors, trees)
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
        The new damping, for the preconditioner and the model.

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
    damping = number("damping", damping, lower=0)
    decrease, predicted = real("decrease", decrease), number("predicted", predicted, lower=0)
    omega = 0.95 ** integer("steps", steps, lower=1)
    if not np.isfinite(decrease) or decrease < predicted / 4:
        return damping / omega
    return damping * omega if decrease > 3 * predicted / 4 else damping


def _leaves(name, tree, like):
    """The arrays of a tree in the structure of another."""
    if not isinstance(tree, dict) or set(tree) != set(like):
        raise ValueError(f"{name} must be a dict with the names of grads, {list(like)}, got {tree!r:.80}")
    leaves = []
    for key, model in like.items():
        parts = (tree[key], model) if isinstance(model, (tuple, list)) else ((tree[key],), (model,))
        if len(parts[0]) != len(parts[1]):
            raise ValueError(f"{name}[{key!r}] must have {len(parts[1])} arrays, got {len(parts[0])}")
        for part, other in zip(*parts):
            if np.shape(part) != np.shape(other):
                raise ValueError(f"{name}[{key!r}] must have shape {np.shape(other)}, got {np.shape(part)}")
            leaves.append(np.asarray(part))
    return leaves


def _outputs(name, value, shape=None):
    array = np.asarray(value, dtype=np.float64)
    if array.ndim != 2 or array.size == 0 or (shape is not None and array.shape != shape):
        raise ValueError(f"{name} must have shape {shape or '(examples, outputs)'}, got {array.shape}")
    return array


def _dot(first, second):
    return sum(float(np.dot(np.ravel(x), np.ravel(y))) for x, y in zip(first, second))


def _minimizer(curvature, slope):
    """The shortest minimizer of x^T curvature x / 2 - slope^T x, in the scale in which the diagonal is 1: directions
    that do not move the model get nothing, and parallel ones share."""
    scale = np.sqrt(np.maximum(np.diag(curvature), 0))
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    return inverse * (np.linalg.pinv(inverse[:, None] * curvature * inverse, hermitian=True) @ (inverse * slope))


def _combined(factors, trees):
    """The sum of the trees times these factors, in the dtypes of the first."""

    def total(*arrays):
        return sum(x.dtype.type(f) * x for f, x in zip(factors, map(np.asarray, arrays)))

    return {
        name: tuple(map(total, *(tree[name] for tree in trees)))
        if isinstance(part, (tuple, list))
        else total(*(tree[name] for tree in trees))
        for name, part in trees[0].items()
    }

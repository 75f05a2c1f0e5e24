"""Estimates of curvature: from derivatives by differences, from Jacobians, from gradients of examples."""

import numpy as np

from downslope.curvature.block_diagonal import BlockDiagonal
from downslope.curvature.dense import Dense
from downslope.curvature.kronecker import Kronecker
from downslope.validation import boolean, function, integer, number, real_array, sequence


def hessian(fun_or_grad, x):
    """The Hessian at x by central differences, of gradients or of values.

    ::

        of gradients   H e_i = (g(x + h_i e_i) - g(x - h_i e_i)) / (2 h_i),   then (H + H^T)/2
        of values      H_ij = (f(++) - f(+-) - f(-+) + f(--)) / (4 h_i h_j),  signs of h_i e_i and h_j e_j

    Parameters
    ----------
    fun_or_grad : callable
        Of an array of x's shape: returns the gradient, as an array of n numbers, or the value, as a number. It is
        called 2 n + 1 times for gradients, and 2 n^2 + 1 times for values.
    x : array_like of shape (n,)
        Finite.

    Returns
    -------
    ndarray of shape (n, n)
        Symmetric.

    Raises
    ------
    TypeError
        If `x` or what the function returns does not hold real numbers.
    ValueError
        If `x` has not one axis or is not finite, or what the function returns has another shape.

    Notes
    -----
    Steps are h_i = s max(1, abs(x_i)), s the cube root of the precision for gradients, for an error of about 1e-10 of
    the gradient's size; its fourth root for values, for an error of about 1e-8 of the value's.

    References
    ----------
    .. [1] J. Nocedal and S. J. Wright, "Numerical optimization", 2nd ed., Springer 2006, section 8.1.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> ds.curvature.hessian(lambda x: np.array([2 * x[0] + x[1], x[0] + 4 * x[1]]), [0.0, 0.0]).round(8)
    array([[2., 1.],
           [1., 4.]])
    """
    fun_or_grad, x = function("fun_or_grad", fun_or_grad), real_array("x", x).astype(float)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise ValueError(f"x must have one axis and be finite, got {x!r}")
    first = _evaluated(fun_or_grad, x)
    if first.ndim == 0:
        return _hessian_of_values(fun_or_grad, x, first)
    return _hessian_of_gradients(fun_or_grad, x)


def _evaluated(fun, x, shape=None):
    value = real_array("fun_or_grad(x)", fun(x.copy()))
    if value.shape not in ((), x.shape) or (shape is not None and value.shape != shape):
        raise ValueError(f"fun_or_grad(x) must be a number, or an array of shape {x.shape}, got shape {value.shape}")
    return value.astype(float)


def _steps(x, power):
    """Along each axis, as rows; such that x + h - x is exactly h."""
    h = np.finfo(float).eps ** power * np.maximum(1, np.abs(x))
    return np.diag((x + h) - x)


def _hessian_of_gradients(grad, x):
    steps = _steps(x, 1 / 3)
    rows = [
        (_evaluated(grad, x + h, x.shape) - _evaluated(grad, x - h, x.shape)) / (2 * h[i]) for i, h in enumerate(steps)
    ]
    H = np.array(rows).reshape(len(x), len(x))
    return (H + H.T) / 2


def _hessian_of_values(fun, x, at_x):
    steps = _steps(x, 1 / 4)
    H = np.empty((len(x), len(x)))
    for i, h in enumerate(steps):
        H[i, i] = (_evaluated(fun, x + h, ()) - 2 * at_x + _evaluated(fun, x - h, ())) / h[i] ** 2
        for j, k in enumerate(steps[:i]):
            values = [_evaluated(fun, x + s * h + t * k, ()) for s in (1, -1) for t in (1, -1)]
            H[i, j] = H[j, i] = (values[0] - values[1] - values[2] + values[3]) / (4 * h[i] * k[j])
    return H


def hutchinson_diagonal(hvp, shape, samples=10, seed=0):
    """An estimate of the diagonal of a Hessian that is known by its products with vectors.

    ::

        diag(H) = E[z * H z],    z random signs

    Parameters
    ----------
    hvp : callable
        ``hvp(z)`` is H z, both of shape `shape`.
    shape : int or tuple of int
        That of the diagonal.
    samples : int, default 10
        How many products to average, at least 1. The variance of an element is the sum of squares of its row's other
        elements divided by this: a diagonal H is found by one.
    seed : int, default 0
        At least 0.

    Returns
    -------
    ndarray of shape `shape`

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range, or `hvp` returns another shape.

    References
    ----------
    .. [1] C. Bekas, E. Kokiopoulou and Y. Saad, "An estimator for the diagonal of a matrix", Appl. Numer. Math. 57,
       2007.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> d = np.array([1.0, 2.0, 3.0])
    >>> ds.curvature.hutchinson_diagonal(lambda z: d * z, 3, samples=1, seed=0)
    array([1., 2., 3.])
    """
    hvp, rng = function("hvp", hvp), np.random.default_rng(integer("seed", seed, lower=0))
    samples = integer("samples", samples, lower=1)
    total = np.zeros([integer("shape", extent, lower=0) for extent in np.atleast_1d(shape)])
    for _ in range(samples):
        z = rng.integers(0, 2, total.shape) * 2.0 - 1.0
        product = real_array("hvp(z)", hvp(z.copy()))
        if product.shape != total.shape:
            raise ValueError(f"hvp(z) must have shape {total.shape}, got {product.shape}")
        total += z * product
    return total / samples


def gauss_newton(J, weights=None):
    """The Gauss-Newton matrix J^T diag(weights) J of a sum of squares, half of it taken.

    Parameters
    ----------
    J : array_like of shape (m, n)
        The Jacobian of m residuals. Finite.
    weights : array_like of shape (m,), optional
        Of the squares; at least 0, finite. By default 1.

    Returns
    -------
    Dense

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If shapes do not fit, or a number is out of range.

    Examples
    --------
    >>> import downslope as ds
    >>> ds.curvature.gauss_newton([[1.0, 0.0], [1.0, 2.0]]).to_dense()
    array([[2., 2.],
           [2., 4.]])
    """
    J = _rows("J", J)
    if weights is not None:
        weights = real_array("weights", weights).astype(float)
        if weights.shape != J.shape[:1]:
            raise ValueError(f"weights must have shape {J.shape[:1]}, got {weights.shape}")
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError(f"weights must be >= 0 and finite, got {weights!r}")
        J = np.sqrt(weights)[:, None] * J
    return Dense(_squares("J", J))


def empirical_fisher(G, centered=False, sizes=None):
    """The mean of g g^T over examples; or its diagonal blocks.

    Parameters
    ----------
    G : array_like of shape (examples, n)
        The gradient of each example is a row. Finite.
    centered : bool, default False
        Whether to subtract the mean gradient first: the covariance of gradients.
    sizes : sequence of int, optional
        For a block-diagonal estimate: the sizes of blocks of consecutive parameters, n in all.

    Returns
    -------
    Dense or BlockDiagonal

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If shapes do not fit, or `G` is not finite.

    References
    ----------
    .. [1] F. Kunstner, L. Balles and P. Hennig, "Limitations of the empirical Fisher approximation for natural gradient
       descent", NeurIPS 2019, arXiv:1905.12558.

    Examples
    --------
    >>> import downslope as ds
    >>> ds.curvature.empirical_fisher([[1.0, 0.0], [1.0, 2.0]]).to_dense()
    array([[1., 1.],
           [1., 2.]])
    """
    G = _rows("G", G)
    if boolean("centered", centered):
        G = G - G.mean(axis=0)
    if sizes is None:
        return Dense(_second_moment("G", G))
    sizes = [integer(f"sizes[{i}]", size, lower=1) for i, size in enumerate(sequence("sizes", sizes))]
    if sum(sizes) != G.shape[1]:
        raise ValueError(f"sizes must add up to the parameters, {G.shape[1]}, got {sizes}")
    return BlockDiagonal([_second_moment("G", part) for part in np.split(G, np.cumsum(sizes)[:-1], axis=1)])


def kronecker_fisher(inputs, output_grads, bias=False):
    """The Kronecker-factored Fisher of a layer y = x @ W + b: E[x x^T] (x) E[g g^T], means over examples.

    It equals the Fisher where inputs and output gradients are independent [1]_. For W of shape (inputs, outputs) and
    its gradient taken row-major.

    Parameters
    ----------
    inputs : array_like of shape (examples, n_in)
        x of each example. Finite.
    output_grads : array_like of shape (examples, n_out)
        The gradient of each example's loss with respect to y. Finite.
    bias : bool, default False
        Whether there is a bias: x is extended by 1, and b is the last row of W.

    Returns
    -------
    Kronecker

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If shapes do not fit, or something is not finite.

    References
    ----------
    .. [1] J. Martens and R. Grosse, "Optimizing neural networks with Kronecker-factored approximate curvature",
       ICML 2015, arXiv:1503.05671.

    Examples
    --------
    >>> import downslope as ds
    >>> C = ds.curvature.kronecker_fisher([[1.0], [3.0]], [[1.0, 0.0], [0.0, 1.0]])
    >>> C.to_dense()
    array([[2.5, 0. ],
           [0. , 2.5]])
    """
    X, G = _rows("inputs", inputs), _rows("output_grads", output_grads)
    if len(X) != len(G):
        raise ValueError(f"output_grads must have as many rows as inputs, {len(X)}, got {len(G)}")
    if boolean("bias", bias):
        X = np.column_stack([X, np.ones(len(X))])
    return Kronecker(_second_moment("inputs", X), _second_moment("output_grads", G))


def _rows(name, value):
    """`value` as a finite float64 matrix."""
    array = real_array(name, value).astype(float)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} must have 2 axes and at least one element, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return array


def _squares(name, rows):
    """rows^T rows, which may overflow where the rows do not."""
    with np.errstate(over="ignore", invalid="ignore"):
        product = rows.T @ rows
    if not np.isfinite(product).all():
        raise ValueError(f"{name} must have finite products of its columns, got elements up to {np.abs(rows).max()}")
    return product


def _second_moment(name, rows):
    return _squares(name, rows) / len(rows)


def running_weight(count, decay):
    """The weight of the past when the count-th item goes into a running average, which starts as the plain mean."""
    return min(1 - 1 / count, decay)


class RunningAverage:
    """An exponential moving average of arrays, which starts as the plain mean.

    ::

        w = min(1 - 1/k, decay),    value = w value + (1 - w) x_k    k = 1, 2, ...

    Parameters
    ----------
    decay : float
        In [0, 1).

    Attributes
    ----------
    value : ndarray or None
        The average so far, float64; an array of its own, which updates write to, so that a curvature that keeps it by
        reference goes along.
    count : int
        How many arrays have gone into it.

    References
    ----------
    .. [1] J. Martens and R. Grosse, arXiv:1503.05671, section 5.

    Examples
    --------
    >>> import downslope as ds
    >>> average = ds.curvature.RunningAverage(decay=0.9)
    >>> for x in [1.0], [3.0]:
    ...     average.update(x)
    >>> average.value
    array([2.])
    """

    def __init__(self, decay):
        self.decay = number("decay", decay, lower=0, upper=1)
        self.value = None
        self.count = 0

    def update(self, x):
        """Take in another array.

        Raises
        ------
        TypeError
            If `x` does not hold real numbers.
        ValueError
            If its shape is not that of the arrays before, or it is not finite. The average stays as it was.
        """
        x = real_array("x", x)
        if self.value is not None and x.shape != self.value.shape:
            raise ValueError(f"x must have shape {self.value.shape}, got {x.shape}")
        if not np.isfinite(x).all():
            raise ValueError("x must be finite, got NaN or infinity")
        self.count += 1
        if self.value is None:
            self.value = np.zeros(x.shape)
        weight = running_weight(self.count, self.decay)
        self.value[...] = weight * self.value + (1 - weight) * x

"""A gradient against differences of the function."""

import numpy as np

from downslope.validation import float64_array, function


def check_grad(fun, jac, x, *args):
    """How far a gradient is from the differences of its function: small if it is right.

    ::

        difference_i = (f(x + h_i e_i) - f(x - h_i e_i)) / (2 h_i),    h_i = eps^(1/3) max(1, |x_i|)

    with eps = 2.2e-16.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args) -> float``, or an array, whose Jacobian is then checked.
    jac : callable
        ``jac(x, *args)``, of the shape of x; if `fun` returns more than one number, of its shape followed by that of x.
    x : array_like of real numbers, of any shape
        Where to check. `fun` and `jac` get copies in this shape, in float64.
    *args
        Passed on to both.

    Returns
    -------
    float
        The 2-norm of the difference between `jac` and the central differences. Of a right gradient it is about 1e-10
        where values and derivatives are of order 1. With 2n + 1 evaluations of `fun`.

    Raises
    ------
    TypeError
        If `fun` or `jac` is not callable, or x, or what they return, is not of real numbers.
    ValueError
        If the shape of the gradient is wrong.

    Notes
    -----
    SciPy's function of the same name takes forward differences, which see errors down to 1e-8 only, and x of one
    dimension.

    References
    ----------
    .. [1] J. Nocedal and S. J. Wright, "Numerical Optimization", 2nd ed., section 8.1, 2006.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> ds.check_grad(lambda x: np.sum(x**3), lambda x: 3 * x**2, [[1.0, 2.0], [3.0, 4.0]]) < 1e-7
    True
    >>> ds.check_grad(lambda x: np.sum(x**3), lambda x: 2 * x**2, [[1.0, 2.0], [3.0, 4.0]]) > 1
    True
    """
    fun, jac, x = function("fun", fun), function("jac", jac), float64_array("x", x)

    def value(x):
        return float64_array("fun(x)", fun(x, *args)).copy()  # `fun` may return the same array every time

    at_x = value(x.copy())
    shape = x.shape if at_x.size == 1 else at_x.shape + x.shape
    given = float64_array("jac(x)", jac(x.copy(), *args))
    if given.shape != shape:
        raise ValueError(f"jac(x) must have shape {shape}, got {given.shape}")
    steps = np.cbrt(np.finfo(np.float64).eps) * np.maximum(1, np.abs(x))
    error = given.copy()
    for i in np.ndindex(x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[i] += steps[i]
        behind[i] -= steps[i]
        width = ahead[i] - behind[i]  # as rounding has left it, and before `fun` can change them
        column = error[(..., *i)]
        column -= ((value(ahead) - value(behind)) / width).reshape(column.shape)
    return float(np.linalg.norm(error))

"""A dense matrix."""

from downslope._extension import core
from downslope.curvature.structure import Curvature, square


class Dense(Curvature):
    """A dense symmetric matrix, H.

    Solved by Cholesky factorization, over all cores from about n = 250 on, with one step of iterative refinement, whose
    residuals are accumulated in twice the working precision [1]_. The relative error of a solution is about the square
    of the condition number times 1e-16, down to the precision itself, where without refinement it is that product.
    Zeros before the first element of a row are left out of the factorization, so that a band takes the work of a band
    [2]_.

    Parameters
    ----------
    H : array_like of shape (n, n)
        Symmetric, finite: see `Curvature`.

    Raises
    ------
    TypeError
        If `H` does not hold real numbers.
    ValueError
        If it is not square, not finite or not symmetric.

    References
    ----------
    .. [1] J. Demmel et al., "Error bounds from extra-precise iterative refinement", ACM Trans. Math. Softw. 32, 2006.
    .. [2] A. George and J. W. Liu, "Computer solution of large sparse positive definite systems", 1981, chapter 4.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> C = ds.curvature.Dense([[2.0, 1.0], [1.0, 3.0]])
    >>> C.solve(np.array([3.0, 4.0]))
    array([1., 1.])
    >>> F = ds.curvature.Dense([[1.0, 0.0], [0.0, -2.0]]).factorize(ensure_positive=True)
    >>> 2 < F.shift <= 4
    True
    """

    def __init__(self, H):
        self._array, asymmetry = square("H", H)
        super().__init__(len(self._array), lambda: core.Dense(self._array), asymmetry)

    def __array__(self, dtype=None, copy=None):
        return self.to_dense().astype(dtype or float, copy=False)

    def to_dense(self):
        return self._array.copy()

    def _block_name(self, block):
        return "H"

"""A diagonal matrix plus one of low rank."""

from downslope._extension import core
from downslope.curvature.structure import Curvature, operand


class LowRank(Curvature):
    """diag + U U^T.

    Solved by Woodbury's identity in O(n rank^2), with one step of iterative refinement::

        D = diag + damping,    K = I + U^T D^-1 U
        (D + U U^T)^-1 v = D^-1 v - D^-1 U K^-1 U^T D^-1 v

    `diag` may have elements that are not positive, as long as the whole matrix with its damping is positive definite:
    what they stand for is eliminated by a Schur complement.

    Parameters
    ----------
    U : array_like of shape (n, rank)
        Finite.
    diag : array_like of shape (n,)
        Finite.

    Raises
    ------
    TypeError
        If `U` or `diag` does not hold real numbers.
    ValueError
        If shapes do not fit, or something is not finite.

    References
    ----------
    .. [1] M. A. Woodbury, "Inverting modified matrices", Statistical Research Group memorandum 42, Princeton 1950.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> C = ds.curvature.LowRank(U=[[1.0], [1.0]], diag=[1.0, 1.0])  # [[2, 1], [1, 2]]
    >>> C.solve(np.array([3.0, 3.0]))
    array([1., 1.])
    """

    def __init__(self, U, diag):
        self._U, _ = operand("U", U, 2)
        self._diag, asymmetry = operand("diag", diag, 1)
        if len(self._U) != len(self._diag):
            raise ValueError(f"diag must have as many elements as U has rows, {len(self._U)}, got {len(self._diag)}")
        super().__init__(len(self._diag), lambda: core.LowRank(self._U, self._diag), asymmetry)

    def _block_name(self, block):
        return "diag + U U^T"

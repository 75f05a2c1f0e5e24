"""A diagonal matrix."""

from downslope._extension import core
from downslope.curvature.structure import Curvature, operand


class Diagonal(Curvature):
    """The matrix with diagonal d.

    ::

        (C + damping I)^-1 v = v / (d + damping)

    Parameters
    ----------
    d : array_like of shape (n,)
        Finite.

    Raises
    ------
    TypeError
        If `d` does not hold real numbers.
    ValueError
        If it has not one axis, or is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> ds.curvature.Diagonal([1.0, 3.0]).solve(np.array([4.0, 8.0]), damping=1.0)
    array([2., 2.])
    """

    def __init__(self, d):
        self._array, asymmetry = operand("d", d, 1)
        super().__init__(len(self._array), lambda: core.Diagonal(self._array), asymmetry)

    def _block_name(self, block):
        return "d"

"""A block-diagonal matrix."""

from downslope._extension import core
from downslope.curvature.structure import Curvature, operand, raise_unless_regular, square
from downslope.validation import number


class BlockDiagonal(Curvature):
    """A block-diagonal matrix, of equal or different symmetric blocks.

    Vectors are flat over the blocks. Each block is solved for as `Dense` does it, blocks up to 32 x 32 several at a
    time in the lanes of vector registers, and all of them in parallel.

    Parameters
    ----------
    blocks : array_like of shape (count, n, n), or list of array_like
        Equal blocks, or square ones of any sizes; symmetric, finite: see `Curvature`.

    Raises
    ------
    TypeError
        If a block does not hold real numbers.
    ValueError
        If one is not square, not finite or not symmetric; or there is none.

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> C = ds.curvature.BlockDiagonal([[[2.0, 1.0], [1.0, 3.0]], [[4.0]]])
    >>> C.solve(np.array([3.0, 4.0, 2.0]))
    array([1. , 1. , 0.5])
    >>> C.factorize(ensure_positive=True).shift
    array([0., 0.])
    """

    def __init__(self, blocks):
        if isinstance(blocks, (list, tuple)):
            if not blocks:
                raise ValueError("blocks must be at least one, got none")
            pairs = [square(f"blocks[{i}]", block) for i, block in enumerate(blocks)]
            arrays = [array for array, _ in pairs]
            size, asymmetry = sum(len(array) for array in arrays), max(asymmetry for _, asymmetry in pairs)
        else:
            arrays, asymmetry = operand("blocks", blocks, 3)
            if arrays.shape[1] != arrays.shape[2]:
                raise ValueError(f"blocks must be square, got shape {arrays.shape}")
            size = arrays.shape[0] * arrays.shape[1]
        super().__init__(size, lambda: core.BlockDiagonal(arrays), asymmetry)

    def solve(self, v, damping=0.0):
        """As `Curvature.solve`, but faster than to factorize first: factors stay in cache, and none is kept."""
        damping = number("damping", damping, lower=0)

        def work(rows):
            outcome, is_regular = self._core.factorize_and_solve(damping, self._asymmetry, rows)
            self._raise_unless_success(outcome, damping)
            raise_unless_regular(is_regular)
            return rows

        return self._on_vectors(v, work)

    def _block_name(self, block):
        return f"blocks[{block}]"

    def _shift(self, shifts):
        return shifts

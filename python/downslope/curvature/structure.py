"""What every curvature can do, whatever its structure."""

import math

import numpy as np

from downslope.validation import boolean, number, real_array


def operand(name, value, ndim):
    """`value` as a C-contiguous float64 array, the same one if it is that already; and how far from symmetric its
    rounding may have left it: see `Curvature`."""
    given = real_array(name, value)
    if given.ndim != ndim or given.size == 0:
        raise ValueError(f"{name} must have {ndim} axes and at least one element, got shape {given.shape}")
    precision = np.finfo(given.dtype if given.dtype.kind == "f" else np.float64).eps
    return np.require(given, np.float64, ["C", "ALIGNED"]), math.sqrt(max(precision, np.finfo(np.float64).eps))


def square(name, value):
    """The same for a square matrix."""
    array, asymmetry = operand(name, value, 2)
    if array.shape[0] != array.shape[1]:
        raise ValueError(f"{name} must be square, got shape {array.shape}")
    return array, asymmetry


class Curvature:
    """A structured symmetric matrix C, of shape (n, n), to multiply by and to solve against.

    This is the base of `Dense`, `Diagonal`, `BlockDiagonal`, `Kronecker` and `LowRank`; it makes no curvature itself.
    Arrays are kept by reference where they are C-contiguous float64, and copied otherwise. Whatever is given must be
    finite. Matrices must be symmetric up to the square root of their dtype's precision, relative to their largest
    element; factorizations are of the symmetric part, in float64.

    Attributes
    ----------
    shape : (int, int)
        (n, n).
    """

    def __init__(self, size, new_core, asymmetry):
        self.shape = (size, size)
        self._new_core = new_core
        self._asymmetry = asymmetry
        self._core = new_core()
        self._raise_unless_success(self._core.check(asymmetry))

    def __repr__(self):
        return f"{type(self).__name__}(shape={self.shape})"

    def matvec(self, v):
        """The product C v.

        Parameters
        ----------
        v : array_like of shape (n,) or (n, k)
            One vector, or k of them side by side.

        Returns
        -------
        ndarray
            Of v's shape; float32 if v is, and float64 otherwise.

        Raises
        ------
        TypeError
            If `v` does not hold real numbers.
        ValueError
            If its shape does not fit.
        """
        return self._on_vectors(v, self._core.multiply)

    def to_dense(self):
        """C as an (n, n) array."""
        return self.matvec(np.eye(self.shape[0]))

    def solve(self, v, damping=0.0):
        """(C + damping I)^-1 v: short for ``C.factorize(damping).solve(v)``, which see.

        Parameters
        ----------
        v : array_like of shape (n,) or (n, k)
            Right-hand sides.
        damping : float, default 0.0
            At least 0.
        """
        return self.factorize(damping).solve(v)

    def factorize(self, damping=0.0, ensure_positive=False):
        """Factorize C + damping I, to solve against it several times.

        Parameters
        ----------
        damping : float, default 0.0
            At least 0.
        ensure_positive : bool, default False
            Whether to add, where C + damping I is not positive definite or singular to working precision, a further
            multiple of the identity that makes it so that `solve` has correct digits: between 1.5 times and twice the
            smallest one that works, as bisection finds it.

        Returns
        -------
        Factorization
            A snapshot: it does not change with C's arrays.

        Raises
        ------
        numpy.linalg.LinAlgError
            If C + damping I is not positive definite, unless `ensure_positive`; it names the block.
        ValueError
            If `damping` is negative or not finite, or C's arrays are no longer finite and symmetric.

        Notes
        -----
        Bisection of the shift's logarithm tries some ten factorizations, as in the modified Cholesky strategy "added
        multiple of the identity" [1]_, which it bounds from both sides.

        References
        ----------
        .. [1] J. Nocedal and S. J. Wright, "Numerical optimization", 2nd ed., Springer 2006, algorithm 3.3.
        """
        return self._factorize(self._new_core(), damping, ensure_positive)

    def _factorize(self, core, damping, ensure_positive):
        damping = number("damping", damping, lower=0)
        outcome = core.factorize(damping, boolean("ensure_positive", ensure_positive), self._asymmetry)
        self._raise_unless_success(outcome, damping)
        return Factorization(self, core, self._shift(core.shifts))

    def _raise_unless_success(self, outcome, damping=0.0):
        status, block = outcome
        if status == "success":
            return
        if status == "not positive definite":
            raise np.linalg.LinAlgError(
                f"{self._block_name(block)} is not positive definite with damping {damping:g}: "
                "give it more damping, or ensure_positive=True"
            )
        must, got = {
            "not finite": ("finite", "NaN or infinity"),
            "not symmetric": ("symmetric", "elements that differ from those that mirror them"),
        }[status]
        raise ValueError(f"{self._block_name(block)} must be {must}, got {got}")

    def _block_name(self, block):
        """What a message calls the block with this number."""
        raise NotImplementedError

    def _shift(self, shifts):
        """What the factorization has as its `shift`."""
        return float(shifts[0])

    def _on_vectors(self, v, work):
        """What `work` makes of v's vectors as the rows of a fresh array, in v's shape and dtype."""
        v = real_array("v", v)
        size = self.shape[0]
        if v.ndim not in (1, 2) or v.shape[0] != size:
            raise ValueError(f"v must have shape ({size},) or ({size}, k), got {v.shape}")
        rows = np.array(np.atleast_2d(v.T), dtype=np.float64, order="C")
        result = work(rows).astype(np.float32 if v.dtype == np.float32 else np.float64, copy=False)
        return result.T if v.ndim == 2 else result[0]


class Factorization:
    """C + (damping + shift) I, factorized: made by ``C.factorize``.

    Attributes
    ----------
    shape : (int, int)
        That of C.
    shift : float or ndarray
        What ``ensure_positive`` added to the diagonal beyond the damping; one for each block where there are blocks.
    """

    def __init__(self, curvature, core, shift):
        self.shape = curvature.shape
        self.shift = shift
        self._on_vectors = curvature._on_vectors
        self._core = core

    def solve(self, v):
        """(C + (damping + shift) I)^-1 v.

        Parameters
        ----------
        v : array_like of shape (n,) or (n, k)
            Right-hand sides.

        Returns
        -------
        ndarray
            Of v's shape; float32 if v is, and float64 otherwise. What is not finite in `v` propagates.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the matrix is singular to working precision: refinement corrects the solution by a tenth of it or more.
        TypeError
            If `v` does not hold real numbers.
        ValueError
            If its shape does not fit.
        """

        def work(rows):
            raise_unless_regular(self._core.solve(rows))
            return rows

        return self._on_vectors(v, work)


def raise_unless_regular(is_regular):
    """LinAlgError if refinement has found that a solution has no correct digit."""
    if not is_regular:
        raise np.linalg.LinAlgError("the matrix is singular to working precision: give it more damping")

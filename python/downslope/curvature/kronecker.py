"""Kronecker products."""

from downslope._extension import core
from downslope.curvature.structure import Curvature, square
from downslope.validation import any_array, choice, real_array


class Kronecker(Curvature):
    """A (x) B, which is never formed; or a block-diagonal matrix of such products.

    ::

        (A (x) B) vec(X) = vec(A X B^T)    X of shape (a, b), vec row-major

    Parameters
    ----------
    A, B : array_like of shapes (a, a) and (b, b), or lists of these
        Symmetric, finite: see `Curvature`. With lists of equal lengths, the blocks are A[0] (x) B[0], A[1] (x) B[1]
        and so on; they are factorized and solved for in parallel.

    Raises
    ------
    TypeError
        If one of them does not hold real numbers.
    ValueError
        If one is not square, not finite or not symmetric; or the lists are empty or differ in length.

    Notes
    -----
    Vectors are flat, of length n = a b, or side by side (n, k); for one product, X may be given as it is, (a, b).

    Examples
    --------
    >>> import numpy as np
    >>> import downslope as ds
    >>> C = ds.curvature.Kronecker([[2.0, 0.0], [0.0, 4.0]], [[1.0, 0.0], [0.0, 3.0]])
    >>> C.solve(np.ones((2, 2)), damping=2.0)
    array([[0.25      , 0.125     ],
           [0.16666667, 0.07142857]])
    """

    def __init__(self, A, B):
        self._is_list = isinstance(A, (list, tuple)) and len(A) > 0 and any_array("A[0]", A[0]).ndim == 2
        if self._is_list:
            if not (isinstance(B, (list, tuple)) and len(A) == len(B)):
                raise ValueError(f"B must be a list of as many matrices as A, {len(A)}, got {B!r}")
            pairs = [(square(f"A[{i}]", a), square(f"B[{i}]", b)) for i, (a, b) in enumerate(zip(A, B, strict=True))]
        else:
            pairs = [(square("A", A), square("B", B))]
        self._factors = [(a, b) for (a, _), (b, _) in pairs]
        size = sum(len(a) * len(b) for a, b in self._factors)
        super().__init__(size, lambda: core.ExactKronecker(self._factors), max(max(a[1], b[1]) for a, b in pairs))

    def factorize(self, damping=0.0, ensure_positive=False, mode="exact"):
        """Factorize the product with its damping, to solve against it several times.

        Parameters
        ----------
        damping : float, default 0.0
            At least 0.
        ensure_positive : bool, default False
            As in `Curvature.factorize`; what is shifted is the product if `mode` is "exact", and A and B each if not.
        mode : {"exact", "factored"}
            How the damping enters [1]_::

                exact      A (x) B + damping I
                factored   (A + pi sqrt(damping) I) (x) (B + sqrt(damping)/pi I),
                           pi^2 = (tr A / a) / (tr B / b), or pi = 1 if one of the traces is not positive

        Returns
        -------
        Factorization
            A snapshot. Its `shift` is a number, one for each of A and B if `mode` is "factored", and an array of these
            over blocks if there are several.

        Raises
        ------
        numpy.linalg.LinAlgError
            If what is to be factorized is not positive definite, unless `ensure_positive`; it names the block. For the
            exact mode that means a smallest eigenvalue above the largest one times the precision.
        ValueError
            If `damping` is negative or not finite, `mode` is none of these, or the arrays are no longer finite and
            symmetric.

        Notes
        -----
        The exact mode diagonalizes the smaller one of A and B, and reduces the larger one to tridiagonal form only: the
        rest are shifted tridiagonal systems, one for each eigenvalue.

        References
        ----------
        .. [1] J. Martens and R. Grosse, "Optimizing neural networks with Kronecker-factored approximate curvature",
           ICML 2015, arXiv:1503.05671, section 6.3.
        """
        exact = choice("mode", mode, ("exact", "factored")) == "exact"
        made = (core.ExactKronecker if exact else core.FactoredKronecker)(self._factors)
        return self._factorize(made, damping, ensure_positive)

    def solve(self, v, damping=0.0, mode="exact"):
        """Short for ``C.factorize(damping, mode=mode).solve(v)``, which see.

        Parameters
        ----------
        v : array_like of shape (n,), (n, k) or (a, b)
            Right-hand sides.
        damping : float, default 0.0
            At least 0.
        mode : {"exact", "factored"}
            How the damping enters.
        """
        return self.factorize(damping, mode=mode).solve(v)

    def _block_name(self, block):
        index, part = divmod(block, 3)
        at = f"[{index}]" if self._is_list else ""
        return (f"A{at}", f"B{at}", f"A{at} (x) B{at}")[part]

    def _shift(self, shifts):
        count = len(self._factors)
        per_block = shifts if len(shifts) == count else shifts.reshape(count, 2)
        return per_block if self._is_list else per_block[0]

    def _on_vectors(self, v, work):
        v = real_array("v", v)
        if not self._is_list and v.shape == tuple(len(factor) for factor in self._factors[0]):
            return super()._on_vectors(v.reshape(-1), work).reshape(v.shape)
        return super()._on_vectors(v, work)

"""Curvatures with the dense matrices that they stand for."""

import numpy as np

import downslope as ds
from downslope.reference import curvature as reference


def symmetric(rng, n):
    """An indefinite matrix."""
    a = rng.standard_normal((n, n))
    return a + a.T


def positive(rng, n):
    """A positive definite matrix with condition number 100."""
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    a = q * np.geomspace(0.1, 10, n) @ q.T
    return (a + a.T) / 2


def dense(rng, make, n=7):
    a = make(rng, n)
    return ds.curvature.Dense(a), a


def diagonal(rng, make, n=7):
    d = np.diag(make(rng, n)).copy()
    return ds.curvature.Diagonal(d), reference.diagonal(d)


def equal_blocks(rng, make, count=19, n=3):
    blocks = np.array([make(rng, n) for _ in range(count)])
    return ds.curvature.BlockDiagonal(blocks), reference.block_diagonal(blocks)


def mixed_blocks(rng, make, sizes=(3, 1, 40, 3, 2, 33, 3, 32, 8)):
    blocks = [make(rng, n) for n in sizes]
    return ds.curvature.BlockDiagonal(blocks), reference.block_diagonal(blocks)


CASES = {"dense": dense, "diagonal": diagonal, "equal blocks": equal_blocks, "mixed blocks": mixed_blocks}

"""Curvatures with the dense matrices that they stand for."""

import numpy as np

import downslope as ds
from downslope.reference import curvature as reference


def symmetric(rng, n):
    """An indefinite matrix."""
    a = rng.standard_normal((n, n))
    return a + a.T


def positive(rng, n):
    """A positive definite matrix with condition number 10."""
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    a = q * np.geomspace(0.5, 5, n) @ q.T
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


def kronecker(rng, make, a=5, b=4):
    """Indefinite, if `make` makes such; A is the larger one or B."""
    A, B = make(rng, a), make(rng, b)
    return ds.curvature.Kronecker(A, B), reference.kronecker(A, B)


def wide_kronecker(rng, make):
    return kronecker(rng, make, 3, 70)


def kronecker_blocks(rng, make, shapes=((3, 2), (1, 4), (2, 5), (1, 1))):
    pairs = [(make(rng, a), make(rng, b)) for a, b in shapes]
    blocks = [reference.kronecker(a, b) for a, b in pairs]
    return ds.curvature.Kronecker(*zip(*pairs, strict=True)), reference.block_diagonal(blocks)


def low_rank(rng, make, n=30, rank=3):
    """With a diagonal that is not positive where the sum still is."""
    U, diag = rng.standard_normal((n, rank)), np.abs(np.diag(make(rng, n))) + 0.1
    diag[:2] = 0, -0.1
    U[:, :2] = 0
    U[:2] = [[1, 0, 0.1], [0, 1, 0.1]]
    if make is not positive:
        diag[3:7] *= -3
    return ds.curvature.LowRank(U, diag), reference.low_rank(U, diag)


CASES = {
    "dense": dense,
    "diagonal": diagonal,
    "equal blocks": equal_blocks,
    "mixed blocks": mixed_blocks,
    "kronecker": kronecker,
    "wide kronecker": wide_kronecker,
    "kronecker blocks": kronecker_blocks,
    "low rank": low_rank,
}

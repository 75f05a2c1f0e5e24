"""Factorizing and solving structured matrices against NumPy and SciPy, side by side in one process.

Run as ``python benchmarks/curvature.py``; SciPy is used if it is there. Both sides go from the arrays to the solution,
on all cores. Solutions are compared before anything is timed. The two sides of a ratio take turns, round by round; a
ratio is the median over the rounds.
"""

import numpy as np
from side_by_side import Race, cell

import downslope as ds

try:
    import scipy.linalg as scipy_linalg
except ModuleNotFoundError:
    scipy_linalg = None


def positive(*shape, seed=0):
    """Random positive definite matrices."""
    g = np.random.default_rng(seed).standard_normal(shape)
    return g @ g.swapaxes(-1, -2) / shape[-1] + 0.1 * np.eye(shape[-1])


def race(name, ours, others):
    """One row: times of all, and ours against the best of the others."""
    others = {key: step for key, step in others.items() if step is not None}
    for step in others.values():
        np.testing.assert_allclose(ours(), step(), rtol=1e-7, atol=1e-9)
    timed = Race({"downslope": ours, **others}, pause=0.3)
    best = min(others, key=timed.us)
    print(
        f"{name:<36}",
        cell(timed.us("downslope") / 1e3, 9),
        cell(timed.us("numpy") / 1e3, 9),
        cell(timed.us("scipy") / 1e3, 9),
        cell(timed.ratio(best, "downslope"), 12, ".2f", "x"),
    )


def block_rows():
    for count, n in ((10_000, 8), (2_000, 32), (200, 128)):
        blocks, v = positive(count, n, n), np.random.default_rng(1).standard_normal(count * n)
        race(
            f"{count:,} blocks of {n}",
            lambda blocks=blocks, v=v: ds.curvature.BlockDiagonal(blocks).solve(v),
            {"numpy": lambda b=blocks, v=v: np.linalg.solve(b, v.reshape(len(b), -1, 1)).ravel()},
        )


def dense_rows():
    for n in (300, 512, 1024, 2048):
        H, v = positive(n, n), np.random.default_rng(1).standard_normal(n)
        cho = scipy_linalg and (lambda H=H, v=v: scipy_linalg.cho_solve(scipy_linalg.cho_factor(H), v))
        race(
            f"dense, {n:,}",
            lambda H=H, v=v: ds.curvature.Dense(H).solve(v),
            {"numpy": lambda H=H, v=v: np.linalg.solve(H, v), "scipy": cho},
        )


def band_rows():
    """Dense arrays that happen to be banded, which SciPy's `solve` finds out, too (from 1.15 on)."""
    n = 1024
    for width in (1, 20):
        H = np.triu(np.tril(positive(n, n), width), -width) + np.eye(n)
        v = np.random.default_rng(1).standard_normal(n)
        race(
            f"dense, {n:,}, {width} beside the diagonal",
            lambda H=H, v=v: ds.curvature.Dense(H).solve(v),
            {
                "numpy": lambda H=H, v=v: np.linalg.solve(H, v),
                "scipy": scipy_linalg and (lambda H=H, v=v: scipy_linalg.solve(H, v)),
            },
        )


def diagonalized(eigh, A, B, X, damping):
    """(A (x) B + damping I)^-1 X by the eigendecompositions of both."""
    (a, P), (b, Q) = eigh(A), eigh(B)
    return P @ ((P.T @ X @ Q) / (np.outer(a, b) + damping)) @ Q.T


def factored(solve, A, B, X, damping):
    """The same with factored damping."""
    pi, root = np.sqrt(np.trace(A) / len(A) / (np.trace(B) / len(B))), np.sqrt(damping)
    Y = solve(A + pi * root * np.eye(len(A)), X)
    return solve(B + root / pi * np.eye(len(B)), Y.T).T


def kronecker_rows(damping=0.01):
    A, B, X = positive(512, 512), positive(256, 256), np.random.default_rng(1).standard_normal((512, 256))
    cho = scipy_linalg and (lambda H, V: scipy_linalg.cho_solve(scipy_linalg.cho_factor(H), V))
    for mode, formulation, by_numpy, by_scipy in (
        ("exact", diagonalized, np.linalg.eigh, scipy_linalg and scipy_linalg.eigh),
        ("factored", factored, np.linalg.solve, cho),
    ):
        race(
            f"Kronecker 512 x 256, {mode}",
            lambda mode=mode: ds.curvature.Kronecker(A, B).solve(X, damping, mode=mode),
            {
                "numpy": lambda f=formulation, by=by_numpy: f(by, A, B, X, damping),
                "scipy": by_scipy and (lambda f=formulation, by=by_scipy: f(by, A, B, X, damping)),
            },
        )


if __name__ == "__main__":
    ds.show_config()
    print("\nfactorize and solve, float64         ms: ours     NumPy     SciPy   times faster than the best")
    block_rows()
    dense_rows()
    band_rows()
    kronecker_rows()

"""Curvatures as plain dense matrices: what the structures of `downslope.curvature` must equal to rounding."""

import numpy as np


def diagonal(d):
    """The matrix with diagonal d."""
    return np.diag(d)


def block_diagonal(blocks):
    """The matrix with these blocks."""
    size = sum(len(block) for block in blocks)
    matrix, row = np.zeros((size, size)), 0
    for block in blocks:
        end = row + len(block)
        matrix[row:end, row:end] = block
        row = end
    return matrix


def low_rank(U, diag):
    """diag + U U^T."""
    return np.diag(diag) + U @ U.T


def kronecker(A, B):
    """A (x) B, which takes the row-major elements of X to those of A X B^T."""
    return np.kron(A, B)


def factored_kronecker(A, B, damping):
    """(A + pi sqrt(damping) I) (x) (B + sqrt(damping)/pi I), with pi^2 = (tr A/dim A)/(tr B/dim B), or 1 if a trace is
    zero (Martens & Grosse 2015, section 6.3)."""
    ratio = np.trace(A) / len(A), np.trace(B) / len(B)
    pi = np.sqrt(ratio[0] / ratio[1]) if min(ratio) > 0 else 1.0
    root = np.sqrt(damping)
    return np.kron(A + pi * root * np.eye(len(A)), B + root / pi * np.eye(len(B)))


def solve(matrix, v, damping=0.0):
    """(matrix + damping I)^-1 v."""
    return np.linalg.solve(matrix + damping * np.eye(len(matrix)), v)


def smallest_shift(matrix, damping=0.0):
    """The smallest shift >= 0 such that matrix + (damping + shift) I has no negative eigenvalue."""
    return max(0.0, -np.linalg.eigvalsh(matrix)[0] - damping)


def gauss_newton(J, weights=None):
    """J^T diag(weights) J, as a sum over the rows of J."""
    weights = np.ones(len(J)) if weights is None else weights
    return sum(w * np.outer(row, row) for w, row in zip(weights, J, strict=True))


def empirical_fisher(G, centered=False):
    """The mean over examples, the rows of G, of g g^T; centered, their covariance."""
    G = G - G.mean(axis=0) if centered else G
    return sum(np.outer(g, g) for g in G) / len(G)

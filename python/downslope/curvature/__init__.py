"""Second-order information: structured matrices to multiply by, to factorize with damping and to solve against."""

from downslope.curvature.block_diagonal import BlockDiagonal
from downslope.curvature.dense import Dense
from downslope.curvature.diagonal import Diagonal
from downslope.curvature.estimates import (
    RunningAverage,
    empirical_fisher,
    gauss_newton,
    hessian,
    hutchinson_diagonal,
    kronecker_fisher,
)
from downslope.curvature.kronecker import Kronecker
from downslope.curvature.low_rank import LowRank
from downslope.curvature.structure import Curvature, Factorization

__all__ = [
    "BlockDiagonal",
    "Curvature",
    "Dense",
    "Diagonal",
    "Factorization",
    "Kronecker",
    "LowRank",
    "RunningAverage",
    "empirical_fisher",
    "gauss_newton",
    "hessian",
    "hutchinson_diagonal",
    "kronecker_fisher",
]

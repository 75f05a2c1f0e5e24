"""Running estimates of curvature for layered models, which make directions of gradients."""

from downslope.preconditioners.base import Preconditioner
from downslope.preconditioners.checkpoint import load_preconditioner
from downslope.preconditioners.diagonal_fisher import DiagonalFisher
from downslope.preconditioners.ekfac import EKFAC
from downslope.preconditioners.kfac import KFAC
from downslope.preconditioners.quadratic_model import QuadraticModel, adapt_damping
from downslope.preconditioners.tonga import TONGA

PRECONDITIONERS = {cls.__name__: cls for cls in (KFAC, EKFAC, TONGA, DiagonalFisher)}

__all__ = [
    "EKFAC",
    "KFAC",
    "PRECONDITIONERS",
    "TONGA",
    "DiagonalFisher",
    "Preconditioner",
    "QuadraticModel",
    "adapt_damping",
    "load_preconditioner",
]

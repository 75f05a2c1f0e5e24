"""Plain NumPy: the specification that the compiled core is tested against, and the baseline it is timed against."""

from downslope.reference import curvature, minimize, preconditioners
from downslope.reference.optimizer import Optimizer
from downslope.reference.rules import RULES

__all__ = ["RULES", "Optimizer", "curvature", "minimize", "preconditioners"]

"""Plain NumPy: the specification that the compiled core is tested against, and the baseline it is timed against."""

from downslope.reference.rules import RULES, Optimizer

__all__ = ["RULES", "Optimizer"]

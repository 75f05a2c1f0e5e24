"""Loops over the objective, and what goes with them."""

from downslope.minimize.check_grad import check_grad
from downslope.minimize.curve_fit import curve_fit, curve_fit_many
from downslope.minimize.early_stopping import EarlyStopping
from downslope.minimize.flatten import flatten
from downslope.minimize.least_squares import least_squares, least_squares_many
from downslope.minimize.many import minimize_many
from downslope.minimize.minibatches import minibatches
from downslope.minimize.minimize import minimize
from downslope.minimize.result import OptimizeResult
from downslope.minimize.scipy_method import scipy_method
from downslope.minimize.train import train

__all__ = [
    "EarlyStopping",
    "OptimizeResult",
    "check_grad",
    "curve_fit",
    "curve_fit_many",
    "flatten",
    "least_squares",
    "least_squares_many",
    "minibatches",
    "minimize",
    "minimize_many",
    "scipy_method",
    "train",
]

"""Optimization on CPUs, for people who live in NumPy."""

from downslope import curvature, preconditioners, reference, schedules
from downslope.config import __version__, isa, show_config
from downslope.minimize import (
    EarlyStopping,
    OptimizeResult,
    check_grad,
    curve_fit,
    curve_fit_many,
    flatten,
    least_squares,
    least_squares_many,
    minibatches,
    minimize,
    minimize_many,
    scipy_method,
    train,
)
from downslope.preconditioners import EKFAC, KFAC, TONGA, DiagonalFisher, load_preconditioner
from downslope.rules import (
    NAG,
    OPTIMIZERS,
    SGD,
    AdaBelief,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
    RowGrad,
)
from downslope.rules.checkpoint import load_optimizer
from downslope.threads import get_num_threads, num_threads, set_num_threads


def __dir__():
    return __all__


__all__ = [
    "EKFAC",
    "KFAC",
    "NAG",
    "OPTIMIZERS",
    "SGD",
    "TONGA",
    "AdaBelief",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "DiagonalFisher",
    "EarlyStopping",
    "Lion",
    "NAdam",
    "OptimizeResult",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "RowGrad",
    "__version__",
    "check_grad",
    "curvature",
    "curve_fit",
    "curve_fit_many",
    "flatten",
    "get_num_threads",
    "isa",
    "least_squares",
    "least_squares_many",
    "load_optimizer",
    "load_preconditioner",
    "minibatches",
    "minimize",
    "minimize_many",
    "num_threads",
    "preconditioners",
    "reference",
    "schedules",
    "scipy_method",
    "set_num_threads",
    "show_config",
    "train",
]

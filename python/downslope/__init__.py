"""Optimization on CPUs, for people who live in NumPy."""

from downslope import reference, schedules
from downslope.config import __version__, isa, show_config
from downslope.minimize import minibatches
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
    "NAG",
    "OPTIMIZERS",
    "SGD",
    "AdaBelief",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "RowGrad",
    "__version__",
    "get_num_threads",
    "isa",
    "load_optimizer",
    "minibatches",
    "num_threads",
    "reference",
    "schedules",
    "set_num_threads",
    "show_config",
]

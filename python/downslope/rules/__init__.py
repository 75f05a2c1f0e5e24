"""First-order update rules: one class each, on the rule of the same name in the core."""

from types import MappingProxyType

from downslope.rules.adabelief import AdaBelief
from downslope.rules.adadelta import Adadelta
from downslope.rules.adagrad import Adagrad
from downslope.rules.adam import Adam
from downslope.rules.adamax import Adamax
from downslope.rules.adamw import AdamW
from downslope.rules.lion import Lion
from downslope.rules.nadam import NAdam
from downslope.rules.nag import NAG
from downslope.rules.optimizer import Optimizer
from downslope.rules.radam import RAdam
from downslope.rules.rmsprop import RMSprop
from downslope.rules.row_grad import RowGrad
from downslope.rules.sgd import SGD

OPTIMIZERS = MappingProxyType(
    {
        cls.__name__.lower(): cls
        for cls in (SGD, NAG, Adagrad, Adadelta, RMSprop, Adam, AdamW, Adamax, NAdam, AdaBelief, RAdam, Lion)
    }
)
"""All optimizers by their lower-case names."""

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "NAG",
    "Adagrad",
    "Adadelta",
    "RMSprop",
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "AdaBelief",
    "RAdam",
    "RowGrad",
    "Lion",
    "Optimizer",
]

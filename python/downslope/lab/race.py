"""The race: every rule trains a model from one start, the fused kernel and plain NumPy side by side."""

import contextlib
import time
from dataclasses import dataclass

import numpy as np

import downslope as ds
from downslope.lab.models import cross_entropy

# Tuned on the digits, by training loss and held-out accuracy after 900 steps of 32, for both models at once. A rule
# that is not listed runs with its defaults.
HYPER = {
    "sgd": {"lr": 0.1},
    "nag": {"lr": 0.02},
    "adagrad": {"lr": 0.1},
    "adadelta": {"lr": 1.0},
    "rmsprop": {"lr": 2e-3},
    "adam": {"lr": 3e-3},
    "adamw": {"lr": 3e-3},
    "adamax": {"lr": 1e-2},
    "nadam": {"lr": 3e-3},
    "adabelief": {"lr": 3e-3},
    "radam": {"lr": 1e-2},
    "lion": {"lr": 1e-3},
}
# The curvature of a squared error grows with the number of features, and these two steps grow with the gradient.
SQUARED_ERROR_HYPER = {"sgd": {"lr": 0.01}, "nag": {"lr": 0.002}}

STEPS = 900


@dataclass(frozen=True)
class Lap:
    """What one rule did on one model.

    Attributes
    ----------
    rule : str
    losses : ndarray
        Training loss before the first epoch and after each.
    score : float
        Held-out accuracy for classes, R^2 for numbers (NaN if the held-out targets are all equal).
    fused_us, numpy_us : float
        Median microseconds of a step.
    identical : bool
        Whether the parameters of the two had the same bits after every epoch.
    """

    rule: str
    losses: np.ndarray
    score: float
    fused_us: float
    numpy_us: float
    identical: bool


def default_epochs(n_train, batch_size):
    """As many as make about `STEPS` steps, and at least two."""
    return max(2, round(STEPS / np.ceil(n_train / batch_size)))


def run(rule, model, train, test, *, epochs, batch_size, seed, on_epoch=lambda: None):
    """Train ``model`` by ``rule`` and return its `Lap`.

    Gradients are taken once, at the fused optimizer's parameters, and given to both; each steps its own copy.

    Parameters
    ----------
    rule : str
        A key of ``downslope.OPTIMIZERS``.
    model : Model
    train, test : tuple of ndarray
        Features and targets.
    epochs, batch_size, seed : int
    on_epoch : callable
        Called after every epoch.
    """
    cls = ds.OPTIMIZERS[rule]
    hyper = dict(HYPER.get(rule, {}))
    if model.loss is not cross_entropy:
        hyper.update(SQUARED_ERROR_HYPER.get(rule, {}))
    params = model.init(seed)
    copies = [array.copy() for array in params.values()]
    fused = cls(params, **hyper)
    settings = dict(fused.param_groups[0])
    del settings["params"]
    reference = ds.reference.Optimizer(cls.rule, copies, **settings)
    where_gradients_are_taken = fused.lookahead if rule == "nag" else contextlib.nullcontext

    fused_ns, numpy_ns, identical = [], [], True
    # A rule that diverges shows as inf or nan in the result; warnings on the way would say no more.
    with np.errstate(all="ignore"):
        losses = [model.loss_and_grads(params, *train)[0]]
        batches = ds.minibatches(*train, batch_size=batch_size, seed=seed)
        for _ in range(epochs):
            for inputs, targets in batches:
                with where_gradients_are_taken():
                    _, grads = model.loss_and_grads(params, inputs, targets)
                in_order = [grads[name] for name in params]
                started = time.perf_counter_ns()
                fused.step(grads)
                between = time.perf_counter_ns()
                reference.step(in_order)
                numpy_ns.append(time.perf_counter_ns() - between)
                fused_ns.append(between - started)
            losses.append(model.loss_and_grads(params, *train)[0])
            identical = identical and all(map(same_bits, params.values(), copies))
            on_epoch()
        outputs = model.predict(params, test[0])
        score = accuracy(outputs, test[1]) if model.loss is cross_entropy else r_squared(outputs, test[1])
    return Lap(rule, np.array(losses), score, np.median(fused_ns) / 1e3, np.median(numpy_ns) / 1e3, identical)


def same_bits(a, b):
    """Whether two arrays are equal to the last bit, any NaN being as good as any other."""
    nan = np.isnan(a)
    return np.array_equal(nan, np.isnan(b)) and a[~nan].tobytes() == b[~nan].tobytes()


def accuracy(logits, labels):
    """The share of rows whose largest logit is the label's; a row with NaN is wrong."""
    return np.mean((logits.argmax(axis=1) == labels) & np.isfinite(logits).all(axis=1))


def r_squared(outputs, targets):
    """1 - (squared error) / (squared deviation of the targets from their mean); NaN if they do not deviate."""
    if (targets == targets[0]).all():
        return np.nan
    return 1 - np.sum((outputs[:, 0] - targets) ** 2) / np.sum((targets - targets.mean()) ** 2)

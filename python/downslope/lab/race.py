"""The race: every rule trains a model from one start, the fused kernel and plain NumPy side by side."""

import contextlib
import time
import warnings
from dataclasses import dataclass

import numpy as np

import downslope as ds
from downslope.lab.models import cross_entropy
from downslope.lab.preconditioned import METHODS

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
# The autoencoder's error is a mean over its outputs.
RECONSTRUCTION_HYPER = {"sgd": {"lr": 0.3}, "nag": {"lr": 0.3}, "adadelta": {"lr": 3.0}, "adagrad": {"lr": 0.03}}

# What can race, and what it is called: rules, and preconditioners with SGD.
ENTRANTS = {
    **{rule: cls.__name__ for rule, cls in ds.OPTIMIZERS.items()},
    **{name: method.label for name, method in METHODS.items()},
}

STEPS = 900


@dataclass(frozen=True)
class Lap:
    """What one rule or preconditioner did on one model.

    Attributes
    ----------
    rule : str
        A key of `ENTRANTS`.
    losses : ndarray
        Training loss before the first epoch and after each.
    seconds : ndarray
        Of training until then: gradients and steps, without the twin in NumPy and without looking at the loss.
    score : float
        Held-out accuracy for classes, R^2 for numbers (NaN if the held-out targets are all equal).
    fused_us : float
        Median microseconds of a step; for a preconditioner, of all that it takes beyond the gradients.
    numpy_us : float
        The same of the twin in NumPy; NaN for a preconditioner, which has none.
    identical : bool or None
        Whether the parameters of the two had the same bits after every epoch.
    """

    rule: str
    losses: np.ndarray
    seconds: np.ndarray
    score: float
    fused_us: float
    numpy_us: float
    identical: bool | None

    def reaches(self, loss):
        """The first epoch after which the loss was so low, and the seconds until then; NaN if it never was."""
        at = np.flatnonzero(self.losses <= loss)
        return (at[0], self.seconds[at[0]]) if len(at) else (np.nan, np.nan)


def default_epochs(n_train, batch_size):
    """As many as make about `STEPS` steps, and at least two."""
    return max(2, round(STEPS / np.ceil(n_train / batch_size)))


def run(rule, model, train, test, **settings):
    """Train ``model`` by one of `ENTRANTS` and return its `Lap`.

    Parameters
    ----------
    rule : str
    model : Model
    train, test : tuple of ndarray
        Features and targets.
    epochs, batch_size, seed : int
    on_epoch : callable
        Called after every epoch.
    """
    train, test = model.data(*train), model.data(*test)
    return (_run_method if rule in METHODS else _run_rule)(rule, model, train, test, **settings)


def hyper_for(rule, model):
    """The rule's hyper-parameters for this model."""
    hyper = dict(HYPER.get(rule, {}))
    if model.reconstructs:
        hyper.update(RECONSTRUCTION_HYPER.get(rule, {}))
    elif model.loss is not cross_entropy:
        hyper.update(SQUARED_ERROR_HYPER.get(rule, {}))
    return hyper


def _run_rule(rule, model, train, test, *, epochs, batch_size, seed, on_epoch=lambda: None):
    """Gradients are taken once, at the fused optimizer's parameters, and given to both; each steps its own copy."""
    cls = ds.OPTIMIZERS[rule]
    params = model.init(seed)
    copies = [array.copy() for array in params.values()]
    fused = cls(params, **hyper_for(rule, model))
    settings = dict(fused.param_groups[0])
    del settings["params"]
    reference = ds.reference.Optimizer(cls.rule, copies, **settings)
    where_gradients_are_taken = fused.lookahead if rule == "nag" else contextlib.nullcontext

    gradient_ns, fused_ns, numpy_ns, identical = [], [], [], True

    def step(inputs, targets):
        started = time.perf_counter_ns()
        with where_gradients_are_taken():
            _, grads = model.loss_and_grads(params, inputs, targets)
        gradient_ns.append(time.perf_counter_ns() - started)
        in_order = [grads[name] for name in params]
        started = time.perf_counter_ns()
        fused.step(grads)
        between = time.perf_counter_ns()
        reference.step(in_order)
        numpy_ns.append(time.perf_counter_ns() - between)
        fused_ns.append(between - started)

    def after_epoch():
        nonlocal identical
        identical = identical and all(map(same_bits, params.values(), copies))
        on_epoch()

    losses = _train(model, params, step, train, epochs, batch_size, seed, after_epoch)
    seconds = _at_epochs(np.add(gradient_ns, fused_ns), epochs)
    score = _score(model, params, test)
    return Lap(rule, losses, seconds, score, np.median(fused_ns) / 1e3, np.median(numpy_ns) / 1e3, identical)


def _run_method(name, model, train, test, *, epochs, batch_size, seed, on_epoch=lambda: None):
    params = model.init(seed)
    trainer = METHODS[name].trainer(METHODS[name], model, params, seed)
    gradient_ns, direction_ns = [], []

    def step(inputs, targets):
        started = time.perf_counter_ns()
        trainer.take_gradients(inputs, targets)
        between = time.perf_counter_ns()
        with contextlib.suppress(FloatingPointError):  # the loss has diverged, and shows it
            trainer.step()
        direction_ns.append(time.perf_counter_ns() - between)
        gradient_ns.append(between - started)

    losses = _train(model, params, step, train, epochs, batch_size, seed, on_epoch)
    seconds = _at_epochs(np.add(gradient_ns, direction_ns), epochs)
    return Lap(name, losses, seconds, _score(model, params, test), np.median(direction_ns) / 1e3, np.nan, None)


def _train(model, params, step, train, epochs, batch_size, seed, after_epoch):
    """The losses on all of the training rows before the first epoch and after each."""
    # A rule that diverges shows as inf or nan in the result; warnings on the way would say no more.
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        losses = [model.loss_and_grads(params, *train)[0]]
        batches = ds.minibatches(*train, batch_size=batch_size, seed=seed)
        for _ in range(epochs):
            for inputs, targets in batches:
                step(inputs, targets)
            losses.append(model.loss_and_grads(params, *train)[0])
            after_epoch()
    return np.array(losses)


def _at_epochs(step_ns, epochs):
    """Seconds until the end of each epoch."""
    return np.concatenate([[0.0], np.cumsum(np.reshape(step_ns, (epochs, -1)).sum(axis=1)) / 1e9])


def _score(model, params, test):
    with np.errstate(all="ignore"):
        outputs = model.predict(params, test[0])
        return accuracy(outputs, test[1]) if model.loss is cross_entropy else r_squared(outputs, test[1])


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
    return 1 - np.sum((outputs - targets.reshape(outputs.shape)) ** 2) / np.sum((targets - targets.mean(axis=0)) ** 2)

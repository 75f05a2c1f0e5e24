"""Adam with state in 32, 16 and 8 bits, from the same starts on the same batches: does it train as well?"""

from dataclasses import dataclass

import numpy as np

import downslope as ds
from downslope.lab.models import cross_entropy
from downslope.lab.race import HYPER, accuracy, r_squared

# What the columns and curves are called -> state_dtype.
STATES = {"float32": None, "bfloat16": "bfloat16", "uint8": "uint8"}

# The long test: gradients shrink by so many decades over so many steps, so that the second moment, which forgets a
# thousandth a step, must decay in every one of them. State that is rounded to nearest would stand still.
LONG_STEPS = 10_000
SHRINKING_DECADES = 4
# Curvatures spread evenly in logarithm, all of them in every block of 256 that shares a scale in 8 bits.
CURVATURE_DECADES = 4
LONG_SIZE = 64 * 256
POINTS = 100  # at which the loss is looked at


@dataclass(frozen=True)
class Curve:
    """What one kind of state did from one seed.

    Attributes
    ----------
    losses : ndarray
        At the start, and on the way to the end.
    score : float
        Held-out accuracy for classes, R^2 for numbers; NaN in the long test.
    bytes_a_parameter : float
        Of state, as measured.
    """

    losses: np.ndarray
    score: float
    bytes_a_parameter: float

    @property
    def final(self):
        """The loss at the end."""
        return self.losses[-1]


def train(state, model, train, test, *, epochs, batch_size, seed, on_steps=lambda steps: None):
    """Train ``model`` by Adam with a key of `STATES`, and return its `Curve`: the training loss after each epoch.

    Parameters
    ----------
    state : str
    model : Model
    train, test : tuple of ndarray
        Features and targets.
    epochs, batch_size, seed : int
    on_steps : callable
        Called with the number of steps just taken, after every epoch.
    """
    params = model.init(seed)
    opt = ds.Adam(params, **HYPER["adam"], state_dtype=STATES[state], seed=seed)
    batches = ds.minibatches(*train, batch_size=batch_size, seed=seed)
    losses = [model.loss_and_grads(params, *train)[0]]
    for _ in range(epochs):
        for inputs, targets in batches:
            opt.step(model.loss_and_grads(params, inputs, targets)[1])
        losses.append(model.loss_and_grads(params, *train)[0])
        on_steps(len(batches))
    score = accuracy if model.loss is cross_entropy else r_squared
    return Curve(np.array(losses), score(model.predict(params, test[0]), test[1]), bytes_a_parameter(opt))


def shrink(*, steps=LONG_STEPS, size=LONG_SIZE, seed=0, on_steps=lambda steps: None):
    """The long test: minimize a noisy quadratic while its gradients shrink, with each of `STATES` side by side.

    The loss is the mean of ``h x^2 / 2``; the gradient given in step t is ``10^(-4 t/steps) h (x + noise)``, with
    standard normal noise, the same for every kind of state.

    Returns
    -------
    dict
        A key of `STATES` -> `Curve`.
    """
    rng = np.random.default_rng(seed)
    h = (10 ** rng.uniform(-CURVATURE_DECADES, 0, size)).astype(np.float32)
    start = rng.standard_normal(size, dtype=np.float32)
    opts = {
        state: ds.Adam(start.copy(), lr=0.01, state_dtype=state_dtype, seed=seed)
        for state, state_dtype in STATES.items()
    }
    losses = {state: [] for state in STATES}
    at = set(looks(steps).tolist())
    for t in range(steps + 1):
        if t in at:
            for state, opt in opts.items():
                losses[state].append(np.mean(h * opt.params * opt.params, dtype=np.float64) / 2)
        if t == steps:
            break
        noise = rng.standard_normal(size, dtype=np.float32)
        scaled = np.float32(10 ** (-SHRINKING_DECADES * t / steps)) * h
        for opt in opts.values():
            opt.step(scaled * (opt.params + noise))
        on_steps(len(opts))
    return {state: Curve(np.array(losses[state]), np.nan, bytes_a_parameter(opt)) for state, opt in opts.items()}


def looks(steps):
    """After which steps of the long test there is a look at the loss."""
    return np.unique(np.linspace(0, steps, POINTS + 1).round().astype(int))


def bytes_a_parameter(opt):
    """What the arrays of an optimizer's state take, per element of its parameters; step counts are left out."""
    params, state = opt.params, opt.state
    if not isinstance(params, dict):
        params, state = {"": params}, {"": state}
    nbytes = sum(array.nbytes for slots in state.values() for name, array in slots.items() if name != "step")
    return nbytes / sum(array.size for array in params.values())


def relative(curves, reference):
    """Mean over the seeds of one's final loss over that of the reference from the same seed."""
    return np.mean([a.final / b.final for a, b in zip(curves, reference, strict=True)])

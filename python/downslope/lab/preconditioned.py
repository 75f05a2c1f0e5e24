"""Training by preconditioned gradients: K-FAC and its relatives, each with SGD to step on its directions."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import downslope as ds
from downslope.lab.models import metric, sampled_targets

# The factors are updated once in so many steps, by one example in so many of the batch, and factorized once in so many
# updates; a direction is clipped where it would change the model by more.
UPDATE_EVERY = 4
FACTORS_SHARE = 2
PERIOD = 5
MAX_KL = 0.01
# The full machinery, whose steps are longer, has fresher factors: at every step by one example in so many. The damping
# to start from, and once in how many steps it is adapted.
MACHINERY_SHARE = 4
MACHINERY_PERIOD = 10
FIRST_DAMPING = 1e-2
ADAPT_EVERY = 20
# The diagonal Fisher takes the gradients of so many examples of a batch one by one.
EXAMPLES = 16


@dataclass(frozen=True)
class Method:
    """A preconditioner and how it is used.

    Attributes
    ----------
    label : str
        What tables call it.
    make : callable
        ``make(shapes of the layers) -> preconditioner``.
    trainer : type
        How it is fed and stepped on.
    lr : float
        The learning rate of SGD.
    """

    label: str
    make: Callable
    trainer: type
    lr: float


class _Trainer:
    """Takes one step after the other on a model's parameters: SGD with momentum on preconditioned gradients."""

    momentum = 0.9

    def __init__(self, method, model, params, seed):
        self.model, self.params = model, params
        self.rng = np.random.default_rng(seed)
        self.preconditioner = method.make(self.shapes())
        self.opt = ds.SGD(params, lr=method.lr, momentum=self.momentum)

    def shapes(self):
        return {name: array.shape for name, array in self.params.items()}

    def take_gradients(self, inputs, targets):
        """Of a batch, as any method needs them."""
        *self.activations, self.outputs = self.model.forward(self.params, inputs)
        self.loss, delta = self.model.loss(self.outputs, targets)
        deltas = self.model.backward(self.params, self.activations, delta)
        self.grads = self.model.grads(self.activations, deltas)
        self.batch = inputs, targets

    def step(self):
        """All that comes then."""
        self.opt.step(self.directions())

    def sampled(self, few):
        """What enters each layer for the first examples of the batch, and their own gradients in what leaves it, for
        targets drawn from the model's distribution."""
        entering = [activation[:few] for activation in self.activations]
        outputs = self.outputs[:few]
        _, delta = self.model.loss(outputs, sampled_targets(self.model.loss, outputs, self.rng))
        return entering, self.model.backward(self.params, entering, delta * len(delta))


class _Arrays(_Trainer):
    """TONGA: by the gradients themselves."""

    def directions(self):
        self.preconditioner.update(self.grads)
        return self.preconditioner.precondition(self.grads)


class _Examples(_Trainer):
    """The diagonal Fisher: by the gradients of some examples, one by one."""

    def directions(self):
        entering, deltas = self.sampled(EXAMPLES)
        per_example = {}
        for layer, delta in deltas.items():
            per_example[f"W{layer}"] = entering[layer - 1][:, :, None] * delta[:, None, :]
            per_example[f"b{layer}"] = delta
        self.preconditioner.update(per_example)
        return self.preconditioner.precondition(self.grads)


class _Layers(_Trainer):
    """K-FAC and EKFAC: by what enters the layers, and gradients in what leaves them, of a part of some batches."""

    update_every, share = UPDATE_EVERY, FACTORS_SHARE
    steps = 0

    def shapes(self):
        return self.model.layers

    def step(self):
        super().step()
        self.steps += 1

    def directions(self):
        if self.steps % self.update_every == 0:
            entering, deltas = self.sampled(-(-len(self.outputs) // self.share))
            self.preconditioner.update({layer: (entering[layer - 1], delta) for layer, delta in deltas.items()})
        grads = {layer: (self.grads[f"W{layer}"], self.grads[f"b{layer}"]) for layer in self.model.layers}
        directions = self.of_layers(grads)
        return {f"{kind}{layer}": part for layer, pair in directions.items() for kind, part in zip("Wb", pair)}

    def of_layers(self, grads):
        return self.preconditioner.precondition(grads)


class _Machinery(_Layers):
    """K-FAC with step size and momentum from the quadratic model, and with the adaptation of the damping."""

    momentum = 0.0
    update_every, share = 1, MACHINERY_SHARE

    def __init__(self, *args):
        super().__init__(*args)
        self.quadratic = ds.preconditioners.QuadraticModel()

    def step(self):
        super().step()
        if self.steps % ADAPT_EVERY == 0:
            inputs, targets = self.batch
            decrease = self.loss - self.model.loss(self.model.predict(self.params, inputs), targets)[0]
            self.preconditioner.damping = ds.preconditioners.adapt_damping(
                self.preconditioner.damping, float(decrease), self.quadratic.decrease, ADAPT_EVERY
            )

    def of_layers(self, grads):
        return self.quadratic.step(
            grads,
            self.preconditioner.precondition(grads),
            self.preconditioner.damping,
            jvp=lambda direction: self.model.jvp(self.params, self.activations, direction),
            metric=lambda dy: metric(self.model.loss, self.outputs, dy),
        )


def _kfac_to_adapt(shapes):
    return ds.KFAC(shapes, damping=FIRST_DAMPING, period=MACHINERY_PERIOD)


METHODS = {
    "kfac": Method("KFAC", lambda shapes: ds.KFAC(shapes, period=PERIOD, max_kl=MAX_KL), _Layers, 0.1),
    "kfac-quadratic": Method("KFAC+model", _kfac_to_adapt, _Machinery, 1.0),
    "ekfac": Method("EKFAC", lambda shapes: ds.EKFAC(shapes, period=PERIOD, max_kl=MAX_KL), _Layers, 0.1),
    "tonga": Method("TONGA", ds.TONGA, _Arrays, 0.001),
    "diagonal-fisher": Method("DiagFisher", ds.DiagonalFisher, _Examples, 0.001),
}

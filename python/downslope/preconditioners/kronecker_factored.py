"""What K-FAC and EKFAC share: the running factors of each layer, and directions with a clip."""

import math

import numpy as np

from downslope._extension import core
from downslope.curvature.estimates import running_weight
from downslope.preconditioners.base import Preconditioner, floating
from downslope.validation import boolean, integer, number


class KroneckerFactored(Preconditioner):
    """Layers y = x @ W + b with the factors A = E[a a^T], where a is x with a 1 for the bias, and G = E[g g^T]."""

    _changeable = ("damping", "max_kl")

    def __init__(self, layers, bias, damping, decay, period, max_kl):
        self.bias = boolean("bias", bias)
        self.damping = damping
        self.decay = number("decay", decay, lower=0, upper=1)
        self.period = integer("period", period, lower=1)
        self.max_kl = max_kl
        super().__init__(layers, axes=2)
        self._names = list(self.layers)

    @property
    def damping(self):
        return self._damping

    @damping.setter
    def damping(self, value):
        self._damping = number("damping", value, lower=0)

    @property
    def max_kl(self):
        return self._max_kl

    @max_kl.setter
    def max_kl(self, value):
        self._max_kl = None if value is None else number("max_kl", value, lower=0)

    def update(self, layer, inputs=None, output_grads=None):
        """Take in a batch.

        Parameters
        ----------
        layer : str or mapping
            The name of a layer, with the two arguments below; or name -> (inputs, output_grads), for several layers in
            parallel.
        inputs : array_like of shape (batch, n_in)
            What enters the layer, without the 1 of the bias.
        output_grads : array_like of shape (batch, n_out)
            The gradient of each example's own loss with respect to the layer's output x @ W + b: if the loss is a mean
            over the batch, that is its gradient times the size of the batch. Of sampled targets for the Fisher, and of
            the true ones for the empirical Fisher: see the notes of the class.

        Raises
        ------
        TypeError
            If something does not hold real numbers.
        ValueError
            If there is no such layer, or a shape does not fit. Then no layer is changed.

        Warns
        -----
        RuntimeWarning
            If something is not finite: the layer leaves this batch out.
        """
        batches = layer if inputs is None and output_grads is None else {layer: (inputs, output_grads)}
        with self._lock:
            self._update(self._checked_batches(batches))

    def precondition(self, grads):
        """The gradients times the inverse of the damped curvature.

        Parameters
        ----------
        grads : mapping
            The name of each layer -> its mean gradients (gW, gb), of shapes (n_in, n_out) and (n_out,), or gW alone if
            `bias` is False.

        Returns
        -------
        dict
            In the same structure; float32 where a gradient is, and float64 otherwise. What is not finite propagates.

        Raises
        ------
        TypeError
            If something does not hold real numbers.
        ValueError
            If the layers or shapes do not fit.
        RuntimeError
            If a layer has had no update.
        numpy.linalg.LinAlgError
            If the first factorization of a layer fails; it names the layer.

        Warns
        -----
        RuntimeWarning
            If a later one fails: the last good one is used.
        """
        with self._lock:
            gradients = self._checked_grads(grads)
            self._require_updates()
            self._factorize()
            directions = self._core.solve(gradients, math.inf if self._max_kl is None else self._max_kl)
        names = (self._names[layer] for layer, _, _ in gradients)
        return dict(zip(names, directions if self.bias else (weights for weights, _ in directions), strict=True))

    def _new_factors(self, shape):
        n_in, n_out = shape[0] + self.bias, shape[1]
        return {"inputs": np.zeros((n_in, n_in)), "output_grads": np.zeros((n_out, n_out))}

    def _checked_batches(self, batches):
        """(name, inputs, output_grads) of each layer."""
        checked = []
        for name in self._names_in("update's argument", batches, all_of_them=False):
            rows = []
            try:
                inputs, output_grads = batches[name]
            except (TypeError, ValueError):
                raise ValueError(f"update[{name!r}] must be a pair (inputs, output_grads)") from None
            for argument, given, extent in zip(
                ("inputs", "output_grads"), (inputs, output_grads), self.layers[name], strict=True
            ):
                array = floating(f"{argument} of {name!r}", given)
                if array.ndim != 2 or array.shape[1] != extent or len(array) == 0:
                    raise ValueError(f"{argument} of {name!r} must have shape (batch, {extent}), got {array.shape}")
                rows.append(array)
            if len(rows[0]) != len(rows[1]):
                raise ValueError(
                    f"output_grads of {name!r} must have as many rows as inputs, {len(rows[0])}, got {len(rows[1])}"
                )
            checked.append((name, *rows))
        return checked

    def _update(self, batches):
        """Returns (name, inputs, output_grads, weight of the past) of what was taken in."""
        taken, moments, facts, failed = [], [], {}, []
        for name, inputs, output_grads in batches:
            if not core.finite_moments([inputs, output_grads]):
                failed.append((name, "inputs and output_grads must be finite: this batch is left out"))
                continue
            slots = self._state[name]
            facts[name] = {**slots, "updates": slots["updates"] + 1}
            weight = running_weight(facts[name]["updates"], self.decay)
            moments.append((inputs, slots["inputs"], self.bias, weight))
            moments.append((output_grads, slots["output_grads"], False, weight))
            taken.append((name, inputs, output_grads, weight))
        core.in_one_go((core.update_moments, moments), (self._state.update, facts))
        self._after_update(taken, failed)
        self._report(failed)

    def _checked_grads(self, grads):
        """(number of the layer, gW, gb or None), in the order of the gradients."""
        checked = []
        for name in self._names_in("grads", grads, all_of_them=True):
            n_in, n_out = self.layers[name]
            given = grads[name]
            if self.bias:
                if not isinstance(given, (tuple, list)) or len(given) != 2:
                    raise ValueError(f"grads[{name!r}] must be a pair of gradients, in W and in b, got {type(given)}")
                labels, shapes = (f"grads[{name!r}][0]", f"grads[{name!r}][1]"), ((n_in, n_out), (n_out,))
            else:
                given, labels, shapes = (given,), (f"grads[{name!r}]",), ((n_in, n_out),)
            arrays = [floating(label, one) for label, one in zip(labels, given, strict=True)]
            for label, array, shape in zip(labels, arrays, shapes, strict=True):
                if array.shape != shape:
                    raise ValueError(f"{label} must have shape {shape}, got {array.shape}")
            checked.append((self._names.index(name), arrays[0], arrays[1] if self.bias else None))
        return checked

    def _factorize_layers(self, names, damping):
        return self._core.factorize([self._names.index(name) for name in names], damping)

    def _after_update(self, taken, failed):
        pass

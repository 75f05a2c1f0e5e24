"""Linear models and perceptrons with hand-written gradients: parameters are a mapping name -> array."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


def cross_entropy(logits, labels):
    """Mean of -log softmax(logits)[label] over the rows, and its gradient in the logits."""
    rows = np.arange(len(labels))
    shifted = logits - logits.max(axis=1, keepdims=True)  # so that exp cannot overflow
    exp = np.exp(shifted)
    total = exp.sum(axis=1, keepdims=True)
    loss = np.mean(np.log(total[:, 0]) - shifted[rows, labels])
    grad = exp / total
    grad[rows, labels] -= 1
    return loss, grad / len(labels)


def squared_error(outputs, targets):
    """Mean of (output - target)^2 over the rows, and its gradient in the outputs, of shape (rows, 1)."""
    residual = outputs - targets[:, None]
    return np.mean(residual * residual), (2 / len(targets)) * residual


@dataclass(frozen=True)
class Model:
    """Dense layers with tanh between them; without a hidden layer it is a linear model.

    Parameters
    ----------
    name : str
    sizes : tuple of int
        Units of each layer, from inputs to outputs.
    loss : callable
        ``loss(outputs, targets) -> (value, gradient in the outputs)``.
    """

    name: str
    sizes: tuple[int, ...]
    loss: Callable

    @property
    def size(self):
        """The number of parameters."""
        return sum((n_in + 1) * n_out for n_in, n_out in zip(self.sizes, self.sizes[1:]))

    def init(self, seed):
        """Initial float32 parameters: weights normal with variance 1/inputs, biases zero."""
        rng = np.random.default_rng(seed)
        params = {}
        for layer, (n_in, n_out) in enumerate(zip(self.sizes, self.sizes[1:]), start=1):
            params[f"W{layer}"] = (rng.standard_normal((n_in, n_out)) / np.sqrt(n_in)).astype(np.float32)
            params[f"b{layer}"] = np.zeros(n_out, np.float32)
        return params

    def _forward(self, params, inputs):
        """What enters each layer, and last what leaves the network."""
        layers = len(self.sizes) - 1
        activations = [inputs]
        for layer in range(1, layers + 1):
            z = activations[-1] @ params[f"W{layer}"] + params[f"b{layer}"]
            activations.append(np.tanh(z) if layer < layers else z)
        return activations

    def predict(self, params, inputs):
        """Outputs of shape (rows, outputs): logits, or the regression's value."""
        return self._forward(params, inputs)[-1]

    def loss_and_grads(self, params, inputs, targets):
        """The mean loss of a batch, and its gradients by the parameters' names."""
        *activations, outputs = self._forward(params, inputs)
        loss, delta = self.loss(outputs, targets)
        grads = {}
        for layer in range(len(activations), 0, -1):
            entering = activations[layer - 1]
            grads[f"W{layer}"] = entering.T @ delta
            grads[f"b{layer}"] = delta.sum(axis=0)
            if layer > 1:
                delta = (delta @ params[f"W{layer}"].T) * (1 - entering * entering)  # tanh' = 1 - tanh^2
        return loss, grads


def models_for(n_features, n_classes, hidden=(128,)):
    """The pair that races: a linear model and a perceptron, for ``n_classes``, or for numbers if that is None."""
    if n_classes is None:
        linear, n_outputs, loss = "least squares", 1, squared_error
    else:
        linear, n_outputs, loss = "softmax regression", n_classes, cross_entropy
    return [
        Model(linear, (n_features, n_outputs), loss),
        Model("multi-layer perceptron", (n_features, *hidden, n_outputs), loss),
    ]

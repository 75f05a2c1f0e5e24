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
    """Mean of (output - target)^2 over rows and outputs, and its gradient in the outputs, of shape (rows, outputs)."""
    residual = outputs - targets.reshape(outputs.shape)
    return np.mean(residual * residual), (2 / residual.size) * residual


def sampled_targets(loss, outputs, rng):
    """Targets drawn from the distribution of which `loss` is the negative log-likelihood, up to factor and constant of
    the normal distribution: labels with the softmax's probabilities, or the outputs with noise."""
    if loss is cross_entropy:
        probabilities = _softmax(outputs).cumsum(axis=1)
        drawn = rng.random((len(outputs), 1), outputs.dtype) * probabilities[:, -1:]
        return np.minimum((probabilities <= drawn).sum(axis=1), outputs.shape[1] - 1)
    deviation = np.sqrt(outputs.shape[1] / 2)  # the loss of an example is its sum of squares over the outputs' number
    return outputs + outputs.dtype.type(deviation) * rng.standard_normal(outputs.shape, outputs.dtype)


def metric(loss, outputs, dy):
    """The Hessian of each example's loss in its outputs, times `dy`."""
    if loss is cross_entropy:
        p = _softmax(outputs)
        return p * (dy - np.sum(p * dy, axis=1, keepdims=True))
    return (2 / outputs.shape[1]) * dy


def _softmax(logits):
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


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
    reconstructs : bool
        Whether the targets are the inputs.
    """

    name: str
    sizes: tuple[int, ...]
    loss: Callable
    reconstructs: bool = False

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

    @property
    def layers(self):
        """The shapes of the weights, by the number of their layer."""
        return dict(enumerate(zip(self.sizes, self.sizes[1:]), start=1))

    def data(self, inputs, targets):
        """What the model trains on."""
        return inputs, inputs if self.reconstructs else targets

    def forward(self, params, inputs):
        """What enters each layer, and last what leaves the network."""
        layers = len(self.sizes) - 1
        activations = [inputs]
        for layer in range(1, layers + 1):
            z = activations[-1] @ params[f"W{layer}"] + params[f"b{layer}"]
            activations.append(np.tanh(z) if layer < layers else z)
        return activations

    def predict(self, params, inputs):
        """Outputs of shape (rows, outputs): logits, or the regression's value."""
        return self.forward(params, inputs)[-1]

    def loss_and_grads(self, params, inputs, targets):
        """The mean loss of a batch, and its gradients by the parameters' names."""
        *activations, outputs = self.forward(params, inputs)
        loss, delta = self.loss(outputs, targets)
        deltas = self.backward(params, activations, delta)
        return loss, self.grads(activations, deltas)

    def backward(self, params, activations, delta):
        """The gradients in what leaves each layer before its tanh, from that in the outputs, by the layers' numbers."""
        deltas = {}
        for layer in range(len(activations), 0, -1):
            deltas[layer] = delta
            entering = activations[layer - 1]
            if layer > 1:
                delta = (delta @ params[f"W{layer}"].T) * (1 - entering * entering)  # tanh' = 1 - tanh^2
        return deltas

    def grads(self, activations, deltas):
        """The gradients by the parameters' names."""
        grads = {}
        for layer, delta in deltas.items():
            grads[f"W{layer}"] = activations[layer - 1].T @ delta
            grads[f"b{layer}"] = delta.sum(axis=0)
        return grads

    def jvp(self, params, activations, direction):
        """The derivative of the outputs along a direction, layer -> (in W, in b)."""
        tangent = 0
        for layer, (dW, db) in sorted(direction.items()):
            entering = activations[layer - 1]
            if layer > 1:
                tangent = (tangent * (1 - entering * entering)) @ params[f"W{layer}"]
            tangent = tangent + entering @ dW + db
        return tangent


def autoencoder(n_features):
    """The deep autoencoder on which second-order methods are tried, in small: through 16 numbers and back."""
    return Model("autoencoder", (n_features, 128, 64, 16, 64, 128, n_features), squared_error, reconstructs=True)


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

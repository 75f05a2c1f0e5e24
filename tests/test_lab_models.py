"""The models' hand-written gradients, against complex steps in double precision."""

import numpy as np
import pytest

from downslope.lab.models import Model, autoencoder, cross_entropy, metric, models_for, sampled_targets, squared_error

MODELS = {
    "softmax regression": Model("m", (5, 4), cross_entropy),
    "softmax perceptron": Model("m", (5, 7, 6, 4), cross_entropy),
    "least squares": Model("m", (5, 1), squared_error),
    "regression perceptron": Model("m", (5, 7, 6, 1), squared_error),
    "autoencoder": Model("m", (5, 7, 3, 5), squared_error, reconstructs=True),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_gradients_are_the_derivatives_of_the_loss(model):
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((9, 5))
    targets = rng.integers(0, 4, 9) if model.loss is cross_entropy else rng.standard_normal(9)
    inputs, targets = model.data(inputs, targets)
    params = {name: rng.standard_normal(array.shape) for name, array in model.init(0).items()}
    _, grads = model.loss_and_grads(params, inputs, targets)
    assert grads.keys() == params.keys()
    for name, array in params.items():
        expected = np.empty_like(array)
        for index in np.ndindex(array.shape):
            shifted = array.astype(complex)
            shifted[index] += 1e-30j
            loss, _ = model.loss_and_grads({**params, name: shifted}, inputs, targets)
            expected[index] = loss.imag / 1e-30
        np.testing.assert_allclose(grads[name], expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_derivatives_along_a_direction(model):
    """Of the outputs, against complex steps; and the metric against those of the gradient."""
    rng = np.random.default_rng(0)
    inputs, labels = rng.standard_normal((9, 5)), rng.integers(0, 4, 9)
    params = {name: rng.standard_normal(array.shape) for name, array in model.init(0).items()}
    direction = {
        layer: (rng.standard_normal(shape), rng.standard_normal(shape[1])) for layer, shape in model.layers.items()
    }
    *activations, outputs = model.forward(params, inputs)
    tangent = model.jvp(params, activations, direction)
    shifted = {
        f"{kind}{layer}": params[f"{kind}{layer}"] + 1e-30j * part
        for layer, pair in direction.items()
        for kind, part in zip("Wb", pair)
    }
    np.testing.assert_allclose(tangent, model.predict(shifted, inputs).imag / 1e-30, rtol=1e-11, atol=1e-13)
    targets = labels if model.loss is cross_entropy else rng.standard_normal(outputs.shape)
    h = 1e-6
    ahead, behind = (model.loss(outputs + sign * h * tangent, targets)[1] for sign in (1, -1))
    expected = len(outputs) * (ahead - behind) / (2 * h)  # of each example's own loss
    np.testing.assert_allclose(metric(model.loss, outputs, tangent), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("loss", [cross_entropy, squared_error])
def test_gradients_of_sampled_targets_have_the_metric_as_their_covariance(loss):
    """Of the same outputs many times over, within five standard deviations."""
    count = 40_000
    outputs = np.tile([[0.3, -1.0, 0.5]], (count, 1))
    targets = sampled_targets(loss, outputs, np.random.default_rng(0))
    grads = count * loss(outputs, targets)[1]
    expected = metric(loss, outputs[:3], np.eye(3))
    products = grads[:, :, None] * grads[:, None, :]
    assert (np.abs(products.mean(axis=0) - expected) < 5 * products.std(axis=0) / np.sqrt(count)).all()
    assert (np.abs(grads.mean(axis=0)) < 5 * grads.std(axis=0) / np.sqrt(count)).all()


def test_the_autoencoder():
    model = autoencoder(64)
    assert model.sizes == (64, 128, 64, 16, 64, 128, 64) and model.size == 35_280 + 16 - 16
    inputs = np.ones((2, 64), np.float32)
    assert model.data(inputs, None)[1] is inputs


def test_losses_have_their_textbook_values():
    logits = np.log(np.array([[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]]))
    loss, _ = cross_entropy(logits, np.array([2, 0]))
    assert loss == pytest.approx(-(np.log(0.5) + np.log(0.7)) / 2)
    loss, _ = squared_error(np.array([[1.0], [2.0]]), np.array([4.0, 2.0]))
    assert loss == pytest.approx((9 + 0) / 2)


def test_cross_entropy_of_huge_logits_is_finite():
    loss, grad = cross_entropy(np.array([[1e4, -1e4]], np.float32), np.array([1]))
    assert loss == pytest.approx(2e4)
    assert np.isfinite(grad).all()


def test_training_is_in_single_precision():
    model = models_for(5, 3)[1]
    params = model.init(0)
    _, grads = model.loss_and_grads(params, np.ones((4, 5), np.float32), np.array([0, 1, 2, 0]))
    assert {array.dtype for array in (*params.values(), *grads.values())} == {np.dtype(np.float32)}
    assert model.size == sum(array.size for array in params.values())


def test_initial_parameters_follow_the_seed():
    model = models_for(5, None)[1]
    first, again, other = model.init(1), model.init(1), model.init(2)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["W1"], other["W1"])

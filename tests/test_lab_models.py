"""The models' hand-written gradients, against complex steps in double precision."""

import numpy as np
import pytest

from downslope.lab.models import Model, cross_entropy, models_for, squared_error

MODELS = {
    "softmax regression": Model("m", (5, 4), cross_entropy),
    "softmax perceptron": Model("m", (5, 7, 6, 4), cross_entropy),
    "least squares": Model("m", (5, 1), squared_error),
    "regression perceptron": Model("m", (5, 7, 6, 1), squared_error),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_gradients_are_the_derivatives_of_the_loss(model):
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((9, 5))
    targets = rng.integers(0, 4, 9) if model.loss is cross_entropy else rng.standard_normal(9)
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

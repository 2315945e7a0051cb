"""Dense layers whose spectral norm is bounded: against NumPy's singular values, and what a training leaves of them."""

import keras
import numpy as np
import pytest
from keras import ops

from zdckeras import backend
from zdckeras.corr_vae.spectral import LONGEST, SpectralDense

numpy = ops.convert_to_numpy


@pytest.fixture
def layer():
    layer = SpectralDense(5, kernel_initializer=keras.initializers.HeUniform(3))
    layer.build((None, 7))
    rng = np.random.default_rng(0)
    layer.kernel.assign(rng.normal(size=(7, 5)).astype("float32"))
    layer.bias.assign(rng.normal(size=5).astype("float32"))
    return layer


def test_long_kernels_are_shortened_and_short_ones_left(layer):
    x, kernel, bias = np.eye(7, dtype="float32"), numpy(layer.kernel), numpy(layer.bias)
    for _ in range(10):
        y = numpy(layer(x, training=True))
    longest = np.linalg.norm(kernel, 2)
    assert longest > 1.5
    np.testing.assert_allclose(y - bias, kernel * LONGEST / longest, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(numpy(layer(x)), y, atol=1e-5)
    layer.kernel.assign(0.5 * kernel / longest)
    np.testing.assert_allclose(numpy(layer(x)) - bias, 0.5 * kernel / longest, rtol=1e-4, atol=1e-6)


def test_directions_turn_in_training_alone(layer):
    """Five rounds of (K^T K) from ones, normalised."""
    kernel, before = numpy(layer.kernel).astype("float64"), numpy(layer.direction)
    layer(np.ones((1, 7), "float32"))
    np.testing.assert_array_equal(numpy(layer.direction), before)
    layer(np.ones((1, 7), "float32"), training=True)
    turned = np.linalg.matrix_power(kernel.T @ kernel, 5) @ np.ones((5, 1))
    np.testing.assert_allclose(numpy(layer.direction), turned / np.linalg.norm(turned), rtol=1e-3, atol=1e-5)
    assert [v.path.split("/")[-1] for v in layer.non_trainable_variables] == ["direction"]


def test_gradient_goes_through_the_norm(layer):
    """Of sum K / s by K: 1 / s - (sum K / s^2) u v^T, with u and v those of the largest singular value; times 0.97."""
    for _ in range(20):
        layer(np.ones((1, 7), "float32"), training=True)
    kernel = numpy(layer.kernel).astype("float64")
    left, values, right = np.linalg.svd(kernel)
    expected = LONGEST * (1.0 / values[0] - kernel.sum() / values[0] ** 2 * np.outer(left[:, 0], right[0]))
    x = np.eye(7, dtype="float32")
    _, _, gradients = backend.steps().value_and_grad(lambda: (ops.sum(layer(x)), {}), [layer.kernel])
    np.testing.assert_allclose(numpy(gradients[0]), expected, rtol=1e-2, atol=1e-3)


def test_weights_hold_the_direction(layer):
    x = np.ones((2, 7), "float32")
    layer(x, training=True)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config() and len(again.get_weights()) == 3
    assert (numpy(again(x)) != numpy(layer(x))).any()
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(numpy(again(x)), numpy(layer(x)))

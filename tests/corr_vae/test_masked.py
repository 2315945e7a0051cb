"""The stochastic mask: its draws and their gradient, the maps behind it by hand, their slopes, and steering."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import expit, logit

from zdckeras import backend
from zdckeras.corr_vae.masked import LONGEST, MaskedProperties

numpy = ops.convert_to_numpy
P, D, ROWS = 2, 5, 7


@pytest.fixture
def layer():
    layer, rng = MaskedProperties(P, D, hidden=6, temperature=0.5, seed=3), np.random.default_rng(0)
    for weight in layer.trainable_variables:
        weight.assign(rng.normal(size=weight.shape).astype("float32"))
    return layer


def by_hand(layer, w, mask):
    """y of rows w (B, D) and masks (B, P, D), one property after the other."""
    def leaky(x):
        return np.where(x > 0.0, x, 0.1 * x)

    def shortened(v):
        return v * min(1.0, LONGEST / np.linalg.norm(v))

    values = {name: numpy(getattr(layer, name)) for name in
              ("pool", "pool_bias", "gather", "gather_bias", "widen", "widen_bias", "narrow", "narrow_bias")}
    columns = []
    for j in range(P):
        pool, pool_bias, gather, gather_bias, widen, widen_bias, narrow, narrow_bias = (v[j] for v in values.values())
        pooled = leaky((w * mask[:, j]) @ pool + pool_bias) @ gather + gather_bias
        columns.append(pooled + expit(leaky(pooled[:, None] * shortened(widen) + widen_bias) @ shortened(narrow)
                                      + narrow_bias))
    return np.stack(columns, axis=1)


def test_masks_begin_as_those_of_the_published_code():
    """a = e^v - e^w of normal v, w: deviation sqrt(2 e (e - 1)), and as often open as closed."""
    logits = numpy(MaskedProperties(40, 500, seed=2).mask_logits)
    assert (logits > 0.0).mean() == pytest.approx(0.5, abs=0.02)
    assert logits.std() == pytest.approx(np.sqrt(2.0 * np.e * (np.e - 1.0)), rel=0.1)
    assert np.median(np.abs(logits)) == pytest.approx(0.935, abs=0.05)


def test_draws_are_bernoullis(layer):
    uniform = np.random.default_rng(1).random((4000, P, D), "float32")
    mask, chance = numpy(layer.open(uniform)), numpy(layer.probabilities())
    assert set(np.unique(mask)) == {0.0, 1.0}
    np.testing.assert_array_equal(mask, uniform > 1.0 - chance)
    assert np.abs((mask.mean(axis=0) - chance) / np.sqrt(chance * (1.0 - chance) / 4000)).max() < 4.0
    np.testing.assert_array_equal(numpy(layer.open())[0], chance > 0.5)
    edges = numpy(layer.open(np.array([[[0.0] * D] * P, [[1.0] * D] * P], "float32")))
    np.testing.assert_array_equal(edges, [np.zeros((P, D)), np.ones((P, D))])


@pytest.mark.parametrize("share", [1.0, 0.2])
def test_gradient_of_the_mask_is_that_of_a_soft_one(layer, share):
    """s'((a + ln u - ln(1 - u)) / tau) / tau, summed over rows: straight through the step; of tau a share counts."""
    uniform, tau = np.random.default_rng(1).uniform(0.05, 0.95, (ROWS, P, D)).astype("float32"), 0.5 * share
    _, _, gradients = backend.steps().value_and_grad(lambda: (ops.sum(layer.open(uniform, share)), {}),
                                                     [layer.mask_logits])
    soft = expit((numpy(layer.mask_logits) + logit(uniform)) / tau)
    np.testing.assert_allclose(numpy(gradients[0]), (soft * (1.0 - soft) / tau).sum(axis=0), rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(numpy(layer.open(uniform, share)), numpy(layer.open(uniform)))


def test_properties_by_hand_and_their_slopes(layer):
    rng = np.random.default_rng(2)
    w, uniform = rng.normal(size=(ROWS, D)).astype("float32"), rng.random((ROWS, P, D), "float32")
    expected = by_hand(layer, w, numpy(layer.open(uniform)))
    np.testing.assert_allclose(numpy(layer(w, uniform)), expected, rtol=1e-4, atol=1e-4)
    mask = layer.open(uniform)
    slopes = numpy(layer._states(ops.convert_to_tensor(w), mask)[1])
    for j in range(P):
        found = backend.steps().grad(lambda x, j=j: layer._states(x, mask)[0][:, j], ops.convert_to_tensor(w))
        np.testing.assert_allclose(slopes[:, j], numpy(found), rtol=1e-3, atol=1e-4)
    assert (slopes[numpy(mask) == 0.0] == 0.0).all() and (slopes[numpy(mask) == 1.0] != 0.0).all()


def test_steering_reaches_what_is_asked_for_and_leaves_the_rest():
    layer = MaskedProperties(P, D, seed=1)
    layer.mask_logits.assign([[2.0, -2.0, 2.0, -2.0, -2.0], [-2.0, 2.0, -2.0, -2.0, -2.0]])
    w = np.random.default_rng(3).normal(size=(ROWS, D)).astype("float32")
    asked = numpy(layer(0.5 * w[::-1]))
    found = numpy(layer.steer(w, asked))
    assert np.abs(asked - numpy(layer(w))).max() > 0.2
    np.testing.assert_allclose(numpy(layer(found)), asked, atol=0.01)
    np.testing.assert_array_equal(found[:, 3:], w[:, 3:])
    layer.mask_logits.assign(np.full((P, D), -2.0))
    np.testing.assert_array_equal(numpy(layer.steer(w, asked)), w)


def test_refused_sizes_and_configuration():
    with pytest.raises(ValueError, match="a temperature above 0, received 2, 5, 16 and 0.0"):
        MaskedProperties(2, 5, temperature=0.0)
    with pytest.raises(ValueError, match="at least one property, latent and hidden unit"):
        MaskedProperties(0, 5)
    layer = MaskedProperties(P, D, hidden=3, seed=4)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    assert all(np.array_equal(a, b) for a, b in zip(again.get_weights(), layer.get_weights(), strict=True))

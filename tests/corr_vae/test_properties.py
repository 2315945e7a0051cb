import keras
import numpy as np
import pytest
from keras import ops

from zdckeras import backend
from zdckeras.corr_vae.properties import PROPERTIES, MaskPooling, PropertyDecoders, ResponseProperties
from zdckeras.data.particles import conditions_of
from zdckeras.metrics.shapes import SHAPE_OBSERVABLES, shapes

numpy = ops.convert_to_numpy
RNG = np.random.default_rng(0)
SCALER = {"mean": [0.0] * 9, "scale": [1000.0, 1.0, 1.0, 1.0, 10.0, 10.0, 1000.0, 1000.0, 1.0]}
SCALES = {"mean": [5.0, 0.5, -0.25, 1.0], "scale": [0.5, 3.0, 2.0, 0.4]}
ROWS = 6


@pytest.fixture(scope="module")
def particles():
    momentum = np.column_stack([RNG.normal(0.0, 0.05, (ROWS, 2)), RNG.uniform(100.0, 2000.0, ROWS)])
    return conditions_of(np.full(ROWS, 2112), momentum).astype("float32")


@pytest.mark.parametrize("detector, shape", [("zn", (44, 44)), ("zp", (56, 30))])
def test_properties_are_the_shower_shapes(detector, shape, particles):
    """Of whole counts and of light; there and back, and from physical values too."""
    layer = ResponseProperties(detector, **SCALES)
    columns = [list(SHAPE_OBSERVABLES).index(name) for name in PROPERTIES]
    for images in (RNG.poisson(0.3, (ROWS, *shape)), RNG.exponential(2.0, (ROWS, *shape)) ** 3):
        found = layer(images.astype("float32"), particles)
        expected = shapes(images)[:, columns]
        np.testing.assert_allclose(numpy(layer.physical(found, particles)), expected, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(numpy(layer.standard(expected.astype("float32"), particles)), numpy(found),
                                   atol=1e-3)


def test_one_cell_and_no_light(particles):
    images = np.zeros((ROWS, 44, 44), "float32")
    images[0, 40, 3] = 9.0
    layer = ResponseProperties("zn")
    found = layer(images, particles)
    physical = numpy(layer.physical(found, particles))
    np.testing.assert_allclose(physical[0], [9.0, 18.5, -18.5, 0.0], atol=2e-2)
    np.testing.assert_allclose(physical[1:], 0.0, atol=1e-3)
    np.testing.assert_allclose(numpy(found)[:, 3], 0.5 * np.log(1.0 / 12.0), atol=1e-3)


def test_scales_are_those_of_the_data(showers):
    layer = ResponseProperties("ecal", **ResponseProperties.fit(showers))
    found = numpy(layer(showers.response.astype("float32"), showers.particles.astype("float32")))
    low, high = np.percentile(found, [5, 95], axis=0)
    np.testing.assert_allclose(low + high, 0.0, atol=1e-3)
    np.testing.assert_allclose((high - low) * layer.scale, 3.3 * (layer.scale - 0.05), rtol=1e-3)


@pytest.fixture
def pool():
    pool = MaskPooling(4, 6, seed=1)
    pool.mask_logits.assign(RNG.normal(size=(4, 6)))
    pool.strength.assign(RNG.normal(size=(4, 6)))
    return pool


def test_mask_and_rows(pool):
    mask, rows = numpy(pool.mask()), numpy(pool.rows())
    open_ = 1.0 / (1.0 + np.exp(-numpy(pool.mask_logits)))
    np.testing.assert_allclose(mask, open_ / open_.max(axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose((rows**2).sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(float(pool.sparsity()), mask.sum() - 4.0, rtol=1e-5)
    pool.mask_logits.assign(np.where(np.eye(4, 6) > 0, 0.0, -99.0))
    np.testing.assert_allclose(np.abs(numpy(pool.rows())), np.eye(4, 6), atol=1e-6)
    assert abs(float(pool.sparsity())) < 1e-6


def test_correction_is_exact_and_least(pool):
    """A w = w', and w moved along the rows of A only: any other solution is further away."""
    w, asked = RNG.normal(size=(ROWS, 6)).astype("float32"), 3.0 * RNG.normal(size=(ROWS, 4)).astype("float32")
    found, rows = numpy(pool.correct(w, asked)), numpy(pool.rows())
    np.testing.assert_allclose(numpy(pool(found)), asked, atol=1e-4)
    np.testing.assert_allclose(found, w + (asked - w @ rows.T) @ np.linalg.pinv(rows).T, atol=1e-3)


def test_prior_of_pooled_numbers(pool):
    from scipy.stats import multivariate_normal

    pooled, rows = RNG.normal(size=(ROWS, 4)), numpy(pool.rows()).astype("float64")
    expected = multivariate_normal(cov=rows @ rows.T).logpdf(pooled)
    np.testing.assert_allclose(numpy(pool.log_prior(pooled.astype("float32"))), expected, rtol=1e-3)


def test_too_few_latents():
    with pytest.raises(ValueError, match="at least as many latents as properties, received 3 for 4"):
        MaskPooling(4, 3)


def test_property_decoders_invert_exactly(particles):
    layer = PropertyDecoders("zn", SCALER, 4, hidden=8, bins=5)
    pooled = RNG.uniform(-7.0, 7.0, (ROWS, 4)).astype("float32")
    np.testing.assert_allclose(numpy(layer(pooled, particles)), pooled, atol=1e-5)  # starts as the identity
    layer.read.kernel.assign(0.3 * RNG.normal(size=layer.read.kernel.shape))
    made = layer(pooled, particles)
    assert np.abs(numpy(made) - pooled).max() > 0.1
    back, log_slope = layer.inverse(made, particles)
    np.testing.assert_allclose(numpy(back), pooled, atol=1e-3)
    slope = numpy(backend.steps().grad(lambda y: layer.inverse(y, particles)[0], made))  # w'_j knows of y_j only
    np.testing.assert_allclose(np.exp(numpy(log_slope)), slope, rtol=1e-2)


@pytest.mark.parametrize("layer", [
    lambda: ResponseProperties("zn", **SCALES), lambda: MaskPooling(4, 6, seed=3),
    lambda: PropertyDecoders("zn", SCALER, 4, hidden=8, seed=3)])
def test_layers_come_back_from_their_configuration(layer):
    layer = layer()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    assert all(np.array_equal(a, b) for a, b in zip(again.get_weights(), layer.get_weights(), strict=True))

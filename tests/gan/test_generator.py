import keras
import numpy as np
import pytest

from zdckeras.gan.generator import GanGenerator, fit_factor
from zdckeras.gan.model import ResponseGAN


@pytest.fixture(scope="module")
def gan(showers):
    sizes = {"generator": {"latent": 4, "hidden": 8, "widths": (8,), "channels": (4, 4, 2), "spots": 2},
             "critic": {"hidden": (8,), "channels": (2, 2, 4), "code": 4}}
    return ResponseGAN.fit_scales(showers, **sizes)


@pytest.fixture(scope="module")
def generator(gan):
    network = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(gan.average))
    network.set_weights(gan.average.get_weights())
    return GanGenerator(network)


def test_generator_is_the_averaged_network(generator, gan, showers):
    conditions = showers.particles[:4].astype("float32")
    noise = np.random.default_rng(0).standard_normal((4, 4)).astype("float32")
    (expected,) = gan.predict_on_batch({"z": noise, "conditions": conditions})
    assert np.array_equal(generator.predict_on_batch({"noise": noise, "conditions": conditions}), expected)
    assert expected.shape == (4, 30, 30) and expected.min() >= 0 and np.array_equal(expected, np.rint(expected))


def test_operations_are_those_of_its_network(generator):
    assert generator.operations() == generator.network.operations() > 0


def test_saved_generator_gives_the_same(generator, showers, tmp_path):
    generator.factors = [1.25]
    first = generator.sample(showers.particles[:16], seed=5, batch_size=4)
    generator.save(tmp_path / "generator.keras")
    generator.factors = [1.0]
    again = keras.saving.load_model(tmp_path / "generator.keras")
    assert again.factors == [1.25] and again.noise_width == 4
    assert np.array_equal(again.sample(showers.particles[:16], seed=5, batch_size=4), first)


def test_sample_repeats_by_seed(generator, showers):
    first = generator.sample(showers.particles[:6], seed=3, batch_size=4)
    assert first.shape == (6, 30, 30) and np.array_equal(first, np.rint(first)) and first.sum() > 0
    assert np.array_equal(first, generator.sample(showers.particles[:6], seed=3, batch_size=4))
    assert not np.array_equal(first, generator.sample(showers.particles[:6], seed=4, batch_size=4))


def test_factor_is_that_on_the_light(generator, showers):
    few = generator.sample(showers.particles[:16], seed=5, batch_size=4)
    generator.factors = [2.0]
    many = generator.sample(showers.particles[:16], seed=5, batch_size=4)
    generator.factors = [1.0]
    assert many.sum() == pytest.approx(2.0 * few.sum(), rel=0.05)
    assert fit_factor(many, few) == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("factors", [[1.0, 1.0], [0.0], [-1.0], [np.inf], []])
def test_factors_are_checked(generator, factors):
    with pytest.raises(ValueError, match="one positive factor for each of 1 detectors, received"):
        generator.factors = factors
    assert generator.factors == [1.0]

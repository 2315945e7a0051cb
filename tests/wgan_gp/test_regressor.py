import keras
import numpy as np
import pytest
from keras import ops

from zdckeras.data.detectors import get_detector
from zdckeras.data.impact import expected_impact
from zdckeras.data.particles import conditions_of
from zdckeras.layers.cnn import GridDecoder
from zdckeras.layers.dense import seeds_of
from zdckeras.wgan_gp.regressor import (
    BOXCOX_SCALE,
    PARAMETERS,
    Emulator,
    EnergyCritic,
    ParameterRegressor,
    shower_parameters,
)

# What these layers give is compared with that of JAX in test_backends.py.
pytestmark = pytest.mark.compiles_long
numpy = ops.convert_to_numpy
SCALER = {"mean": [0.0] * 9, "scale": [1.0] * 9}
CHANNELS = (4, 3, 2)


@pytest.fixture(scope="module")
def conditions():
    rng = np.random.default_rng(0)
    pz = rng.choice([-1.0, 1.0], 40) * rng.uniform(1.0, 100.0, 40)
    momentum = np.column_stack([rng.normal(0.0, 0.01, (40, 2)) * np.abs(pz)[:, None], pz])
    vertex = np.column_stack([rng.normal(0.0, 0.5, (40, 2)), np.zeros(40)])
    return conditions_of(np.full(40, 11), momentum, vertex)


def test_parameters_by_formula(conditions):
    found = numpy(shower_parameters(get_detector("ecal"), conditions.astype("float32")))
    px, py, pz = conditions[:, 4:7].T
    expected = np.column_stack([0.5 * np.log(px**2 + py**2 + pz**2), px / abs(pz), py / abs(pz),
                                expected_impact(conditions, "ecal")])
    assert found.shape == (40, len(PARAMETERS))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_truth_is_standardised(conditions):
    regressor = ParameterRegressor.fit_scales(conditions, "ecal", channels=CHANNELS, hidden=4)
    truth = numpy(regressor.truth(conditions.astype("float32")))
    np.testing.assert_allclose(truth.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(truth.std(axis=0), 1.0, rtol=1e-3)
    plain = ParameterRegressor("ecal", channels=CHANNELS, hidden=4)
    raw = numpy(shower_parameters(get_detector("ecal"), conditions.astype("float32")))
    assert np.array_equal(numpy(plain.truth(conditions.astype("float32"))), raw)
    np.testing.assert_allclose(truth * regressor.scale + regressor.mean, raw, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("detector", ["ecal", "focalh"])
def test_regressor_and_critic_mirror_the_generator(detector):
    shape, channels = get_detector(detector).shape, (5, 4, 3, 2)
    decoder = GridDecoder(6, shape, channels, seeds_of(0))
    for layer in (ParameterRegressor(detector, channels=channels, hidden=7),
                  EnergyCritic(detector, SCALER, channels=channels, hidden=7)):
        kernels = [tuple(w.shape) for w in layer.body.weights if len(w.shape) == 4]
        assert kernels == [(3, 3, 1, 2), (4, 4, 2, 3), (4, 4, 3, 4), (4, 4, 4, 5)]
        assert layer.body.output_shape == (None, 5 * np.prod(decoder.grid))
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        assert again.get_config() == layer.get_config()
        assert all(np.array_equal(a, b) for a, b in zip(again.get_weights(), layer.get_weights(), strict=True))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).exponential(1.0, (6, 30, 30)).astype("float32")


def test_regressor_reads_images(image, evaluate):
    """Five numbers that follow the image, mirror images included."""
    regressor = ParameterRegressor("ecal", channels=CHANNELS, hidden=4)
    found = evaluate(regressor, np.concatenate([image, image[:, ::-1], np.zeros((1, 30, 30))]))
    assert found.shape == (13, 5) and not found[-1].any()  # no biases yet
    assert (np.abs(found[:6] - found[6:12]).max(axis=1) > 1e-4).all()


def test_critic_sees_image_particle_and_error_of_the_regressor(image, conditions, evaluate):
    critic = EnergyCritic("ecal", SCALER, channels=CHANNELS, hidden=6)
    rng, c = np.random.default_rng(2), conditions[:6].astype("float32")
    wrong = rng.normal(size=(6, 5))
    rows = [(image, c, wrong), (image[::-1], c, wrong), (image, c[::-1], wrong), (image, c, -wrong), (image, c, wrong)]
    scores = evaluate(critic, *(np.concatenate(column) for column in zip(*rows, strict=True))).reshape(5, 6)
    np.testing.assert_allclose(scores[0], scores[4], rtol=1e-5)
    assert (np.abs(scores[1:4] - scores[0]).max(axis=1) > 1e-3).all()


def test_scores_have_no_bounds():
    critic = EnergyCritic("ecal", SCALER, channels=CHANNELS, hidden=6)
    critic.judge.bias.assign([1e4])
    score = numpy(critic(np.zeros((1, 30, 30), "float32"), np.ones((1, 9), "float32"), np.zeros((1, 5), "float32")))
    assert score.shape == (1, 1) and score.item() > 5e3


def test_emulator_gives_all_features():
    emulator = Emulator("ecal", widths=(6, 8), seed=1)
    found = [numpy(f) for f in emulator(np.random.default_rng(3).normal(size=(4, 5)).astype("float32"))]
    assert [f.shape for f in found] == [(4, 6), (4, 8), (4, 225)] and len(emulator.trainable_variables) == 6
    kernel, bias = emulator.read.get_weights()
    np.testing.assert_allclose(found[2], found[1] @ kernel + bias, rtol=1e-4, atol=1e-5)
    again = Emulator.from_config(emulator.get_config())
    assert all(np.array_equal(a, b) for a, b in zip(again.get_weights(), emulator.get_weights(), strict=True))


def test_blocks_are_means_of_two_by_two_cells():
    image = np.arange(2 * 900, dtype="float32").reshape(2, 30, 30)
    found = numpy(Emulator("ecal", widths=(4,)).blocks(image))
    assert found.shape == (2, 225)
    expected = [[image[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for i in range(15) for j in range(15)]
                for n in range(2)]
    np.testing.assert_allclose(found, BOXCOX_SCALE * np.array(expected), rtol=1e-5)

import keras
import numpy as np
import pytest
from keras import ops

from zdckeras.data.detectors import DETECTORS, channel_sums
from zdckeras.gan.networks import Critic, PeakRegressor, ResponseNetwork

SMALL = {"latent": 4, "hidden": 8, "widths": (8,), "channels": (4, 4, 2), "spots": 2}
ROWS = 6


@pytest.fixture(scope="module")
def scaler(showers):
    return {"mean": showers.particles.mean(axis=0).tolist(), "scale": (showers.particles.std(axis=0) + 1.0).tolist()}


@pytest.fixture(scope="module")
def inputs(showers):
    noise = np.random.default_rng(0).standard_normal((ROWS, 4)).astype("float32")
    return noise, showers.particles[:ROWS].astype("float32")


@pytest.fixture(scope="module", params=["ecal", ("ecal", "zp")], ids=["one", "two"])
def network(request, scaler):
    return ResponseNetwork(request.param, scaler, **SMALL)


@pytest.fixture(scope="module")
def seen(network, inputs, evaluate):
    """Responses and the sums behind them."""
    return evaluate(lambda *x: (network(*x), network.sums(*x)), *inputs)


def test_responses_are_photons_with_the_sums_of_the_first_network(network, seen):
    assert len(seen[0]) == len(seen[1]) == len(network.detectors)
    for detector, photons, sums in zip(network.detectors, *seen, strict=True):
        assert photons.shape == (ROWS, *detector.shape)
        assert photons.min() >= 0 and np.array_equal(photons, np.rint(photons)) and photons.sum() > 0
        assert np.array_equal(channel_sums(photons), sums)


def test_same_particle_other_noise_other_response(network, inputs, evaluate):
    noise, conditions = inputs
    (photons, *_) = evaluate(network, noise, np.repeat(conditions[:1], ROWS, axis=0))
    assert len(np.unique(photons, axis=0)) == ROWS


def test_factors_scale_the_light(network, inputs, seen, evaluate):
    """Twice the expected light in each channel, before photons are drawn: sums double to within a photon."""
    network.sums.factors.assign([2.0] * len(network.detectors))
    photons, sums = evaluate(lambda *x: (network(*x), network.sums(*x)), *inputs)
    network.sums.factors.assign([1.0] * len(network.detectors))
    for image, many, few in zip(photons, sums, seen[1], strict=True):
        assert np.array_equal(channel_sums(image), many)
        assert np.abs(many - 2.0 * few).max() <= 2.0 and many.sum() > 1.5 * few.sum()


def test_factors_are_not_trained(network):
    assert not any(v is network.sums.factors for v in network.trainable_variables)


def test_saved_network_gives_the_same(network, inputs, seen, evaluate):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(network))
    again.set_weights(network.get_weights())
    for first, second in zip(seen[0], evaluate(again, *inputs), strict=True):
        assert np.array_equal(first, second)


def test_weights_repeat_by_seed(scaler):
    first, again, other = (ResponseNetwork("ecal", scaler, **SMALL, seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    kernels = [(a, b) for a, b in zip(first, other, strict=True) if a.std() > 0]
    assert len(kernels) > 5 and not any(np.array_equal(a, b) for a, b in kernels)


def test_operations_by_hand(scaler):
    """Multiplications of a network of a few weights."""
    network = ResponseNetwork("ecal", scaler, latent=2, hidden=3, widths=(4,), channels=(2, 2, 1), spots=2)
    features = network.sums.features[0].width
    sums = (2 + features) * 4 + 4 * 5
    dense = (2 + features + 5) * 3 + 3 * 3 + 3 * (4 * 4 * 2)  # 30 cells are 4 blocks of 8
    texture = 4 * 4 * (3 * 3 * 2 * 4 * 2) + 8 * 8 * (3 * 3 * 2 * 1) + 8 * 8 * (1 * 4 * 4)  # 4 x 4 cells at 8 x 8 places
    light = 3 * (4 * 2 + 1) + 2 * 900 + 2 * 900  # read-out, two spots and the noise of every cell
    assert network.operations() == sums + dense + texture + light


def test_two_detectors_share_the_body(scaler):
    """One pass for both takes less than two."""
    one, other, both = (ResponseNetwork(names, scaler, **SMALL).operations() for names in ("zn", "zp", ("zn", "zp")))
    assert max(one, other) < both < one + other


@pytest.mark.parametrize("detector", ["ecal", ("ecal", "zp")], ids=["one", "two"])
def test_critic_has_a_logit_for_each_detector(detector, scaler, inputs, evaluate):
    names = (detector,) if isinstance(detector, str) else detector
    critic = Critic(detector, scaler, hidden=(8,), channels=(2, 2, 4), code=4)
    images = [np.random.default_rng(1).poisson(2.0, (ROWS, *DETECTORS[name].shape)).astype("float32") for name in names]
    judge = lambda conditions, *images: critic(images, conditions)  # noqa: E731
    logits = evaluate(judge, inputs[1], *images)
    assert logits.shape == (ROWS, len(names)) and np.isfinite(logits).all()
    assert (evaluate(judge, inputs[1][::-1].copy(), *images) != logits).any()
    assert (evaluate(judge, inputs[1], *(2 * image for image in images)) != logits).all()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(critic))
    assert [w.shape for w in again.weights] == [w.shape for w in critic.weights]


def test_critic_judges_each_row_by_itself(scaler, inputs, evaluate):
    critic = Critic("ecal", scaler, hidden=(8,), channels=(2, 2, 4), code=4)
    images = np.random.default_rng(1).poisson(2.0, (ROWS, 30, 30)).astype("float32")
    judge = lambda conditions, images: critic([images], conditions)  # noqa: E731
    changed = images.copy()
    changed[0] = 0.0
    logits, others = evaluate(judge, inputs[1], images), evaluate(judge, inputs[1], changed)
    assert logits[0] != others[0]
    np.testing.assert_allclose(logits[1:], others[1:], rtol=1e-5)


def test_regressor_learns_where_the_peak_is(eager):
    """One bright cell on a dark detector, moved around."""
    rng = np.random.default_rng(2)
    peak = rng.integers(4, 26, (32, 2))
    images = np.zeros((32, 30, 30), "float32")
    images[np.arange(32), peak[:, 0], peak[:, 1]] = 50.0
    regressor = PeakRegressor("ecal", channels=(2, 4, 8), hidden=16)
    model = keras.Sequential([regressor])
    model.compile(keras.optimizers.Adam(1e-2), "mse", run_eagerly=eager)
    losses = [float(np.ravel(model.train_on_batch(images, peak.astype("float32")))[0]) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(regressor))
    assert again.get_config() == regressor.get_config()


def test_untrained_regressor_points_to_the_middle():
    regressor = PeakRegressor("zp", channels=(2, 2, 2), hidden=4)
    assert ops.convert_to_numpy(regressor(np.zeros((1, 56, 30), "float32"))).tolist() == [[27.5, 14.5]]

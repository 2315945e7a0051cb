import keras
import numpy as np
import pytest
from keras import ops
from scipy import integrate, stats

from zdckeras import backend
from zdckeras.data.detectors import channel_sums
from zdckeras.layers.cnn import CnnDecoder, CnnEncoder
from zdckeras.layers.particle_features import ParticleFeatures
from zdckeras.layers.patches import MixerDecoder, MixerEncoder, VitDecoder, VitEncoder
from zdckeras.layers.photon_coding import (
    LARGEST_LN_LIGHT,
    LEAST_LIGHT,
    PhotonDecoder,
    PhotonEncoder,
    PhotonScatter,
    deviance,
    photon_pair,
)

numpy = ops.convert_to_numpy
grad = backend.steps().grad
SCALER = {"mean": [0.0] * 9, "scale": [1000.0, 1.0, 1.0, 1.0, 10.0, 10.0, 1000.0, 1000.0, 1.0]}
CONTEXT = ParticleFeatures("ecal", **SCALER).width
CELLS, SHAPE = 900, (30, 30)
BODIES = {"cnn": (CnnEncoder, CnnDecoder, dict(channels=(4, 4, 2, 2))),
          "vit": (VitEncoder, VitDecoder, dict(hidden=8, heads=2, depth=1)),
          "mixer": (MixerEncoder, MixerDecoder, dict(hidden=8, across=5, depth=1))}


def tensor(values):
    return ops.convert_to_tensor(np.asarray(values, "float32"))


def pair(name, seed=1):
    """Encoder and decoder of 30 x 30 cells, 16 tokens of 4 numbers."""
    encoder, decoder, sizes = BODIES[name]
    bodies = (body(SHAPE, width=4, context=CONTEXT, seed=seed, **sizes) for body in (encoder, decoder))
    return PhotonEncoder("ecal", SCALER, next(bodies)), PhotonDecoder("ecal", SCALER, next(bodies), 6, 3, seed=seed)


def scatter(dispersion, **settings):
    layer = PhotonScatter("ecal", **settings)
    layer.dispersion.assign(dispersion)
    return layer


def test_deviance_is_twice_a_likelihood_ratio():
    rng = np.random.default_rng(0)
    light = rng.exponential(4.0, (5, *SHAPE)) + 1e-3
    photons = rng.poisson(light)
    ratio = stats.poisson.logpmf(photons, np.maximum(photons, 1e-300)) - stats.poisson.logpmf(photons, light)
    found = numpy(deviance(tensor(photons), tensor(light)))
    np.testing.assert_allclose(found, 2.0 * ratio.sum(axis=(1, 2)), rtol=1e-4)
    assert np.abs(numpy(deviance(tensor(photons + 1), tensor(photons + 1)))).max() < 1e-2
    wrong = [numpy(deviance(tensor(photons), tensor(factor * light))).sum() for factor in (0.95, 1.05)]
    assert min(wrong) > found.sum()


def moments(light, dispersion):
    """Mean and variance of a cell with this light, by integrating over its noise and its whole photons."""
    square = 0.25 * (min(light, 1.0) + dispersion * light)
    scattered = lambda z: (np.sqrt(light - square) + np.sqrt(square) * z) ** 2  # noqa: E731
    noise = stats.logistic(scale=np.sqrt(3.0) / np.pi)
    mean, second = (integrate.quad(lambda z, p=p: scattered(z) ** p * noise.pdf(z), -12, 12, limit=200)[0]
                    for p in (1, 2))
    z = np.linspace(-12, 12, 200_001)
    part = scattered(z) % 1.0
    drawn = (part * (1.0 - part) * noise.pdf(z)).sum() * (z[1] - z[0])
    return mean, second - mean**2, drawn


@pytest.mark.parametrize("dispersion", [0.0, 0.3])
def test_scattered_photons_have_the_moments_that_are_told(dispersion):
    """Whole photons, and in every cell the mean, in all the variance; eight rows for eight lights at once."""
    rows, lights = 400, (0.05, 0.7, 5.0, 80.0)
    noise = np.random.default_rng(1).standard_normal((len(lights) * rows, 10), "float32")
    light = np.repeat(lights, rows)[:, None, None] * np.ones(SHAPE)
    photons = numpy(scatter(dispersion)(tensor(light), tensor(noise)))
    assert photons.min() >= 0.0 and np.array_equal(photons, np.rint(photons))
    for one, found in zip(lights, photons.reshape(len(lights), rows, *SHAPE).astype("float64"), strict=True):
        mean, variance, drawn = moments(one, dispersion)
        assert mean == pytest.approx(one, rel=1e-3)  # what the docstring says of w
        assert variance == pytest.approx(one * min(one, 1.0) + dispersion * one**2, rel=0.1)
        assert found.mean() == pytest.approx(one, rel=2e-3)  # only sums of channels are rounded
        away = (found.mean(axis=0) - one) / np.sqrt((variance + drawn) / rows)
        assert np.abs(away).max() < 5.0 and 0.9 < away.std() < 1.1
        assert found.var(axis=0).mean() == pytest.approx(variance + drawn, rel=0.03)
        if not dispersion:
            assert found.var(axis=0).mean() == pytest.approx(one, rel=0.15)  # Poisson's, or nearly so at 0.7


@pytest.fixture(scope="module")
def spread():
    """Uneven light, noise and whole channel sums of 16 responses."""
    rng = np.random.default_rng(2)
    light, sums = rng.exponential(2.0, (16, *SHAPE)) ** 2, rng.poisson(rng.choice([0.0, 5.0, 300.0], (16, 5)))
    return light.astype("float32"), rng.standard_normal((16, 10), "float32"), sums.astype("float32")


@pytest.mark.compiles_long
def test_channel_sums_are_met_and_follow_the_light_where_they_are_not_given(spread):
    layer, (light, noise, sums) = scatter(0.3), spread
    given = numpy(layer(tensor(light), tensor(noise), tensor(sums)))
    assert given.min() >= 0.0 and np.array_equal(given, np.rint(given)) and np.array_equal(channel_sums(given), sums)
    free = numpy(layer(tensor(light), tensor(noise)))
    assert np.abs(channel_sums(free) - channel_sums(light)).max() < 1.001
    assert np.ptp(channel_sums(free) - channel_sums(light)) > 0.5


def test_light_gets_a_gradient(spread):
    """Of the number of photons: 1 for light anywhere, 0 where sums are given; of single cells: mostly of the cell."""
    layer, (light, noise, sums) = scatter(0.3), (tensor(values) for values in spread)
    total = numpy(grad(lambda x: ops.sum(layer(x, noise), axis=(1, 2)), light))
    np.testing.assert_allclose(total, 1.0, atol=1e-3)
    none = numpy(grad(lambda x: ops.sum(layer(x, noise, sums), axis=(1, 2)), light))
    assert np.abs(none).max() < 1e-2
    own = numpy(grad(lambda x: layer(x, noise)[:, 14, 15], light))
    assert np.isfinite(own).all() and (own[:, 14, 15] > 0.0).mean() > 0.8
    others = np.abs(own).sum(axis=(1, 2)) - np.abs(own[:, 14, 15])
    assert np.median(np.abs(own[:, 14, 15]) / others) > 1.0


@pytest.mark.parametrize("dispersion", [0.0, 0.1, 0.5])
def test_dispersion_of_counts_is_found(dispersion):
    """Negative binomial counts: Poisson ones of light that gamma noise multiplies."""
    rng = np.random.default_rng(3)
    light = rng.exponential(8.0, (150, *SHAPE))
    bright = light * rng.gamma(1.0 / dispersion, dispersion, light.shape) if dispersion else light
    layer = PhotonScatter("ecal")
    found = layer.fit(light, rng.poisson(bright))
    assert found == pytest.approx(dispersion, abs=0.01) and float(numpy(layer.dispersion)) == found


def test_dispersion_stays_within_its_range():
    light, layer = np.full((1, 2, 2), 3.0), PhotonScatter("ecal")
    assert layer.fit(light, light) == 0.0
    assert layer.fit(light, [[[300, 0], [0, 0]]]) == 2.0


@pytest.mark.compiles_long
def test_scatter_comes_back_from_its_configuration(spread):
    layer, (light, noise, _) = scatter(0.0, latent=4, seed=5), spread
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    first, second, other = (numpy(one(tensor(light[:2]), tensor(noise[:2, :4])))
                            for one in (layer, again, scatter(0.0, latent=4, seed=6)))
    assert np.array_equal(first, second) and not np.array_equal(first, other)


@pytest.mark.compiles_long
@pytest.mark.parametrize("name", BODIES)
def test_layers_come_back_from_their_configuration(name):
    for layer in pair(name):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        assert again.get_config() == layer.get_config()
        ours, theirs = layer.get_weights(), again.get_weights()
        assert len(ours) > 5 and all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.compiles_long
@pytest.mark.parametrize("name", BODIES)
def test_photons_become_tokens_and_tokens_light(name, showers, evaluate):
    """Both follow what they see and the particle; light stays within its bounds whatever the tokens."""
    (encoder, decoder), photons = pair(name), showers.response[:4]
    particles = showers.particles[:4]
    tokens = evaluate(encoder, photons, particles)
    light = evaluate(decoder, tokens, particles)
    assert tokens.shape == (4, 16, 4) and light.shape == (4, *SHAPE) and (encoder.tokens, decoder.width) == (16, 4)
    for layer, seen in ((encoder, photons), (decoder, tokens)):
        for inputs in ((seen[::-1], particles), (seen, particles[::-1])):
            assert (np.abs(evaluate(layer, *inputs) - evaluate(layer, seen, particles)).max(axis=(1, 2)) > 1e-4).all()
    loud = evaluate(decoder, 1e4 * tokens, particles)
    top = np.exp(np.float32(LARGEST_LN_LIGHT))
    for one in (light, loud):
        assert np.isfinite(one).all() and one.min() >= np.float32(LEAST_LIGHT) > 0.0 and one.max() <= 1.0001 * top
    assert loud.min() == np.float32(LEAST_LIGHT) or loud.max() == pytest.approx(top, rel=1e-4)


@pytest.mark.compiles_long
def test_encoder_sees_the_logarithm_of_the_counts(showers, evaluate):
    encoder, _ = pair("mixer")
    photons, particles = showers.response[:2], showers.particles[:2]
    expected = evaluate(lambda x, c: encoder.body(x, encoder.features(c)), 0.3 * np.log1p(photons), particles)
    np.testing.assert_allclose(evaluate(encoder, photons, particles), expected, atol=1e-5)


@pytest.mark.compiles_long
def test_multiplications_are_counted():
    """By hand: 16 tokens of 4 numbers, 48 known of the particle, a mixer of width 8; 3 spots on 900 cells."""
    encoder, decoder = pair("mixer")
    body = 16 * (64 * 8 + 8 * 4) + 48 * 8 + 8 * 2 * 16 * 5 + 16 * 2 * 8 * 32
    assert encoder.operations() == body
    assert decoder.operations() == body + (64 + 48) * 6 + 6 * 6 + 6 * 13 + 3 * 900


@pytest.mark.compiles_long
@pytest.mark.parametrize(("layer", "body", "context", "contexts"), [
    (PhotonEncoder, MixerEncoder, CONTEXT - 1, f"{CONTEXT} or 0"), (PhotonDecoder, MixerDecoder, 0, f"{CONTEXT}")])
def test_bodies_for_something_else_are_refused(layer, body, context, contexts):
    for image, known in (((30, 28), CONTEXT), (SHAPE, context)):
        message = rf"ecal, images \(30, 30\) and context {contexts}, received one for \(30, {image[1]}\) and {known}\."
        with pytest.raises(ValueError, match=message):
            layer("ecal", SCALER, body(image, width=2, context=known, hidden=4, across=2, depth=1))


@pytest.mark.compiles_long
@pytest.mark.parametrize("informed", [True, False])
def test_pair_is_made_for_training_showers(showers, evaluate, informed):
    """Scaled to their particles; an encoder that is not informed answers photons alone."""
    encoder, decoder = photon_pair(showers, MixerEncoder, MixerDecoder, 3, 5, informed, seed=2, patch=15, hidden=6,
                                   across=2, depth=1)
    assert (encoder.tokens, encoder.width, decoder.tokens, decoder.width) == (4, 3, 4, 3)
    assert (encoder.body.context, decoder.body.context) == (CONTEXT if informed else 0, CONTEXT)
    np.testing.assert_allclose(encoder.features.mean, showers.particles.mean(axis=0), rtol=1e-5, atol=1e-6)
    photons, particles = showers.response[:3], showers.particles[:3]
    different = evaluate(encoder, photons, particles) != evaluate(encoder, photons, 0.9 * particles)
    assert different.any() == informed

"""Images ln(1 + n) around bodies of tokens: what they see, their squared error, and photons back."""

import keras
import numpy as np
import pytest
from keras import ops

import zdckeras as zdc
from zdckeras.data.particles import Scaler
from zdckeras.layers.log_images import LogImageDecoder, ScaledParticle, WholePhotons, log_image_pair
from zdckeras.layers.patches import MixerDecoder, MixerEncoder, VitDecoder
from zdckeras.layers.photon_coding import photon_pair
from zdckeras.training.batches import Batches
from zdckeras.vae.autoencoders import CodeGenerator, DrivenAutoencoder, PhotonVAE
from zdckeras.vq.vq_vae import PhotonVQVAE

numpy = ops.convert_to_numpy
SIZES = dict(hidden=8, across=4, depth=1, patch=15)


def pair(showers, informed=(True, True)):
    return log_image_pair(showers, MixerEncoder, MixerDecoder, 8, informed, **SIZES)


def inputs(showers, width):
    rng = np.random.default_rng(0)
    return {"conditions": showers.particles.astype("float32"), "responses": showers.response.astype("float32"),
            "z": rng.standard_normal((len(showers), width), "float32")}


def test_body_sees_logarithms_and_scaled_conditions(showers):
    encoder, _ = pair(showers)
    scaler = Scaler.fit(showers.particles)
    known = (showers.particles - scaler.mean) / scaler.scale
    seen = encoder.body(np.log1p(showers.response).astype("float32"), known.astype("float32"))
    found = encoder(showers.response, showers.particles.astype("float32"))
    np.testing.assert_allclose(numpy(found), numpy(seen), rtol=1e-4, atol=1e-4)


def test_a_blind_body_is_told_nothing(showers):
    _, decoder = pair(showers, (True, False))
    tokens = np.random.default_rng(1).normal(size=(4, decoder.tokens, 8)).astype("float32")
    one, other = (numpy(decoder(tokens, showers.particles[rows].astype("float32"))) for rows in (slice(4), slice(4, 8)))
    assert np.array_equal(one, other) and one.min() >= 0.0


def test_mismatch_is_the_sum_of_squared_logarithms(showers):
    _, decoder = pair(showers)
    made = np.random.default_rng(2).random(showers.response.shape).astype("float32")
    expected = ((np.log1p(showers.response) - made) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(numpy(decoder.mismatch(showers.response, made)), expected, rtol=1e-4)


def test_photons_are_those_of_the_image(showers):
    whole = WholePhotons("ecal")
    image = np.log1p(showers.response).astype("float32")
    assert np.array_equal(numpy(whole(image, None)), showers.response) and whole.fit(image, showers.response) == 0.0
    assert numpy(whole(np.array([[[-1.0, np.log1p(0.4), np.log1p(0.6), 99.0]]], "float32"))).max() < 65_535
    with pytest.raises(ValueError, match="no channel sums"):
        whole(image, None, np.ones((len(image), 5)))


def test_a_body_for_another_context_is_refused(showers):
    with pytest.raises(ValueError, match="context 9 or 0, received one for"):
        LogImageDecoder("ecal", Scaler.fit(showers.particles).get_config(), VitDecoder((30, 30), context=3, patch=15))


def test_vae_of_images_has_squared_errors_of_pixels_and_kl(showers):
    model = PhotonVAE(*pair(showers), latent=3, hidden=8, weight=1.0, kl=0.7)
    batch = inputs(showers, 3)
    mean, log_deviation = (numpy(x) for x in model.posterior(batch))
    made = numpy(model.decode(mean + np.exp(log_deviation) * batch["z"], batch["conditions"]))
    kl = 0.5 * (mean**2 + np.exp(2 * log_deviation) - 2 * log_deviation - 1).sum(axis=1)
    expected = ((np.log1p(batch["responses"]) - made) ** 2).sum(axis=(1, 2)) + 0.7 * kl
    np.testing.assert_allclose(numpy(model(batch)), expected, rtol=1e-4)


def test_driven_autoencoder_reads_the_particle_and_learns(showers, eager):
    model = DrivenAutoencoder(*pair(showers, (False, True)), latent=3, hidden=8, weight=1.0)
    batch = inputs(showers, 3)
    scaler = model.decoder.features
    read = numpy(model.encode(batch))
    assert read.shape == (len(showers), 9)
    made = numpy(model.decode(batch["z"], read * scaler.scale + scaler.mean))
    wrong = ((read - (batch["conditions"] - scaler.mean) / scaler.scale) ** 2).sum(axis=1)
    expected = ((np.log1p(batch["responses"]) - made) ** 2).sum(axis=(1, 2)) + wrong
    np.testing.assert_allclose(numpy(model(batch)), expected, rtol=1e-3)
    model.compile(keras.optimizers.Adam(3e-3), run_eagerly=eager)
    batches = Batches({"conditions": showers.particles, "responses": showers.response}, 16, normal={"z": (3,)})
    history = model.fit(batches, epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]


def test_generators_of_images_and_of_light_are_saved_alike(showers, tmp_path):
    for name, parts in {"images": pair(showers), "light": photon_pair(showers, MixerEncoder, MixerDecoder, 8, 8,
                                                                      **SIZES)}.items():
        generator = CodeGenerator.of(PhotonVAE(*parts, latent=3, hidden=8), showers)
        generator.jit_compile = keras.backend.backend() == "jax"
        first = generator.sample(showers.particles[:4], seed=1, batch_size=4)
        generator.save(tmp_path / f"{name}.keras")
        again = zdc.load_model(tmp_path / f"{name}.keras").sample(showers.particles[:4], seed=1, batch_size=4)
        assert first.shape == (4, 30, 30) and first.any() and np.array_equal(first, again)


def test_published_vq_vae_is_told_nothing_of_the_particle(showers):
    """Its loss is the study's: squared errors of pixels, codes, and commitment, all summed."""
    model = PhotonVQVAE.published(showers, hidden=8, heads=2, depth=1, width=8, codes=6, projection=3, patch=15)
    batch = inputs(showers, 3)
    photons, conditions = batch["responses"], batch["conditions"]
    image, tokens, codebook = (numpy(x) for x in model.reconstruct(photons, conditions))
    other = numpy(model.reconstruct(photons, conditions[::-1].copy())[0])
    assert np.array_equal(image, other) and tokens.shape == (len(showers), 4)
    z = numpy(model.encoder(photons, conditions))
    z = z / np.linalg.norm(z, axis=-1, keepdims=True)
    far = ((z - numpy(model.codebook.lookup(tokens))) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(codebook, 1.25 * far / 4, rtol=1e-3)
    pixels = ((np.log1p(photons) - image) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(numpy(model({"responses": photons, "conditions": conditions})), pixels + 1.25 * far,
                               rtol=1e-3)


def test_scaled_particles_come_back_and_have_nine_conditions():
    layer = ScaledParticle("zn", [1.0] * 9, [2.0] * 9, low=np.zeros(9), high=np.ones(9))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    conditions = np.full((1, 9), 5.0, "float32")
    assert np.array_equal(ops.convert_to_numpy(again(conditions)), ops.convert_to_numpy(layer(conditions)))
    assert again.get_config() == layer.get_config()
    with pytest.raises(ValueError, match=r"mean and scale of shape \(9,\), received \(1,\), \(1,\)"):
        ScaledParticle("zn", [0.0], [1.0])

import keras
import numpy as np
import pytest
from keras import ops

from tests.diffusion.conftest import SIZES
from zdckeras.data.particles import conditions_of
from zdckeras.diffusion import latent
from zdckeras.diffusion.latent import code_posteriors, fit_prior
from zdckeras.loading import load_model
from zdckeras.modular.arrivals import single_arrivals
from zdckeras.modular.generator import ModularGenerator
from zdckeras.modular.transport import Transport
from zdckeras.simulation.reference import load

numpy = ops.convert_to_numpy
REACH = np.full(9, -1e5), np.full(9, 1e5)


def test_codes_are_those_of_the_encoder(vae, monkeypatch):
    monkeypatch.setattr(latent, "BLOCK", 20)
    own = single_arrivals(load("zn", "train", 60))
    codes, rows = code_posteriors(vae, 5, own=own), len(own[1])
    assert {name: values.shape for name, values in codes.items()} == {
        "code_mean": (rows, 4), "code_deviation": (rows, 4), "features": (rows, vae.features.width), "cell": (rows, 2)}
    features, cell = vae.features(*(own[0][name][-3:].astype("float32") for name in ("kind", "energy", "x", "y")))
    mean, log_deviation = vae.encoder(own[1][-3:].astype("float32"), features, cell)
    np.testing.assert_allclose(codes["code_mean"][-3:], numpy(mean), atol=1e-4)
    np.testing.assert_allclose(codes["code_deviation"][-3:], np.exp(numpy(log_deviation)), rtol=1e-3)
    assert np.array_equal(codes["cell"][-3:], numpy(cell))


def test_fresh_arrivals_repeat_by_seed(vae, codes):
    again, other = (code_posteriors(vae, 96, seed) for seed in (3, 4))
    assert all(np.array_equal(again[name], codes[name]) for name in codes)
    assert np.abs(other["code_mean"] - codes["code_mean"]).max() > 0.01


def test_blocks_of_one_seed_are_not_those_of_the_next(vae, monkeypatch):
    monkeypatch.setattr(latent, "BLOCK", 16)
    first, second = (code_posteriors(vae, 48, seed)["features"] for seed in (0, 1))
    assert not set(map(bytes, first)) & set(map(bytes, second))


def test_codes_are_standardised(prior, codes):
    rng = np.random.default_rng(0)
    shape = codes["code_mean"].shape
    drawn = [numpy(prior.code({**codes, "z": rng.standard_normal(shape, "float32")})) for _ in range(40)]
    drawn = np.concatenate(drawn)
    np.testing.assert_allclose(drawn.mean(axis=0), 0.0, atol=0.06)
    np.testing.assert_allclose(drawn.std(axis=0), 1.0, atol=0.06)


def test_training_moves_every_weight_and_lowers_the_loss(vae, codes, tmp_path):
    prior, history = fit_prior(vae, codes, tmp_path / "prior.npz", epochs=30, batch=32, rate=1e-2, **SIZES)
    first, *_, last = np.reshape(history["loss"], (6, 5)).mean(axis=1)
    assert last < first < 2.5  # noise and data of unit variance
    fresh = type(prior).from_config(prior.get_config())
    assert all(np.abs(numpy(a) - numpy(b)).max() > 0
               for a, b in zip(prior.trainable_weights, fresh.trainable_weights, strict=True))


@pytest.mark.parametrize("sampling", [("ddim", 3, 0.6), ("euler", 20, 0.0)])
def test_a_modular_generator_with_it_is_saved_and_repeats(vae, prior, sampling, tmp_path):
    generator = ModularGenerator(Transport("zn"), prior.sampled_by(*sampling), vae.decoder, *REACH)
    particles = conditions_of(np.array([2112, 22, 2112, 22]),
                              np.array([[0.1, 0, 2000], [0, 0.01, 300], [0, 0, 2680], [0, 0, -50.0]]))
    first, again, other = (generator.sample(particles, seed, batch_size=4) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and (first != other).any() and first.sum(axis=(1, 2)).min() > 0
    generator.save(tmp_path / "generator.keras")
    loaded = load_model(tmp_path / "generator.keras")
    assert np.array_equal(loaded.sample(particles, 1, batch_size=4), first)
    assert loaded.prior.settings["sampler"] == sampling[0] and loaded.prior.evaluations == generator.prior.evaluations
    expected = vae.decoder.operations() + sum(np.prod(w.shape) for w in prior.embed.weights if len(w.shape) > 1)
    assert generator.operations() == expected + generator.prior.evaluations * prior.field.operations()


def test_noise_that_is_added_is_normal_and_of_its_own(prior):
    adding = prior.sampled_by("ddim", 5, 1.0)
    noise = np.random.default_rng(1).standard_normal((4000, prior.settings["latent"]), "float32")
    seen = []
    adding.draw = lambda given, context: seen.append(numpy(given)) or given[0]
    adding.generate(noise, np.zeros((4000, prior.settings["width"]), "float32"))
    (given,) = seen
    assert given.shape == (5, 4000, prior.settings["latent"]) and np.array_equal(given[0], noise)
    correlations = np.corrcoef(given.transpose(0, 2, 1).reshape(-1, 4000))
    assert np.abs(correlations - np.eye(len(correlations))).max() < 0.08
    assert given[1:].std() == pytest.approx(1.0, abs=0.03)


def test_a_decoder_of_other_codes_is_refused(vae, prior):
    other = type(prior)(vae.features.width, 7, **SIZES)
    with pytest.raises(ValueError, match="one detector and one latent code.*7 and 4 numbers"):
        ModularGenerator(Transport("zn"), other, vae.decoder, *REACH)
    with pytest.raises(ValueError, match="Expected a LightDecoder.*received None"):
        ModularGenerator(Transport("zn"), prior, None, *REACH)
    assert keras.saving.get_registered_object("zdckeras>DiffusionPrior") is type(prior)

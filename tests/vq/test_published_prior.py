"""The study's prior: tokens of the particle, its loss by hand, steps from a cache, and the generator's file."""

import keras
import numpy as np
import pytest
from keras import ops

import zdckeras as zdc
from zdckeras.training.loop import fit_arrays
from zdckeras.vq.generator import TokenGenerator
from zdckeras.vq.published_prior import ParticleTokenPrior, ParticleVQVAE, fit_reader
from zdckeras.vq.vq_vae import PhotonVQVAE

numpy = ops.convert_to_numpy


@pytest.fixture
def reader(showers):
    return ParticleVQVAE.fit_scales(showers, codes=6, width=4, projection=2)


@pytest.fixture
def prior(reader):
    return ParticleTokenPrior(reader, codes=6, tokens=4, width=8, heads=2, depth=1, dropout=0.5, seed=1)


def batch(showers, rows=5):
    tokens = np.random.default_rng(0).integers(0, 6, (rows, 4))
    return {"conditions": showers.particles[:rows].astype("float32"), "tokens": tokens.astype("float32")}


def test_particle_becomes_two_tokens_and_comes_back(showers, reader, tmp_path):
    conditions = showers.particles.astype("float32")
    codes, tokens, loss = (numpy(x) for x in reader.encode(conditions))
    assert tokens.shape == (len(showers), 2) and codes.shape == (len(showers), 2, 4)
    made = numpy(reader.read(reader.back(codes.reshape(-1, 8))))
    wrong = ((made - (conditions - reader.features.mean) / reader.features.scale) ** 2).sum(axis=-1)
    np.testing.assert_allclose(numpy(reader({"conditions": conditions})), wrong + 2 * loss, rtol=1e-3)
    adam = dict(rate=3e-3, beta_1=0.7, cycle=dict(rise=0.2, start=10.0, end=10.0))
    _, histories = fit_reader(showers, tmp_path, dict(epochs=8, batch=16, rate=1.0, depth=3), adam)
    history = histories["particle tokens"]["loss"]
    assert len(history) == 8 and history[-1] < 0.9 * history[0]


def test_loss_asks_of_every_code_whether_it_is_the_one(showers, prior):
    inputs = batch(showers)
    logits, particle = numpy(prior.logits(inputs["tokens"], inputs["conditions"])), numpy(
        prior.reader.encode(inputs["conditions"])[1])
    right = np.eye(6)[np.concatenate([particle[:, 1:], inputs["tokens"]], axis=1).astype(int)]
    expected = -(right * np.log(1 / (1 + np.exp(-logits))) + (1 - right) * np.log(1 / (1 + np.exp(logits))))
    assert logits.shape == (5, 5, 6)
    np.testing.assert_allclose(numpy(prior(inputs)), expected.sum(axis=-1).mean(axis=-1), rtol=1e-4)


def test_tokens_are_drawn_from_a_cache_as_from_the_whole(showers, prior, evaluate):
    """Each from the logits that the whole sequence has there; nearly greedy, so that rounding decides nothing."""
    conditions, uniform = batch(showers)["conditions"], np.full((5, 4), 0.5, "float32")
    tokens = evaluate(lambda c, u: prior.sample(c, u, temperature=1e-3), conditions, uniform)
    logits = numpy(prior.logits(tokens, conditions))[:, 1:]
    assert np.array_equal(tokens, logits.argmax(axis=-1))


def test_training_moves_all_but_the_reader(showers, prior, eager):
    prior.compile(keras.optimizers.Adam(1e-2), run_eagerly=eager)
    before, still = [numpy(w) for w in prior.trainable_weights], prior.reader.get_weights()
    history = prior.fit(batch(showers), epochs=4, batch_size=5, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert all((a != numpy(b)).any() for a, b in zip(before, prior.trainable_weights, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(still, prior.reader.get_weights(), strict=True))
    assert prior.reader.trainable_weights  # elsewhere


def test_generator_survives_its_file(showers, prior, tmp_path):
    model = PhotonVQVAE.published(showers, hidden=8, heads=2, depth=1, width=8, codes=6, projection=3, patch=15)
    generator = TokenGenerator(model, prior, showers.particles.min(axis=0), showers.particles.max(axis=0))
    made = generator.sample(showers.particles[:6], seed=5, batch_size=6)
    generator.save(tmp_path / "generator.keras")
    again = zdc.load_model(tmp_path / "generator.keras")
    assert made.shape == (6, 30, 30)
    assert np.array_equal(again.sample(showers.particles[:6], seed=5, batch_size=6), made)


def test_sums_are_refused(showers):
    with pytest.raises(ValueError, match="no channel sums"):
        ParticleTokenPrior.fit_scales(showers, sums=5)


def test_fewer_codes_than_the_particle_has_are_refused(reader):
    """Its tokens are predicted, too."""
    with pytest.raises(ValueError, match="codes: expected at least the 6 of the particle, .*, received 5"):
        ParticleTokenPrior(reader, codes=5, tokens=4, width=8, heads=2, depth=1)


def test_a_batch_is_read_once(monkeypatch):
    scaler = {"mean": [0.0] * 9, "scale": [1.0] * 9}
    reader = ParticleVQVAE("ecal", scaler, codes=4)
    prior = ParticleTokenPrior(reader, codes=4, tokens=3, width=8, heads=2, depth=1)
    reads, read = [], prior.reader.encode
    monkeypatch.setattr(prior.reader, "encode", lambda *a, **k: reads.append(1) or read(*a, **k))
    batch = {"conditions": np.ones((2, 9), "float32"), "tokens": np.zeros((2, 3), "int32")}
    assert numpy(prior.call(batch)).shape == (2,) and len(reads) == 1


def test_dropout_acts_in_training(showers, prior, tmp_path):
    drop = next(layer for layer in prior._flatten_layers() if isinstance(layer, keras.layers.Dropout))
    begun = np.array(numpy(drop.seed_generator.state))
    fit_arrays(prior, batch(showers, 8), tmp_path / "prior.npz", epochs=1, batch=4, rate=1e-3)
    assert not np.array_equal(numpy(drop.seed_generator.state), begun)

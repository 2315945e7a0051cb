import keras
import numpy as np
import pytest
from keras import ops

import zdckeras as zdc
from zdckeras.data.detectors import channel_sums
from zdckeras.flow_distill.sums import PhotonSums, code_sums, decode_sums

numpy = ops.convert_to_numpy


def test_sums_come_back_exactly():
    rng = np.random.default_rng(0)
    sums = rng.integers(0, np.repeat([1, 20, 1000, 4000], 50)[:, None], (200, 5))
    uniform = rng.uniform(0.01, 0.99, sums.shape).astype("float32")
    assert np.array_equal(numpy(decode_sums(code_sums(sums, uniform))), sums)


def test_density_is_a_density(showers, evaluate):
    """p(y_1 | ...) of a one-channel flow, integrated over y_1, is one."""
    sums = showers.photon_sums()[:, None]
    model = PhotonSums.fit_scales("ecal", showers.particles, sums, steps=1, hidden=(8,), bins=4, embedding=(8,))
    y = np.linspace(-9.0, 9.0, 2001, dtype="float32")[:, None]
    context = np.full((len(y), 8), 0.3, "float32")
    density = np.exp(evaluate(model.flow.log_prob, y, context))
    assert np.trapezoid(density, y[:, 0]) == pytest.approx(1.0, abs=1e-3)


def test_call_and_loss(sums_model, showers):
    batch = {"conditions": showers.particles[:8].astype("float32"),
             "sums": channel_sums(showers.response)[:8].astype("float32"),
             "u_sums": np.random.default_rng(1).random((8, 5), "float32")}
    log_p = numpy(sums_model(batch))
    assert log_p.shape == (8,) and np.isfinite(log_p).all()
    assert float(sums_model.compute_loss(y_pred=log_p)) == pytest.approx(-log_p.mean(), rel=1e-5)


def test_generated_sums_are_whole_and_follow_noise_and_particle(sums_model, showers, evaluate):
    noise = np.random.default_rng(2).standard_normal((16, 5)).astype("float32")
    noise[0] *= 30.0
    sums = evaluate(sums_model.generate, noise, showers.particles[:16])
    assert sums.shape == (16, 5) and (sums >= 0).all() and np.array_equal(sums, np.rint(sums))
    assert (sums != evaluate(sums_model.generate, noise[::-1], showers.particles[:16])).any()
    assert (sums != evaluate(sums_model.generate, noise, showers.particles[16:32])).any()
    assert sums.max() < 1e6


def test_saved_model_gives_the_same(sums_model, showers, evaluate, tmp_path):
    noise = np.random.default_rng(3).standard_normal((8, 5)).astype("float32")
    sums_model.save(tmp_path / "sums.keras")
    again = keras.saving.load_model(tmp_path / "sums.keras")
    assert np.array_equal(evaluate(again.generate, noise, showers.particles[:8]),
                          evaluate(sums_model.generate, noise, showers.particles[:8]))


def test_a_plain_one_sees_the_conditions_alone(showers, tmp_path):
    """No expected impact: the context's network reads nine numbers; saved and opened, it is the same."""
    model = PhotonSums.fit_scales("ecal", showers.particles, showers.response.sum(axis=(1, 2))[:, None], steps=1,
                                  hidden=(8,), bins=4, embedding=(8,), plain=True)
    assert model.features.width == 9 and model.embed.layers[0].kernel.shape == (9, 8)
    model.save(tmp_path / "plain.keras")
    again, z = zdc.load_model(tmp_path / "plain.keras"), np.zeros((4, 1), "float32")
    made = [ops.convert_to_numpy(one.generate(z, showers.particles[:4].astype("float32"))) for one in (model, again)]
    np.testing.assert_array_equal(*made)


def test_training_lowers_the_loss(showers, eager):
    sums = channel_sums(showers.response)
    model = PhotonSums.fit_scales("ecal", showers.particles, sums, steps=1, hidden=(16,), bins=4, embedding=(16,))
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=eager)
    batch = {"conditions": showers.particles.astype("float32"), "sums": sums.astype("float32"),
             "u_sums": np.random.default_rng(4).random(sums.shape, "float32")}
    losses = [float(np.ravel(model.train_on_batch(batch))[0]) for _ in range(20)]
    assert losses[-1] < losses[0] - 0.5

import numpy as np
import pytest
from keras import ops

from tests.modular.conftest import LATENT, SMALL
from zdckeras.data.detectors import channel_sums
from zdckeras.modular import training
from zdckeras.modular.arrivals import ARRIVAL, ArrivalBatches, draw_arrivals, respond
from zdckeras.modular.model import ArrivalVAE
from zdckeras.modular.training import PriorDistiller, channel_light, distil, encoded_arrivals, fit_vae, pair_diversity


def test_physics_loss_is_the_distance_of_channel_sums(batches, evaluate):
    """With lambda at 2 the loss is that at 0 plus twice the relative L1 distance of the five sums."""
    vae = ArrivalVAE("zn", **SMALL)
    student = vae.prior.student(seed=7)
    for k, weight in enumerate([*vae.prior.flow.weights, *student.flow.weights]):
        weight.assign(0.2 * np.random.default_rng(k).standard_normal(weight.shape))
    plain, physics = (PriorDistiller(vae.prior, vae.decoder, student, channels) for channels in (0.0, 2.0))
    (batch,) = batches[0]
    code, u = np.random.default_rng(9).standard_normal((2, *batch["z"].shape)).astype("float32")
    batch = {name: batch[name] for name in ARRIVAL} | {"code": code, "u": u, "sums": channel_sums(batch["responses"])}
    names = list(batch)

    def parts(*values):
        inputs = dict(zip(names, values, strict=True))
        features, cell = vae.features(*(inputs[name] for name in ARRIVAL))
        base = vae.prior.flow.encode(inputs["code"], vae.prior.embed(features))[0]
        made = student.generate(base, features)
        light = ops.exp(vae.decoder(made, features, cell)[0])
        return plain(inputs), physics(inputs), light, channel_light(vae.decoder, made, features, cell)

    without, full, light, sums = evaluate(parts, *batch.values())
    np.testing.assert_allclose(sums, channel_sums(light.reshape(-1, 44, 44)), rtol=1e-5)
    distance = np.abs(sums - batch["sums"]).sum(axis=1) / np.maximum(batch["sums"].sum(axis=1), 1.0)
    np.testing.assert_allclose(full - without, 2.0 * distance, rtol=2e-3, atol=1e-3)
    assert (without > 0).all()


def test_encoded_arrivals_are_the_codes_of_their_responses(vae):
    """Rows beyond one block of the encoder, sums of the same responses, and weights that do not change the scale."""
    arrays = encoded_arrivals(vae, 1100, seed=2)
    assert {name: values.shape for name, values in arrays.items()} == {
        **dict.fromkeys((*ARRIVAL, "variability"), (1100,)), "code": (1100, LATENT), "sums": (1100, 5)}
    draws = ArrivalBatches("zn", 1100, 1, 1100, seed=1002, latent=LATENT)
    assert np.array_equal(draws.arrays["energy"], arrays["energy"])
    np.testing.assert_array_equal(channel_sums(draws.arrays["responses"]), arrays["sums"])
    noise = np.random.default_rng([2, 73]).standard_normal((1100, LATENT), "float32")
    row = {name: np.asarray(draws.arrays[name][1090:], "float32") for name in (*ARRIVAL, "responses")}
    code = ops.convert_to_numpy(vae.encode({**row, "z": noise[1090:]})[0])
    np.testing.assert_allclose(code, arrays["code"][1090:], rtol=1e-4, atol=1e-4)
    again = respond("zn", draws.arrays, [2, 72]).astype("float64")
    differ = np.abs(draws.arrays["responses"] - again).sum(axis=(1, 2)) / 2
    weight = 1.0 / (1.0 + differ / differ.mean())  # the largest difference drops out
    np.testing.assert_allclose(arrays["variability"], weight / weight.mean(), rtol=1e-5)
    assert arrays["variability"][differ.argmin()] > 1.0 > arrays["variability"][differ.argmax()]


def test_all_own_arrivals_are_encoded_however_few(vae):
    """Fewer than are asked for, and than a block of the encoder has."""
    own = draw_arrivals("zn", 70, 1)
    own = own, respond("zn", own, 2)
    arrays = encoded_arrivals(vae, 1100, seed=2, own=own)
    assert {len(values) for values in arrays.values()} == {70} and np.array_equal(arrays["energy"], own[0]["energy"])
    assert (arrays["variability"] == 1).all() and np.array_equal(arrays["sums"], channel_sums(own[1]))


def test_gradients_of_the_autoencoder_are_clipped_at_50(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "fit_adam", lambda *settings, optimizer: (optimizer, settings[2:]))
    _, (adam, told) = fit_vae("zn", tmp_path / "vae.npz", 64, 2, 32, 1e-2, **SMALL)
    assert (adam.clipnorm, told) == (50.0, (tmp_path / "vae.npz", 2, 1e-2))


def test_training_and_distillation_resume_and_leave_the_teacher_alone(tmp_path):
    settings = dict(rows=64, batch=32, rate=1e-2, seed=1)
    vae, history = fit_vae("zn", tmp_path / "vae.npz", epochs=2, **settings, **SMALL)
    again, same = fit_vae("zn", tmp_path / "vae.npz", epochs=2, **settings, **SMALL)
    assert history == same and len(history["loss"]) == 2
    for a, b in zip(vae.weights, again.weights, strict=True):
        assert np.array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))
    before = [ops.convert_to_numpy(w) for w in vae.weights]
    arrays = encoded_arrivals(vae, 64, seed=1)
    student, losses = distil(vae, arrays, tmp_path / "student.npz", epochs=3, batch=32, rate=1e-2, seed=1)
    assert losses["loss"][-1] < losses["loss"][0]
    assert all(np.array_equal(ops.convert_to_numpy(w), b) for w, b in zip(vae.weights, before, strict=True))
    assert vae.prior.trainable_weights and vae.decoder.trainable_weights  # elsewhere
    code = student.generate(*(np.zeros((2, width), "float32") for width in (LATENT, vae.features.width)))
    assert tuple(code.shape) == (2, LATENT) and np.isfinite(ops.convert_to_numpy(code)).all()


def test_diversity_of_pairs_is_between_zero_and_one():
    rng = np.random.default_rng(0)
    first, second = rng.poisson(3.0, (2, 20, 4, 4))
    diversity = pair_diversity(first, second)
    assert diversity.max() == 1.0 and diversity.min() >= 0.0
    assert np.array_equal(diversity, pair_diversity(second, first))
    energies = np.array([[[0.6, 0.2]], [[1.5, 0.0]]], "float32")  # MeV
    assert pair_diversity(energies, energies).tolist() == [0.0, 0.0]
    assert pair_diversity(energies, energies[::-1]) == pytest.approx([1.0, 1.0])

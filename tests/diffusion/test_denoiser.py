import json

import numpy as np
import pytest
from keras import ops
from scipy import stats

from tests.diffusion.conftest import SIZES, randomise
from zdckeras.diffusion.denoiser import fit_averaged
from zdckeras.diffusion.latent import DiffusionPrior
from zdckeras.training.batches import Batches

KINDS = {"flow": {}, "v": dict(schedule="cosine", levels=1000), "noise": dict(schedule="linear", target="noise"),
         "data": dict(target="data", law="logit-normal")}
numpy = ops.convert_to_numpy


def dense(prior, x, t, features):
    """The answer of a prior's field in NumPy."""
    def silu(x):
        return x / (1.0 + np.exp(-x))

    weights = [numpy(w).astype("float64") for w in prior.trainable_weights]
    (a, b), (c, d), *field = zip(weights[::2], weights[1::2], strict=True)
    context = silu(silu(features @ a + b) @ c + d)
    told = np.concatenate([np.cos(np.pi * np.arange(1, 9) * t[:, None]), context], axis=1)
    (a, b), (c, d), (v, e) = field
    hidden = silu(np.concatenate([x, told], axis=1) @ a + b)
    hidden = hidden + silu(np.concatenate([hidden, told], axis=1) @ c + d)
    return hidden @ v + e


@pytest.mark.parametrize("kind", KINDS)
def test_loss_by_hand(vae, codes, batch, evaluate, kind):
    """Of every sample, against NumPy: the network, the path and what is asked for."""
    prior = randomise(DiffusionPrior(vae.features.width, vae.latent, **SIZES, **KINDS[kind]))
    prior.fit_scales(codes["code_mean"], codes["code_deviation"])
    found = evaluate(lambda *v: prior(dict(zip(batch, v, strict=True))), *batch.values())
    data = (batch["code_mean"] + batch["code_deviation"] * batch["z"] - numpy(prior.mean)) / numpy(prior.scale)
    noise, t = batch["noise"], batch["t"].astype("float64")
    if kind == "data":
        t = 1.0 / (1.0 + np.exp(-stats.norm.ppf(t)))
    t = np.floor(1000 * t + 1) / 1000 if kind == "v" else t
    alpha, sigma, alpha_slope, sigma_slope = (c[:, None] for c in prior.schedule.coefficients(t))
    wanted = {"noise": noise, "data": data}.get(kind, alpha_slope * data + sigma_slope * noise)
    answer = dense(prior, alpha * data + sigma * noise, t, batch["features"])
    np.testing.assert_allclose(found, np.square(answer - wanted).mean(axis=1), rtol=1e-4, atol=1e-4)


def test_ten_steps_by_hand(prior, codes, evaluate):
    """Heun's method on the straight path, against NumPy."""
    rng, features = np.random.default_rng(1), codes["features"][:20]
    noise = rng.standard_normal((20, prior.settings["latent"]), "float32")
    sampled = prior.sampled_by("heun", 10)
    found = evaluate(sampled.generate, noise, features)
    x = noise.astype("float64")
    for k in range(10):
        ends = [np.full(20, 1.0 - k / 10), np.full(20, 0.9 - k / 10)]
        first = dense(prior, x, ends[0], features)
        x = x - 0.05 * (first + dense(prior, x - 0.1 * first, ends[1], features))
    np.testing.assert_allclose(found, x * numpy(prior.scale) + numpy(prior.mean), rtol=1e-3, atol=1e-3)


def test_what_a_sampler_clips(prior, codes, evaluate):
    limited = DiffusionPrior.from_config({**prior.get_config(), "limit": 0.3, "sampler": "euler", "steps": 1})
    limited.set_weights(prior.get_weights())
    noise = np.random.default_rng(2).standard_normal((20, prior.settings["latent"]), "float32")
    found = evaluate(limited.generate, noise, codes["features"][:20])
    found = np.abs((found - numpy(prior.mean)) / numpy(prior.scale))
    assert found.max() == pytest.approx(0.3, abs=1e-4) and (found < 0.299).any()


@pytest.mark.parametrize("settings", [dict(target="data"), dict(limit=1.0)])
def test_heun_ends_with_data_where_the_network_tells_no_velocity(vae, codes, evaluate, settings):
    """The last step leads to the data that are told before it, here the same ones everywhere."""
    prior = DiffusionPrior(vae.features.width, vae.latent, sampler="heun", steps=3, **SIZES, **settings)
    prior.field.read.bias.assign(np.full(vae.latent, 0.5 if "target" in settings else 0.0))
    assert prior.evaluations == 5  # and no sixth
    noise = np.random.default_rng(3).standard_normal((20, vae.latent), "float32")
    found = (evaluate(prior.generate, noise, codes["features"][:20]) - numpy(prior.mean)) / numpy(prior.scale)
    assert np.abs(found).max() < 1.0 + 1e-4
    if "target" in settings:
        np.testing.assert_allclose(found, 0.5, atol=1e-4)


def test_a_copy_samples_otherwise_with_the_same_weights(prior):
    copy = prior.sampled_by("ddim", 5, 0.5)
    assert (copy.draws, copy.evaluations, prior.draws, prior.evaluations) == (5, 5, 1, 6)
    assert all(np.array_equal(numpy(a), numpy(b)) for a, b in zip(copy.weights, prior.weights, strict=True))
    assert copy.settings["schedule"] == prior.settings["schedule"]


def test_the_average_of_the_weights_is_kept_and_found_again(vae, codes, tmp_path):
    def fit(momentum, path, epochs=2):
        prior = randomise(DiffusionPrior(vae.features.width, vae.latent, **SIZES))
        given = {name: codes[name] for name in ("code_mean", "code_deviation", "features")}
        noise = {"z": (vae.latent,), "noise": (vae.latent,)}
        history = fit_averaged(prior, Batches(given, 32, 1, uniform={"t": ()}, normal=noise), path, epochs, 1e-2,
                               momentum)
        return prior, [numpy(w) for w in prior.trainable_weights], history

    _, last, history = fit(1e-30, tmp_path / "last.npz")  # rounds to 0, in the same graph: XLA rewrites one without
    prior, average, same = fit(0.9, tmp_path / "average.npz")
    assert history == same and len(history["loss"]) == 2  # the average does not take part in the training
    assert max(np.abs(a - b).max() for a, b in zip(last, average, strict=True)) > 1e-3
    with np.load(tmp_path / "average.npz") as state:
        saved = [state[f"v{k}"] for k in range(len(state.files) - 1)]
        assert json.loads(str(state["record"]))["epochs"] == 2
    assert all(any(a.shape == s.shape and np.array_equal(a, s) for s in saved) for a in average)
    assert all(any(a.shape == s.shape and np.abs(a - s).max() < 1e-6 for s in saved) for a in last)  # compiled anew
    assert all(np.array_equal(a, b) for a, b in zip(fit(0.9, tmp_path / "average.npz")[1], average, strict=True))
    begun = [numpy(w) for w in randomise(DiffusionPrior(vae.features.width, vae.latent, **SIZES)).trainable_weights]
    _, short, _ = fit(0.9999, tmp_path / "short.npz")  # of six steps: nearer to where they end than to their begin
    near, far = (sum(np.abs(a - b).sum() for a, b in zip(last, other, strict=True)) for other in (short, begun))
    assert near < 0.4 * far


def test_one_model_is_fitted_again(vae, codes, tmp_path):
    """What is finished is found again, and another training has an optimizer of its own."""
    prior = randomise(DiffusionPrior(vae.features.width, vae.latent, **SIZES))
    given = {name: codes[name] for name in ("code_mean", "code_deviation", "features")}
    noise = {"z": (vae.latent,), "noise": (vae.latent,)}
    batches = Batches(given, 32, 1, uniform={"t": ()}, normal=noise)

    def fit(name):
        history = fit_averaged(prior, batches, tmp_path / name, 1, 1e-2)
        return history, [numpy(w) for w in prior.trainable_weights], int(prior.optimizer.iterations)

    first, again, second = (fit(name) for name in ("a.npz", "a.npz", "b.npz"))
    assert again[0] == first[0] and all(np.array_equal(a, b) for a, b in zip(first[1], again[1], strict=True))
    assert second[0]["loss"][0] < first[0]["loss"][0] and first[2] == second[2] == 3


@pytest.mark.parametrize(("settings", "message"), [
    (dict(steps=0), "at least one step and a whole number of them, received 0"),
    (dict(sampler="ddim", eta=1.5), r"eta in \[0, 1\] and a law uniform or logit-normal; received 1.5"),
    (dict(eta=-0.1), r"eta in \[0, 1\]"), (dict(law="normal"), "received 0.0 and 'normal'"),
    (dict(sampler="rk4"), "a sampler ddpm, ddim, euler, heun, dpm_solver; received 'velocity' and 'rk4'"),
    (dict(target="score"), "a target velocity, noise, data"), (dict(schedule="sigmoid"), "received 'sigmoid'"),
    (dict(schedule={"kind": "linear", "beta": (0.1, 3.0)}), "ends in noise"),
    (dict(levels=-5), "levels: expected a whole number of at least 0, received -5"),
    (dict(target="noise"), "as target of a straight path, received the noise")])
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DiffusionPrior(5, 2, **{"hidden": 4, "depth": 1, **settings})


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "euler", "heun", "dpm_solver"])
def test_a_noise_that_is_a_percent_off_keeps_the_deviation(sampler, monkeypatch, evaluate):
    """Of data N(1, 0.3^2) on the cosine schedule, at whose end no data are seen: 0.015 once, by heun."""
    prior = DiffusionPrior(1, 1, 4, 1, schedule="cosine", target="noise", sampler=sampler, steps=8)

    def almost(x, t, context):
        alpha, sigma, *_ = prior.schedule.coefficients(t[:, None], ops)
        return 1.01 * sigma * (x - alpha) / (alpha**2 * 0.09 + sigma**2)

    monkeypatch.setattr(prior, "answer", almost)
    noise = np.random.default_rng(0).standard_normal((prior.draws, 20_000, 1)).astype("float32")
    made = evaluate(prior.draw, noise, np.zeros((20_000, 4)))
    assert made.mean() == pytest.approx(1.0, abs=0.1) and made.std() == pytest.approx(0.3, abs=0.12)


def test_numbers_of_float64_are_taken(prior, codes):
    noise, features = np.ones((4, codes["code_mean"].shape[1]), "float32"), codes["features"][:4]
    made = prior.generate(noise, features)
    assert np.array_equal(numpy(prior.generate(noise.astype("float64"), features.astype("float64"))), numpy(made))

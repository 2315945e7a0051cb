"""The presets `paper`: sizes and schedules of the publications, built, counted, and trained for a step."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

from zdckeras import backend
from zdckeras.corr_vae.published import ImageCorrVAE
from zdckeras.gan.images import ImageGAN
from zdckeras.simulation.reference import load
from zdckeras.training.batches import Batches
from zdckeras.vq.prior import TokenPrior
from zdckeras.vq.published import ImageVQGAN
from zdckeras.vq.vq_vae import PhotonVQVAE
from zdckeras.wgan_gp.published import ImageRegressor, ImageWGAN, published_reader

FOLDER = Path(__file__).parents[2] / "recipes"
pytestmark = pytest.mark.skipif(keras.config.backend() == "jax", reason="sizes as on TensorFlow; slow")
SCALER = {"mean": [0.0] * 9, "scale": [1.0] * 9}


def recipe(name):
    """What a recipe defines, without running it."""
    return runpy.run_path(str(FOLDER / f"{name}.py"), run_name="recipe")


def convolutions(network):
    """(rows, columns, channels) of every convolution, sorted."""
    return sorted(tuple(layer.output.shape[1:]) for layer in network.layers if isinstance(layer, layers.Conv2D))


def dense(a, b):
    return a * b + b


def conv(kernel, a, b):
    return kernel * a * b + b


def normalised(n):
    """Scale, centre and the two averages of batch normalisation."""
    return 4 * n


GENERATORS = {  # published sizes: convolutions, and their weights with those of the dense layers
    ("zn",): ([(24, 24, 128), (44, 44, 1), (46, 46, 64)],
              dense(19, 256) + normalised(256) + dense(256, 13 * 13 * 128) + normalised(13 * 13 * 128)
              + conv(9, 128, 128) + normalised(128) + conv(9, 128, 64) + normalised(64) + conv(9, 64, 1)),
    ("zp",): ([(56, 30, 1), (57, 36, 64), (58, 37, 128), (59, 19, 256)],
              dense(19, 256) + normalised(256) + dense(256, 20 * 10 * 128) + normalised(20 * 10 * 128)
              + conv(4, 128, 256) + normalised(256) + conv(4, 256, 128) + normalised(128) + conv(4, 128, 64)
              + normalised(64) + conv(14, 64, 1)),
    ("zn", "zp"): ([(44, 44, 1), (45, 44, 64), (50, 45, 128), (55, 23, 256), (56, 30, 1), (57, 30, 64), (58, 33, 128),
                    (59, 19, 256)],
                   dense(17, 256) + normalised(256) + dense(256, 20 * 12 * 128) + normalised(20 * 12 * 128)
                   + 2 * (conv(12, 128, 256) + normalised(256) + conv(12, 256, 128) + normalised(128) + normalised(64)
                          + conv(2, 64, 1)) + conv(12, 128, 64) + conv(8, 128, 64)),
}
CRITICS = {
    ("zn",): ([(19, 19, 16), (42, 42, 32)], 9 * 9 * 16),
    ("zp",): ([(25, 12, 16), (54, 28, 32)], 12 * 12 * 16),
    ("zn", "zp"): ([(19, 19, 16), (25, 12, 16), (42, 42, 32), (54, 28, 32)], (9 * 19 + 12 * 12) * 16),
}


def photons(detectors, rows=2):
    """A batch of `training_arrays` with its noise."""
    rng, shapes = np.random.default_rng(0), {"zn": (44, 44), "zp": (56, 30)}
    batch = {name: rng.normal(size=(rows, width)) for name, width in (("conditions", 9), ("z", 10), ("z2", 10))}
    for name in detectors:
        batch |= {f"responses_{name}": rng.poisson(1.0, (rows, *shapes[name])),
                  f"peak_{name}": np.full((rows, 2), 20.0), f"diversity_{name}": np.full(rows, 0.5)}
    return {name: values.astype("float32") for name, values in batch.items()}


@pytest.mark.parametrize(("name", "detectors"), [("sdi_gan", ("zn",)), ("sdi_gan", ("zp",)),
                                                 ("joint_gan", ("zn", "zp"))])
def test_gans_have_the_published_size_and_train(name, detectors):
    told = recipe(name)
    preset = told["PRESETS"]["paper"]
    if name == "sdi_gan":
        assert preset["published"] == dict(epochs=300, batch=128, generator=1e-4, critic=1e-5)
        rows = told["published_rows"](detectors[0], (0.1, 1e-10, 1e-3))
        assert list(rows.values())[:4] == [{}, {"diversity": 0.1}, {"diversity": 0.1, "intensity": 1e-10},
                                           {"diversity": 0.1, "intensity": 1e-10, "auxiliary": 1e-3}]
    else:
        rows = {"SDI": told["SDI"]}
        assert preset["published"] == dict(epochs=200, batch=128, generator=1e-4, critic=1e-4)
    weights = list(rows.values())[3 if len(rows) > 3 else 0]
    gan = ImageGAN.published(detectors, SCALER, preset["divide"], weights=weights)
    shapes, count = GENERATORS[detectors]
    assert convolutions(gan.generator) == shapes and gan.generator.count_params() == count
    assert gan.latent == (8 if len(detectors) > 1 else 10)
    shapes, flat = CRITICS[detectors]
    images = len(detectors)
    assert convolutions(gan.critic) == shapes
    assert gan.critic.count_params() == (
        images * (conv(9, 1, 32) + normalised(32) + conv(9, 32, 16) + normalised(16)) + dense(flat + 9, 128)
        + normalised(128) + dense(128, 64) + normalised(64) + dense(64, images))
    if backend.name() == "jax":
        return  # compiles for long
    batch, before = photons(detectors), [w.copy() for w in gan.generator.get_weights()]
    batch |= {z: batch[z][:, : gan.latent] for z in ("z", "z2")}
    gan.compile({phase: keras.optimizers.Adam(1e-4) for phase in gan.phases()}, run_eagerly=True)
    logs = gan.train_on_batch(batch, return_dict=True)
    assert np.isfinite([float(value) for value in logs.values()]).all()
    assert all((a != b).any() for a, b in zip(before, gan.generator.get_weights(), strict=True) if a.ndim > 1)


def test_wgan_has_the_published_size_and_trains():
    preset = recipe("wgan_gp")["PRESETS"]["paper"]
    assert (preset["latent"], preset["critic_steps"], preset["published"]["epochs"], preset["train"]) == (
        512, 5, 3000, 50_000)
    regressor = ImageRegressor(published_reader(preset["divide"]), "ecal", [0.0] * 5, [1.0] * 5)
    gan = ImageWGAN.published(regressor, {"power": 0.1, "shift": 0.1}, preset["divide"], preset["latent"])
    network = gan.generator.network
    assert gan.penalty == 10.0 and gan.critic_steps == 5 and network.output.shape == (None, 30, 30)
    assert next(x for x in network.layers if isinstance(x, layers.Reshape)).output.shape == (None, 4, 4, 256)
    assert convolutions(network) == [(8, 8, 128), (15, 16, 64), (32, 32, 1), (32, 32, 32)]
    assert network.count_params() == (dense(517, 4096) + conv(9, 256, 128) + conv(12, 128, 64) + conv(9, 64, 32)
                                      + conv(9, 32, 1))
    for reader, extra in ((gan.critic, 5), (regressor.network, 0)):
        assert convolutions(reader) == [(4, 4, 256), (8, 8, 128), (15, 16, 64), (32, 32, 32)]
        assert reader.count_params() == (conv(9, 1, 32) + conv(16, 32, 64) + conv(9, 64, 128)
                                         + conv(9, 128 + extra, 256) + dense(4096, 1 if extra else 5))
    if backend.name() == "jax":
        return  # compiles for long
    rng, before = np.random.default_rng(0), network.get_weights()
    batch = {"conditions": rng.normal(size=(10, 9)), "responses": rng.exponential(5.0, (10, 30, 30)),
             "z": rng.normal(size=(10, 512)), "share": rng.random((10, 1, 1))}
    gan.compile({phase: keras.optimizers.Adam(1e-4, 0.0, 0.9) for phase in gan.phases()}, run_eagerly=True)
    logs = gan.train_on_batch({name: a.astype("float32") for name, a in batch.items()}, return_dict=True)
    assert np.isfinite([float(value) for value in logs.values()]).all()
    assert all((a != b).any() for a, b in zip(before, network.get_weights(), strict=True) if a.ndim > 1)


@pytest.fixture(scope="module")
def some():
    """Showers that give networks their scales."""
    return load("zn", "train", 16)


def step(model, arrays, **noise):
    """One step on two rows moves the weights."""
    if backend.name() == "jax":
        return  # compiles for long
    before = [w.copy() for w in model.get_weights()]
    adam = keras.optimizers.Adam(1e-4)
    model.compile({phase: keras.optimizers.Adam(1e-4) for phase in model.phases()} if hasattr(model, "phases")
                  else adam, run_eagerly=True)
    logs = model.train_on_batch(Batches(arrays, 2, **noise)[0][0], return_dict=True)
    assert np.isfinite([float(value) for value in logs.values()]).all()
    moved = [(a != b).any() for a, b in zip(before, model.get_weights(), strict=True) if a.ndim > 1]
    assert np.mean(moved) > 0.9  # a code that no token takes stays


def arrays_of(showers):
    return {"conditions": showers.particles, "responses": showers.response}


def transformer(length, width, depth):
    """Weights of `Transformer`: positions, blocks, last norm."""
    feed = dense(width, 4 * width) + dense(4 * width, width)
    return length * width + depth * (4 * width + dense(width, 3 * width) + dense(width, width) + feed) + 2 * width


def mixer(length, width, across, depth):
    """Weights of `Mixer`."""
    over = dense(length, across) + dense(across, length) + dense(width, 4 * width) + dense(4 * width, width)
    return depth * (4 * width + over) + 2 * width


def patches(core, ends, width, context):
    """Weights of an encoder or decoder of patches around its core."""
    return core + dense(ends[0], width) + dense(width, ends[1]) + (dense(context, width) if context else 0)


@pytest.mark.parametrize("row", ["VAE", "Supervised AE", "AE + Sinkhorn NG", "AE + MSE NG"])
def test_autoencoders_have_the_published_size_and_train(row, some):
    """Of the study: hidden 96, 4 heads, 4 layers, patches of 8 (36 of them), 10 latent numbers; 0.7 KL, codes by 10 and
    20; the Mixer's layers as in the authors' code."""
    told = recipe("autoencoders")
    args, preset = SimpleNamespace(rows=[row], seed=0), told["PRESETS"]["paper"]
    assert preset["fit"] | {"rate": 0} == dict(epochs=100, batch=256, rate=0)
    cores = {"ViT": transformer(36, 96, 4), "MLP-Mixer": mixer(36, 96, 128, 5)}
    for name, model in told["published"](args, preset, some):
        assert model.encoder.tokens == 36 and model.latent == 10 and model.weight == 1.0
        weights = {key: value for key, value in model.settings.items() if key in ("kl", "supervision", "matching")}
        assert weights == {"VAE": {"kl": 0.7}, "Supervised AE": {"supervision": 1.0}, "AE + MSE NG": {"matching": 10.0},
                           "AE + Sinkhorn NG": {"matching": 20.0}}[row]
        body = name.split(", ")[1]
        if body in cores:
            blind = row == "Supervised AE"
            assert model.encoder.count_params() == patches(cores[body], (64, 16), 96, 0 if blind else 9)
            assert model.decoder.count_params() == patches(cores[body], (16, 64), 96, 9)
        if body == "ViT":
            assert (model.encoder.body.core.width, model.encoder.body.core.blocks[0].heads) == (96, 4)
        if body == "ViT" or row == "VAE":
            step(model, arrays_of(some), normal={"z": (10,)})


def test_vq_models_have_the_published_size_and_train(some):
    """36 tokens of 256 codes of 256 numbers, the study's best size of 1M; a prior 256 wide, 4 heads, 5 layers."""
    vq_vae, vq_gan = (recipe(name)["PRESETS"]["paper"] for name in ("vq_vae", "vq_gan"))
    for averaged in (False, True):
        model = PhotonVQVAE.published(some, width=vq_gan["width"], averaged=averaged, **vq_vae["published"])
        core, codes = transformer(36, 96, 4), 256 * 256
        state = 256 + 256 * 256 * (1 if averaged else 2)  # uses, and sums, or codes and shifts
        assert model.count_params() == patches(core, (64, 256), 96, 0) + patches(core, (256, 64), 96, 0) + state
        trained = sum(int(np.prod(w.shape)) for w in model.trainable_weights) + averaged * codes
        assert 0.9e6 < trained < 1.15e6 and model.tokens == 36 and model.codebook.table().shape == (256, 256)
        assert model.codebook.commitment == 0.25 and model.codebook.averaged == averaged
    gan = ImageVQGAN.of(model, some, **vq_gan["published"])
    assert gan.critic.count_params() == (patches(transformer(36, 128, 4), (64, 128), 128, 9) + dense(128, 128)
                                         + dense(128, 64) + dense(64, 1))
    assert gan.weights_of == {"pixels": 0.55, "codebook": 1.0, "adversarial": 0.96}
    step(PhotonVQVAE.published(some), arrays_of(some))
    step(gan, arrays_of(some))
    sizes = {key: value for key, value in vq_vae["prior"].items() if key not in ("epochs", "batch", "rate")}
    assert sizes == dict(width=256, heads=4, depth=5) and vq_vae["prior"]["epochs"] == 100
    prior = TokenPrior.fit_scales(some, **sizes)
    assert prior.vectors.shape == (256, 256) and prior.body.count_params() == transformer(36, 256, 5)
    step(prior, {"conditions": some.particles, "tokens": np.arange(16 * 36).reshape(16, 36) % 256})


def test_corr_vae_has_the_published_size_and_trains(some):
    preset = recipe("corr_vae")["PRESETS"]["paper"]
    assert (preset["begin"], preset["published"]) == (dict(epochs=27, batch=64, rate=1e-4),
                                                      dict(epochs=223, batch=64, rate=1e-4))
    vae = ImageCorrVAE.published(some, preset["divide"])
    assert convolutions(vae.encoder) == [(4, 4, 64), (11, 11, 64), (22, 22, 64)]
    hidden = dense(512, 512)
    assert vae.encoder.count_params() == (conv(16, 1, 64) + 2 * conv(16, 64, 64) + dense(1024, 512) + hidden
                                          + dense(512, 32))
    assert vae.decoder.particle.count_params() == dense(9, 512) + hidden + dense(512, 16)
    network = vae.decoder.network
    assert network.count_params() == (dense(24, 512) + hidden + dense(512, 1024) + 2 * conv(16, 64, 64)
                                      + conv(16, 64, 1))
    assert network.output.shape == (None, 44, 44) and vae.decoder.mask().shape == (2, 8)
    assert vae.decoder.masked.count_params() == 2 * (8 + dense(8, 16) + dense(16, 1) + dense(1, 16) + dense(16, 1))
    assert vae.decoder.brightness.count_params() == dense(8, 512) + dense(512, 2)
    step(vae, arrays_of(some), normal=vae.noise, uniform=vae.uniform)


@pytest.mark.parametrize(("name", "words"), [
    ("sdi_gan", ["6,985,793 weights", "regressor zp: 402,050 weights", "644,400 steps"]),
    ("joint_gan", ["9,764,994 weights", "665,826 weights", "429,600 steps"]),
    ("wgan_gp", ["2,533,889 weights", "417,793 weights", "468,000 steps"]),
    ("autoencoders", ["published VAE, CNN", "published AE + MSE NG, MLP-Mixer", "117,100 steps"]),
    ("vq_vae", ["published VQ-VAE", "prior: ", "117,100 steps"]),
    ("vq_gan", ["published warm start", "published critic", "prior: ", "46,840 steps", "70,260 steps"]),
    ("corr_vae", ["published encoder: 936,160 weights", "published decoder: 932,993 weights", "921,750 steps"])])
def test_dry_run_tells_the_cost_and_does_nothing(name, words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--preset", "paper", "--dry-run", "--out", str(tmp_path / "out")])
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert all(word in said for word in [*words, "memory of a step: ", "hours on a GPU"]), said
    assert not (tmp_path / "out").exists()

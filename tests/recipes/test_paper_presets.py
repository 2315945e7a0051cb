"""The presets `paper`: sizes and schedules of the publications, built, counted, and trained for a step."""

import runpy
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from zdckeras import backend
from zdckeras.gan.images import ImageGAN
from zdckeras.wgan_gp.published import ImageRegressor, ImageWGAN, published_reader

FOLDER = Path(__file__).parents[2] / "recipes"
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


@pytest.mark.parametrize(("name", "words"), [
    ("sdi_gan", ["6,985,793 weights", "regressor zp: 402,050 weights", "644,400 steps"]),
    ("joint_gan", ["9,764,994 weights", "665,826 weights", "429,600 steps"]),
    ("wgan_gp", ["2,533,889 weights", "417,793 weights", "468,000 steps"])])
def test_dry_run_tells_the_cost_and_does_nothing(name, words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--preset", "paper", "--dry-run", "--out", str(tmp_path / "out")])
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert all(word in said for word in [*words, "memory of a step: ", "hours on a GPU"]), said
    assert not (tmp_path / "out").exists()

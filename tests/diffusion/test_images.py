from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops

from tests.diffusion.conftest import randomise
from zdckeras.diffusion.images import ImageDiffusion, ImageGenerator, fit_images
from zdckeras.diffusion.networks import DenseField
from zdckeras.loading import load_model
from zdckeras.simulation.reference import load

UNET = dict(channels=2, multipliers=(1, 2), blocks=1, heads=1)
PATCHES = dict(patch=11, hidden=8, depth=1, across=4)
numpy = ops.convert_to_numpy


@pytest.fixture(scope="module")
def zn():
    return load("zn", "train", 64)


def batch_of(showers, rows=8, seed=0):
    rng, shape = np.random.default_rng(seed), showers.response.shape[1:]
    return {"conditions": showers.particles[:rows].astype("float32"),
            "responses": showers.response[:rows].astype("float32"),
            "noise": rng.standard_normal((rows, *shape), "float32"), "u": rng.random((rows, *shape), "float32"),
            "t": rng.random(rows, "float32")}


def model_of(showers, network="patches", **settings):
    return randomise(ImageDiffusion.fit_scales(showers, network, UNET if network == "unet" else PATCHES, **settings))


def test_photons_come_back_from_their_image(zn):
    model, batch = model_of(zn), batch_of(zn, 64)
    image = numpy(model.image(batch))
    assert image.mean() == pytest.approx(0.0, abs=0.1) and image.std() == pytest.approx(1.1, abs=0.2)
    assert np.array_equal(numpy(model.photons(image)), batch["responses"])
    faint, bright = numpy(model.photons(np.array([-9.0, 99.0], "float32")))
    assert faint == 0.0 and bright == pytest.approx(60_000, abs=3)


@pytest.mark.parametrize(("network", "published"), [("unet", True), ("patches", False)])
def test_loss_by_hand_and_training(zn, evaluate, eager, network, published):
    model, batch = model_of(zn, network, published=published), batch_of(zn)

    def parts(*values):
        inputs = dict(zip(batch, values, strict=True))
        image, t = model.image(inputs), inputs["t"][:, None, None]
        answer = model.field((1.0 - t) * image + t * inputs["noise"], inputs["t"][:, None],
                             model.context(inputs["conditions"]))
        return model(inputs), answer, image

    loss, answer, image = evaluate(parts, *batch.values())
    np.testing.assert_allclose(loss, np.square(answer - (batch["noise"] - image)).mean(axis=(1, 2)), rtol=1e-3)
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=eager)
    losses = [float(model.train_on_batch(batch)) for _ in range(8)]
    assert losses[-1] < losses[0]


def test_published_images_are_logarithms_without_noise(zn, tmp_path):
    """An empty cell is 0, photons come back rounded, what is below 0 is dark; the file says so."""
    model, batch = model_of(zn, "unet", published=True), batch_of(zn)
    image = numpy(model.image(batch))
    np.testing.assert_allclose(image, np.log1p(batch["responses"]), rtol=1e-6)
    assert (image == 0.0).any() and set(model.uniform) == {"t"}
    assert np.array_equal(numpy(model.photons(image)), batch["responses"])
    assert numpy(model.photons(np.log1p([-0.5, 0.4, 2.6]).astype("float32"))).tolist() == [0.0, 0.0, 3.0]
    generator = ImageGenerator(model, zn.particles.min(axis=0), zn.particles.max(axis=0))
    generator.save(tmp_path / "published.keras")
    assert not load_model(tmp_path / "published.keras").model.dequantised


def test_published_trainings_draw_no_uniform_noise_and_have_their_adam(zn, tmp_path, monkeypatch):
    seen, adam = [], dict(rate=1e-3, warmup=0.5)
    monkeypatch.setattr("zdckeras.diffusion.images.fit_adam", lambda *a, **k: seen.append((a, k)))
    fit_images(model_of(zn, "unet", published=True), {"conditions": zn.particles, "responses": zn.response},
               tmp_path / "x.npz", 1, 32, adam=adam)
    (_, batches, *_), options = seen[0]
    assert set(batches.uniform) == {"t"} and options == {"adam": adam}


def test_published_networks_are_told_the_nine_conditions(zn):
    model = model_of(zn, "unet", published=True)
    context = numpy(model.context(zn.particles.astype("float32")))
    np.testing.assert_allclose(context, (zn.particles - zn.particles.mean(0)) / zn.particles.std(0), atol=2e-3)
    assert model.shift == 0.0 and model.spread == 1.0
    with pytest.raises(ValueError, match="a field with a context of .*, received one with 5"):
        ImageDiffusion("zn", DenseField(3, 5), model.settings["scaler"])


@pytest.mark.parametrize(("network", "settings", "noise"), [
    ("unet", dict(sampler="euler", steps=3), 0), ("patches", dict(sampler="heun", steps=2), 10),
    ("patches", dict(schedule="cosine", sampler="ddim", steps=3, eta=0.6), 0)])
def test_generators_are_saved_and_repeat(zn, network, settings, noise, tmp_path):
    low, high = zn.particles.min(axis=0), zn.particles.max(axis=0)
    generator = ImageGenerator(model_of(zn, network, **settings), low, high, noise=noise)
    first, again, other = (generator.sample(zn.particles[:6], seed, batch_size=6) for seed in (1, 1, 2))
    assert first.shape == (6, 44, 44) and np.array_equal(first, again) and (first != other).any()
    assert generator.noise_width == (noise or 1936 * (3 if "eta" in settings else 1))
    generator.save(tmp_path / "generator.keras")
    assert np.array_equal(load_model(tmp_path / "generator.keras").sample(zn.particles[:6], 1, batch_size=6), first)


def test_operations_by_hand(zn):
    """Multiplications of a response: those of one evaluation, 3 times by Euler's method, and 2 times 2 by Heun's.

    The U-Net has 2 channels on 44 x 44 cells and 4 on 22 x 22, with attention; patches are 16 vectors of 8 numbers.
    """
    reach = zn.particles.min(axis=0), zn.particles.max(axis=0)
    unet, patches = (ImageGenerator(model_of(zn, name, **settings), *reach) for name, settings in (
        ("unet", dict(sampler="euler", steps=3)), ("patches", dict(sampler="heun", steps=2))))
    fine = 9 * 2 + 2 * 9 * 2 * 2 + 9 * 4 * 4 + (9 * 6 * 2 + 9 * 2 * 2 + 6 * 2) + 2  # first, down, grown, up, last
    down, bottom = 9 * 2 * 2 + 4 * 2 * 4 + (9 * 2 * 4 + 9 * 4 * 4 + 2 * 4), 2 * (2 * 9 * 4 * 4) + 4 * 4 * 4
    up = 4 * 8 * 4 + (9 * 10 * 4 + 9 * 4 * 4 + 10 * 4)
    scores = 3 * 2 * 484**2 * 4  # and sums, of attention on the way down, at the bottom and on the way up
    assert unet.operations() == 3 * (1936 * fine + 484 * (down + bottom + up) + scores)
    known = (patches.model.known.width + 8) * 8 + 8 * 8 + 8  # and what keeps some of the noise
    mixed = 8 * (2 * 16 * 4) + 16 * (2 * 8 * 32)
    assert patches.operations() == 2 * 2 * (16 * (121 * 8 + 32 * 8 + 8 * 121) + known + mixed)


def test_training_resumes(zn, tmp_path):
    arrays = {"conditions": zn.particles, "responses": zn.response}
    fitted = []
    for _ in range(2):
        fitted.append(model := model_of(zn))
        history = fit_images(model, arrays, tmp_path / "images.npz", epochs=2, batch=16, rate=1e-3)
    assert len(history["loss"]) == 2
    assert all(np.array_equal(numpy(a), numpy(b)) for a, b in zip(*(m.weights for m in fitted), strict=True))


def test_dark_showers_have_no_scale(zn):
    dark = replace(zn[:4], responses={"zn": np.zeros((4, 44, 44), "uint16")})
    with pytest.raises(ValueError, match="a spread above 0, as showers with light have, received 0.0"):
        model_of(dark)

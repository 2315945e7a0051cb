"""The study's autoencoders: losses by hand, what drives their decoders, training, and the generators' files."""

import keras
import numpy as np
import pytest
from keras import ops

import zdckeras as zdc
from zdckeras import backend
from zdckeras.layers.patches import PublishedVitDecoder, PublishedVitEncoder
from zdckeras.training.batches import Batches
from zdckeras.training.loop import fit_arrays
from zdckeras.vae.autoencoders import CodeGenerator
from zdckeras.vae.published import ImageNoiseAutoencoder, ImageSupervisedAutoencoder, ImageVAE
from zdckeras.vae.sinkhorn import published_divergence

numpy = ops.convert_to_numpy
ROWS = 8
KINDS = {"vae": (ImageVAE, {}), "supervised": (ImageSupervisedAutoencoder, {}),
         "sinkhorn": (ImageNoiseAutoencoder, {"match": "sinkhorn"}), "mse": (ImageNoiseAutoencoder, {"match": "mse"})}


def build(showers, name):
    kind, settings = KINDS[name]
    return kind.of(showers, PublishedVitEncoder, PublishedVitDecoder, width=4, seed=2, hidden=8, heads=2, depth=1,
                   patch=15, settings=dict(hidden=4, latent=5, **settings))


@pytest.fixture(scope="module")
def batch(showers):
    data = {"conditions": showers.particles, "responses": showers.response}
    return {width: Batches(data, ROWS, seed=1, normal={"z": (width,)})[0][0] for width in (5, 10)}


def reference(x, y):
    """The study's divergence in float64, as in its code."""
    d, blur, scaling = 1e-2, 1e-5, 0.95
    blurs = [d**2, *np.exp(np.arange(2 * np.log(d), 2 * np.log(blur), 2 * np.log(scaling))), blur**2]

    def softmin(eps, cost, potential):
        values = (potential - cost) / eps
        top = values.max(axis=1)
        return -eps * (top + np.log(np.exp(values - top[:, None]).mean(axis=1)))

    def cost(a, b):
        return 0.5 * ((a[:, None] - b[None]) ** 2).sum(axis=-1)

    xy, yx, xx, yy = cost(x, y), cost(y, x), cost(x, x), cost(y, y)
    f, g, a, b = (softmin(blurs[0], c, 0.0) for c in (xy, yx, xx, yy))
    for eps in blurs:
        new = softmin(eps, xy, g), softmin(eps, yx, f), softmin(eps, xx, a), softmin(eps, yy, b)
        f, g, a, b = ((old + found) / 2 for old, found in zip((f, g, a, b), new, strict=True))
    eps = blurs[-1]
    return np.mean(softmin(eps, xy, g) - softmin(eps, xx, a)) + np.mean(softmin(eps, yx, f) - softmin(eps, yy, b))


def test_divergence_is_that_of_the_studys_code(evaluate):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 4)).astype("float32"), rng.normal(1.0, 1.0, (9, 4)).astype("float32")
    found = float(evaluate(published_divergence, x, y))
    assert found == pytest.approx(reference(x.astype(float), y.astype(float)), rel=1e-3) and found > 0.5
    gradient = numpy(backend.steps().grad(lambda x: published_divergence(x, ops.convert_to_tensor(y)),
                                          ops.convert_to_tensor(x)))
    moved = [float(evaluate(published_divergence, x + s * 1e-2 * np.sign(gradient), y)) for s in (1, -1)]
    assert moved[0] - moved[1] == pytest.approx(2e-2 * np.abs(gradient).sum(), rel=0.2)


@pytest.mark.parametrize("name", KINDS)
def test_loss_is_the_studys(showers, batch, name):
    model, scaler = build(showers, name), None
    inputs = batch[model.noise_width]
    light, found = numpy(model.reconstruct(inputs)[0]), numpy(model.encode(inputs))
    scaler = model.decoder.features
    known = (inputs["conditions"] - scaler.mean) / scaler.scale
    pixels = ((np.log1p(inputs["responses"]) - light) ** 2).sum(axis=(1, 2))
    if name == "vae":
        mean, log_deviation = np.split(found, 2, axis=-1)
        rest = 0.7 * np.sum(0.5 * (mean**2 + np.exp(2 * log_deviation) - 1) - log_deviation, axis=-1)
    elif name == "supervised":
        rest = ((found - known) ** 2).sum(axis=-1)
    else:
        made = numpy(model.code(inputs["z"], inputs["conditions"]))
        assert found.min() >= 0.0 and made.min() >= 0.0 and found.shape == made.shape == (ROWS, 5)
        rest = 10.0 * ((found - made) ** 2).sum(axis=-1)
        if name == "sinkhorn":
            rest = 20.0 * reference(*(np.concatenate([c, known], axis=-1).astype(float) for c in (found, made)))
    np.testing.assert_allclose(numpy(model(inputs)), pixels + rest, rtol=2e-3)


def test_only_codes_drive_the_decoder_of_a_noise_generator(showers, batch):
    """And the particle, beside the code, that of the others; only the VAE's encoder is told of it."""
    for name in KINDS:
        model = build(showers, name)
        inputs = batch[model.noise_width]
        other = {**inputs, "conditions": inputs["conditions"][::-1].copy()}
        code = np.ones((ROWS, 5), "float32")
        same = np.array_equal(*(numpy(model.decode(code, some["conditions"])) for some in (inputs, other)))
        assert same == (model.noise_width == 10)
        assert np.array_equal(numpy(model.encode(inputs)), numpy(model.encode(other))) == (name != "vae")


@pytest.mark.parametrize("name", ["supervised", "sinkhorn"])
def test_training_moves_every_weight_and_lowers_the_loss(showers, eager, name):
    model = build(showers, name)
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=eager)
    data = Batches({"conditions": showers.particles, "responses": showers.response}, 24, seed=1,
                   normal={"z": (model.noise_width,)})
    before = [numpy(w) for w in model.trainable_weights]
    history = model.fit(data, epochs=3, verbose=0, shuffle=False).history["loss"]
    assert np.isfinite(history).all() and history[-1] < history[0]
    assert all((a != numpy(b)).any() for a, b in zip(before, model.trainable_weights, strict=True))


@pytest.mark.parametrize("name", ["vae", "mse"])
def test_generator_survives_its_file(showers, tmp_path, name):
    generator = CodeGenerator.of(build(showers, name), showers)
    generator.jit_compile = keras.backend.backend() == "jax"
    made = generator.sample(showers.particles[:6], seed=5, batch_size=6)
    generator.save(tmp_path / "generator.keras")
    again = zdc.load_model(tmp_path / "generator.keras")
    assert made.shape == (6, 30, 30) and made.sum() > 0 and generator.noise_width == (10 if name == "mse" else 5)
    assert np.array_equal(again.sample(showers.particles[:6], seed=5, batch_size=6), made)


def test_wrong_match(showers):
    with pytest.raises(ValueError, match="match='sinkhorn' or 'mse', received 'l1'"):
        ImageNoiseAutoencoder.of(showers, PublishedVitEncoder, PublishedVitDecoder, patch=15, hidden=8, depth=1,
                                 settings={"match": "l1"})


def test_what_acts_in_training_alone_acts_there(showers, batch, tmp_path):
    """Every dropout draws anew, on every backend, and the loss that is judged has none."""
    model = build(showers, "vae")
    drops = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Dropout)]
    begun = [np.array(numpy(layer.seed_generator.state)) for layer in drops]
    inputs = batch[5]
    assert np.array_equal(numpy(model(inputs)), numpy(model(inputs)))
    assert not np.allclose(numpy(model(inputs, training=True)), numpy(model(inputs)))
    for layer, state in zip(drops, begun, strict=True):
        layer.seed_generator.state.assign(state)
    data = {"conditions": showers.particles, "responses": showers.response}
    fit_arrays(model, data, tmp_path / "vae.npz", epochs=1, batch=ROWS, rate=1e-3, normal={"z": (5,)})
    moved = [not np.array_equal(numpy(layer.seed_generator.state), state)
             for layer, state in zip(drops, begun, strict=True)]
    assert len(moved) == 2 and all(moved)

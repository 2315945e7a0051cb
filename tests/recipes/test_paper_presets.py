"""The presets `paper`: sizes of the publications, built, counted, and trained for a step."""

import runpy
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
from zdckeras.training.one_cycle import tuned
from zdckeras.vq.published import ImageVQGAN
from zdckeras.vq.published_prior import ParticleTokenPrior
from zdckeras.vq.vq_vae import PhotonVQVAE
from zdckeras.wgan_gp.published import ImageRegressor, ImageWGAN, published_reader

FOLDER = Path(__file__).parents[2] / "recipes"
pytestmark = pytest.mark.neutral
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


@pytest.mark.parametrize(("name", "detectors"), [("joint_gan", ("zn",)), ("sdi_gan", ("zp",)),
                                                 ("joint_gan", ("zn", "zp"))])
def test_gans_have_the_published_size_and_train(name, detectors):
    told = recipe(name)
    preset = told["PRESETS"]["paper"]
    if name == "sdi_gan":
        assert preset["published"]["zp"] == dict(epochs=300, batch=128, generator=1e-4, critic=1e-5, regressor=1e-4)
        rows = told["published_rows"](detectors[0], (0.1, 1e-10, 1e-3))
        assert list(rows.values()) == [{}, {"diversity": 0.1}, {"diversity": 0.1, "intensity": 1e-10},
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
    before = [np.array(w) for w in model.trainable_weights]
    adam = keras.optimizers.Adam(1e-4)
    model.compile({phase: keras.optimizers.Adam(1e-4) for phase in model.phases()} if hasattr(model, "phases")
                  else adam, run_eagerly=True)
    logs = model.train_on_batch(Batches(arrays, 2, **noise)[0][0], return_dict=True)
    assert np.isfinite([float(value) for value in logs.values()]).all()
    moved = [(a != np.array(b)).any() for a, b in zip(before, model.trainable_weights, strict=True) if a.ndim > 1]
    assert np.mean(moved) > 0.9  # a code that no token takes stays


def arrays_of(showers):
    return {"conditions": showers.particles, "responses": showers.response}


def transformer(length, width, depth):
    """Weights of `Transformer`: positions, blocks, last norm."""
    feed = dense(width, 4 * width) + dense(4 * width, width)
    return length * width + depth * (4 * width + dense(width, 3 * width) + dense(width, width) + feed) + 2 * width


def blocks(width, depth):
    """Weights of the blocks of a `Transformer`."""
    return transformer(0, width, depth) - 2 * width


def mixers(length, width, across, depth):
    """Weights of the blocks of a `Mixer`."""
    over = dense(length, across) + dense(across, length) + dense(width, 4 * width) + dense(4 * width, width)
    return depth * (4 * width + over)


def residuals(channels):
    """Weights of a grid of the study's CNN: two residual blocks and batch normalisation."""
    inner = channels // 4
    return 2 * (conv(1, channels, inner) + 2 * conv(9, inner, inner) + conv(1, inner, channels)) + normalised(channels)


CNN_HALF = sum(conv(1, a, b) + residuals(b) for a, b in ((1, 64), (64, 128), (128, 256)))
CNN_BACK = sum(conv(1, a, b) + residuals(b) for a, b in ((256, 256), (256, 128), (128, 64)))
BODIES = {  # encoder told nothing, what being told adds, its tokens and their width; decoder from tokens of 64
    "ViT": (dense(64, 96) + 36 * 96 + blocks(96, 4) + 2 * 96, dense(9, 96), 36, 96,
            dense(64, 96) + 36 * 96 + blocks(96, 4) + 64 * 96 + 1),
    "MLP-Mixer": (dense(64, 96) + mixers(36, 96, 128, 5) + 2 * 96,
                  dense(9, 96) + mixers(37, 96, 128, 5) - mixers(36, 96, 128, 5), 36, 96,
                  dense(64, 96) + mixers(36, 96, 128, 5) + 64 * 96 + 1),
    "CNN": (CNN_HALF, 0, 25, 256, dense(64, 256) + CNN_BACK + conv(25, 64, 1))}
HEADS = {  # of T tokens of width w: what reads the code (and what makes one), and what spreads it over 36 tokens of 64
    "VAE": lambda t, w: (dense(t * 64, 20) + 2 * dense(20, 10), dense(19, 36 * 64)),
    "Supervised AE": lambda t, w: (dense(t * w, 9), dense(19, 36 * 64)),
    "AE + Sinkhorn NG": lambda t, w: (dense(t * w, 20), dense(20, 36 * 64)),
    "AE + MSE NG": lambda t, w: (dense(t * w, 20), dense(20, 36 * 64))}
NOISE_GENERATOR = dense(10, 256) + dense(9, 128) + dense(384, 512) + dense(512, 512) + dense(512, 20)


@pytest.mark.parametrize("row", HEADS)
def test_autoencoders_have_the_published_size_and_train(row, some):
    """By the authors' code, m-wojnar/zdc. Bodies: architectures/vit.py, mlp_mixer.py, conv.py (their defaults), where
    the particle is a token, or stands in each. Around them: models/autoencoder/variational.py (`pre_latent` of 64,
    `dense_shared` of 20, mean and variance of 10), supervised.py (9 read, 10 of noise), noise_generator_mse.py (code of
    20, noise of 10, `hidden_dim_ng` 128); `post_latent` of 6 x 6 x 64 in all. Optimizers: those of architectures."""
    told = recipe("autoencoders")
    args, preset = SimpleNamespace(rows=[row], seed=0), told["PRESETS"]["paper"]
    assert preset["fit"] | {"rate": 0} == dict(epochs=100, batch=256, rate=0)
    models = dict(told["published"](args, preset, some))
    assert list(models) == [f"published {row}, {body}" for body in ("CNN", "ViT", "MLP-Mixer")]
    for name, model in models.items():
        body = name.split(", ")[1]
        blind, informed, tokens, width, decoder = BODIES[body]
        vae, noisy = row == "VAE", "NG" in row
        read, spread = HEADS[row](tokens, width)
        assert (model.encoder.tokens, model.decoder.tokens, model.decoder.width) == (tokens, 36, 64)
        assert model.encoder.width == (64 if vae else width)
        before = dense(width + 9 * (body == "CNN"), 64)
        assert model.encoder.count_params() == blind + (informed + before if vae else 0)
        assert model.decoder.count_params() == decoder
        assert (model.read.count_params(), model.spread.count_params()) == (read, spread)
        assert (model.latent, model.noise_width, model.weight) == (20 if noisy else 10, 10, 1.0)
        assert (model.noise.count_params() if noisy else 0) == noisy * NOISE_GENERATOR
        if body == "ViT" or row == "VAE":
            step(model, arrays_of(some), normal={"z": (10,)})
    assert {"VAE": lambda m: m.kl == 0.7, "Supervised AE": lambda m: m.supervision == 1.0,
            "AE + Sinkhorn NG": lambda m: m.matching == 20.0, "AE + MSE NG": lambda m: m.matching == 10.0}[row](model)


def test_vq_models_have_the_published_size_and_train(some):
    """By the authors' code, m-wojnar/zdc, models/quantization: vq_vae.py (256 codes of 256, `pre_embedding`,
    `post_embedding`, `projection_dim` 32), vq_gan.py (no projection; a discriminator of `hidden_dim` 128 with layers of
    128, 64, 1), vq_vae_cond.py (2 tokens of 64, projection 16), vq_vae_prior.py (256 wide, 5 layers, 35 positions)."""
    vq_vae, vq_gan = recipe("vq_vae"), recipe("vq_gan")
    one, other = (told["PRESETS"]["paper"] for told in (vq_vae, vq_gan))
    encoder = BODIES["ViT"][0] + dense(96, 256)
    decoder = dense(256, 96) + 36 * 96 + blocks(96, 4) + 64 * 96 + 1
    behind, codes = dense(256, 256), 256 * 256
    for averaged in (False, True):
        model = PhotonVQVAE.published(some, width=other["width"], averaged=averaged, **one["published"])
        assert (model.encoder.count_params(), model.decoder.count_params()) == (encoder, decoder)
        state = 256 + codes + behind + (0 if averaged else codes + 256 * 32)  # uses, sums; codes, shifts, projection
        assert model.codebook.count_params() == state and model.tokens == 36
        trained = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
        assert trained == encoder + decoder + (0 if averaged else codes + behind)
        assert model.codebook.commitment == 0.25 and model.codebook.averaged == averaged
        assert (model.weight, model.coding) == (0.55 if averaged else 1.0, 36)
    gan = ImageVQGAN.of(model, some, **other["published"])
    critic = dense(64, 128) + 36 * 128 + dense(9, 128) + blocks(128, 4) + 2 * 128
    assert gan.critic.count_params() == critic + dense(128, 128) + dense(128, 64) + dense(64, 1)
    assert gan.weights_of == {"pixels": 0.55, "codebook": 1.0, "adversarial": 0.96}
    step(PhotonVQVAE.published(some), arrays_of(some))
    step(gan, arrays_of(some))
    sizes = {key: value for key, value in one["prior"].items() if key not in ("epochs", "batch", "rate")}
    assert sizes == dict(width=256, heads=4, depth=5) and one["prior"]["epochs"] == other["prior"]["epochs"] == 100
    prior = ParticleTokenPrior.fit_scales(some, **sizes)
    assert prior.count_params() - prior.reader.count_params() == (
        2 * 256 * 256 + 35 * 256 + 2 * 256 + blocks(256, 5) + 2 * 256 + dense(256, 256))
    assert prior.reader.count_params() == (
        dense(9, 64) + dense(64, 128) + 2 * dense(128, 128) + dense(64, 64) + 2 * 256 * 64 + 256 + 64 * 16
        + dense(64, 64) + 2 * dense(128, 128) + dense(128, 64) + dense(64, 9))  # codes, shifts and uses between
    step(prior, {"conditions": some.particles, "tokens": np.arange(16 * 36).reshape(16, 36) % 256})


def test_vision_transformers_against_each_other_have_the_published_size_and_train():
    """By the authors' code, m-wojnar/zdc, models/gan: gan.py, sdi_gan.py (`div_weight`), gan_l2.py (`l2_weight`)."""
    told = recipe("sdi_gan")
    preset, rows = told["PRESETS"]["paper"], told["published_rows"]("zn")
    assert preset["published"]["zn"] == dict(epochs=100, batch=256, generator=1e-4, critic=1.4e-5)
    assert list(rows.values()) == [{}, {"diversity": 1.0}, {"l2": pytest.approx(1e-3 * 44 * 44)}]
    gan = told["published_gan"]("zn", preset, SCALER, rows["published SDI-GAN"])
    tokens = 36 * 128 + dense(9, 128) + blocks(128, 4)  # positions, particle, blocks
    assert gan.generator.count_params() == dense(10 + 9, 36 * 128) + dense(128, 128) + tokens + 64 * 128 + 1
    assert gan.critic.count_params() == (dense(64, 128) + tokens + 2 * 128 + dense(128, 128) + dense(36 * 128, 128)
                                         + dense(128, 64) + dense(64, 1))
    assert (gan.latent, gan.embeddings, gan.generator.output.shape) == (10, 1, (None, 44, 44))
    assert [output.shape for output in gan.critic.outputs] == [(None, 1), (None, 36 * 128)]
    passes, inside = gan.passes(), 9 * 128 + 37 * 4 * (4 + 8) * 128**2  # attention and dense layers of four blocks
    assert passes["generator"].network.products == 19 * 36 * 128 + 36 * (128 + 64) * 128 + inside
    assert passes["critic"].network.products == (36 * (64 + 128) * 128 + inside + 36 * 128 * 128 + 128 * 64 + 64)
    assert [(one.forward, one.gradient) for one in passes.values()] == [(1.0, 2.0), (0.0, 4.0)]
    step(gan, photons(("zn",)))


def test_corr_vae_has_the_published_size_and_trains(some):
    """train.ipynb of karolrogozinski/cern_alice_fast_sim_corrvae: Adam of torch, in tenths from 50 epochs to 50; its
    hid_channels of 64 reach no network, which have the 32 that its other notebooks print."""
    preset = (told := recipe("corr_vae"))["PRESETS"]["paper"]
    assert preset["published"] == dict(epochs=250, batch=64, rate=1e-4)
    adam = tuned(2500, **told["ADAM"], rate=preset["published"]["rate"])
    assert (adam.beta_1, adam.beta_2, adam.epsilon, adam.clipnorm, adam.weight_decay) == (0.9, 0.999, 1e-8, None, 0.0)
    rates = [float(adam._learning_rate(10 * epoch + 1)) for epoch in (0, 49, 50, 100, 150, 200, 249)]
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-8])
    vae = ImageCorrVAE.published(some, preset["divide"])
    assert convolutions(vae.encoder) == [(4, 4, 32), (11, 11, 32), (22, 22, 32)]
    hidden, body = dense(512, 512), conv(16, 1, 32) + 2 * conv(16, 32, 32)
    assert vae.encoder.count_params() == body + 2 * hidden + dense(512, 32)
    assert vae.decoder.particle.count_params() == dense(9, 512) + hidden + dense(512, 16) + 1040  # directions
    network = vae.decoder.network
    assert network.count_params() == dense(24, 512) + 2 * hidden + body - 31  # biases
    assert network.output.shape == (None, 44, 44) and vae.decoder.mask().shape == (2, 8)
    assert vae.decoder.masked.count_params() == 2 * (8 + dense(8, 16) + dense(16, 1) + dense(1, 16) + dense(16, 1))
    assert vae.decoder.brightness.count_params() == dense(8, 512) + dense(512, 2) + 514
    step(vae, arrays_of(some), normal=vae.noise, uniform=vae.uniform)

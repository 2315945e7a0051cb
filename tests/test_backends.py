"""The same small models, weights and noise under every backend, compiled and not: the same losses.

Run as a program, `test_backends.py FOLDER [True|False]`, this file trains models under the backend of KERAS_BACKEND and
prints their losses: all models compiled as `backend.jit_compile` says, or the adversarial one as asked for.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest

from zdckeras import backend
from zdckeras.corr_vae.model import CorrVAE
from zdckeras.corr_vae.published import ImageCorrVAE
from zdckeras.data.detectors import DETECTORS, channel_sums
from zdckeras.data.particles import Scaler, conditions_of
from zdckeras.data.showers import Showers
from zdckeras.diffusion.images import ImageDiffusion
from zdckeras.diffusion.latent import DiffusionPrior
from zdckeras.diffusion.one_step import MeanFlowTrainer, fresh_student
from zdckeras.diffusion.unet import UNet
from zdckeras.flow_distill.distiller import Distiller
from zdckeras.flow_distill.published import PublishedFlow
from zdckeras.flow_distill.shape import ShapeFlow
from zdckeras.flow_distill.sums import PhotonSums
from zdckeras.gan.images import ImageGAN
from zdckeras.gan.model import ResponseGAN, ShapeScoreFit, SumsScoreFit, training_arrays
from zdckeras.gan.published_vit import published_vit_critic, published_vit_generator
from zdckeras.layers.patches import MixerDecoder, MixerEncoder, PublishedVitDecoder, PublishedVitEncoder
from zdckeras.layers.photon_coding import photon_pair
from zdckeras.layers.photon_drawing import CellNoise
from zdckeras.training.batches import Batches
from zdckeras.training.loop import train
from zdckeras.training.phases import PhasedModel
from zdckeras.vae.autoencoders import NoiseGeneratorAutoencoder, PhotonVAE, SupervisedAutoencoder
from zdckeras.vae.energy_vae import ResponseVAE
from zdckeras.vae.published import ImageNoiseAutoencoder, ImageSupervisedAutoencoder, ImageVAE
from zdckeras.vq.prior import TokenPrior
from zdckeras.vq.published import ImageVQGAN
from zdckeras.vq.published_prior import ParticleTokenPrior, ParticleVQVAE
from zdckeras.vq.vq_gan import PhotonVQGAN
from zdckeras.vq.vq_vae import PhotonVQVAE
from zdckeras.wgan_gp.model import ResponseWGAN
from zdckeras.wgan_gp.published import ImageRegressor, ImageWGAN, published_reader
from zdckeras.wgan_gp.regressor import ParameterRegressor

ROOT = Path(__file__).parents[1]
BACKENDS = [name for name in ("tensorflow", "jax", "torch") if find_spec(name)]
EPOCHS, ROWS, BATCH = 3, 64, 16
TERMS = {"vq-gan": 7, "plain gan": 8, "plain vit gan": 5, "plain wgan": 4, "plain vq-gan": 5}  # of those not trained
PLAIN = ("plain vae", "plain supervised", "plain noise generator", "plain sinkhorn", "plain vq-vae", "plain reader",
         "plain prior", "plain corr vae", "plain flow")
CODES = {"normal": {"z": (4,), "z2": (4,)}}
OTHER_WAY = {"tensorflow": True}  # compiled where `backend.jit_compile` does not


def set_weights(model, seed):
    """Weights from a seeded NumPy generator: the initialisers of the backends draw different numbers."""
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        weight.assign((0.3 * rng.normal(size=weight.shape) / np.sqrt(max(weight.shape[0], 4))).astype("float32"))
    return model


def fit(model, data, names, jit=None, **noise):
    """Losses of the epochs; of an adversarial model, all its terms."""
    batches = Batches({name: data[name] for name in names}, BATCH, seed=4, **noise)
    phases = model.phases() if isinstance(model, PhasedModel) else ()
    adams = [keras.optimizers.Adam(1e-3, epsilon=1e-4) for _ in phases or "1"]  # no steps along rounding errors
    model.compile(dict(zip(phases, adams, strict=True)) if phases else adams[0],
                  jit_compile=backend.jit_compile() if jit is None else jit)
    history = train(model, batches, EPOCHS, Path(sys.argv[1]) / f"{model.name}.npz", verbose=0)
    return history if phases else history["loss"]


def spots(names):
    """Eight particles, each with several responses: round spots of Poisson light."""
    rng = np.random.default_rng(1)
    particles = conditions_of(np.repeat([22, 2112], 4), rng.normal(0.0, [5.0, 5.0, 1000.0], (8, 3)))
    rows, responses = np.arange(ROWS) % 8, {}
    for name in names:
        shape = np.array(DETECTORS[name].shape)
        place = (rng.uniform(0.3, 0.7, (8, 2)) * shape)[rows] + rng.normal(0.0, 1.0, (ROWS, 2))
        x, y = np.indices(shape)[:, None] - place.T[:, :, None, None]
        responses[name] = rng.poisson(1.5 * np.exp(-(x**2 + y**2) / 8.0)).astype("uint16")
    return Showers(particles[rows], np.repeat([22, 2112], 4)[rows], responses)


def adversarial(names, weights, seed, penalty=0.0):
    """A small GAN and its data."""
    showers = spots(names)
    gan = ResponseGAN.fit_scales(
        showers, weights=weights, penalty=penalty, momentum=0.5, name=f"gan{seed}",
        generator={"latent": 4, "hidden": 8, "widths": (8,), "channels": (2, 2, 2), "spots": 2},
        critic={"hidden": (8,), "channels": (2, 2, 4), "code": 4})
    set_weights(gan, seed).average.set_weights(gan.generator.get_weights())
    data = training_arrays(showers)
    return gan, {**data, "sums": np.concatenate([channel_sums(n) for n in showers.responses.values()], axis=1)}


def gan_losses(jit=None):
    """Terms of a GAN with all of them."""
    weights = {"diversity": 0.01, "intensity": 1e-3, "auxiliary": 1e-3, "l2": 0.1, "energy": 0.1}
    gan, data = adversarial(["ecal"], weights, 5, penalty=0.1)
    return fit(gan, data, [name for name in data if name != "sums"], jit, **CODES)


def staged_losses():
    """Losses of the warm starts of generators, and terms of a joint GAN."""
    (single, images), (joint, both) = adversarial(["ecal"], {}, 6), adversarial(["zn", "zp"], {"diversity": 0.01}, 7)
    first = joint.generator.get_weights()
    found = {"sums score": fit(SumsScoreFit(joint), both, ("conditions", "sums"), **CODES),
             "shape score": fit(ShapeScoreFit(single), images, ("conditions", "responses_ecal"), **CODES)}
    joint.generator.set_weights(first)
    return {**found, "joint": fit(joint, both, [name for name in both if name != "sums"], **CODES)}


def energy_losses():
    """Terms of a Wasserstein GAN with a regressor and all terms, and losses of an autoencoder."""
    showers, boxcox = spots(["ecal"]), {"power": 0.1, "shift": 0.1}
    data, sizes = {"conditions": showers.particles, "responses": showers.response}, {"channels": (3, 2), "hidden": 6}
    regressor = set_weights(ParameterRegressor.fit_scales(showers.particles, "ecal", **sizes), 8)
    gan = ResponseWGAN.fit_scales(
        showers, regressor, boxcox, weights={"adversarial": 0.5, "energy": 1.0, "centre": 0.1}, critic_steps=2,
        depth=10.0, momentum=0.5, name="wgan", critic=sizes, generator={**sizes, "latent": 16, "spots": 2})
    set_weights(gan, 9).average.set_weights(gan.generator.get_weights())
    vae = set_weights(ResponseVAE.fit_scales(showers, boxcox, centre=0.1, depth=10.0, encoder=sizes, decoder=sizes,
                                             latent=3), 10)
    codes = {"normal": {"z": (16,), "z2": (16,)}, "uniform": {"share": (1, 1)}}
    return {"wgan": fit(gan, data, data, **codes), "vae": fit(vae, data, data, normal={"z": (3,)})}


def quantised():
    """Losses of a VQ-VAE, and the tokens of an untrained prior from the same noise."""
    showers, sizes = spots(["ecal"]), dict(hidden=8, across=4, depth=1, patch=15)
    model = set_weights(PhotonVQVAE(*photon_pair(showers, MixerEncoder, MixerDecoder, 8, 8, **sizes), {"codes": 8}), 11)
    prior = set_weights(TokenPrior.fit_scales(showers, codes=8, tokens=4, width=8, heads=2, depth=1), 12)
    for weight in (prior.vectors, prior.read.kernel):
        weight.assign(5.0 * weight)
    uniform = np.random.default_rng(2).random((BATCH, 4), "float32")
    data = {"conditions": showers.particles, "responses": showers.response}
    tokens = prior.sample(showers.particles[:BATCH].astype("float32"), uniform)
    return {"vq-vae": fit(model, data, data)}, keras.ops.convert_to_numpy(tokens).tolist()


def diffusing():
    """Losses of flow matching over codes and of average velocities, which take a Jacobian-vector product, and samples
    of ten steps: of codes, and of images by a U-Net."""
    rng, sizes = np.random.default_rng(6), dict(hidden=8, depth=2, context=4, steps=10)
    prior = set_weights(DiffusionPrior(5, 3, **sizes), 20)
    student = set_weights(MeanFlowTrainer(fresh_student(prior), same=0.3), 21)
    data = {"code_mean": rng.normal(size=(ROWS, 3)), "code_deviation": rng.random((ROWS, 3)),
            "features": rng.normal(size=(ROWS, 5))}
    noise = {"normal": {"z": (3,), "noise": (3,)}, "uniform": dict.fromkeys(("t", "s", "same"), ())}
    unet = set_weights(UNet(9, channels=2, multipliers=(1, 2), blocks=1, heads=1), 22)
    images = ImageDiffusion("ecal", unet, {"mean": [0.0] * 9, "scale": [500.0] * 9}, features=False, sampler="euler",
                            steps=10)
    given = rng.normal(size=(2, 30, 30)).astype("float32"), rng.normal(size=(2, 9)).astype("float32")
    found = {"flow matching": fit(prior, data, data, **noise), "mean flow": fit(student, data, data, **noise)}
    samples = [prior.generate(*(rng.normal(size=(4, n)).astype("float32") for n in (3, 5))),
               images.draw(given[0][None], images.context(given[1]))]
    return found, [keras.ops.convert_to_numpy(x).tolist() for x in samples]


class Terms(keras.Model):
    """All terms of an adversarial model on a batch, one after the other, as its prediction."""

    def __init__(self, model, training_too=False):
        super().__init__(name="terms")
        self.model, self.training_too, self.built = model, training_too, True

    def call(self, inputs):
        found = [phase.loss(inputs, self.training_too) for phase in self.model.phases().values()]
        return keras.ops.stack([terms[name] for terms in found for name in sorted(terms)])


def plain_gans():
    """Terms of small GANs as published, of convolutions and of transformers, without dropout, which backends draw."""
    weights, body = dict(diversity=0.1, intensity=1e-3, auxiliary=1e-3, l2=2.0), dict(hidden=8, heads=2, depth=1)
    scaler, networks = Scaler.fit(spots(["zn"]).particles).get_config(), (published_vit_generator, published_vit_critic)
    plain = ImageGAN.published("zn", scaler, divide=32, dropout=0.0, weights=weights)
    vit = ImageGAN(*(make("zn", **body, dropout=0.0) for make in networks), "zn", scaler, {"diversity": 0.1, "l2": 2.0})
    return {"plain gan": Terms(plain, training_too=True), "plain vit gan": Terms(vit)}


def plain_wgan():
    """A small WGAN-GP as published, whose penalty takes a gradient."""
    regressor = set_weights(ImageRegressor.fit_scales(published_reader(divide=32), spots(["ecal"])), 23)
    return ImageWGAN.published(regressor, {"power": 0.1, "shift": 0.1}, divide=32, latent=10)


def plain_models(showers):
    """Autoencoders over images ln(1 + n) and the flow as published, by name, and terms of the VQ-GAN."""
    body, settings = dict(hidden=8, heads=2, depth=1), dict(latent=3, hidden=8)
    bodies = dict(encoder=PublishedVitEncoder, decoder=PublishedVitDecoder, width=4, patch=15, **body)
    vq_vae, averaged = (PhotonVQVAE.published(showers, width=8, codes=8, patch=15, averaged=averaged, **body)
                        for averaged in (False, True))
    flow = PublishedFlow.fit_scales("ecal", showers.particles, showers.response, steps=1, hidden=(8,), bins=2)
    flow.uniform = {"u_cells": (900,)}
    models = (*(kind.of(showers, settings=settings, **bodies) for kind in (ImageVAE, ImageSupervisedAutoencoder)),
              *(ImageNoiseAutoencoder.of(showers, settings=dict(match=match, **settings), **bodies)
                for match in ("mse", "sinkhorn")), vq_vae, ParticleVQVAE.fit_scales(showers),
              ParticleTokenPrior(set_weights(ParticleVQVAE.fit_scales(showers), 24), 256, 4, 8, 2, 1, dropout=0.0),
              ImageCorrVAE.published(showers, divide=16, latents=4, objects=3, context=2), flow)
    return {**dict(zip(PLAIN, models, strict=True)), "plain vq-gan": Terms(ImageVQGAN.of(averaged, showers, **body))}


def untrained():
    """Losses of every sample of one batch, of autoencoders, and terms of GANs, without a step of training."""
    showers, sizes = spots(["ecal"]), dict(hidden=8, across=4, depth=1, patch=15)
    informed, blind = (photon_pair(showers, MixerEncoder, MixerDecoder, 4, 8, informed, **sizes)
                       for informed in (True, False))
    small = dict(latent=3, hidden=8)
    models = {"photon vae": PhotonVAE(*informed, **small), "supervised": SupervisedAutoencoder(*blind, **small),
              "corr vae": CorrVAE.fit_scales(showers, (3, 2, 2), 2, latents=6, objects=3, hidden=8)}
    models |= {match: NoiseGeneratorAutoencoder(*informed, match=match, **small) for match in ("sinkhorn", "mse")}
    gan = PhotonVQGAN.fit_scales(PhotonVQVAE(*informed, {"codes": 8}), showers, dict(hidden=(8,), channels=(2, 2, 4),
                                                                                    code=4))
    models |= {"vq-gan": Terms(gan), **plain_gans(), "plain wgan": Terms(plain_wgan()), **plain_models(showers)}
    rng, rows, found = np.random.default_rng(4), slice(0, BATCH), {}  # noise that leaves no photon on an edge
    for seed, (name, model) in enumerate(models.items(), 13):
        normal = model.noise if "corr vae" in name else {"z": (getattr(model, "noise_width", 10),)}
        batch = {"conditions": showers.particles[rows], "responses": showers.response[rows],
                 **{key: rng.normal(size=(BATCH, *shape)) for key, shape in normal.items()},
                 **{key: rng.random((BATCH, *shape)) for key, shape in getattr(model, "uniform", {}).items()}}
        if name in ("plain gan", "plain vit gan"):
            batch = {**{key: values[rows] for key, values in training_arrays(spots(["zn"])).items()},
                     "z": batch["z"], "z2": rng.normal(size=(BATCH, 10))}
        batch |= {"plain prior": {"tokens": np.arange(4 * BATCH).reshape(BATCH, 4) % 7},
                  "plain wgan": {"share": np.linspace(0, 1, BATCH)[:, None, None]}}.get(name, {})
        set_weights(model, seed).compile(run_eagerly=backend.name() != "jax")
        batch = {key: np.asarray(values, "float32") for key, values in batch.items()}
        found[name] = np.asarray(model.predict_on_batch(batch), "float64").tolist()
    return found


def losses():
    """Losses of a photon-sum flow, a teacher and its student, of GANs and their warm starts, and of autoencoders."""
    rng = np.random.default_rng(0)
    particles = conditions_of(np.repeat([22, 2112], ROWS // 2), rng.normal(0.0, [5.0, 5.0, 1000.0], (ROWS, 3)))
    counts = rng.poisson(2.0 * rng.exponential(1.0, (ROWS, 30, 30))).astype("uint16")
    small = {"steps": 1, "hidden": (8,), "embedding": (8,)}
    shape = set_weights(ShapeFlow.fit_scales("ecal", particles, counts, maps=2, **small), 1)
    sums = np.asarray(keras.ops.convert_to_numpy(shape.sums(counts.astype("float32"))))
    number = set_weights(PhotonSums.fit_scales("ecal", particles, sums, bins=4, **small), 2)
    student = set_weights(shape.student(), 3)
    data = {"conditions": particles, "responses": counts, "sums": sums, "weight": np.linspace(0.5, 1.5, ROWS),
            "channels": np.full(ROWS, 0.5)}
    cells = {"uniform": {"u_cells": (900,)}}
    (vq_losses, tokens), (flow_losses, samples) = quantised(), diffusing()
    return {"backend": backend.name(), "losses": {
        "sums": fit(number, data, ("conditions", "sums"), uniform={"u_sums": (5,)}),
        "teacher": fit(shape, data, ("conditions", "responses"), **cells),
        "student": fit(Distiller(shape, student), data, ("conditions", "responses", "weight", "channels"),
                       normal={"z": (900,)}, **cells),
        "gan": gan_losses(), **staged_losses(), **energy_losses(), **vq_losses,
        **flow_losses}, "tokens": tokens, "samples": samples, "untrained": untrained(),
        "noise": keras.ops.convert_to_numpy(CellNoise(50, 4)(rng.normal(size=(8, 4)).astype("float32"))).tolist()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What this file prints under each installed backend, one process each, side by side."""
    if backend.name() != BACKENDS[0]:
        pytest.skip(f"all backends are run once, under {BACKENDS[0]}")
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
             "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    started = {}
    for name, *jit in [*((name,) for name in BACKENDS), *((n, str(v)) for n, v in OTHER_WAY.items() if n in BACKENDS)]:
        environment = {**os.environ, **cache, "KERAS_BACKEND": name, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        started[name, *jit] = subprocess.Popen(
            [sys.executable, __file__, tmp_path_factory.mktemp(name), *jit], env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
    outputs = {key: process.communicate() for key, process in started.items()}
    for key, process in started.items():
        assert process.returncode == 0, f"{key}: {outputs[key][1][-2000:]}"
    return {key: json.loads(output[0].splitlines()[-1]) for key, output in outputs.items()}


def test_each_run_used_its_backend(runs):
    assert {key: run["backend"] for key, run in runs.items()} == {key: key[0] for key in runs}
    assert backend.name() in BACKENDS


@pytest.mark.parametrize("model", ["sums", "teacher", "student", "sums score", "shape score", "vae", "vq-vae",
                                   "flow matching", "mean flow"])
def test_losses_agree(runs, model):
    reference = np.array(runs[backend.name(),]["losses"][model])
    assert len(reference) == EPOCHS and reference[-1] < reference[0]
    for name in BACKENDS:
        np.testing.assert_allclose(runs[name,]["losses"][model], reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("model", "terms"), [("gan", 11), ("joint", 5), ("wgan", 7)])
def test_terms_of_adversarial_models_agree(runs, model, terms):
    """Under every backend, and for the GAN with all terms compiled as well as not."""
    reference = runs[backend.name(),]["losses"][model]
    assert len(reference) == terms
    found = [run["losses"][model] for run in runs.values() if model in run["losses"]]
    assert len(found) == len(BACKENDS) + (model == "gan") * sum(name in BACKENDS for name in OTHER_WAY)
    for term, values in reference.items():
        assert len(set(values)) == EPOCHS or term == "critic_accuracy"
        for other in found:
            np.testing.assert_allclose(other[term], values, rtol=1e-4, atol=1e-4, err_msg=term)


@pytest.mark.parametrize("model", ["photon vae", "supervised", "sinkhorn", "mse", "corr vae", *TERMS, *PLAIN])
def test_losses_of_every_sample_agree(runs, model):
    reference = np.array(runs[backend.name(),]["untrained"][model])
    assert len(reference) == TERMS.get(model, BATCH) and np.isfinite(reference).all()
    assert len(np.unique(reference)) > 3
    for name in BACKENDS:
        np.testing.assert_allclose(runs[name,]["untrained"][model], reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("which", [0, 1])
def test_samples_of_ten_steps_agree(runs, which):
    reference = np.array(runs[backend.name(),]["samples"][which])
    assert np.isfinite(reference).all() and reference.std() > 0.1
    for name in BACKENDS:
        np.testing.assert_allclose(runs[name,]["samples"][which], reference, rtol=1e-3, atol=1e-3)


def test_cell_noise_is_the_same_bit_by_bit(runs):
    reference = runs[backend.name(),]["noise"]
    assert np.shape(reference) == (8, 50) and all(runs[name,]["noise"] == reference for name in BACKENDS)


def test_tokens_of_a_prior_are_the_same(runs):
    reference = runs[backend.name(),]["tokens"]
    assert np.shape(reference) == (BATCH, 4) and len(np.unique(reference)) > 3
    assert all(runs[name,]["tokens"] == reference for name in BACKENDS)


def test_compiles_where_it_pays():
    gpus = backend.name() == "tensorflow" and sys.modules["tensorflow"].config.list_physical_devices("GPU")
    assert backend.jit_compile() is (backend.name() == "jax" or bool(gpus))


if __name__ == "__main__":
    import conftest  # noqa: F401  (how JAX compiles in tests)

    asked = [{"True": True, "False": False}[jit] for jit in sys.argv[2:]]
    print(json.dumps({"backend": backend.name(), "losses": {"gan": gan_losses(*asked)}} if asked else losses()))

"""What `bench_backends.py` times: a fresh model of every family, what its training takes, and how it samples."""

from dataclasses import dataclass, field

import numpy as np
from bench_peers import ADAM

SIZES = {  # those of the recipes, and small ones
    "laptop": dict(
        sums={}, shape=dict(steps=3, hidden=(128, 128), embedding=(128, 64)), gan={},
        wgan=dict(channels=(64, 32, 16, 8), latent=512), body=dict(channels=(48, 24, 12, 8)), vq="0.25M",
        prior=dict(width=96, heads=4, depth=3), corr={}, arrivals=dict(decoder=dict(rank=128)), levels=3, latent={},
        unet=dict(), study=dict(channels=16, multipliers=(1, 2, 4, 8), heads=4, attention=(2,)), patches=dict(),
        divide=(16, 4), flow=dict(steps=2, hidden=(64, 64), bins=4), hits=dict(), vit=dict(width=32, hidden=40),
        tokens=dict(hidden=60, depth=2, width=32, projection=8)),
    "smoke": dict(
        sums=dict(steps=1, hidden=(8,), bins=4, embedding=(8,)),
        shape=dict(steps=1, hidden=(8,), embedding=(8,), maps=2),
        gan=dict(generator=dict(hidden=8, widths=(8,), channels=(4, 4, 2), spots=2),
                 critic=dict(hidden=(8,), channels=(2, 2, 4), code=4)),
        wgan=dict(channels=(8, 4, 4, 2), latent=16), body=dict(channels=(4, 4, 2, 2)), vq="0.25M",
        prior=dict(width=8, heads=2, depth=1), corr=dict(channels=(4, 4, 2, 2), width=2, hidden=8),
        arrivals=dict(latent=4, encoder=dict(hidden=(16, 8)), decoder=dict(hidden=(8, 8), known=8, rim=4),
                      prior=dict(steps=2, hidden=(8,), context=8)), levels=1,
        latent=dict(hidden=16, depth=2, context=8),
        unet=dict(channels=2, multipliers=(1, 2), blocks=1, heads=1),
        study=dict(channels=2, multipliers=(1, 2), blocks=1, heads=1), vit=dict(width=4, patch=11, hidden=8, depth=1),
        tokens=dict(hidden=8, heads=2, depth=1, width=8, projection=4),
        patches=dict(patch=11, hidden=8, depth=1, across=4), divide=(64, 16), flow=dict(steps=1, hidden=(8,), bins=2),
        hits=dict(hidden=(8,))),
}
SIZES["paper"] = SIZES["laptop"] | dict(divide=(1, 1), flow={}, vit={}, tokens={})  # published ones as published
GAN_WEIGHTS = {"energy": 1.0, "diversity": 1e-2, "intensity": 1e-3, "auxiliary": 1e-3}
IMAGE_WEIGHTS = {"diversity": 0.1, "intensity": 1e-3, "auxiliary": 1e-3}
DDPM = dict(schedule="linear", target="noise", levels=1000, limit=7.0)
WGAN_WEIGHTS = {"adversarial": 0.1, "energy": 1.0}


@dataclass
class Case:
    """A model to train and the function that samples.

    Arguments:
        model: Keras model.
        optimizer: for `compile`; of several phases name -> optimizer.
        arrays: name -> (N, ...), what a training step takes.
        noise: of `Batches`: "uniform" and "normal", name -> shape.
        generate: function of noise (B, width) and of columns (B, ...).
        width: numbers of noise.
        columns: what stands beside the noise, (N, ...) each.
        constant: name -> number that every row of a training step has.
        operations: multiplications with a weight for one sample; 0 if they are not counted.
    """

    model: object
    optimizer: object
    arrays: dict
    noise: dict
    generate: object
    width: int
    columns: tuple
    constant: dict = field(default_factory=dict)
    operations: int = 0


def _adam():
    import keras

    return keras.optimizers.Adam(1e-4, clipnorm=1.0)


def _reach(showers):
    return showers.particles.min(axis=0), showers.particles.max(axis=0)


def _rows(showers):
    """What most families are trained on."""
    return {"conditions": showers.particles, "responses": showers.response}


def _shipped(model, arrays, noise, generator, showers, optimizer=None, **more):
    """A `Case` of a family whose generator takes noise and conditions."""
    return Case(model, optimizer or _adam(), arrays, noise, generator.generate, generator.noise_width,
                (showers.particles,), operations=generator.operations() if hasattr(generator, "operations") else 0,
                **more)


def photon_sums(sizes, showers):
    from zdckeras.data.detectors import CHANNEL_COUNT, channel_sums
    from zdckeras.flow_distill.sums import PhotonSums

    sums = channel_sums(showers.response)
    model = PhotonSums.fit_scales("zn", showers.particles, sums, **sizes["sums"])
    arrays, noise = {"conditions": showers.particles, "sums": sums}, {"uniform": {"u_sums": (CHANNEL_COUNT,)}}
    return Case(model, _adam(), arrays, noise, model.generate, CHANNEL_COUNT, (showers.particles,))


def teacher(sizes, showers):
    from zdckeras.data.detectors import channel_sums
    from zdckeras.flow_distill.shape import ShapeFlow

    cells = showers.response[0].size
    model = ShapeFlow.fit_scales("zn", showers.particles, showers.response, **sizes["shape"])
    return Case(model, _adam(), _rows(showers), {"uniform": {"u_cells": (cells,)}}, model.generate, cells,
                (showers.particles, channel_sums(showers.response)))


def student(sizes, showers):
    from zdckeras.flow_distill.distiller import Distiller

    case = teacher(sizes, showers)
    twin, ones = case.model.student(seed=1), np.ones(len(showers), "float32")
    return Case(Distiller(case.model, twin), _adam(), {**case.arrays, "weight": ones, "channels": ones},
                {**case.noise, "normal": {"z": (case.width,)}}, twin.generate, case.width, case.columns)


def gan(sizes, showers):
    import keras

    from zdckeras.gan.generator import GanGenerator
    from zdckeras.gan.model import ResponseGAN, training_arrays

    model = ResponseGAN.fit_scales(showers, weights=GAN_WEIGHTS, **sizes["gan"])
    sampler = GanGenerator(model.average)
    return _shipped(model, training_arrays(showers),
                    {"normal": {"z": (sampler.noise_width,), "z2": (sampler.noise_width,)}}, sampler, showers,
                    {phase: keras.optimizers.Adam(**ADAM) for phase in model.phases()})


def published_gan(sizes, showers):
    """The SDI-GAN of images with intensity and auxiliary regressor."""
    import keras

    from zdckeras.data.particles import Scaler
    from zdckeras.gan.images import ImageGAN, ImageGanGenerator
    from zdckeras.gan.model import training_arrays

    model = ImageGAN.published("zn", Scaler.fit(showers.particles).get_config(), *sizes["divide"],
                               weights=IMAGE_WEIGHTS)
    return _shipped(model, training_arrays(showers), {"normal": dict.fromkeys(("z", "z2"), (model.latent,))},
                    ImageGanGenerator.of(model), showers,
                    {phase: keras.optimizers.Adam(**ADAM) for phase in model.phases()})


def published_flow(sizes, showers):
    from zdckeras.flow_distill.published import PublishedFlow

    model, cells = PublishedFlow.fit_scales("zn", showers.particles, showers.response, **sizes["flow"]), 44 * 44
    return Case(model, _adam(), _rows(showers), {"uniform": {"u_cells": (cells,)}}, model.generate, cells,
                (showers.particles, showers.photon_sums("zn")[:, None]))


def wgan(sizes, showers):
    import keras

    from zdckeras.data.transforms import BoxCox
    from zdckeras.wgan_gp.model import EnergyGenerator, ResponseWGAN
    from zdckeras.wgan_gp.regressor import ParameterRegressor

    channels, boxcox = sizes["wgan"]["channels"], BoxCox.fit(showers.response).get_config()
    regressor = ParameterRegressor.fit_scales(showers.particles, showers.detector().name, channels=channels)
    model = ResponseWGAN.fit_scales(showers, regressor, boxcox, generator=sizes["wgan"],
                                    critic=dict(channels=channels), weights=WGAN_WEIGHTS, critic_steps=5)
    normal = {name: (model.latent,) for name in ("z", "z2")}
    return _shipped(model, _rows(showers), {"normal": normal, "uniform": {"share": (1, 1)}},
                    EnergyGenerator(model.average, *_reach(showers)), showers,
                    {phase: keras.optimizers.Adam(**ADAM) for phase in model.phases()})


def autoencoder(kind, **settings):
    """Builder of an autoencoder of photons with convolutional bodies, by the name of its class."""
    def build(sizes, showers):
        from zdckeras.layers.cnn import CnnDecoder, CnnEncoder
        from zdckeras.layers.photon_coding import photon_pair
        from zdckeras.vae import autoencoders

        pair = photon_pair(showers, CnnEncoder, CnnDecoder, width=16, **sizes["body"])
        model = getattr(autoencoders, kind)(*pair, **settings)
        return _shipped(model, _rows(showers), {"normal": {"z": (model.latent,)}},
                        autoencoders.CodeGenerator.of(model, showers), showers)

    return build


def corr_vae(sizes, showers):
    from zdckeras.corr_vae.model import CorrVAE

    model = CorrVAE.fit_scales(showers, **sizes["corr"])
    return _shipped(model, _rows(showers), {"normal": model.noise}, model.generator, showers)


def published_corr_vae(sizes, showers):
    from zdckeras.corr_vae.published import ImageCorrVAE

    model = ImageCorrVAE.published(showers, sizes["divide"][1])
    return _shipped(model, _rows(showers), {"normal": model.noise, "uniform": model.uniform}, model.generator, showers)


def published_vae(sizes, showers):
    from zdckeras.layers.patches import PublishedVitDecoder, PublishedVitEncoder
    from zdckeras.vae.autoencoders import CodeGenerator
    from zdckeras.vae.published import ImageVAE

    model = ImageVAE.of(showers, PublishedVitEncoder, PublishedVitDecoder, **sizes["vit"])
    return _shipped(model, _rows(showers), {"normal": {"z": (model.noise_width,)}}, CodeGenerator.of(model, showers),
                    showers)


def published_vq_vae(sizes, showers):
    from zdckeras.vq.vq_vae import PhotonVQVAE

    model = PhotonVQVAE.published(showers, **sizes["tokens"])
    return Case(model, _adam(), _rows(showers), {}, *_light_of_tokens(model, showers))


def published_wgan(sizes, showers):
    import keras

    from zdckeras.data.transforms import BoxCox
    from zdckeras.wgan_gp.model import EnergyGenerator
    from zdckeras.wgan_gp.published import ImageRegressor, ImageWGAN, published_reader

    divide = sizes["divide"][1]
    regressor = ImageRegressor.fit_scales(published_reader(divide), showers)
    model = ImageWGAN.published(regressor, BoxCox.fit(showers.response).get_config(), divide, critic_steps=5)
    return _shipped(model, _rows(showers), {"normal": {name: (model.latent,) for name in ("z", "z2")},
                                            "uniform": {"share": (1, 1)}},
                    EnergyGenerator(model.generator, *_reach(showers)), showers,
                    {phase: keras.optimizers.Adam(**ADAM) for phase in model.phases()})


def classifier(sizes, showers):
    """It samples nothing: what is timed is its answer to particles."""
    from zdckeras.hits.classifier import HitClassifier

    model = HitClassifier.fit_scales(["zn"], showers.particles, **sizes["hits"])
    arrays = {"conditions": showers.particles, "lit": np.ones(len(showers), "float32")}
    return Case(model, _adam(), arrays, {}, lambda noise, conditions: model.logits(conditions), 1, (showers.particles,))


def vq_vae(sizes, showers):
    from zdckeras.vq.vq_vae import PhotonVQVAE

    model = PhotonVQVAE.of_size(showers, sizes["vq"])
    return Case(model, _adam(), _rows(showers), {}, *_light_of_tokens(model, showers))


def vq_gan(sizes, showers):
    import keras

    from zdckeras.vq.vq_gan import PhotonVQGAN
    from zdckeras.vq.vq_vae import PhotonVQVAE

    model = PhotonVQVAE.of_size(showers, sizes["vq"])
    gan = PhotonVQGAN.fit_scales(model, showers, sizes["gan"].get("critic"))
    return Case(gan, {phase: keras.optimizers.Adam(**ADAM) for phase in gan.phases()}, _rows(showers),
                {"normal": {"z": (gan.latent,)}}, *_light_of_tokens(model, showers))


def _light_of_tokens(model, showers):
    """How a VQ-VAE makes photons of tokens and noise, width of the noise, and the columns: any tokens will do."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, model.codebook.codes, (len(showers), model.tokens)).astype("float32")

    def light(noise, tokens, conditions):
        import keras

        return model.scatter(model.light(keras.ops.cast(tokens, "int32"), conditions), noise)

    return light, model.scatter.latent, (tokens, showers.particles)


def token_prior(sizes, showers):
    from zdckeras.vq.generator import TokenGenerator
    from zdckeras.vq.prior import TokenPrior
    from zdckeras.vq.vq_vae import PhotonVQVAE

    model, rng = PhotonVQVAE.of_size(showers, sizes["vq"]), np.random.default_rng(0)
    prior = TokenPrior.fit_scales(showers, codes=model.codebook.codes, tokens=model.tokens, **sizes["prior"])
    tokens = rng.integers(0, prior.codes, (len(showers), prior.tokens))
    return _shipped(prior, {"conditions": showers.particles, "tokens": tokens}, {},
                    TokenGenerator(model, prior, *_reach(showers)), showers)


def _arrival_vae(sizes, showers):
    """A fresh `ArrivalVAE` with its scales, and the batches that it is trained on."""
    from zdckeras.modular.arrivals import ARRIVAL, ArrivalBatches
    from zdckeras.modular.model import ArrivalVAE

    model = ArrivalVAE("zn", **sizes["arrivals"])
    arrays = ArrivalBatches("zn", len(showers), 1, min(64, len(showers)), 0, model.latent).arrays
    model.fit_scales({name: arrays[name] for name in ARRIVAL}, arrays["responses"])
    return model, arrays


def modular(sizes, showers):
    from zdckeras.modular.generator import ModularGenerator
    from zdckeras.modular.transport import Transport

    model, arrays = _arrival_vae(sizes, showers)
    generator = ModularGenerator(Transport("zn", sizes["levels"]), model.prior, model.decoder, *_reach(showers))
    return _shipped(model, arrays, {"normal": {"z": (model.latent,)}}, generator, showers, constant={"beta": 1.0})


def latent(sizes, showers):
    """Flow matching over codes, drawn in four steps of Heun's method."""
    from zdckeras.diffusion.latent import DiffusionPrior, code_posteriors
    from zdckeras.modular.generator import ModularGenerator
    from zdckeras.modular.transport import Transport

    model, _ = _arrival_vae(sizes, showers)
    codes = code_posteriors(model, len(showers))
    prior = DiffusionPrior(model.features.width, model.latent, **sizes["latent"])
    prior.fit_scales(codes["code_mean"], codes["code_deviation"])
    parts = Transport("zn", sizes["levels"]), prior.sampled_by("heun", 4), model.decoder
    return _shipped(prior, {name: codes[name] for name in ("code_mean", "code_deviation", "features")},
                    {"uniform": {"t": ()}, "normal": {"z": (model.latent,), "noise": (model.latent,)}},
                    ModularGenerator(*parts, *_reach(showers)), showers)


def mean_flow(sizes, showers):
    from zdckeras.diffusion.one_step import MeanFlowTrainer, fresh_student

    case = latent(sizes, showers)
    student = fresh_student(case.model)
    noise = {"uniform": dict.fromkeys(("t", "s", "same"), ()), "normal": case.noise["normal"]}
    return Case(MeanFlowTrainer(student), _adam(), case.arrays, noise, student.generate, student.settings["latent"],
                (case.arrays["features"],))


def images(network, published, size=None, **settings):
    """Builder of a model of whole responses."""
    def build(sizes, showers):
        from zdckeras.diffusion.images import ImageDiffusion, ImageGenerator

        model = ImageDiffusion.fit_scales(showers, network, sizes[size or network], published=published, **settings)
        shape = showers.detector().shape
        return _shipped(model, _rows(showers), {"uniform": {"u": shape, "t": ()}, "normal": {"noise": shape}},
                        ImageGenerator(model, *_reach(showers)), showers)

    return build


FAMILIES = {"photon sums": ("zn", photon_sums), "MAF teacher": ("zn", teacher), "student": ("zn", student),
            "SDI-GAN": ("zn", gan), "joint GAN": ("zn+zp", gan), "WGAN-GP": ("ecal", wgan),
            "VAE": ("zn", autoencoder("PhotonVAE")), "CorrVAE": ("zn", corr_vae), "VQ-VAE": ("zn", vq_vae),
            "token prior": ("zn", token_prior), "modular": ("zn", modular), "latent flow matching": ("zn", latent),
            "MeanFlow": ("zn", mean_flow), "patches": ("zn", images("patches", False, sampler="euler", steps=11)),
            "U-Net": ("zn", images("unet", True, sampler="euler", steps=11)), "VQ-GAN": ("zn", vq_gan),
            "published diffusion": ("zn", images("unet", True, "study", sampler="ddim", steps=50, eta=0.6, **DDPM)),
            "noise generator": ("zn", autoencoder("NoiseGeneratorAutoencoder", match="sinkhorn")),
            "published SDI-GAN": ("zn", published_gan), "published flow": ("zn", published_flow),
            "published CorrVAE": ("zn", published_corr_vae), "published VAE": ("zn", published_vae),
            "published VQ-VAE": ("zn", published_vq_vae), "published WGAN-GP": ("ecal", published_wgan),
            "classifier": ("zn", classifier)}

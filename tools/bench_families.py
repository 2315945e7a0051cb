"""What `bench_backends.py` times: a fresh model of every family, what its training takes, and how it samples."""

import numpy as np
from bench_cases import Case, adam, light_of_tokens, reach, rows, shipped
from bench_peers import ADAM
from bench_published import (
    DDPM,
    images,
    published_corr_vae,
    published_flow,
    published_gan,
    published_vae,
    published_vq_vae,
    published_wgan,
)

GAN_WEIGHTS = {"energy": 1.0, "diversity": 1e-2, "intensity": 1e-3, "auxiliary": 1e-3}
WGAN_WEIGHTS = {"adversarial": 0.1, "energy": 1.0}


def photon_sums(sizes, showers):
    from zdckeras.data.detectors import CHANNEL_COUNT, channel_sums
    from zdckeras.flow_distill.sums import PhotonSums

    sums = channel_sums(showers.response)
    model = PhotonSums.fit_scales("zn", showers.particles, sums, **sizes["sums"])
    arrays, noise = {"conditions": showers.particles, "sums": sums}, {"uniform": {"u_sums": (CHANNEL_COUNT,)}}
    return Case(model, adam(), arrays, noise, model.generate, CHANNEL_COUNT, (showers.particles,))


def teacher(sizes, showers):
    from zdckeras.data.detectors import channel_sums
    from zdckeras.flow_distill.shape import ShapeFlow

    cells = showers.response[0].size
    model = ShapeFlow.fit_scales("zn", showers.particles, showers.response, **sizes["shape"])
    return Case(model, adam(), rows(showers), {"uniform": {"u_cells": (cells,)}}, model.generate, cells,
                (showers.particles, channel_sums(showers.response)))


def student(sizes, showers):
    from zdckeras.flow_distill.distiller import Distiller

    case = teacher(sizes, showers)
    twin, ones = case.model.student(seed=1), np.ones(len(showers), "float32")
    return Case(Distiller(case.model, twin), adam(), {**case.arrays, "weight": ones, "channels": ones},
                {**case.noise, "normal": {"z": (case.width,)}}, twin.generate, case.width, case.columns)


def gan(sizes, showers):
    import keras

    from zdckeras.gan.generator import GanGenerator
    from zdckeras.gan.model import ResponseGAN, training_arrays

    model = ResponseGAN.fit_scales(showers, weights=GAN_WEIGHTS, **sizes["gan"])
    sampler = GanGenerator(model.average)
    return shipped(model, training_arrays(showers),
                   {"normal": {"z": (sampler.noise_width,), "z2": (sampler.noise_width,)}}, sampler, showers,
                   {phase: keras.optimizers.Adam(**ADAM) for phase in model.phases()})


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
    return shipped(model, rows(showers), {"normal": normal, "uniform": {"share": (1, 1)}},
                   EnergyGenerator(model.average, *reach(showers)), showers,
                   {phase: keras.optimizers.Adam(**ADAM) for phase in model.phases()})


def autoencoder(kind, **settings):
    """Builder of an autoencoder of photons with convolutional bodies, by the name of its class."""
    def build(sizes, showers):
        from zdckeras.layers.cnn import CnnDecoder, CnnEncoder
        from zdckeras.layers.photon_coding import photon_pair
        from zdckeras.vae import autoencoders

        informed = kind != "SupervisedAutoencoder"
        pair = photon_pair(showers, CnnEncoder, CnnDecoder, width=16, informed=informed, **sizes["body"])
        model = getattr(autoencoders, kind)(*pair, **settings)
        return shipped(model, rows(showers), {"normal": {"z": (model.latent,)}},
                       autoencoders.CodeGenerator.of(model, showers), showers)

    return build


def energy_vae(sizes, showers):
    from zdckeras.data.transforms import BoxCox
    from zdckeras.vae.energy_vae import DecoderGenerator, ResponseVAE

    body, boxcox = dict(channels=sizes["wgan"]["channels"]), BoxCox.fit(showers.response).get_config()
    model = ResponseVAE.fit_scales(showers, boxcox, deviation=1.0, centre=10.0, encoder=body, decoder=body)
    return shipped(model, rows(showers), {"normal": {"z": (model.decoder.latent,)}},
                   DecoderGenerator(model.decoder, boxcox, *reach(showers)), showers)


def corr_vae(sizes, showers):
    from zdckeras.corr_vae.model import CorrVAE

    model = CorrVAE.fit_scales(showers, **sizes["corr"])
    return shipped(model, rows(showers), {"normal": model.noise}, model.generator, showers)


def classifier(sizes, showers):
    """It samples nothing: what is timed is its answer to particles."""
    from zdckeras.hits.classifier import HitClassifier

    model = HitClassifier.fit_scales(["zn"], showers.particles, **sizes["hits"])
    arrays = {"conditions": showers.particles, "lit": np.ones(len(showers), "float32")}
    return Case(model, adam(), arrays, {}, lambda noise, conditions: model.logits(conditions), 1, (showers.particles,))


def vq_vae(sizes, showers):
    from zdckeras.vq.vq_vae import PhotonVQVAE

    model = PhotonVQVAE.of_size(showers, sizes["vq"])
    return Case(model, adam(), rows(showers), {}, *light_of_tokens(model, showers))


def vq_gan(sizes, showers):
    import keras

    from zdckeras.vq.vq_gan import PhotonVQGAN
    from zdckeras.vq.vq_vae import PhotonVQVAE

    model = PhotonVQVAE.of_size(showers, sizes["vq"])
    gan = PhotonVQGAN.fit_scales(model, showers, sizes["gan"].get("critic"))
    return Case(gan, {phase: keras.optimizers.Adam(**ADAM) for phase in gan.phases()}, rows(showers),
                {"normal": {"z": (gan.latent,)}}, *light_of_tokens(model, showers))


def token_prior(sizes, showers):
    from zdckeras.vq.generator import TokenGenerator
    from zdckeras.vq.prior import TokenPrior
    from zdckeras.vq.vq_vae import PhotonVQVAE

    model, rng = PhotonVQVAE.of_size(showers, sizes["vq"]), np.random.default_rng(0)
    prior = TokenPrior.fit_scales(showers, codes=model.codebook.codes, tokens=model.tokens, **sizes["prior"])
    tokens = rng.integers(0, prior.codes, (len(showers), prior.tokens))
    return shipped(prior, {"conditions": showers.particles, "tokens": tokens}, {},
                   TokenGenerator(model, prior, *reach(showers)), showers)


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
    generator = ModularGenerator(Transport("zn", sizes["levels"]), model.prior, model.decoder, *reach(showers))
    return shipped(model, arrays, {"normal": {"z": (model.latent,)}}, generator, showers, constant={"beta": 1.0})


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
    return shipped(prior, {name: codes[name] for name in ("code_mean", "code_deviation", "features")},
                   {"uniform": {"t": ()}, "normal": {"z": (model.latent,), "noise": (model.latent,)}},
                   ModularGenerator(*parts, *reach(showers)), showers)


def mean_flow(sizes, showers):
    from zdckeras.diffusion.one_step import MeanFlowTrainer, fresh_student

    case = latent(sizes, showers)
    student = fresh_student(case.model)
    noise = {"uniform": dict.fromkeys(("t", "s", "same"), ()), "normal": case.noise["normal"]}
    return Case(MeanFlowTrainer(student), adam(), case.arrays, noise, student.generate, student.settings["latent"],
                (case.arrays["features"],))


FAMILIES = {"photon sums": ("zn", photon_sums), "MAF teacher": ("zn", teacher), "student": ("zn", student),
            "SDI-GAN": ("zn", gan), "joint GAN": ("zn+zp", gan), "WGAN-GP": ("ecal", wgan),
            "VAE": ("zn", autoencoder("PhotonVAE")), "energy VAE": ("focalh", energy_vae),
            "supervised autoencoder": ("zn", autoencoder("SupervisedAutoencoder")), "CorrVAE": ("zn", corr_vae),
            "VQ-VAE": ("zn", vq_vae), "token prior": ("zn", token_prior), "modular": ("zn", modular),
            "latent flow matching": ("zn", latent),
            "MeanFlow": ("zn", mean_flow), "patches": ("zn", images("patches", False, sampler="euler", steps=11)),
            "U-Net": ("zn", images("unet", True, sampler="euler", steps=11)), "VQ-GAN": ("zn", vq_gan),
            "published diffusion": ("zn", images("unet", True, "study", sampler="ddim", steps=50, eta=0.6, **DDPM)),
            "noise generator": ("zn", autoencoder("NoiseGeneratorAutoencoder", match="sinkhorn")),
            "published SDI-GAN": ("zn", published_gan), "published flow": ("zn", published_flow),
            "published CorrVAE": ("zn", published_corr_vae), "published VAE": ("zn", published_vae),
            "published VQ-VAE": ("zn", published_vq_vae), "published WGAN-GP": ("ecal", published_wgan),
            "classifier": ("zn", classifier)}

"""Fresh models of the published networks, for `bench_backends.py`."""

from bench_cases import Case, adam, light_of_tokens, reach, rows, shipped
from bench_peers import ADAM

DDPM = dict(schedule="linear", target="noise", levels=1000, limit=7.0)


def published_gan(sizes, showers):
    """The neutron study's SDI-GAN: vision transformers, and eq. 3 between the critic's embeddings."""
    import keras

    from zdckeras.data.particles import Scaler
    from zdckeras.gan.images import ImageGAN, ImageGanGenerator
    from zdckeras.gan.model import training_arrays
    from zdckeras.gan.published_vit import published_vit_critic, published_vit_generator

    networks = (make(**sizes["vit_gan"]) for make in (published_vit_generator, published_vit_critic))
    model = ImageGAN(*networks, "zn", Scaler.fit(showers.particles).get_config(), {"diversity": 1.0})
    return shipped(model, training_arrays(showers), {"normal": dict.fromkeys(("z", "z2"), (model.latent,))},
                   ImageGanGenerator.of(model), showers,
                   {phase: keras.optimizers.Adam(**ADAM) for phase in model.phases()})


def published_flow(sizes, showers):
    from zdckeras.flow_distill.published import PublishedFlow

    model, cells = PublishedFlow.fit_scales("zn", showers.particles, showers.response, **sizes["flow"]), 44 * 44
    return Case(model, adam(), rows(showers), {"uniform": {"u_cells": (cells,)}}, model.generate, cells,
                (showers.particles, showers.photon_sums("zn")[:, None]))


def published_corr_vae(sizes, showers):
    from zdckeras.corr_vae.published import ImageCorrVAE

    model = ImageCorrVAE.published(showers, sizes["divide"])
    return shipped(model, rows(showers), {"normal": model.noise, "uniform": model.uniform}, model.generator, showers)


def published_vae(sizes, showers):
    from zdckeras.layers.patches import PublishedVitDecoder, PublishedVitEncoder
    from zdckeras.vae.autoencoders import CodeGenerator
    from zdckeras.vae.published import ImageVAE

    model = ImageVAE.of(showers, PublishedVitEncoder, PublishedVitDecoder, **sizes["vit"])
    return shipped(model, rows(showers), {"normal": {"z": (model.noise_width,)}}, CodeGenerator.of(model, showers),
                   showers)


def published_vq_vae(sizes, showers):
    from zdckeras.vq.vq_vae import PhotonVQVAE

    model = PhotonVQVAE.published(showers, **sizes["tokens"])
    return Case(model, adam(), rows(showers), {}, *light_of_tokens(model, showers))


def published_wgan(sizes, showers):
    import keras

    from zdckeras.data.transforms import BoxCox
    from zdckeras.wgan_gp.model import EnergyGenerator
    from zdckeras.wgan_gp.published import ImageRegressor, ImageWGAN, published_reader

    divide = sizes["divide"]
    regressor = ImageRegressor.fit_scales(published_reader(divide), showers)
    model = ImageWGAN.published(regressor, BoxCox.fit(showers.response).get_config(), divide, critic_steps=5)
    return shipped(model, rows(showers), {"normal": {name: (model.latent,) for name in ("z", "z2")},
                                          "uniform": {"share": (1, 1)}},
                   EnergyGenerator(model.generator, *reach(showers)), showers,
                   {phase: keras.optimizers.Adam(**ADAM) for phase in model.phases()})


def images(network, published, size=None, **settings):
    """Builder of a model of whole responses."""
    def build(sizes, showers):
        from zdckeras.diffusion.images import ImageDiffusion, ImageGenerator

        model = ImageDiffusion.fit_scales(showers, network, sizes[size or network], published=published, **settings)
        shape = showers.detector().shape
        return shipped(model, rows(showers), {"uniform": {"u": shape, "t": ()}, "normal": {"noise": shape}},
                       ImageGenerator(model, *reach(showers)), showers)

    return build

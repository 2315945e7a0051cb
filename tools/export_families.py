"""A generator of every family, untrained, of the size of its recipe's laptop preset: times do not need training."""

import numpy as np

import zdckeras as zdc
from zdckeras.data.detectors import channel_sums
from zdckeras.data.particles import Scaler
from zdckeras.data.transforms import BoxCox
from zdckeras.diffusion.images import ImageDiffusion, ImageGenerator
from zdckeras.diffusion.latent import DiffusionPrior
from zdckeras.gan.images import ImageGanGenerator
from zdckeras.gan.model import ResponseGAN
from zdckeras.gan.published import plan_of, published_generator
from zdckeras.gan.published_vit import published_vit_generator
from zdckeras.layers.cnn import CnnDecoder, CnnEncoder
from zdckeras.layers.patches import MixerDecoder, MixerEncoder, VitDecoder, VitEncoder
from zdckeras.layers.photon_coding import photon_pair
from zdckeras.vae.energy_vae import ImageDecoder
from zdckeras.vq.vq_vae import PhotonVQVAE
from zdckeras.wgan_gp.networks import EnergyNetwork

SHOWERS = 400  # for scales and the mean map
GRIDS = dict(channels=(64, 32, 16, 8))
BODIES = {"CNN": (CnnEncoder, CnnDecoder, dict(channels=(48, 24, 12, 8))),
          "ViT": (VitEncoder, VitDecoder, dict(patch=8, hidden=64, depth=2)),
          "MLP-Mixer": (MixerEncoder, MixerDecoder, dict(patch=8, hidden=64, depth=2, across=48))}


def reach(showers):
    """Range of the particles."""
    return showers.particles.min(axis=0), showers.particles.max(axis=0)


def scaler(showers):
    """Mean and scale of the conditions."""
    return Scaler.fit(showers.particles).get_config()


def sums(showers):
    """Flow of channel sums."""
    return zdc.PhotonSums.fit_scales("zn", showers.particles, channel_sums(showers.response))


def over_cells(showers, inverse):
    """Flow over cells."""
    shape = zdc.ShapeFlow.fit_scales("zn", showers.particles, showers.response, steps=3, hidden=(128, 128),
                                     embedding=(128, 64), inverse=inverse)
    return zdc.ShowerGenerator(sums(showers), shape)


def photon_gan(showers):
    """The sums-first network."""
    return zdc.GanGenerator(ResponseGAN.fit_scales(showers, weights={"energy": 1.0}).average)


def code_model(showers, kind, body):
    """Autoencoder of photons."""
    encoder, decoder, sizes = BODIES[body]
    return zdc.CodeGenerator.of(kind(*photon_pair(showers, encoder, decoder, width=16, **sizes)), showers)


def tokens(showers, with_sums):
    """Transformer prior over the tokens of a VQ-VAE."""
    model = PhotonVQVAE.of_size(showers, "0.25M")
    prior = zdc.TokenPrior.fit_scales(showers, codes=model.codebook.codes, tokens=model.tokens, width=96, heads=4,
                                      depth=3, sums=5 * with_sums)
    return zdc.TokenGenerator(model, prior, *reach(showers), sums=sums(showers) if with_sums else None)


def modular(showers, prior=None):
    """The pretrained modular generator, or its transport and decoder with another prior, untrained."""
    known = zdc.pretrained("zn")
    if prior is None:
        return known
    other = prior(known.decoder.features.width, known.prior)
    return zdc.ModularGenerator(known.transport, other, known.decoder, *reach(showers))


def latent(*sampling):
    """Denoiser of codes."""
    return lambda width, known: DiffusionPrior(width).sampled_by(*sampling)


def images(showers, network, **settings):
    """Flow matching of whole responses, 11 Euler steps."""
    model = ImageDiffusion.fit_scales(showers, network, sampler="euler", steps=11, **settings)
    return ImageGenerator(model, *reach(showers))


# name -> detectors of the showers that it is built from, and a function of these
FAMILIES = {
    "modular, MAF prior (pretrained)": ("zn", modular),
    "modular, IAF prior": ("zn", lambda some: modular(some, lambda width, known: known.student())),
    "modular, latent flow matching, Heun 4": ("zn", lambda some: modular(some, latent("heun", 4))),
    "modular, latent, 1 step": ("zn", lambda some: modular(some, latent("euler", 1))),
    "flow over cells, MAF": ("zn", lambda some: over_cells(some, False)),
    "flow over cells, IAF": ("zn", lambda some: over_cells(some, True)),
    "GAN, sums first": ("zn", photon_gan),
    "GAN, ZN and ZP": ("zn+zp", photon_gan),
    "GAN as published, a 16th": ("zn", lambda some: ImageGanGenerator(
        published_generator("zn", divide=16), "zn", scaler(some), plan_of(("zn",)).noise)),
    "GAN as published, ViT": ("zn", lambda some: ImageGanGenerator(published_vit_generator(), "zn", scaler(some))),
    "WGAN-GP, ECAL": ("ecal", lambda some: zdc.EnergyGenerator(EnergyNetwork("ecal", scaler(some), **GRIDS),
                                                               *reach(some))),
    "VAE, FoCal-H": ("focalh", lambda some: zdc.DecoderGenerator(
        ImageDecoder("focalh", scaler(some), **GRIDS), BoxCox.fit(some.response).get_config(), *reach(some))),
    **{f"VAE, {body}": ("zn", lambda some, body=body: code_model(some, zdc.PhotonVAE, body)) for body in BODIES},
    "noise generator, CNN": ("zn", lambda some: code_model(some, zdc.NoiseGeneratorAutoencoder, "CNN")),
    "tokens": ("zn", lambda some: tokens(some, False)),
    "tokens, sums first": ("zn", lambda some: tokens(some, True)),
    "CorrVAE": ("zn", lambda some: zdc.CorrVAE.fit_scales(some, (48, 24, 12, 6)).generator),
    "flow matching, patches": ("zn", lambda some: images(some, "patches")),
    "flow matching, U-Net": ("zn", lambda some: images(some, "unet", published=True)),
}


def build(name):
    """The generator of a family, its weights drawn from a fixed seed."""
    import keras

    from zdckeras.simulation.reference import load

    keras.utils.set_random_seed(0)
    detectors, make = FAMILIES[name]
    generator = make(load(detectors, "train", SHOWERS))
    for weight in generator.weights:  # what starts at zero would be left out of the graph
        values = np.asarray(weight.value)
        if values.ndim > 1 and not values.any():
            weight.assign(0.02 * np.random.default_rng(0).standard_normal(values.shape))
    return generator

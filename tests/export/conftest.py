"""One small generator of every family, untrained."""

import numpy as np
import pytest

import zdckeras as zdc
from zdckeras.data.detectors import channel_sums
from zdckeras.data.particles import Scaler
from zdckeras.diffusion.images import ImageDiffusion, ImageGenerator
from zdckeras.diffusion.latent import DiffusionPrior
from zdckeras.gan.networks import ResponseNetwork
from zdckeras.gan.published_vit import published_vit_generator
from zdckeras.layers.cnn import CnnDecoder, CnnEncoder
from zdckeras.layers.patches import MixerDecoder, MixerEncoder
from zdckeras.layers.photon_coding import photon_pair
from zdckeras.vae.energy_vae import ImageDecoder
from zdckeras.wgan_gp.networks import EnergyNetwork
from zdckeras.wgan_gp.published import published_generator

BOXCOX = {"power": 0.1, "shift": 0.1}
WIDE = np.full(9, -1e5), np.full(9, 1e5)


def flow(showers, inverse):
    sums = zdc.PhotonSums.fit_scales("ecal", showers.particles, channel_sums(showers.response), steps=1, hidden=(8,),
                                     bins=4, embedding=(8,), seed=1)
    shape = zdc.ShapeFlow.fit_scales("ecal", showers.particles, showers.response, steps=1, hidden=(8,), maps=2,
                                     embedding=(8,), seed=2, inverse=inverse)
    return zdc.ShowerGenerator(sums, shape)


def small_gan(showers, names, latent=10):
    scaler = Scaler.fit(showers.particles).get_config()
    return zdc.GanGenerator(ResponseNetwork(names, scaler, latent, 8, (8,), (4, 4, 2), 2))


def published(showers, network=None):
    """A DCGAN as published, or another network for ZN, bright enough for some photons without training."""
    scaler = Scaler.fit(showers.particles).get_config()
    network = network or zdc.ImageGAN.published("zn", scaler, divide=32, seed=1).generator
    return zdc.ImageGanGenerator(network, "zn", scaler, factors=[20.0])


def vae(showers, kind):
    pair = photon_pair(showers, CnnEncoder, CnnDecoder, width=4, light=8, channels=(3, 2, 2), seed=1)
    return zdc.CodeGenerator.of(kind(*pair, latent=3, hidden=8), showers)


def tokens(showers, sums):
    pair = photon_pair(showers, MixerEncoder, MixerDecoder, 8, 8, seed=1, hidden=8, across=4, depth=1, patch=15)
    model = zdc.PhotonVQVAE(*pair, {"codes": 8}, seed=1)
    known = flow(showers, True).sums if sums else None
    prior = zdc.TokenPrior.fit_scales(showers, codes=8, tokens=4, width=8, heads=2, depth=1, sums=5 * sums, seed=2)
    return zdc.TokenGenerator(model, prior, *WIDE, sums=known)


def modular(detector, kind):
    model = zdc.ArrivalVAE(detector, 4, dict(hidden=(16, 8)), dict(hidden=(8, 8), known=8, rim=4),
                           dict(steps=1, hidden=(8,), context=8))
    prior = model.prior if kind == "maf" else model.prior.student()
    model.decoder.mean.assign(np.log(0.5 + np.zeros(model.decoder.mean.shape)))
    path = zdc.StraightFlight(detector) if detector == "ecal" else zdc.Transport(detector, levels=1)
    return zdc.ModularGenerator(path, prior, model.decoder, *WIDE)


def matching(showers):
    model = ImageDiffusion.fit_scales(showers, "patches", dict(patch=15, hidden=8, depth=1, across=4), sampler="heun",
                                      steps=2)
    return ImageGenerator(model, *WIDE)


def latent(showers):
    flow = modular("zn", "iaf")
    prior = DiffusionPrior(flow.decoder.features.width, 4, 8, 1, 8).sampled_by("heun", 2)
    return zdc.ModularGenerator(flow.transport, prior, flow.decoder, *WIDE)


FAMILIES = {
    "maf": lambda showers: flow(showers, False),
    "iaf": lambda showers: flow(showers, True),
    "gan": lambda showers: small_gan(showers, ("zn",)),
    "joint gan": lambda showers: small_gan(showers, ("zn", "zp"), 4),
    "wgan-gp": lambda showers: zdc.EnergyGenerator(EnergyNetwork(
        "ecal", Scaler.fit(showers.particles).get_config(), fraction=1e-3, latent=16, hidden=8, channels=(3, 2),
        spots=2), *WIDE),
    "published gan": published,
    "published vit gan": lambda showers: published(showers, published_vit_generator(hidden=8, heads=2, depth=1)),
    "published wgan-gp": lambda showers: zdc.EnergyGenerator(zdc.ImageNetwork(
        published_generator(32, 16, seed=1), "ecal", [0.0] * 5, [100.0, 100.0, 1000.0, 1.0, 1.0], BOXCOX, 16), *WIDE),
    "energy vae": lambda showers: zdc.DecoderGenerator(ImageDecoder(
        "ecal", Scaler.fit(showers.particles).get_config(), 3, (3, 2), 6), BOXCOX, *WIDE),
    "vae": lambda showers: vae(showers, zdc.PhotonVAE),
    "noise generator": lambda showers: vae(showers, zdc.NoiseGeneratorAutoencoder),
    "corr vae": lambda showers: zdc.CorrVAE.fit_scales(showers, (4, 2), 2, latents=6, objects=3, hidden=6).generator,
    "published corr vae": lambda showers: zdc.ImageCorrVAE.published(showers, 32, 4, 3, 2).generator,
    "tokens": lambda showers: tokens(showers, False),
    "tokens with sums": lambda showers: tokens(showers, True),
    "modular teacher": lambda showers: modular("zn", "maf"),
    "modular student": lambda showers: modular("zp", "iaf"),
    "modular energies": lambda showers: modular("ecal", "maf"),
    "flow matching": matching,
    "latent diffusion": latent,
}


@pytest.fixture(scope="session", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="session")
def gan(showers):
    """Function of detectors and latent numbers that gives a GAN's generator."""
    return lambda *sizes: small_gan(showers, *sizes)


@pytest.fixture(scope="session")
def build(showers):
    """Function of a family's name that gives its generator."""
    return lambda name: FAMILIES[name](showers)

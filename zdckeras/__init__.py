"""Fast generative simulation of calorimeter showers in Keras 3.

Everything a user needs is an attribute of this package, imported when it is asked for first, so that KERAS_BACKEND may
be set until then:

    >>> import zdckeras as zdc
    >>> zdc.detector("zn").shape
    (44, 44)
    >>> zdc.load("zn", "test", size=3)
    Showers(3 particles, zn)
"""

# ruff: noqa: F401
from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_ATTRIBUTES = {  # public name -> module, and its name there if it is another
    # data
    "load": "simulation.reference",
    "resimulate": "simulation.reference",
    "detector": "data.detectors:get_detector",
    "Detector": "data.detectors",
    "Showers": "data.showers",
    "open_showers": "data.files",
    "open_particles": "data.files",
    "write_npz": "data.files",
    "write_root": "data.files",
    # models
    "pretrained": "packaged",
    "load_model": "loading",
    "compare": "comparison.compare",
    "export_saved_model": "export.saved_model",
    "export_onnx": "export.onnx",
    "export_o2": "export.o2",
    # flows and flow distillation
    "Flow": "flows.flow",
    "PhotonSums": "flow_distill.sums",
    "ShapeFlow": "flow_distill.shape",
    "PublishedFlow": "flow_distill.published",
    "PublishedFlowGenerator": "flow_distill.published",
    "Distiller": "flow_distill.distiller",
    "ShowerGenerator": "flow_distill.generator",
    # transport times response
    "Transport": "modular.transport",
    "StraightFlight": "modular.guns",
    "ArrivalVAE": "modular.model",
    "LatentPrior": "modular.model",
    "ModularGenerator": "modular.generator",
    # diffusion and flow matching
    "DiffusionPrior": "diffusion.latent",
    "MeanFlowPrior": "diffusion.one_step",
    "ImageDiffusion": "diffusion.images",
    "ImageGenerator": "diffusion.images",
    # GAN, SDI-GAN, joint GAN
    "ResponseGAN": "gan.model",
    "GanGenerator": "gan.generator",
    "ImageGAN": "gan.images",
    "ImageGanGenerator": "gan.images",
    # WGAN-GP
    "ResponseWGAN": "wgan_gp.model",
    "EnergyGenerator": "wgan_gp.model",
    "ImageWGAN": "wgan_gp.published",
    "ImageNetwork": "wgan_gp.published",
    "ImageRegressor": "wgan_gp.published",
    # autoencoders
    "PhotonVAE": "vae.autoencoders",
    "DrivenAutoencoder": "vae.autoencoders",
    "SupervisedAutoencoder": "vae.autoencoders",
    "NoiseGeneratorAutoencoder": "vae.autoencoders",
    "ImageVAE": "vae.published",
    "ImageSupervisedAutoencoder": "vae.published",
    "ImageNoiseAutoencoder": "vae.published",
    "CodeGenerator": "vae.autoencoders",
    "ResponseVAE": "vae.energy_vae",
    "DecoderGenerator": "vae.energy_vae",
    "CorrVAE": "corr_vae.model",
    "CorrGenerator": "corr_vae.generator",
    "ImageCorrVAE": "corr_vae.published",
    "ImageCorrGenerator": "corr_vae.published",
    # vector quantisation
    "PhotonVQVAE": "vq.vq_vae",
    "PhotonVQGAN": "vq.vq_gan",
    "ImageVQGAN": "vq.published",
    "TokenPrior": "vq.prior",
    "ParticleTokenPrior": "vq.published_prior",
    "ParticleVQVAE": "vq.published_prior",
    "TokenGenerator": "vq.generator",
    # which particles leave light
    "HitClassifier": "hits.classifier",
    # what all generators share
    "Sampler": "generators",
}

__all__ = ["__version__", *_ATTRIBUTES]

if TYPE_CHECKING:  # the same names for editors and type checkers
    from zdckeras.comparison.compare import compare
    from zdckeras.corr_vae.generator import CorrGenerator
    from zdckeras.corr_vae.model import CorrVAE
    from zdckeras.corr_vae.published import ImageCorrGenerator, ImageCorrVAE
    from zdckeras.data.detectors import Detector
    from zdckeras.data.detectors import get_detector as detector
    from zdckeras.data.files import open_particles, open_showers, write_npz, write_root
    from zdckeras.data.showers import Showers
    from zdckeras.diffusion.images import ImageDiffusion, ImageGenerator
    from zdckeras.diffusion.latent import DiffusionPrior
    from zdckeras.diffusion.one_step import MeanFlowPrior
    from zdckeras.export.o2 import export_o2
    from zdckeras.export.onnx import export_onnx
    from zdckeras.export.saved_model import export_saved_model
    from zdckeras.flow_distill.distiller import Distiller
    from zdckeras.flow_distill.generator import ShowerGenerator
    from zdckeras.flow_distill.published import PublishedFlow, PublishedFlowGenerator
    from zdckeras.flow_distill.shape import ShapeFlow
    from zdckeras.flow_distill.sums import PhotonSums
    from zdckeras.flows.flow import Flow
    from zdckeras.gan.generator import GanGenerator
    from zdckeras.gan.images import ImageGAN, ImageGanGenerator
    from zdckeras.gan.model import ResponseGAN
    from zdckeras.generators import Sampler
    from zdckeras.hits.classifier import HitClassifier
    from zdckeras.loading import load_model
    from zdckeras.modular.generator import ModularGenerator
    from zdckeras.modular.guns import StraightFlight
    from zdckeras.modular.model import ArrivalVAE, LatentPrior
    from zdckeras.modular.transport import Transport
    from zdckeras.packaged import pretrained
    from zdckeras.simulation.reference import load, resimulate
    from zdckeras.vae.autoencoders import (
        CodeGenerator,
        DrivenAutoencoder,
        NoiseGeneratorAutoencoder,
        PhotonVAE,
        SupervisedAutoencoder,
    )
    from zdckeras.vae.energy_vae import DecoderGenerator, ResponseVAE
    from zdckeras.vae.published import ImageNoiseAutoencoder, ImageSupervisedAutoencoder, ImageVAE
    from zdckeras.vq.generator import TokenGenerator
    from zdckeras.vq.prior import TokenPrior
    from zdckeras.vq.published import ImageVQGAN
    from zdckeras.vq.published_prior import ParticleTokenPrior, ParticleVQVAE
    from zdckeras.vq.vq_gan import PhotonVQGAN
    from zdckeras.vq.vq_vae import PhotonVQVAE
    from zdckeras.wgan_gp.model import EnergyGenerator, ResponseWGAN
    from zdckeras.wgan_gp.published import ImageNetwork, ImageRegressor, ImageWGAN


def __getattr__(name):
    """A public attribute, imported when it is asked for first."""
    if name not in _ATTRIBUTES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, name_there = _ATTRIBUTES[name].partition(":")
    globals()[name] = found = getattr(import_module(f"{__name__}.{module}"), name_there or name)
    return found


def __dir__():
    return sorted({*globals(), *_ATTRIBUTES})

"""Diffusion and flow matching of whole responses: logarithms of photons, one cell a number."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from zdckeras import backend
from zdckeras.arguments import plain
from zdckeras.backend import Tensor
from zdckeras.data.detectors import get_detector
from zdckeras.data.particles import CONDITION_COUNT, Scaler
from zdckeras.data.showers import Showers
from zdckeras.diffusion.denoiser import Denoiser, fit_averaged
from zdckeras.diffusion.networks import PatchField
from zdckeras.diffusion.unet import PUBLISHED, UNet
from zdckeras.generators import RangedSampler, WithParts
from zdckeras.layers.particle_features import ParticleFeatures
from zdckeras.layers.photon_drawing import CellNoise, normal_quantile
from zdckeras.training.batches import Batches
from zdckeras.training.cost import Counts, Passes, passes_of_loss
from zdckeras.training.loop import fit_adam

IMPACT = CONDITION_COUNT + 1  # first column of the expected impact in `ParticleFeatures`
BRIGHTEST = math.log(60_000.0)  # ln of the photons of a cell, at most


@keras.saving.register_keras_serializable("zdckeras")
class ImageDiffusion(WithParts, Denoiser):
    """Responses of a detector from noise, cell by cell: x = (ln(1 + n + u) - a) / b with u uniform, and its floor back.

    The studies' own models learn x = ln(1 + n), where an empty cell is 0 and no noise is added; what their samplers end
    with is x, at least 0 (a ReLU), of which photons are rounded here.

    Arguments:
        detector: name.
        field: network of images with C the width of the context: `UNet`, `PatchField`.
        scaler: {"mean": (9,), "scale": (9,)} of the conditions.
        shift, spread: a and b.
        features: whether the context has all `ParticleFeatures`, or, as published, the scaled conditions alone.
        dequantised: whether u is added.
        kwargs: of `Denoiser`.

    Returns:
        call({"conditions" (B, 9), "responses" (B, nx, ny), "noise" (B, nx, ny) normal, "t" (B,) uniform numbers and, if
        dequantised, "u" (B, nx, ny) uniform}) gives the per-sample loss (B,).

    Raises:
        ValueError: as `Denoiser`, for a field made for another context, or a spread that is not positive.

    Source:
        diffusion study of the neutron calorimeter, and its authors' code, m-wojnar/zdc, models/diffusion/diffusion.py;
        flow matching: arXiv:2507.18811, and m-wojnar/faster_zdc, models/flow_matching/flow_matching.py.
    """

    PARTS = ("field",)

    def __init__(self, detector: str, field: keras.layers.Layer, scaler: dict, shift: float = 0.0, spread: float = 1.0,
                 features: bool = True, dequantised: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settings |= dict(detector=detector, scaler=plain(scaler), shift=shift, spread=spread, features=features,
                              dequantised=dequantised)
        self.detector, self.known = get_detector(detector), ParticleFeatures(detector, **scaler, dtype="float32")
        expected = self.known.width if features else CONDITION_COUNT
        if not spread > 0.0:
            raise ValueError(f"Expected a spread above 0, as showers with light have, received {spread}.")
        if field.settings["context"] != expected:
            raise ValueError(f"Expected a field with a context of {expected}, received one with "
                             f"{field.settings['context']}.")
        self.field, self.features, self.shift, self.spread = field, features, shift, spread
        self.dequantised = dequantised
        self.uniform = {"t": ()} | ({"u": self.detector.shape} if dequantised else {})
        self.built = True

    @classmethod
    def fit_scales(cls, showers: Showers, network: str = "patches", sizes: dict | None = None, seed: int = 0,
                   published: bool = False, **settings: Any) -> "ImageDiffusion":
        """A fresh model for the one detector of training `Showers`.

        Arguments:
            showers: training showers.
            network: "unet" or "patches".
            sizes: of the network.
            seed: of its weights.
            published: the scaled conditions alone are told, and the image is ln(1 + n) as it is.
            settings: of `Denoiser`.
        """
        detector, scaler = showers.detector(), Scaler.fit(showers.particles).get_config()
        width = CONDITION_COUNT if published else ParticleFeatures(detector.name, **scaler).width
        field = (UNet(width, seed=seed, **{**PUBLISHED, **(sizes or {})}) if network == "unet" else
                 PatchField(detector.name, width, IMPACT, seed=seed, **(sizes or {})))
        logs = np.log1p(showers.response[:2000].astype("float32") + 0.5)
        scales = {} if published else {"shift": round(float(logs.mean()), 4), "spread": round(float(logs.std()), 4)}
        return cls(detector.name, field, scaler, features=not published, dequantised=not published, **scales,
                   **settings)

    def context(self, conditions: Tensor) -> Tensor:
        """What the network is told of particles (B, 9)."""
        known = self.known(conditions)
        return known if self.features else known[:, :CONDITION_COUNT]

    def image(self, inputs: dict) -> Tensor:
        """Scaled logarithms (B, nx, ny) of a batch of responses."""
        photons = ops.cast(inputs["responses"], "float32")
        if self.dequantised:
            photons = photons + 0.02 + 0.96 * inputs["u"]
        return (ops.log1p(photons) - self.shift) / self.spread

    def photons(self, image: Tensor) -> Tensor:
        """Whole photons (B, nx, ny) of an image: the floor, after the noise that was added, or the nearest."""
        logs = ops.clip(image * self.spread + self.shift, 0.0, BRIGHTEST)
        return ops.floor(ops.expm1(logs) + (0.0 if self.dequantised else 0.5))

    def call(self, inputs):
        context = self.context(inputs["conditions"])
        return self.denoising_loss(self.image(inputs), inputs["noise"], inputs["t"], context)

    def generate(self, noise: Tensor, conditions: Tensor) -> Tensor:
        """Photons (B, nx, ny) from normal noise (draws, B, nx, ny) and particles (B, 9)."""
        return self.photons(self.draw(noise, self.context(conditions)))

    def operations(self) -> int:
        """Multiplications with a weight for one response."""
        field = self.field
        return self.evaluations * (field.operations(self.detector.shape) if isinstance(field, UNet) else
                                   field.operations())

    def passes(self) -> dict[str, Passes]:
        """How often a step runs the network, for `zdckeras.training.cost`; attention is counted with its scores."""
        shape = self.detector.shape
        images = dict.fromkeys(("responses", "noise"), shape)
        found = passes_of_loss("network", self, conditions=(CONDITION_COUNT,), **images, **self.uniform)
        if not isinstance(self.field, UNet):
            return found
        counts = found["network"].network
        counts = Counts(counts.weights, self.field.operations(shape), counts.activations + self.field.scores(shape))
        return {"network": Passes(counts, 0.0, 1.0)}

    def get_config(self):
        return {**super().get_config(), **self.parts_config()}


@keras.saving.register_keras_serializable("zdckeras")
class ImageGenerator(WithParts, RangedSampler):
    """The shipped generator of an `ImageDiffusion`.

    Arguments:
        model: trained `ImageDiffusion`, sampling as it is set.
        low, high: see `RangedSampler`.
        noise: numbers of standard normal noise that come in, from which `CellNoise` makes all others; 0: a number for
            every cell, and for every step that adds noise.
    """

    PARTS = ("model",)

    def __init__(self, model: ImageDiffusion, low: ArrayLike, high: ArrayLike, noise: int = 0, **kwargs: Any) -> None:
        super().__init__(low, high, **kwargs)
        self.model, self.detectors, self.settings = model, [model.detector], dict(noise=noise)
        self.numbers = model.draws * model.detector.cells
        self.noise_width = noise or self.numbers
        self.cell_noise = CellNoise(self.numbers, noise, 19) if noise else None
        self.jit_compile = backend.jit_compile()
        self.built = True

    def generate(self, noise, conditions):
        noise = ops.cast(noise, "float32")
        if self.cell_noise is not None:
            noise = normal_quantile(self.cell_noise(noise))
        noise = ops.reshape(noise, (-1, self.model.draws, *self.model.detector.shape))
        return self.model.generate(ops.transpose(noise, (1, 0, 2, 3)), ops.cast(conditions, "float32"))

    def operations(self) -> int:
        """Multiplications with a weight for one response."""
        return self.model.operations()

    def get_config(self):
        return {**super().get_config(), **self.parts_config(), **self.settings}


def fit_images(model: ImageDiffusion, arrays: dict[str, np.ndarray], path: str | Path, epochs: int, batch: int,
               rate: float | None = None, seed: int = 0, adam: Mapping[str, Any] | None = None) -> dict[str, list]:
    """Train an `ImageDiffusion` on arrays of conditions and responses; returns its history.

    Arguments:
        model: fresh `ImageDiffusion`.
        arrays: "conditions" (N, 9), "responses" (N, nx, ny).
        path, epochs, batch, rate: as in `fit_averaged`.
        seed: of order and noise.
        adam: settings of `tuned`, as a study has them, in place of the rate, its schedule and averaged weights.
    """
    shape = model.detector.shape
    batches = Batches(arrays, batch, seed, uniform=model.uniform, normal={"noise": shape})
    if adam is not None:
        return fit_adam(model, batches, path, epochs, adam["rate"], adam=adam)
    return fit_averaged(model, batches, path, epochs, rate)

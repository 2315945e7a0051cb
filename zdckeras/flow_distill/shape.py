"""Flows of a response's shape given the particle and its light: MAF teacher or IAF student."""

from collections.abc import Sequence
from itertools import count
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from zdckeras import backend
from zdckeras.backend import Tensor
from zdckeras.data.detectors import CHANNEL_COUNT, flat_masks, get_detector
from zdckeras.data.particles import Scaler
from zdckeras.data.transforms import ShapeCode
from zdckeras.flows.flow import Flow
from zdckeras.layers.dense import silu_layers
from zdckeras.layers.impact_frame import ImpactFrame
from zdckeras.layers.particle_features import ParticleFeatures
from zdckeras.mapped import selected


class CellFlow(keras.Model):
    """What flows over all cells of a response share: channel sums, density, loss, and samples.

    A subclass has `settings`, `code`, `masks`, `detector` and `flow`, defines `context(conditions, sums)`, and may
    define `encode` and `decode`, between responses and what the flow maps.
    """

    xla = False  # whether training is faster under XLA on a CPU, too

    def student(self, **settings) -> Self:
        """A fresh inverse autoregressive twin, which has what is `kept` of this flow."""
        twin = type(self)(**{**self.settings, "inverse": True, **settings})
        for own, same in zip(twin.kept, self.kept, strict=True):
            own.set_weights(same.get_weights())
        return twin

    @property
    def kept(self) -> tuple[keras.Layer, ...]:
        """Layers of a student that stay what they are in its teacher."""
        return ()

    def sums(self, responses: Tensor) -> Tensor:
        """The five channel sums (B, 5) of responses (B, nx, ny) or (B, D)."""
        return backend.exact_matmul(ops.reshape(responses, (-1, self.detector.cells)), self.masks.T)

    def context(self, conditions: Tensor, sums: Tensor) -> Tensor:
        """What the flow sees besides the cells, (B, C)."""
        raise NotImplementedError

    def encode(self, responses: Tensor, uniform: Tensor, conditions: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """What the flow maps, (B, D), of responses, and the logarithm of its slope against the code y, (B,)."""
        y = self.code.encode(ops.reshape(responses, (-1, self.detector.cells)), uniform)
        return y, ops.zeros_like(y[:, 0])

    def decode(self, mapped: Tensor, conditions: Tensor, photons: Tensor, context: Tensor) -> Tensor:
        """Back to the code y (B, D) of showers with `photons` (B, 1)."""
        return mapped

    def call(self, inputs):
        context = self.context(inputs["conditions"], self.sums(inputs["responses"]))
        mapped, log_det = self.encode(inputs["responses"], inputs["u_cells"], inputs["conditions"], context)
        return self.flow.log_prob(mapped, context) + log_det

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Mean of -log p per cell [nats]."""
        return backend.per_replica(-ops.mean(y_pred) / self.detector.cells)

    def generate(self, noise: Tensor, conditions: Tensor, sums: Tensor) -> Tensor:
        """Code y (B, D) from standard normal noise (B, D), physical conditions (B, 9) and channel sums (B, 5)."""
        context = self.context(conditions, sums)
        photons = ops.sum(ops.cast(sums, "float32"), axis=-1, keepdims=True)
        return self.decode(self.flow.generate(noise, context), conditions, photons, context)

    def get_config(self):
        return {**self.settings, "name": self.name}


@keras.saving.register_keras_serializable("zdckeras")
class ShapeFlow(CellFlow):
    """Conditional flow of all cells of a response, p(shape | particle, S_1, ..., S_5).

    counts -> code y (`ShapeCode`) -> r in the frame of the expected impact (`ImpactFrame`) -> latent z, by a masked
    autoregressive flow (teacher: densities in one pass) or an inverse one (student: samples in one pass) with affine
    maps. The context is a network on `ParticleFeatures` and the logarithms of the channel sums.

    Arguments:
        features: configuration of `ParticleFeatures` (detector, mean, scale).
        code: configuration of `ShapeCode`.
        inverse: True for an IAF.
        steps, hidden: autoregressive steps and hidden widths of each.
        embedding: widths of the context network.
        maps: number of maps of the impact frame.
        permutation_seed: of random orders of the cells between the steps, which let neighbours see each other; None
            for reversals, as in files of earlier versions.
        convention: of the five channels.
        seed: of the initial weights.

    Returns:
        call({"conditions": (B, 9), "responses": (B, nx, ny), "u_cells": (B, D)}) gives log p(y) (B,).

    Example:
        >>> counts = np.random.default_rng(0).poisson(1.0, (20, 44, 44))
        >>> model = ShapeFlow.fit_scales("zn", np.ones((20, 9)), counts, hidden=(8,), steps=1, embedding=(8,), maps=2)
        >>> y = model.generate(np.zeros((2, 1936), "float32"), np.ones((2, 9)), np.ones((2, 5)))
        >>> tuple(y.shape)
        (2, 1936)
    """

    def __init__(self, features: dict[str, Any], code: dict[str, Any], inverse: bool = False, steps: int = 3,
                 hidden: Sequence[int] = (192, 192), embedding: Sequence[int] = (192, 96), maps: int = 8,
                 permutation_seed: int | None = None, convention: str = "papers", seed: int = 0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings = dict(features=features, code=code, inverse=inverse, steps=steps, hidden=hidden,
                             embedding=embedding, maps=maps, permutation_seed=permutation_seed, convention=convention,
                             seed=seed)
        self.detector, self.code = get_detector(features["detector"]), ShapeCode(**code)
        self.masks = flat_masks(self.detector.shape, convention)
        self.features = ParticleFeatures(**features)
        self.embed = silu_layers(embedding, self.features.width + CHANNEL_COUNT + 1, count(seed),
                                 keras.initializers.GlorotUniform)
        self.frame = ImpactFrame(features["detector"], embedding[-1], maps, seed=seed)
        make = Flow.iaf if inverse else Flow.maf
        self.flow = make(self.detector.cells, context=embedding[-1], steps=steps, hidden=hidden, seed=seed,
                         permutation_seed=permutation_seed)
        self.built = True

    @classmethod
    def fit_scales(cls, detector: str, conditions: np.ndarray, responses: np.ndarray, noise: float = 1.0,
                   bell: float = 0.13, **settings) -> "ShapeFlow":
        """A fresh model, its scalers and impact frame fitted on training conditions (N, 9), responses (N, nx, ny).

        Its steps see the cells in random orders, unless `permutation_seed` is None.
        """
        settings = {"permutation_seed": 0, **settings}
        features = dict(detector=detector, **Scaler.fit(conditions).get_config())
        model = cls(features, ShapeCode.fit(responses, noise, bell).get_config(), **settings)
        some = np.random.default_rng(0).permutation(len(responses))[:10_000]
        particles = np.asarray(conditions, "float64")[some]
        counts = selected(np.asarray(responses), some).reshape(len(some), -1)
        code = model.code.encode_blocks(counts, np.random.default_rng(1).random(counts.shape, "float32"))
        model.frame.adapt(particles, counts.sum(axis=1, keepdims=True), code)
        return model

    @property
    def kept(self) -> tuple[keras.Layer, ...]:
        """Context network and impact frame of a student stay those of its teacher.

        The frame hangs on the context: with one of its own, a student's residuals would be those of another frame, of
        which losses on residuals know nothing.
        """
        return (self.embed, self.frame)

    def context(self, conditions: Tensor, sums: Tensor) -> Tensor:
        """What the flow sees besides the cells, (B, C)."""
        sums = ops.cast(sums, "float32")
        total = ops.sum(sums, axis=-1, keepdims=True)
        light = ops.concatenate([ops.log1p(total) - 5.0, 5.0 * sums / (total + 1.0)], axis=-1)
        return self.embed(ops.concatenate([self.features(conditions), light], axis=-1))

    def encode(self, responses: Tensor, uniform: Tensor, conditions: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Residuals r (B, D) of responses in the impact frame, and log |dr/dy| (B,)."""
        y = self.code.encode(ops.reshape(responses, (-1, self.detector.cells)), uniform)
        photons = ops.sum(ops.reshape(responses, (-1, self.detector.cells)), axis=-1, keepdims=True)
        shift, log_scale = self.frame(conditions, photons, context)
        return (y - shift) * ops.exp(-log_scale), -ops.sum(log_scale, axis=-1)

    def decode(self, residuals: Tensor, conditions: Tensor, photons: Tensor, context: Tensor) -> Tensor:
        """Residuals r (B, D) of showers with `photons` (B, 1) back to the code y (B, D)."""
        shift, log_scale = self.frame(conditions, photons, context)
        return shift + residuals * ops.exp(log_scale)

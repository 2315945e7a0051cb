"""The normalizing flow of the neutron study: splines over all cells, told the particle and its photon number alone."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from zdckeras import backend
from zdckeras.backend import Tensor
from zdckeras.data.detectors import flat_masks, get_detector
from zdckeras.data.particles import CONDITION_COUNT, Scaler
from zdckeras.data.transforms import ShapeCode
from zdckeras.flow_distill.shape import CellFlow
from zdckeras.flow_distill.sums import PhotonSums
from zdckeras.flows.flow import Flow
from zdckeras.flows.univariate import RationalQuadraticSpline
from zdckeras.generators import Sampler, WithParts, one_detector, trained_range
from zdckeras.layers.dense import multiplications

BOUND = 14.0  # of the splines: logit(1e-6) is -13.8
SMALLEST = 1e-6  # share of a bin, and slope at a knot


@keras.saving.register_keras_serializable("zdckeras")
class PublishedFlow(CellFlow):
    """Flow with rational-quadratic splines over the logits of all cells, p(y | particle, N), as published.

    y = logit(alpha + (1 - 2 alpha) v / sum v),  v = n + U(0, r)

    The context are the nine conditions and N, standardised, and led into the first layer; no network reads them, and
    nothing is known of the impact. Cells stand in reversed, random, reversed order between the steps. Of the published
    size (the defaults) it has 287 million weights. What the authors' code has and this has not: dropout of 0.05, a bias
    and ReLU of the layer that reads the context, last layers that do not begin at zero, hidden units that see the first
    1,452 cells alone (here they are spread evenly), and the epoch with the best density of held-out showers.

    Arguments:
        detector: name.
        mean, scale: (10,) standardisation of conditions and photon number.
        noise: range r of the dequantisation noise, in (0, 1].
        inverse: True for an IAF.
        steps, hidden, bins: autoregressive steps, hidden widths of each, bins of the splines.
        permutation_seed: of the random orders.
        convention: of the five channels, which only the loss "ch" of a student knows of.
        seed: of the initial weights.

    Returns:
        call({"conditions": (B, 9), "responses": (B, nx, ny), "u_cells": (B, D)}) gives log p(y) (B,).

    Source:
        neutron ZDC study, normalizing flows; from its authors' code, majerzemilia/zdc-fast-simulations, train-nf.py and
        flows_utils.py; Krause and Shih, CaloFlow, arXiv:2106.05285.

    Example:
        >>> counts = np.random.default_rng(0).poisson(1.0, (20, 30, 30))
        >>> model = PublishedFlow.fit_scales("ecal", np.ones((20, 9)), counts, hidden=(8,), steps=1, bins=2)
        >>> tuple(model.generate(np.zeros((2, 900), "float32"), np.ones((2, 9)), np.ones((2, 1))).shape)
        (2, 900)
    """

    xla = True  # on a CPU, too: of the many small operations of its splines it makes few, 1.6 times as fast

    def __init__(self, detector: str, mean: Sequence[float], scale: Sequence[float], noise: float = 0.5,
                 inverse: bool = False, steps: int = 4, hidden: Sequence[int] = (1452, 1452, 1452), bins: int = 8,
                 permutation_seed: int = 5, convention: str = "papers", seed: int = 0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings = dict(detector=detector, mean=list(map(float, mean)), scale=list(map(float, scale)),
                             noise=noise, inverse=inverse, steps=steps, hidden=hidden, bins=bins,
                             permutation_seed=permutation_seed, convention=convention, seed=seed)
        self.detector, self.code = get_detector(detector), ShapeCode(noise, bell=0.0)
        self.mean, self.scale = np.asarray(mean, "float32"), np.asarray(scale, "float32")
        if self.mean.shape != (CONDITION_COUNT + 1,) or self.scale.shape != self.mean.shape:
            raise ValueError("Expected mean and scale of nine conditions and the photon number, received "
                             f"{self.mean.shape} and {self.scale.shape}.")
        self.masks = flat_masks(self.detector.shape, convention)
        make = Flow.iaf if inverse else Flow.maf
        self.flow = make(self.detector.cells, context=len(self.mean), steps=steps, hidden=hidden, seed=seed,
                         permutation_seed=permutation_seed, alternating=True, activation="relu", context_layers=1,
                         univariate=RationalQuadraticSpline(bins, BOUND, min_share=SMALLEST, min_slope=SMALLEST))
        self.built = True

    @classmethod
    def fit_scales(cls, detector: str, conditions: np.ndarray, responses: np.ndarray, **settings) -> "PublishedFlow":
        """A fresh model, its context scaled by training conditions (N, 9) and responses (N, nx, ny)."""
        photons = responses.sum(axis=(1, 2), dtype="float64")
        known = Scaler.fit(conditions).get_config()
        return cls(detector, [*known["mean"], photons.mean()], [*known["scale"], photons.std() + 1e-3], **settings)

    def context(self, conditions: Tensor, sums: Tensor) -> Tensor:
        """Conditions and photon number, standardised, (B, 10); sums (B, K) of any K."""
        photons = ops.sum(ops.cast(sums, "float32"), axis=-1, keepdims=True)
        known = ops.concatenate([ops.cast(conditions, "float32"), photons], axis=-1)
        return ops.divide(ops.subtract(known, self.mean), self.scale)

    def operations(self) -> int:
        """Multiplications with a weight for one response."""
        return multiplications(self)

    def photons(self, y: Tensor, number: Tensor) -> Tensor:
        """n = max(round(p (N + D r / 2) - r / 2), 0) with p the code's fractions; their sum is N on average only.

        Rounded: the largest whole number below, one of four ways in the authors' code, is one photon short in every
        second lit cell.

        Arguments:
            y: code (B, D).
            number: photon numbers N, (B, 1).
        """
        half = 0.5 * self.code.dequantise.noise
        volume = ops.cast(number, "float32") + half * self.detector.cells
        return ops.maximum(ops.floor(self.code.fractions(y) * volume - half + 0.5), 0.0)


@keras.saving.register_keras_serializable("zdckeras")
class PublishedFlowGenerator(WithParts, Sampler):
    """Photon number first, shape second, as published: noise and particle to photon counts, no sum imposed.

    N ~ p(N | c),  y ~ p(y | c, N),  n = max(round(p(y) (N + D r / 2) - r / 2), 0)

    Arguments:
        number: trained `PhotonSums` of one sum, best a `plain` one (the study's, a Bayesian network, is not in its
            authors' code).
        shape: trained `PublishedFlow`.
        low, high: as in `Sampler`; by default the range of the scaler of `number`.

    Returns:
        call({"conditions": (B, 9), "noise": (B, 1 + D)}) gives (B, nx, ny) photon counts as float32.

    Raises:
        ValueError: for parts of different detectors, or a model of more sums than one.
    """

    PARTS = ("number", "shape")

    def __init__(self, number: PhotonSums, shape: PublishedFlow, low: ArrayLike | None = None,
                 high: ArrayLike | None = None, **kwargs: Any):
        super().__init__(**trained_range(low, high, number.features), **kwargs)
        one_detector(number=number.features.detector, shape=shape.detector)
        if len(number.mean) != 1:
            raise ValueError(f"Expected a model of the photon number, received one of {len(number.mean)} sums.")
        self.number, self.shape = number, shape
        self.noise_width, self.detectors = 1 + shape.detector.cells, [shape.detector]
        self.jit_compile = backend.jit_sampling()
        self.built = True

    def generate(self, noise: Tensor, conditions: Tensor) -> Tensor:
        """Photon counts (B, nx, ny) from standard normal noise (B, 1 + D) and physical conditions (B, 9)."""
        number = self.number.generate(noise[:, :1], conditions)
        y = self.shape.generate(noise[:, 1:], conditions, number)
        return ops.reshape(self.shape.photons(y, number), (-1, *self.shape.detector.shape))

    def operations(self) -> int:
        """Multiplications with a weight for one response."""
        return self.number.operations() + self.shape.operations()

    def get_config(self):
        return {**self.parts_config(), **self.range_config(), "name": self.name}

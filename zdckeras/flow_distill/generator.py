"""The shipped generator: physical conditions and noise in, photon counts out."""

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from zdckeras import backend
from zdckeras.backend import Tensor
from zdckeras.data.detectors import CHANNEL_COUNT
from zdckeras.flow_distill.shape import ShapeFlow
from zdckeras.flow_distill.sums import PhotonSums
from zdckeras.generators import Sampler, WithParts, one_detector, trained_range


@keras.saving.register_keras_serializable("zdckeras")
class ShowerGenerator(WithParts, Sampler):
    """Photon sums first, shape second, and the sums imposed on the shape: noise and particle to photon counts.

    S ~ p(S | c),  y ~ p(y | c, S),  n = floor(T_k(S) p(y)) with sum_{channel k} n = S_k exactly.

    Arguments:
        sums: trained `PhotonSums` of the five channels.
        shape: trained `ShapeFlow`.
        impose: "channels" imposes all five sums, "total" only the photon number.
        low, high: as in `Sampler`; by default those of the scalers of sums and shape.

    Returns:
        call({"conditions": (B, 9), "noise": (B, 5 + D)}) gives (B, nx, ny) photon counts as float32.

    Raises:
        ValueError: for another value of `impose`, or parts of different detectors or other sums than the channels'.
    """

    PARTS = ("sums", "shape")

    def __init__(self, sums: PhotonSums, shape: ShapeFlow, impose: str = "channels",
                 low: ArrayLike | None = None, high: ArrayLike | None = None, **kwargs):
        super().__init__(**trained_range(low, high, sums.features, shape.features), **kwargs)
        one_detector(sums=sums.features.detector, shape=shape.detector)
        if len(sums.mean) != CHANNEL_COUNT:
            raise ValueError(f"Expected a model of the {CHANNEL_COUNT} channel sums, received one of {len(sums.mean)}.")
        if impose not in ("channels", "total"):
            raise ValueError(f"Expected impose='channels' or 'total', received {impose!r}.")
        self.sums, self.shape, self.impose = sums, shape, impose
        self.noise_width, self.detectors = CHANNEL_COUNT + shape.detector.cells, [shape.detector]
        self.jit_compile = backend.jit_sampling()
        self.built = True

    def generate(self, noise: Tensor, conditions: Tensor) -> Tensor:
        """Photon counts (B, nx, ny) from standard normal noise (B, 5 + D) and physical conditions (B, 9)."""
        sums = self.sums.generate(noise[:, :CHANNEL_COUNT], conditions)
        code = self.shape.generate(noise[:, CHANNEL_COUNT:], conditions, sums)
        masks = self.shape.masks
        if self.impose == "total":
            sums, masks = ops.sum(sums, axis=-1, keepdims=True), np.ones((1, masks.shape[1]), "float32")
        counts = self.shape.code.decode(code, sums, masks, backend.is_compact())
        return ops.reshape(counts, (-1, *self.shape.detector.shape))

    def get_config(self):
        return {**self.parts_config(), **self.range_config(), "impose": self.impose, "name": self.name}

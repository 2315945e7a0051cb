"""Spots of light near the expected impact, and the photons drawn from them."""

import keras
import numpy as np
from keras import layers, ops

from zdckeras.backend import Tensor
from zdckeras.data.detectors import get_detector
from zdckeras.layers.dense import linear
from zdckeras.layers.particle_features import ParticleFeatures
from zdckeras.layers.photon_drawing import CellNoise, PhotonDraw, logit


@keras.saving.register_keras_serializable("zdckeras")
class Spots(layers.Layer):
    """Round spots of light near the expected impact, l_ij = sum_k a_k g((i - x_k) / w_k) g((j - y_k) / w_k) / w_k^2.

    g(s) = exp(-s^2 / 2). Shares a_k, centres (x_k, y_k) and widths w_k come from a hidden vector; centres start at the
    expected impact, widths at steps from 0.6 cells to a third of the detector.

    Arguments:
        detector: name.
        hidden: width H of the hidden vector.
        number: how many spots.
        extra: further numbers to read from the hidden vector.
        seed: of the weights.

    Returns:
        call((B, H) hidden, (B, 9) conditions) gives (B, nx, ny) light and (B, extra) numbers.
    """

    def __init__(self, detector, hidden, number=8, extra=0, seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.detector = get_detector(detector)
        self.hidden, self.number, self.extra, self.seed = hidden, number, extra, seed
        self.read = linear(hidden, 4 * number + extra, iter([seed]))
        self.widths = np.geomspace(0.6, min(self.detector.shape) / 3.0, number).astype("float32")
        self.built = True

    def call(self, hidden, conditions):
        raw = self.read(hidden)
        share, dx, dy, width = (raw[:, k * self.number : (k + 1) * self.number] for k in range(4))
        impact = ParticleFeatures.impact(self.detector, conditions) / self.detector.pitch
        width = ops.multiply(ops.exp(2.0 * ops.tanh(width / 2.0)), self.widths)
        profiles = []
        for axis, (offset, cells) in enumerate(zip((dx, dy), self.detector.shape, strict=True)):
            centre = impact[:, axis : axis + 1] + (cells - 1) / 2.0 + 4.0 * offset
            distance = ops.subtract(np.arange(cells, dtype="float32"), centre[:, :, None])
            profiles.append(self.profile(distance, width[:, :, None]))
        share = ops.exp(ops.minimum(2.0 * share, 20.0))[:, :, None]
        light = ops.matmul(ops.transpose(profiles[0] * share, (0, 2, 1)), profiles[1])
        return light, raw[:, 4 * self.number :]

    @staticmethod
    def profile(distance: Tensor, width: Tensor) -> Tensor:
        """Light at the middle of a cell: g(d / w) / w."""
        return ops.exp(-0.5 * ops.square(distance / width)) / width

    def get_config(self):
        return {**super().get_config(), "detector": self.detector.name, "hidden": self.hidden, "number": self.number,
                "extra": self.extra, "seed": self.seed}


@keras.saving.register_keras_serializable("zdckeras")
class CellSpots(Spots):
    """Spots as cells see them that are not small against the spot: the light within the cell, not that at its middle.

    h((i + 1/2 - x) / s) - h((i - 1/2 - x) / s) takes the place of g((i - x) / w) / w, with h(t) = 1 / (1 + e^-t) and
    s = 0.55 w: about as wide, and with the exponential tails of electromagnetic showers.
    """

    @staticmethod
    def profile(distance: Tensor, width: Tensor) -> Tensor:
        """Share of the light that falls into a cell."""
        width = 0.55 * width
        return ops.sigmoid((distance + 0.5) / width) - ops.sigmoid((distance - 0.5) / width)


@keras.saving.register_keras_serializable("zdckeras")
class Light(layers.Layer):
    """The photons of a response: spots of light near the expected impact, times a texture, fluctuating in every cell.

    w_ij = l_ij exp(t_ij) (u_ij / (1 - u_ij))^s,  and `PhotonDraw` spreads the channel sums over the weights w.

    The light l of `Spots` and the spread s of a fibre's light come from a hidden vector of the network, the texture t
    (cut at +-3) from its last feature map, u from `CellNoise`.

    Arguments:
        detector: name.
        hidden: width H of the hidden vector.
        latent: numbers of latent noise.
        spots: how many, K.
        seed: of weights, cell noise and order of the cells.

    Returns:
        call((B, H) hidden, (B, nx, ny) texture, (B, 5) whole sums, (B, d) noise, (B, 9) conditions) gives
        (B, nx, ny) photons.
    """

    def __init__(self, detector, hidden, latent=10, spots=8, seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.detector, self.hidden, self.latent, self.seed = get_detector(detector), hidden, latent, seed
        self.spots = Spots(detector, hidden, spots, 1, seed)
        self.noise = CellNoise(self.detector.cells + 1, latent, seed)
        self.draw = PhotonDraw(detector, seed=seed)
        self.built = True

    def call(self, hidden, texture, sums, noise, conditions):
        light, spread = self.spots(hidden, conditions)
        uniform = self.noise(noise)
        cell = uniform[:, :-1]
        fibre = 0.8 * ops.sigmoid(spread) * logit(cell)
        texture = ops.reshape(3.0 * ops.tanh(texture / 3.0), (-1, self.detector.cells))
        weights = ops.reshape(light, (-1, self.detector.cells)) * ops.exp(texture + fibre)
        return self.draw(weights, sums, uniform[:, -1:])

    def get_config(self):
        return {**super().get_config(), "detector": self.detector.name, "hidden": self.hidden, "latent": self.latent,
                "spots": self.spots.number, "seed": self.seed}

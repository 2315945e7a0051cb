"""The generator of the LHCb study, for responses in energy."""

import math

import keras
import numpy as np
from keras import layers, ops

from zdckeras.arguments import plain
from zdckeras.backend import Tensor
from zdckeras.data.detectors import get_detector
from zdckeras.layers.cnn import GridDecoder
from zdckeras.layers.dense import dense_layers, products, seeds_of
from zdckeras.layers.particle_features import FlightFeatures
from zdckeras.layers.photon_drawing import CellNoise, logit
from zdckeras.layers.spots import CellSpots

NOISY = 16  # numbers of the latent noise that spots, sum and the noise of the cells are made of
LEAST_CELL_ENERGY = 0.01  # MeV; fainter cells are empty
LUMP_ENERGY = 50.0  # MeV; where lumps become smaller to begin with


def gamma_like(mean: Tensor, granularity: Tensor, normal: Tensor) -> Tensor:
    """Energies of the given mean that come in lumps: e = m max(0, 1 - 1/(9k) + z / (3 sqrt(k)))^3, k = m / q.

    The Wilson-Hilferty approximation of a gamma distribution of shape k: cells that expect many lumps fluctuate by
    1 / sqrt(k), cells that expect less than one are mostly empty, exactly 0. The mean is kept for k above about 0.5.

    Arguments:
        mean: (B, D) expected energies m [MeV].
        granularity: (B, 1) or (B, D) energy of a lump q [MeV].
        normal: (B, D) standard normal numbers.

    Returns:
        (B, D), non-negative.

    Source:
        Wilson and Hilferty, PNAS 17 (1931) 684.

    Example:
        >>> e = gamma_like(ops.full((1, 2), 90.0), ops.ones((1, 1)), ops.convert_to_tensor([[0.0, 1.0]]))
        >>> [round(float(x), 2) for x in e[0]]
        [89.67, 99.47]
    """
    inverse = granularity / (mean + 1e-6 * granularity)
    cube_root = ops.relu(1.0 - inverse / 9.0 + normal * ops.sqrt(inverse) / 3.0)
    return mean * cube_root * cube_root * cube_root


@keras.saving.register_keras_serializable("zdckeras")
class EnergyNetwork(layers.Layer):
    """Latent noise and particle to energies in cells.

    The noise and the particle become a grid of 256 channels, 4 x 4 for 30 x 30 cells, unfolded to 8 x 8, 16 x 16
    and 32 x 32 with ReLU and cropped: the texture t. Beside it dense layers give spots l (see `CellSpots`), the
    sum, S = E f exp(s + d z_0), with f the mean response of the training data, and the size of lumps, q / (1 + m /
    m_0) in a cell that expects m. Then e_ij = gamma_like(m_ij, lump, cell noise), m = S w / sum w, w = l exp(t),
    which is 0 in cells that expect little; what is below 0.01 MeV becomes 0, and the sum is made S again.

    Arguments:
        detector: name.
        scaler: {"mean": (9,), "scale": (9,)} of the conditions.
        fraction: f, deposited MeV per MeV of energy.
        latent: numbers of latent noise; 512 in the study.
        hidden: width of the two dense layers of spots and sum.
        channels: of the grids from coarse to fine; (256, 128, 64, 32) in the study.
        spots: how many.
        seed: of the weights.

    Returns:
        call((B, d) noise, (B, 9) conditions) gives (B, nx, ny) [MeV].

    Source:
        LHCb study, arXiv:1812.01319, section 3.2 (the texture; it used the last grid as the response itself).
        Spots, sum and lumps: ours, so that place, size and energy need not be learnt by convolutions.

    Example:
        >>> scaler = {"mean": [0.0] * 9, "scale": [1.0] * 9}
        >>> g = EnergyNetwork("ecal", scaler, latent=16, hidden=8, channels=(4, 4, 2, 2), spots=2)
        >>> tuple(g(np.zeros((3, 16), "float32"), np.ones((3, 9), "float32")).shape)
        (3, 30, 30)
    """

    def __init__(self, detector, scaler, fraction=0.17, latent=512, hidden=256, channels=(256, 128, 64, 32), spots=8,
                 seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.detector, seeds = get_detector(detector), seeds_of([seed, 3])
        if latent < NOISY:
            raise ValueError(f"Expected at least {NOISY} numbers of latent noise, received {latent}.")
        self.settings = dict(detector=self.detector.name, scaler=plain(scaler), fraction=float(fraction), latent=latent,
                             hidden=hidden, channels=tuple(channels), spots=spots, seed=seed)
        self.latent, self.fraction = latent, float(fraction)
        self.features = FlightFeatures(self.detector.name, **scaler, dtype="float32")
        width = self.features.width
        self.dense = dense_layers((hidden, hidden), NOISY + width, seeds)
        self.texture = GridDecoder(latent + width, self.detector.shape, channels, seeds)
        self.spots = CellSpots(self.detector.name, hidden, spots, 4, next(seeds))
        first = np.zeros(4 * spots + 4, "float32")
        first[:spots] = np.linspace(0.75, -1.5, spots)  # most of the light in the narrow spots to begin with
        self.spots.read.bias.assign(first)
        self.noise = CellNoise(self.detector.cells, NOISY, next(seeds))
        self.built = True

    def call(self, noise, conditions):
        conditions = ops.cast(conditions, "float32")
        known = self.features(conditions)
        texture = self.texture(ops.concatenate([noise, known], axis=-1))
        texture = ops.reshape(3.0 * ops.tanh(texture / 3.0), (-1, self.detector.cells))
        light, extra = self.spots(self.dense(ops.concatenate([noise[:, :NOISY], known], axis=-1)), conditions)
        weights = (ops.reshape(light, (-1, self.detector.cells)) + 1e-9) * ops.exp(texture)
        lump, most = ops.split(ops.exp(ops.clip(extra[:, 2:], -5.0, 5.0)), 2, axis=-1)
        spread = ops.exp(ops.clip(extra[:, 1:2] - 3.0, -8.0, 0.0))
        total = ops.exp(ops.clip(0.3 * extra[:, :1] + spread * noise[:, :1], -5.0, 2.0))
        total = 1000.0 * self.fraction * conditions[:, :1] * total
        mean = total * weights / ops.sum(weights, axis=-1, keepdims=True)
        normal = logit(self.noise(noise[:, :NOISY])) * (math.sqrt(3.0) / math.pi)
        energy = gamma_like(mean, lump / (1.0 + mean / (LUMP_ENERGY * most)), normal)
        energy = ops.where(energy > LEAST_CELL_ENERGY, energy, ops.zeros_like(energy))
        energy = energy * total / (ops.sum(energy, axis=-1, keepdims=True) + LEAST_CELL_ENERGY)
        return ops.reshape(energy, (-1, *self.detector.shape))

    def operations(self) -> int:
        """Multiplications with a weight for one response."""
        total = products(self.dense, self.spots.read) + self.texture.operations()
        return total + self.detector.cells * (self.spots.number + NOISY)

    def get_config(self):
        return {**super().get_config(), **self.settings}

"""Photon responses to tokens and back: what any body needs to read photons, and to answer with whole ones again."""

import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from zdckeras import backend
from zdckeras.arguments import plain
from zdckeras.backend import Tensor
from zdckeras.data.detectors import CHANNEL_COUNT, get_detector
from zdckeras.data.particles import Scaler
from zdckeras.data.showers import Showers
from zdckeras.generators import WithParts
from zdckeras.layers.dense import dense_layers, products, seeds_of
from zdckeras.layers.particle_features import ParticleFeatures
from zdckeras.layers.photon_drawing import CellNoise, PhotonDraw, logit, round_up_or_down
from zdckeras.layers.spots import Spots

LN_COUNT_SCALE = 0.3  # of ln(1 + n), so that bright cells are numbers of order one
LARGEST_LN_LIGHT = 8.0  # ln of the light of a cell, at most
LEAST_LIGHT = 1e-5  # light of every cell, at least


class AroundBody(WithParts, layers.Layer):
    """A layer of photons and particles around a body of tokens.

    Subclasses say what is known of a particle (PARTICLE), and whether the body may be told nothing (BLIND).
    """

    PARTS, PARTICLE, BLIND = ("body",), ParticleFeatures, False

    def __init__(self, detector, scaler, body, settings, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.features, self.body = self.PARTICLE(detector, **scaler, dtype="float32"), body
        self.detector, self.settings = self.features.detector, dict(detector=detector, scaler=plain(scaler), **settings)
        contexts = (self.features.width, 0) if self.BLIND else (self.features.width,)
        if body.image != self.detector.shape or body.context not in contexts:
            raise ValueError(f"Expected a body for {detector}, images {self.detector.shape} and context "
                             f"{' or '.join(map(str, contexts))}, received one for {body.image} and "
                             f"{body.context}.")
        self.tokens, self.width = body.tokens, body.width

    def known(self, conditions: Tensor) -> Tensor:
        """What the body is told of particles (B, 9): (B, C)."""
        conditions = ops.cast(conditions, "float32")
        return self.features(conditions) if self.body.context else conditions[:, :0]

    def operations(self) -> int:
        """Multiplications with a weight for one image."""
        return self.body.operations()

    def get_config(self):
        return {**super().get_config(), **self.settings, **self.parts_config()}


@keras.saving.register_keras_serializable("zdckeras")
class PhotonEncoder(AroundBody):
    """Photon counts and particle to tokens: body(0.3 ln(1 + n), features(c)).

    Arguments:
        detector: name.
        scaler: {"mean": (9,), "scale": (9,)} of the conditions.
        body: encoder of `zdckeras.layers.cnn` or `patches` with context `ParticleFeatures.width`, or 0: then
            it sees the photons alone.

    Returns:
        call((B, nx, ny) photon counts, (B, 9) conditions) gives (B, T, d).

    Raises:
        ValueError: for a body made for other images or another context.
    """

    BLIND = True

    def __init__(self, detector, scaler, body, **kwargs):
        super().__init__(detector, scaler, body, {}, **kwargs)
        self.built = True

    def call(self, photons, conditions, training=False):
        return self.body(LN_COUNT_SCALE * ops.log1p(ops.cast(photons, "float32")), self.known(conditions))


@keras.saving.register_keras_serializable("zdckeras")
class PhotonDecoder(AroundBody):
    """Tokens and particle to the light expected in every cell: l = e^b spots(h, c) e^t, t = body(tokens, features(c)).

    h is a hidden vector, read from all tokens and the particle by dense layers; from it come `Spots` of light near the
    expected impact and their brightness b. The body gives the texture t, cut at +-5. So the sharp core of a shower,
    which no coarse grid can place, need not be drawn cell by cell.

    Arguments:
        detector: name.
        scaler: of the conditions.
        body: decoder of `zdckeras.layers.cnn` or `patches` with context `ParticleFeatures.width`.
        hidden: width of h.
        spots: how many.
        seed: of the weights around the body.

    Returns:
        call((B, T, d), (B, 9) conditions) gives (B, nx, ny), positive [photons].

    Raises:
        ValueError: as `PhotonEncoder`.
    """

    def __init__(self, detector, scaler, body, hidden=64, spots=8, seed=0, **kwargs):
        super().__init__(detector, scaler, body, dict(hidden=hidden, spots=spots, seed=seed), **kwargs)
        seeds = seeds_of([seed, 33])
        self.dense = dense_layers((hidden, hidden), self.tokens * self.width + self.features.width, seeds)
        self.spots = Spots(detector, hidden, spots, 1, next(seeds))
        self.built = True

    def call(self, tokens, conditions, training=False):
        conditions = ops.cast(conditions, "float32")
        known = self.features(conditions)
        hidden = self.dense(ops.concatenate([ops.reshape(tokens, (-1, self.tokens * self.width)), known], axis=-1))
        light, brightness = self.spots(hidden, conditions)
        texture = 5.0 * ops.tanh(self.body(tokens, known) / 5.0)
        log = ops.log(light + 1e-6) + texture + 2.0 * brightness[:, :, None]
        return ops.exp(ops.minimum(log, LARGEST_LN_LIGHT)) + LEAST_LIGHT

    def mismatch(self, photons: Tensor, made: Tensor) -> Tensor:
        """`deviance` of photons from light, (B,)."""
        return deviance(photons, made)

    def scatter(self, latent: int = 10, seed: int = 0) -> "PhotonScatter":
        """What makes photons of light."""
        return PhotonScatter(self.detector.name, latent, seed)

    def operations(self) -> int:
        """Multiplications with a weight for one image."""
        return self.body.operations() + products(self.dense, self.spots.read) + self.spots.number * self.detector.cells


@keras.saving.register_keras_serializable("zdckeras")
class PhotonScatter(layers.Layer):
    """Whole photons around the light expected in every cell, with Poisson noise and a little more.

    w = (sqrt(l - a^2) + a z)^2,  4 a^2 = min(l, 1) + d l,  and `PhotonDraw` shares channel sums S out over w.

    The mean of w is l and its variance about l min(l, 1) + d l^2; drawing whole photons adds what a Poisson number of
    a faint cell still lacks, to within some 10 %. z is standardised logistic noise made by `CellNoise`. S are those of
    the light, rounded up or down at random: what is not known of the cells of a shower (where in a fibre it hit) hardly
    changes its sums. Or S is given.

    Arguments:
        detector: name.
        latent: numbers of noise that come in.
        seed: of cell noise and order of the cells.

    Returns:
        call((B, nx, ny) light, (B, d) noise, (B, 5) whole channel sums or None) gives (B, nx, ny) photons, with the
        gradient of w by l.

    Example:
        >>> light = np.full((500, 56, 30), 4.0, "float32")
        >>> noise = np.random.default_rng(0).standard_normal((500, 10), "float32")
        >>> n = ops.convert_to_numpy(PhotonScatter("zp")(light, noise))
        >>> round(float(n.mean()), 1), round(float(n.var()), 1)
        (4.0, 4.1)
    """

    def __init__(self, detector, latent=10, seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.detector, self.latent, self.seed = get_detector(detector), latent, seed
        self.draw = PhotonDraw(detector, seed=seed)
        self.noise = CellNoise(self.detector.cells + CHANNEL_COUNT + 1, latent, seed)
        self.dispersion = self.add_weight(shape=(), initializer="zeros", trainable=False, name="dispersion")
        self.built = True

    def call(self, light, noise, sums=None):
        light = ops.reshape(light, (-1, self.detector.cells))
        uniform = self.noise(ops.cast(noise, "float32"))
        cells, channels, start = ops.split(uniform, [self.detector.cells, self.detector.cells + CHANNEL_COUNT], axis=-1)
        z = math.sqrt(3.0) / math.pi * logit(cells)
        square = 0.25 * (ops.minimum(light, 1.0) + self.dispersion * light)
        scattered = ops.square(ops.sqrt(ops.maximum(light - square, 1e-12)) + ops.sqrt(square) * z)
        if sums is None:
            sums = round_up_or_down(backend.exact_matmul(light, self.draw.masks.T), channels)
        return self.draw(scattered, sums, start)

    def fit(self, light: np.ndarray, photons: np.ndarray) -> float:
        """Set d to the excess of the variance of real photons over Poisson's, by moments, between 0 and 2.

        d = sum ((n - l)^2 - l) / (1 + l) / sum l^2 / (1 + l)

        Arguments:
            light: (N, nx, ny) expected light of real responses.
            photons: (N, nx, ny) those responses.

        Returns:
            d.
        """
        light, photons = np.asarray(light, "float64"), np.asarray(photons, "float64")
        excess = ((np.square(photons - light) - light) / (1.0 + light)).sum() / (light**2 / (1.0 + light)).sum()
        self.dispersion.assign(float(np.clip(excess, 0.0, 2.0)))
        return float(ops.convert_to_numpy(self.dispersion))

    def get_config(self):
        return {**super().get_config(), "detector": self.detector.name, "latent": self.latent, "seed": self.seed}


def photon_pair(showers: Showers, encoder: type, decoder: type, width: int = 32, light: int = 64, informed: bool = True,
                seed: int = 0, **sizes: Any) -> tuple[PhotonEncoder, PhotonDecoder]:
    """Fresh `PhotonEncoder` and `PhotonDecoder` for the one detector of training `Showers`.

    Arguments:
        showers: training `Showers`.
        encoder, decoder: classes of their bodies, such as `CnnEncoder` and `CnnDecoder`.
        width: of a token.
        light: hidden width of `PhotonDecoder`.
        informed: whether the encoder is told of the particle.
        seed: of all weights.
        sizes: of both bodies.
    """
    detector, scaler = showers.detector(), Scaler.fit(showers.particles).get_config()
    context = ParticleFeatures(detector.name, **scaler).width
    first = encoder(detector.shape, width=width, context=context if informed else 0, seed=seed, **sizes)
    second = decoder(detector.shape, width=width, context=context, seed=seed, **sizes)
    return PhotonEncoder(detector.name, scaler, first), PhotonDecoder(detector.name, scaler, second, light, seed=seed)


def deviance(photons: Tensor, light: Tensor) -> Tensor:
    """Poisson deviance of a response, D = 2 sum_ij n ln(n / l) - (n - l), per sample.

    Twice the logarithm of how much likelier the counts are under their own expectation: 0 for l = n, about 1 for each
    cell with some photons where l is right. Least where the light is right on average, so sums are not biased, as they
    are by squared errors of logarithms.

    Arguments:
        photons: (B, nx, ny) counts.
        light: (B, nx, ny) expected, positive.

    Returns:
        (B,).

    Source:
        Nelder and Wedderburn, J. R. Stat. Soc. A 135 (1972) 370.

    Example:
        >>> n = ops.convert_to_tensor([[[2.0, 0.0]]])
        >>> round(float(deviance(n, ops.ones_like(n))[0]), 4)  # 2 (2 ln 2 - 1) + 2
        2.7726
    """
    photons = ops.cast(photons, "float32")
    cells = photons * (ops.log(ops.maximum(photons, 1e-6)) - ops.log(light)) - (photons - light)
    return 2.0 * ops.sum(cells, axis=(1, 2))

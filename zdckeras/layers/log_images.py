"""Images ln(1 + n) to tokens and back, as the papers' autoencoders take them: no spots, no drawing, squared errors."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from zdckeras.backend import Tensor
from zdckeras.data.detectors import get_detector
from zdckeras.data.particles import CONDITION_COUNT, Scaler
from zdckeras.data.showers import Showers
from zdckeras.layers.photon_coding import AroundBody

LARGEST_PIXEL = 11.0  # ln of the photons of a cell, at most


@keras.saving.register_keras_serializable("zdckeras")
class ScaledParticle(layers.Layer):
    """The nine conditions, standardised, and nothing else: (c - mean) / scale.

    Arguments:
        detector: name.
        mean, scale: (9,).
        low, high: (9,) range of the training part, if it is known.

    Raises:
        ValueError: for a mean or scale of another shape.

    Example:
        >>> f = ScaledParticle("zn", [1.0] * 9, [2.0] * 9)
        >>> ops.convert_to_numpy(f(np.full((1, 9), 5.0)))[0, :2].tolist()
        [2.0, 2.0]
    """

    def __init__(self, detector, mean, scale, low=None, high=None, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.detector, self.low, self.high = get_detector(detector), low, high
        self.mean, self.scale = np.asarray(mean, "float32"), np.asarray(scale, "float32")
        if self.mean.shape != (CONDITION_COUNT,) or self.scale.shape != (CONDITION_COUNT,):
            raise ValueError(f"Expected mean and scale of shape ({CONDITION_COUNT},), received {self.mean.shape}, "
                             f"{self.scale.shape}.")
        self.width, self.built = CONDITION_COUNT, True

    def call(self, conditions):
        return ops.divide(ops.subtract(ops.cast(conditions, "float32"), self.mean), self.scale)

    def get_config(self):
        low, high = (None if edge is None else np.asarray(edge, "float64").tolist() for edge in (self.low, self.high))
        return {**super().get_config(), "detector": self.detector.name, "mean": self.mean.tolist(),
                "scale": self.scale.tolist(), "low": low, "high": high}


@keras.saving.register_keras_serializable("zdckeras")
class LogImageEncoder(AroundBody):
    """Photon counts and particle to tokens: body(ln(1 + n), (c - mean) / scale).

    Arguments, Returns, Raises: as `PhotonEncoder`, around a body of context 9, or 0.
    """

    PARTICLE = ScaledParticle
    BLIND = True

    def __init__(self, detector, scaler, body, **kwargs):
        super().__init__(detector, scaler, body, {}, **kwargs)
        self.built = True

    def call(self, photons, conditions, training=False):  # handed on by Keras
        return self.body(ops.log1p(ops.cast(photons, "float32")), self.known(conditions))


@keras.saving.register_keras_serializable("zdckeras")
class LogImageDecoder(AroundBody):
    """Tokens and particle to an image x = ReLU(body(tokens, (c - mean) / scale)), x = ln(1 + n).

    Arguments, Raises: as `LogImageEncoder`.

    Returns:
        call((B, T, d), (B, 9) conditions) gives (B, nx, ny).
    """

    PARTICLE = ScaledParticle
    BLIND = True

    def __init__(self, detector, scaler, body, **kwargs):
        super().__init__(detector, scaler, body, {}, **kwargs)
        self.built = True

    def call(self, tokens, conditions, training=False):
        return ops.relu(self.body(tokens, self.known(conditions)))

    def mismatch(self, photons: Tensor, made: Tensor) -> Tensor:
        """sum_ij (ln(1 + n) - x)^2 of photons n and images x (B, nx, ny), (B,)."""
        return ops.sum(ops.square(ops.log1p(ops.cast(photons, "float32")) - made), axis=(1, 2))

    def scatter(self, latent: int = 10, seed: int = 0) -> "WholePhotons":
        """What makes photons of an image."""
        return WholePhotons(self.detector.name, latent)


@keras.saving.register_keras_serializable("zdckeras")
class WholePhotons(layers.Layer):
    """n = round(e^x - 1): whole photons of an image x = ln(1 + n), with no noise of their own.

    Arguments:
        detector: name.
        latent: numbers of noise that come in, for the code alone.

    Returns:
        call((B, nx, ny) images, noise, None) gives (B, nx, ny) photons, as float32.

    Raises:
        ValueError: where channel sums are handed over: nothing is imposed on these images.

    Example:
        >>> ops.convert_to_numpy(WholePhotons("zn")(np.log1p([[[0.0, 2.6]]]).astype("float32"))).tolist()
        [[[0.0, 3.0]]]
    """

    def __init__(self, detector, latent=10, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.detector, self.latent, self.built = get_detector(detector), latent, True

    def call(self, image, noise=None, sums=None):
        if sums is not None:
            raise ValueError("Expected no channel sums beside an image ln(1 + n), received some.")
        return ops.floor(ops.expm1(ops.clip(ops.cast(image, "float32"), 0.0, LARGEST_PIXEL)) + 0.5)

    def fit(self, image: np.ndarray, photons: np.ndarray) -> float:
        """Nothing is fitted: 0, the excess of variance that `PhotonScatter` would have."""
        return 0.0

    def get_config(self):
        return {**super().get_config(), "detector": self.detector.name, "latent": self.latent}


def log_image_pair(showers: Showers, encoder: type, decoder: type, width: int | tuple[int | None, int] = 32,
                   informed: tuple[bool, bool] = (True, True), seed: int = 0,
                   **sizes: Any) -> tuple[LogImageEncoder, LogImageDecoder]:
    """Fresh `LogImageEncoder` and `LogImageDecoder` for the one detector of training `Showers`.

    Arguments:
        showers: training `Showers`.
        encoder, decoder: classes of their bodies, such as `VitEncoder` and `VitDecoder`.
        width: of a token, or of one of the encoder and one of the decoder.
        informed: whether encoder and decoder are told of the particle.
        seed: of all weights.
        sizes: of both bodies.
    """
    detector, scaler = showers.detector(), Scaler.fit(showers.particles).get_config()
    widths = width if isinstance(width, tuple) else (width, width)
    first, second = (body(detector.shape, width=wide, context=CONDITION_COUNT * told, seed=seed, **sizes)
                     for body, wide, told in zip((encoder, decoder), widths, informed, strict=True))
    return LogImageEncoder(detector.name, scaler, first), LogImageDecoder(detector.name, scaler, second)

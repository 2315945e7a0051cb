"""The small flow that decides how much light falls where: photon number or the five channel sums of a response."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from zdckeras import backend
from zdckeras.backend import Tensor
from zdckeras.data.detectors import channel_sums
from zdckeras.data.particles import Scaler
from zdckeras.data.showers import Showers
from zdckeras.flows.flow import Flow
from zdckeras.flows.univariate import RationalQuadraticSpline
from zdckeras.layers.dense import multiplications, silu_layers
from zdckeras.layers.log_images import ScaledParticle
from zdckeras.layers.particle_features import ParticleFeatures
from zdckeras.training.loop import fit_arrays

OFFSET = 0.5  # added to every sum, so that the logarithm of an empty channel stays finite


def code_sums(sums: Tensor, uniform: Tensor) -> Tensor:
    """Integer sums to reals: y_1 = ln sum_k v_k and y_k = ln(v_k / v_1), k = 2..K, with v = S + u + 1/2.

    Arguments:
        sums: (B, K) integers.
        uniform: (B, K) numbers in [0, 1).

    Returns:
        (B, K) float32.

    Example:
        >>> y = code_sums(np.array([[3, 0, 7]]), np.full((1, 3), 0.3, "float32"))
        >>> ops.convert_to_numpy(decode_sums(y)).tolist()
        [[3.0, 0.0, 7.0]]
    """
    v = ops.cast(sums, "float32") + ops.cast(uniform, "float32") + OFFSET
    return ops.concatenate([ops.log(ops.sum(v, axis=-1, keepdims=True)), ops.log(v[:, 1:] / v[:, :1])], axis=-1)


def decode_sums(y: Tensor) -> Tensor:
    """Back from the reals of `code_sums` to integer sums (B, K), as float32."""
    ratio = ops.concatenate([ops.ones_like(y[:, :1]), ops.exp(y[:, 1:])], axis=-1)
    v = ops.exp(y[:, :1]) * ratio / ops.sum(ratio, axis=-1, keepdims=True)
    return ops.maximum(ops.floor(v - OFFSET), 0.0)


@keras.saving.register_keras_serializable("zdckeras")
class PhotonSums(keras.Model):
    """Conditional spline flow of photon sums, p(S_1, ..., S_K | particle).

    The photon number and the ratios of the sums, as standardised logarithms (`code_sums`), follow a masked
    autoregressive flow with rational-quadratic splines; the context is a network on `ParticleFeatures`, or on the
    standardised conditions alone.

    Arguments:
        features: configuration of `ParticleFeatures` (detector, mean, scale).
        mean, scale: (K,) standardisation of the code.
        steps, hidden, bins: autoregressive steps, hidden widths, spline bins.
        embedding: widths of the network that reads the particle; the last is the context's size.
        seed: of the initial weights.
        plain: whether nothing but the standardised conditions is read, no expected impact.

    Returns:
        call({"conditions": (B, 9), "sums": (B, K), "u_sums": (B, K)}) gives log p(y) (B,).

    Raises:
        ValueError: for mean and scale of different length, or a scale that is not positive.

    Example:
        >>> c, s = np.ones((40, 9)), np.arange(200).reshape(40, 5)
        >>> model = PhotonSums.fit_scales("zn", c, s, hidden=(8,), steps=1, embedding=(8,))
        >>> tuple(model.generate(np.zeros((3, 5), "float32"), c[:3]).shape)
        (3, 5)
    """

    def __init__(self, features: dict[str, Any], mean: Sequence[float], scale: Sequence[float], steps: int = 3,
                 hidden: Sequence[int] = (64, 64), bins: int = 8, embedding: Sequence[int] = (128, 128, 64),
                 seed: int = 0, plain: bool = False, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings = dict(features=features, mean=list(map(float, mean)), scale=list(map(float, scale)),
                             steps=steps, hidden=hidden, bins=bins, embedding=embedding, seed=seed, plain=plain)
        self.mean, self.scale = np.asarray(mean, "float32"), np.asarray(scale, "float32")
        if self.mean.ndim != 1 or self.mean.shape != self.scale.shape or not (self.scale > 0.0).all():
            raise ValueError(f"Expected a mean and a positive scale of each sum, received {mean} and {scale}.")
        self.features = (ScaledParticle if plain else ParticleFeatures)(**features)
        self.embed = silu_layers(embedding, self.features.width, count(seed), keras.initializers.GlorotUniform)
        self.flow = Flow.maf(len(self.mean), context=embedding[-1], steps=steps, hidden=hidden, seed=seed,
                             univariate=RationalQuadraticSpline(bins=bins, bound=5.0))
        self.built = True

    @classmethod
    def fit_scales(cls, detector: str, conditions: np.ndarray, sums: ArrayLike, **settings) -> "PhotonSums":
        """A fresh model with its scalers fitted on training conditions (N, 9) and sums (N, K)."""
        y = ops.convert_to_numpy(code_sums(sums, np.full(np.shape(sums), 0.5, "float32")))
        features = dict(detector=detector, **Scaler.fit(conditions).get_config())
        return cls(features, y.mean(axis=0), y.std(axis=0) + 1e-3, **settings)

    def context(self, conditions: Tensor) -> Tensor:
        """What the flow sees of the particles, (B, C)."""
        return self.embed(self.features(conditions))

    def call(self, inputs):
        y = ops.divide(ops.subtract(code_sums(inputs["sums"], inputs["u_sums"]), self.mean), self.scale)
        return self.flow.log_prob(y, self.context(inputs["conditions"]))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Mean of -log p [nats]."""
        return backend.per_replica(-ops.mean(y_pred))

    def generate(self, noise: Tensor, conditions: Tensor) -> Tensor:
        """Integer sums (B, K), as float32, from standard normal noise (B, K) and physical conditions (B, 9)."""
        y = self.flow.generate(noise, self.context(conditions))
        y = ops.clip(y, -5.0, 5.0)  # the spline's range: nothing beyond was seen in training
        return decode_sums(ops.add(ops.multiply(y, self.scale), self.mean))

    def operations(self) -> int:
        """Multiplications with a weight for one response."""
        return multiplications(self)

    def get_config(self):
        return {**self.settings, "name": self.name}


def fit_sums(showers: Showers, path: str | Path, epochs: int, batch: int, rate: float, seed: int = 0,
             callbacks: Sequence[keras.callbacks.Callback] = (), total: bool = False, **sizes: Any) -> PhotonSums:
    """A `PhotonSums` of the five channels of one detector, or of its photon number, trained on `Showers`.

    Arguments:
        showers: training `Showers`.
        path: of the state file.
        epochs, batch, rate: of the training, see `fit_adam`.
        seed: of weights, order and noise.
        callbacks: as in `zdckeras.training.loop.train`.
        total: whether the photon number alone is learnt.
        sizes: of the model.
    """
    conditions, sums = showers.particles, channel_sums(showers.response)
    sums = sums.sum(axis=1, keepdims=True) if total else sums
    model = PhotonSums.fit_scales(showers.detector().name, conditions, sums, seed=seed, **sizes)
    fit_arrays(model, {"conditions": conditions, "sums": sums}, path, epochs, batch, rate, seed,
               uniform={"u_sums": (sums.shape[1],)}, callbacks=callbacks)
    return model

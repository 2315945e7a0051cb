"""The small flow that decides how much light falls where: photon number or the five channel sums of a response."""

import keras
import numpy as np
from keras import layers, ops

from zdckeras.flows.flow import Flow
from zdckeras.flows.univariate import RationalQuadraticSpline
from zdckeras.networks.conditioning import ParticleFeatures

OFFSET = 0.5  # of the logarithm, so that an empty channel stays finite


def log_code(sums, uniform):
    """y = ln(S + u + 1/2), the dequantised logarithm of integer sums (arrays of NumPy or Keras)."""
    return ops.log(ops.cast(sums, "float32") + uniform + OFFSET)


@keras.saving.register_keras_serializable("zdckeras")
class PhotonSums(keras.Model):
    """Conditional spline flow of photon sums, p(S_1, ..., S_K | particle).

    y_k = (ln(S_k + u_k + 1/2) - m_k) / s_k follows a masked autoregressive flow with rational-quadratic splines; the
    context is a network on `ParticleFeatures`. Sampling inverts all of it: S_k = floor(exp(s_k y_k + m_k) - 1/2).

    Arguments:
        features: configuration of `ParticleFeatures` (where, mean, scale).
        mean, scale: (K,) standardisation of the logarithms.
        steps, hidden, bins: autoregressive steps, hidden widths, spline bins.
        embedding: widths of the network that reads the particle; the last is the context's size.
        seed: of the initial weights.

    Returns:
        call({"conditions": (B, 9), "sums": (B, K), "u_sums": (B, K)}) gives log p(y) (B,).

    Example:
        >>> c, s = np.ones((40, 9)), np.arange(200).reshape(40, 5)
        >>> model = PhotonSums.fit_scales("zn", c, s, hidden=(8,), steps=1, embedding=(8,))
        >>> tuple(model.generate(np.zeros((3, 5), "float32"), c[:3]).shape)
        (3, 5)
    """

    def __init__(self, features, mean, scale, steps=4, hidden=(128, 128), bins=10, embedding=(128, 64), seed=0,
                 **kwargs):
        super().__init__(**kwargs)
        self.settings = dict(features=features, mean=list(map(float, mean)), scale=list(map(float, scale)),
                             steps=steps, hidden=hidden, bins=bins, embedding=embedding, seed=seed)
        self.mean, self.scale = np.asarray(mean, "float32"), np.asarray(scale, "float32")
        self.features = ParticleFeatures(**features)
        self.embed = keras.Sequential([layers.Dense(width, "silu", kernel_initializer=keras.initializers.GlorotUniform(
            seed + i)) for i, width in enumerate(embedding)])
        self.embed.build((None, self.features.width))
        self.flow = Flow.maf(len(self.mean), context=embedding[-1], steps=steps, hidden=hidden, seed=seed,
                             univariate=RationalQuadraticSpline(bins=bins, bound=5.0))
        self.built = True

    @classmethod
    def fit_scales(cls, where, conditions, sums, **settings):
        """A fresh model with its scalers fitted on training conditions (N, 9) and sums (N, K)."""
        conditions = np.asarray(conditions, "float64")
        deviation = conditions.std(axis=0)
        y = np.log(np.asarray(sums, "float64") + 0.5 + OFFSET)
        features = dict(where=where, mean=conditions.mean(axis=0).tolist(),
                        scale=np.where(deviation > 0, deviation, 1.0).tolist())
        return cls(features, y.mean(axis=0), y.std(axis=0) + 1e-3, **settings)

    def context(self, conditions):
        """What the flow sees of the particles, (B, C)."""
        return self.embed(self.features(conditions))

    def call(self, inputs):
        y = ops.divide(ops.subtract(log_code(inputs["sums"], inputs["u_sums"]), self.mean), self.scale)
        return self.flow.log_prob(y, self.context(inputs["conditions"]))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Mean of -log p [nats]."""
        return -ops.mean(y_pred)

    def generate(self, noise, conditions):
        """Integer sums (B, K), as float32, from standard normal noise (B, K) and physical conditions (B, 9)."""
        y = self.flow.generate(noise, self.context(conditions))
        top = self.mean + 5.0 * self.scale  # the spline's range: nothing beyond was seen in training
        logarithm = ops.minimum(ops.add(ops.multiply(y, self.scale), self.mean), top)
        return ops.maximum(ops.floor(ops.exp(logarithm) - OFFSET), 0.0)

    def get_config(self):
        return {**self.settings, "name": self.name}

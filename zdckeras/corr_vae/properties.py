"""Properties of a response that can be asked for, and the maps between them and latent numbers, both ways."""

import math

import keras
import numpy as np
from keras import layers, ops

from zdckeras import backend
from zdckeras.arguments import plain
from zdckeras.data.moments import Moments, moment_weights
from zdckeras.flows.univariate import Affine, RationalQuadraticSpline
from zdckeras.layers.dense import dense_layers, linear, seeds_of
from zdckeras.layers.particle_features import ParticleFeatures
from zdckeras.layers.response_features import Summary

PROPERTIES = {  # name -> unit; columns of `zdckeras.metrics.shapes` with the same names
    "photons": "photons",
    "centre_x": "cells",
    "centre_y": "cells",
    "width": "cells",
}
CELL = 1.0 / 12.0  # variance of a place within its cell [cells^2]


@keras.saving.register_keras_serializable("zdckeras")
class ResponseProperties(Summary):
    """Four properties of a response, differentiable, in units of their spread over showers: y = (p - mean) / scale.

    p = [ ln(1 + S),  g - b (2),  ln sqrt(s^2 + 1/12) ]

    with S the photon sum, g the centre of gravity and b the expected impact [cells from the detector's centre], and s
    the rms width [cells], to whose square the variance of a place within a cell is added, so that a single lit cell
    has one too. A response without light has S = 0, g = 0 and s = 0.

    Arguments:
        detector: name.
        mean, scale: (4,) middle and spread, from `fit`; 0 and 1 by default.

    Returns:
        call((B, nx, ny) photon counts or light, (B, 9) conditions) gives (B, 4).

    Example:
        >>> properties, particle = ResponseProperties("zn"), np.array([[9.0, 0, 0, 0, 0, 0, 9.0, 0, 0]], "float32")
        >>> image = np.zeros((1, 44, 44), "float32")
        >>> image[0, 30:34, 10] = 5
        >>> physical = properties.physical(properties(image, particle), particle)
        >>> {name: round(float(value), 3) for name, value in zip(PROPERTIES, physical[0], strict=True)}
        {'photons': 20.0, 'centre_x': 10.0, 'centre_y': -11.5, 'width': 1.118}
    """

    WIDTH = len(PROPERTIES)

    def __init__(self, detector, mean=None, scale=None, **kwargs):
        super().__init__(detector, mean, scale, **kwargs)
        self.moment_weights = moment_weights(self.detector.shape, dtype="float32")

    @classmethod
    def fit(cls, showers, rows=20_000):
        """{"mean", "scale"} over the first real `Showers` of one detector.

        Centre and spread of the inner 90 %, (q_95 + q_5) / 2 and (q_95 - q_5) / 3.3, the mean and the deviation of a
        normal distribution: few particles whose light is far from where they were expected would spoil the true ones.
        """
        detector, parts = showers.detector().name, []
        for start in range(0, min(rows, len(showers)), 1000):
            block = slice(start, min(start + 1000, rows))
            parts.append(ops.convert_to_numpy(cls(detector)(showers.response[block].astype("float32"),
                                                         showers.particles[block].astype("float32"))))
        low, high = np.percentile(np.concatenate(parts).astype("float64"), [5, 95], axis=0)
        return {"mean": (0.5 * (low + high)).tolist(), "scale": ((high - low) / 3.3 + 0.05).tolist()}

    def call(self, photons, conditions):
        flat = ops.reshape(ops.cast(photons, "float32"), (-1, self.detector.cells))
        moments = Moments(flat, self.moment_weights, least=1e-6, xp=ops, matmul=backend.exact_matmul)
        return self._standard(moments.total, moments.centre, moments.variance(), conditions)

    def standard(self, values, conditions):
        """Standardised (B, 4) from physical (B, 4) photons, centre x, centre y and width [cells]."""
        values = ops.convert_to_tensor(values)
        return self._standard(values[:, :1], values[:, 1:3], ops.square(values[:, 3:]), conditions)

    def physical(self, standard, conditions):
        """Physical photons, centre x, centre y and width [cells] (B, 4) from standardised ones."""
        raw = ops.add(ops.multiply(standard, self.scale), self.mean)
        variance = ops.maximum(ops.exp(2.0 * raw[:, 3:]) - CELL, 0.0)
        return ops.concatenate([ops.maximum(ops.expm1(raw[:, :1]), 0.0), raw[:, 1:3] + self._impact(conditions),
                                ops.sqrt(variance)], axis=-1)

    def _impact(self, conditions):
        return ParticleFeatures.impact(self.detector, ops.cast(conditions, "float32")) / self.detector.pitch

    def _standard(self, total, centre, variance, conditions):
        raw = ops.concatenate([ops.log1p(total), centre - self._impact(conditions), 0.5 * ops.log(variance + CELL)],
                              axis=-1)
        return ops.divide(ops.subtract(raw, self.mean), self.scale)

    def compute_output_shape(self, photons_shape, conditions_shape):
        return (photons_shape[0], self.WIDTH)


@keras.saving.register_keras_serializable("zdckeras")
class MaskPooling(layers.Layer):
    """Which latent numbers w matter for which property: w' = A w, with unit rows A_j ~ M_j V_j and a learnt mask M.

    M_jk = sigmoid(a_jk) / max_k sigmoid(a_jk), so every property has at least one latent with mask 1. Properties that
    share latents are correlated: for normal w, w' is normal with unit deviations and correlations C = A A^T.

    Arguments:
        properties: how many, P.
        latents: how many w, at least P.
        seed: of the weights.

    Returns:
        call((B, latents)) gives w', (B, P).

    Raises:
        ValueError: for fewer latents than properties.

    Source:
        Wang et al., arXiv:2210.01796, section 4 (mask pooling; there the mask is a relaxed Bernoulli draw, here its
        mean, and pooling is linear, so that it can be undone exactly).

    Example:
        >>> pool, w = MaskPooling(2, 3), ops.ones((1, 3))
        >>> asked = ops.convert_to_tensor([[2.5, -1.0]])
        >>> ops.convert_to_numpy(pool(pool.correct(w, asked))).round(4).tolist()
        [[2.5, -1.0]]
    """

    def __init__(self, properties, latents, seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        if not 1 <= properties <= latents:
            raise ValueError(f"Expected at least as many latents as properties, received {latents} for {properties}.")
        self.properties, self.latents, self.seed = properties, latents, seed
        own = np.arange(latents)[None, :] % properties == np.arange(properties)[:, None]
        sign = np.random.default_rng([seed, 41]).uniform(0.5, 1.0, own.shape) * np.where(own, 1.0, 0.3)
        start = {"mask": np.where(own, 2.0, -1.0), "strength": sign}
        self.mask_logits, self.strength = (
            self.add_weight(shape=own.shape, name=name, initializer=keras.initializers.Constant(value.tolist()))
            for name, value in start.items())
        self.built = True

    def mask(self):
        """M, (P, latents), between 0 and 1."""
        open_ = ops.sigmoid(self.mask_logits)
        return open_ / ops.max(open_, axis=1, keepdims=True)

    def rows(self):
        """A, (P, latents), with rows of unit length."""
        rows = self.mask() * self.strength
        return rows / ops.sqrt(ops.sum(ops.square(rows), axis=1, keepdims=True) + 1e-12)

    def call(self, latents):
        return backend.exact_matmul(latents, ops.transpose(self.rows()))

    def correct(self, latents, asked):
        """The nearest w (B, latents) with A w = w', w + A^T C^-1 (w' - A w), from w (B, latents) and w' (B, P)."""
        rows, latents = self.rows(), ops.convert_to_tensor(latents)
        missing = ops.convert_to_tensor(asked) - backend.exact_matmul(latents, ops.transpose(rows))
        back = backend.exact_matmul(ops.linalg.inv(backend.exact_matmul(rows, ops.transpose(rows))), rows)
        return latents + backend.exact_matmul(missing, back)

    def log_prior(self, pooled):
        """ln N(w'; 0, C) of w' (B, P), (B,)."""
        rows = self.rows()
        root = ops.linalg.cholesky(backend.exact_matmul(rows, ops.transpose(rows)))
        white = backend.exact_matmul(pooled, ops.transpose(ops.linalg.inv(root)))
        constant = ops.sum(ops.log(ops.diagonal(root))) + 0.5 * self.properties * math.log(2.0 * math.pi)
        return -0.5 * ops.sum(ops.square(white), axis=-1) - constant

    def sparsity(self):
        """Masks beyond the one that every property needs: sum M - P."""
        return ops.sum(self.mask()) - float(self.properties)

    def get_config(self):
        return {**super().get_config(), "properties": self.properties, "latents": self.latents, "seed": self.seed}


@keras.saving.register_keras_serializable("zdckeras")
class PropertyDecoders(layers.Layer):
    """Invertible maps from w' to properties, one for each: y_j = t_j(c) + e^{s_j(c)} spline_j(w'_j; c).

    Splines are the monotone rational-quadratic ones of `zdckeras.flows.univariate`; all parameters are read from the
    particle by dense layers and start at 0, which is the identity. For normal w' this is the distribution of a property
    given the particle, so what is not asked for can be drawn.

    Arguments:
        detector: name.
        scaler: {"mean": (9,), "scale": (9,)} of the conditions.
        properties: how many, P.
        hidden: width of the dense layers.
        bins: of the splines.
        seed: of the weights.

    Returns:
        call((B, P) w', (B, 9) conditions) gives (B, P).

    Source:
        Wang et al., arXiv:2210.01796, section 4 (there residual networks, inverted by iteration).
    """

    def __init__(self, detector, scaler, properties, hidden=64, bins=8, seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings = dict(detector=detector, scaler=plain(scaler), properties=properties, hidden=hidden, bins=bins,
                             seed=seed)
        self.features, self.properties = ParticleFeatures(detector, **scaler, dtype="float32"), properties
        self.affine, self.spline, seeds = Affine(), RationalQuadraticSpline(bins), seeds_of([seed, 42])
        self.dense = dense_layers((hidden, hidden), self.features.width, seeds)
        self.read = linear(hidden, properties * (self.affine.parameters + self.spline.parameters), seeds)
        self.read.kernel.assign(np.zeros(self.read.kernel.shape))
        self.built = True

    def _shapes_of(self, conditions):
        found = self.read(self.dense(self.features(ops.cast(conditions, "float32"))))
        found = ops.reshape(found, (-1, self.properties, self.affine.parameters + self.spline.parameters))
        return found[..., : self.affine.parameters], found[..., self.affine.parameters :]

    def call(self, pooled, conditions):
        linear_, bent = self._shapes_of(conditions)
        return self.affine.transform_and_log_det(self.spline.transform_and_log_det(pooled, bent)[0], linear_)[0]

    def inverse(self, properties, conditions):
        """w' (B, P) of properties (B, P), and ln |dw' / dy| (B, P)."""
        linear_, bent = self._shapes_of(conditions)
        straight, log_scale = self.affine.inverse_and_log_det(properties, linear_)
        pooled, log_slope = self.spline.inverse_and_log_det(straight, bent)
        return pooled, log_scale + log_slope

    def get_config(self):
        return {**super().get_config(), **self.settings}

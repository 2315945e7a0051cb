"""Summary numbers of a response in photons, differentiable: channel sums, centre, width, lit cells."""

import keras
import numpy as np
from keras import layers, ops

from zdckeras import backend
from zdckeras.data.detectors import CHANNEL_COUNT, flat_masks, get_detector
from zdckeras.data.moments import Moments, moment_weights
from zdckeras.layers.particle_features import ParticleFeatures


class Summary(layers.Layer):
    """Base of summaries of responses: WIDTH numbers, standardised, made of moments and whatever a subclass adds.

    Arguments:
        detector: name.
        mean, scale: (WIDTH,); 0 and 1 by default.

    Raises:
        ValueError: for mean or scale of another shape.
    """

    WIDTH = 0

    def __init__(self, detector, mean=None, scale=None, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.detector = get_detector(detector)
        self.mean = np.zeros(self.WIDTH, "float32") if mean is None else np.asarray(mean, "float32")
        self.scale = np.ones(self.WIDTH, "float32") if scale is None else np.asarray(scale, "float32")
        if self.mean.shape != (self.WIDTH,) or self.scale.shape != (self.WIDTH,):
            raise ValueError(f"Expected mean and scale of shape ({self.WIDTH},), received {self.mean.shape} and "
                             f"{self.scale.shape}.")
        self.built = True

    def get_config(self):
        return {**super().get_config(), "detector": self.detector.name, "mean": self.mean.tolist(),
                "scale": self.scale.tolist()}


@keras.saving.register_keras_serializable("zdckeras")
class SummaryFeatures(Summary):
    """Summary of a response, differentiable, each number in units of its spread over real showers: (f - mean) / scale.

    f = [ ln(1 + S_k) (5), ln(1 + S), centre of gravity minus expected impact (2), ln of the rms width,
          lit cells sum (1 - exp(-n)) over sqrt(S + 1), ln(1 + max n), centre of gravity (2), S_k (5), S ]

    with S_k the channel sums and S their total; lengths in cells.

    Arguments:
        detector: name.
        mean, scale: (19,) from `fit`; 0 and 1 by default.

    Returns:
        call((B, nx, ny) photon counts, (B, 9) conditions) gives (B, 19).

    Example:
        >>> f = SummaryFeatures("zn")(np.ones((2, 44, 44), "float32"), np.ones((2, 9), "float32"))
        >>> tuple(f.shape), round(float(f[0, 5]), 3) == round(float(np.log1p(1936.0)), 3)
        ((2, 19), True)
    """

    WIDTH = 19

    def __init__(self, detector, mean=None, scale=None, **kwargs):
        super().__init__(detector, mean, scale, **kwargs)
        masks = flat_masks(self.detector.shape)
        self.masks = masks.T
        self.moment_weights = moment_weights(self.detector.shape, *masks, dtype="float32")

    @classmethod
    def fit(cls, showers, name, rows=5000):
        """{"mean", "scale"} over the first real `Showers`, for one detector."""
        counts, conditions = (ops.convert_to_tensor(a[:rows], "float32")
                              for a in (showers.responses[name], showers.particles))
        table = ops.convert_to_numpy(cls(name)(counts, conditions)).astype("float64")
        return {"mean": table.mean(axis=0).tolist(), "scale": (table.std(axis=0) + 0.05).tolist()}

    def call(self, photons, conditions):
        flat = ops.reshape(ops.cast(photons, "float32"), (-1, self.detector.cells))
        moments = Moments(flat, self.moment_weights, added=1e-3, xp=ops, matmul=backend.exact_matmul)
        sums, total, centre = moments.more, moments.total, moments.centre
        impact = ParticleFeatures.impact(self.detector, ops.cast(conditions, "float32")) / self.detector.pitch
        lit = ops.sum(1.0 - ops.exp(-flat), axis=-1, keepdims=True) / ops.sqrt(total + 1.0)
        brightest = ops.max(flat, axis=-1, keepdims=True)
        seen = ops.concatenate([
            ops.log1p(sums), ops.log1p(total), centre - impact, 0.5 * ops.log(moments.variance() + 1.0), lit,
            ops.log1p(brightest), centre, sums, total], axis=-1)
        return ops.divide(ops.subtract(seen, self.mean), self.scale)

    def sums(self, photons):
        """Channel sums (B, 5) of photon counts (B, nx, ny)."""
        flat = ops.reshape(ops.cast(photons, "float32"), (-1, self.detector.cells))
        return backend.exact_matmul(flat, self.masks)

    def of_sums(self, sums):
        """The columns that channel sums (B, 5) decide, standardised alike: ln(1 + S_k), ln(1 + S), S_k, S; (B, 12)."""
        both = CHANNEL_COUNT + 1  # and the total
        sums = ops.concatenate([sums, ops.sum(sums, axis=-1, keepdims=True)], axis=-1)
        mean, scale = (np.concatenate([table[:both], table[-both:]]) for table in (self.mean, self.scale))
        return ops.divide(ops.subtract(ops.concatenate([ops.log1p(sums), sums], axis=-1), mean), scale)

    def compute_output_shape(self, photons_shape, conditions_shape):
        return (photons_shape[0], self.WIDTH)

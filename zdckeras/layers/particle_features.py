"""What networks see of a particle: scaled conditions, expected impact point and its Fourier features."""

import math

import keras
import numpy as np
from keras import layers, ops

from zdckeras.data.detectors import get_detector
from zdckeras.data.impact import impact_from_centre, slopes, within
from zdckeras.data.particles import COLUMN, CONDITION_COUNT


@keras.saving.register_keras_serializable("zdckeras")
class ParticleFeatures(layers.Layer):
    """Features of the 9 physical conditions, computed inside the model so that what is shipped takes raw particles.

    f = [ (c - mean) / scale,  ln E,  b / a,  sin and cos of  k pi b / a (k = 1..frequencies),
          tanh(b / w) and tanh((a - |b|) / w) for w of 1 and 4 cells,
          sin and cos of  pi b / pitch  and their products,  sin and cos of  2 pi m / M (four mass scales M) ]

    with b the expected impact point on the detector's face, clipped to 1.5 half-sizes a. The functions with the
    period of two cells tell even from odd cells and the position inside a cell, which decides the brightest fibres;
    the mass scales tell species apart whose masses a standard scaler puts side by side.

    Arguments:
        detector: name; sets half-size, pitch and distance.
        mean, scale: (9,) standard scaler of the training part.
        frequencies: Fourier orders of the impact point.
        low, high: (9,) range of the training part, None if it is not known; kept for generators.

    Returns:
        call((B, 9)) gives (B, F) with F = `width`.

    Example:
        >>> f = ParticleFeatures("zn", np.zeros(9), np.ones(9))
        >>> tuple(f(np.array([[1000.0, 0, 0, 0, 0.1, 0, 1000.0, 0, 0]], "float32")).shape) == (1, f.width)
        True
    """

    MASS_SCALES = (150.0, 400.0, 1000.0, 2500.0)

    def __init__(self, detector, mean, scale, frequencies=3, low=None, high=None, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.detector = get_detector(detector)
        self.low, self.high = (None if edge is None else np.asarray(edge, "float64") for edge in (low, high))
        self.mean, self.scale = np.asarray(mean, "float32"), np.asarray(scale, "float32")
        if self.mean.shape != (CONDITION_COUNT,) or self.scale.shape != (CONDITION_COUNT,):
            raise ValueError(f"Expected mean and scale of shape ({CONDITION_COUNT},), received {self.mean.shape}, "
                             f"{self.scale.shape}.")
        self.frequencies = frequencies
        self.width = CONDITION_COUNT + 1 + 2 + 4 * frequencies + 8 + 8 + 2 * len(self.MASS_SCALES)
        self.built = True  # a layer that is not makes Keras run the whole model once, op by op, before it compiles

    @staticmethod
    def impact(detector, conditions):
        """Expected impact point (B, 2) [cm] from the detector's centre, cut at 1.5 half-sizes."""
        return within(impact_from_centre(conditions, detector, ops), detector, 1.5, ops)

    def call(self, conditions):
        conditions = ops.cast(conditions, "float32")
        half = ops.convert_to_tensor(self.detector.half_size, "float32")
        energy, mass = conditions[:, :1], conditions[:, COLUMN["mass"] : COLUMN["mass"] + 1]
        impact = self.impact(self.detector, conditions)
        orders = np.arange(1, self.frequencies + 1, dtype="float32") * math.pi
        wave = ops.reshape(ops.multiply((impact / half)[:, :, None], orders), (-1, 2 * self.frequencies))
        cell = impact * (math.pi / self.detector.pitch)
        sine, cosine = ops.sin(cell), ops.cos(cell)
        masses = ops.multiply(mass, 2.0 * math.pi / np.asarray(self.MASS_SCALES, "float32"))
        return ops.concatenate([
            ops.divide(ops.subtract(conditions, self.mean), self.scale),
            ops.log(ops.maximum(energy, 1e-3)) - 6.0,
            impact / half,
            ops.sin(wave), ops.cos(wave),
            *(ops.tanh(distance / (cells * self.detector.pitch))
              for cells in (1.0, 4.0) for distance in (impact, half - ops.abs(impact))),
            sine, cosine, sine * ops.flip(sine, axis=-1), cosine * ops.flip(cosine, axis=-1),
            ops.sin(masses), ops.cos(masses),
        ], axis=-1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.width)

    def get_config(self):
        config = super().get_config()
        config.update(detector=self.detector.name, mean=self.mean.tolist(), scale=self.scale.tolist(),
                      frequencies=self.frequencies)
        if self.low is not None:
            config.update(low=self.low.tolist(), high=self.high.tolist())
        return config


@keras.saving.register_keras_serializable("zdckeras")
class FlightFeatures(ParticleFeatures):
    """`ParticleFeatures`, and the slopes 4 px / |pz|, 4 py / |pz|: for detectors that see how showers are tilted."""

    def __init__(self, detector, mean, scale, frequencies=3, **kwargs):
        super().__init__(detector, mean, scale, frequencies, **kwargs)  # kwargs: range, name, type
        self.width += 2

    def call(self, conditions):
        return ops.concatenate([super().call(conditions), 4.0 * slopes(ops.cast(conditions, "float32"), ops)], axis=-1)

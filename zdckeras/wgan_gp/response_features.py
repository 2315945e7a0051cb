"""Summary numbers of a response in energy, differentiable: sum, centre, rms along the flight, lit cells."""

import keras
import numpy as np
from keras import ops

from zdckeras import backend
from zdckeras.data.impact import slopes
from zdckeras.data.moments import Moments, cell_places, moment_weights
from zdckeras.layers.particle_features import ParticleFeatures
from zdckeras.layers.response_features import Summary

LIT_THRESHOLDS = (0.05, 0.5, 5.0, 50.0)  # MeV
IMPACT_RADII = (1.5, 3.5)  # cells


@keras.saving.register_keras_serializable("zdckeras")
class EnergySummary(Summary):
    """Summary of a response in MeV, differentiable, each number in units of its spread over real showers.

    f = [ ln(1 + S), (S / E - r) sqrt(E), centre of gravity minus expected impact (2), longitudinal and transverse
          asymmetry, ln of the rms along and across the direction of flight, ln(1 + cells above t) for t of 0.05, 0.5, 5
          and 50 MeV (sum 1 - exp(-e / t)), ln(1 + max e), share of S within 1.5 and 3.5 cells of the expected impact ]

    with S the sum [MeV], E the particle's energy [GeV], r the mean of S / E; lengths in cells. Directions and
    asymmetries as in `zdckeras.metrics.directional`.

    Arguments:
        detector: name.
        mean, scale: (15,) from `fit`; 0 and 1 by default.
        response: r, in MeV per MeV.

    Returns:
        call((B, nx, ny) energies, (B, 9) conditions) gives (B, 15).

    Example:
        >>> f = EnergySummary("ecal")(np.ones((2, 30, 30), "float32"), np.ones((2, 9), "float32"))
        >>> tuple(f.shape), round(float(f[0, 0]), 3) == round(float(np.log1p(900.0)), 3)
        ((2, 15), True)
    """

    WIDTH = 15

    def __init__(self, detector, mean=None, scale=None, response=0.0, **kwargs):
        super().__init__(detector, mean, scale, **kwargs)
        self.response, self.place = float(response), cell_places(self.detector.shape).astype("float32")
        self.moment_weights = moment_weights(self.detector.shape, dtype="float32")

    @classmethod
    def fit(cls, showers, name, rows=5000):
        """{"mean", "scale", "response"} over the first real `Showers`, for one detector."""
        energy, conditions = showers.responses[name][:rows], showers.particles[:rows]
        response = float(np.mean(energy.sum(axis=(1, 2)) / (1000.0 * conditions[:, 0])))
        seen = cls(name, response=response)(*(ops.convert_to_tensor(a, "float32") for a in (energy, conditions)))
        table = ops.convert_to_numpy(seen).astype("float64")
        return {"mean": table.mean(axis=0).tolist(), "scale": (table.std(axis=0) + 0.01).tolist(),
                "response": response}

    def call(self, energy, conditions):
        conditions = ops.cast(conditions, "float32")
        particle = ops.maximum(conditions[:, :1], 1e-3)
        flat = ops.reshape(ops.cast(energy, "float32"), (-1, self.detector.cells))
        impact = ParticleFeatures.impact(self.detector, conditions) / self.detector.pitch
        ahead = slopes(conditions, ops)
        ahead = ahead / ops.sqrt(ops.sum(ops.square(ahead), axis=-1, keepdims=True) + 1e-12)
        ux, uy = ahead[:, :1], ahead[:, 1:]
        moments = Moments(flat, self.moment_weights, added=1e-3, xp=ops, matmul=backend.exact_matmul)
        total, some = moments.total, moments.some
        dx, dy = (ops.subtract(self.place[k], impact[:, k : k + 1]) for k in (0, 1))
        far = ops.square(dx) + ops.square(dy)
        weights = [ops.sign(dx * ux + dy * uy), ops.sign(dy * ux - dx * uy),
                   *(ops.cast(far < radius**2, "float32") for radius in IMPACT_RADII)]
        ahead_minus, left_minus, *inner = (ops.sum(flat * w, axis=-1, keepdims=True) / some for w in weights)
        lit = [ops.log1p(ops.sum(1.0 - ops.exp(-flat / t), axis=-1, keepdims=True)) for t in LIT_THRESHOLDS]
        seen = ops.concatenate([
            ops.log1p(total), (total / (1000.0 * particle) - self.response) * ops.sqrt(particle),
            moments.centre - impact, ahead_minus, left_minus,
            *(0.5 * ops.log(v + 0.05) for v in (moments.along(ux, uy), moments.along(-uy, ux))), *lit,
            ops.log1p(ops.max(flat, axis=-1, keepdims=True)), *inner], axis=-1)
        return ops.divide(ops.subtract(seen, self.mean), self.scale)

    def compute_output_shape(self, energy_shape, conditions_shape):
        return (energy_shape[0], self.WIDTH)

    def get_config(self):
        return {**super().get_config(), "response": self.response}

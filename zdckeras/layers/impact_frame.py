"""Maps drawn in the frame of the expected impact point and cropped at the detector's edge."""

import keras
import numpy as np
from keras import layers, ops

from zdckeras.data.detectors import get_detector
from zdckeras.data.particles import COLUMN
from zdckeras.layers.dense import linear
from zdckeras.layers.particle_features import ParticleFeatures

BASIS = 9  # three classes of particles times 1, l, l^2


@keras.saving.register_keras_serializable("zdckeras")
class ImpactFrame(layers.Layer):
    """Elementwise affine map of a response's code whose shift and scale move with the expected impact.

    r_ij = (y_ij - mu_ij) exp(-s_ij),   (mu, s)_ij = sum_k w_k T_k[i - i_0 + n_x, j - j_0 + n_y]

    with (i_0, j_0) the cell of the expected impact point and T_k maps twice as wide as the detector: one light profile
    serves every position, so a flow on r need not learn it in every cell. Nine weights are 1, l and l^2, with
    l = ln(1 + N) - 5 for N photons, separately for photons and electrons, nucleons, and all others; their maps are
    fitted to data (`adapt`). The weights of the other maps are learnt from the context. Zero maps: the identity.

    Arguments:
        detector: name.
        context: width C of the context.
        maps: number of learnt maps beside the nine.
        seed: of the learnt weights.

    Returns:
        call((B, 9) conditions, (B, 1) photon numbers, (B, C) context) gives shift and log-scale, each (B, D).

    Example:
        >>> frame = ImpactFrame("zn", context=4)
        >>> shift, log_scale = frame(*(np.ones((2, n), "float32") for n in (9, 1, 4)))
        >>> tuple(shift.shape), float(ops.sum(shift)), float(ops.sum(log_scale))
        ((2, 1936), 0.0, 0.0)
    """

    def __init__(self, detector, context, maps=8, seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.detector, self.context, self.maps, self.seed = get_detector(detector), context, maps, seed
        nx, ny = self.detector.shape
        self.weigh = linear(context, maps, iter([seed]))
        self.tables = self.add_weight(shape=(BASIS + maps, 2 * 2 * nx * 2 * ny), initializer="zeros", name="tables")
        self.built = True

    def basis(self, conditions, photons):
        """The nine fixed weights (B, 9)."""
        mass = conditions[:, COLUMN["mass"] : COLUMN["mass"] + 1]
        light = ops.log1p(photons) - 5.0
        powers = ops.concatenate([ops.ones_like(light), light, ops.square(light)], axis=-1)
        photon = ops.cast(mass < 100.0, "float32")
        nucleon = ops.cast(mass > 600.0, "float32") * ops.cast(mass < 1050.0, "float32")
        return ops.concatenate([photon * powers, nucleon * powers, (1.0 - photon - nucleon) * powers], axis=-1)

    def first_cell(self, conditions):
        """Cell (i_0, j_0) of the expected impact, (B, 2) int32, clipped to the detector."""
        shape = np.asarray(self.detector.shape)
        impact = ParticleFeatures.impact(self.detector, ops.cast(conditions, "float32"))
        cell = ops.floor(ops.add(impact / self.detector.pitch, shape.astype("float32") / 2))
        return ops.cast(ops.clip(cell, np.zeros(2, "float32"), (shape - 1).astype("float32")), "int32")

    def call(self, conditions, photons, context):
        nx, ny = self.detector.shape
        first = self.first_cell(conditions)
        weights = ops.concatenate([self.basis(ops.cast(conditions, "float32"), photons), self.weigh(context)], axis=-1)
        maps = ops.reshape(ops.matmul(weights, self.tables), (-1, 2, 2 * nx, 2 * ny))
        cells = (ops.arange(n, 2 * n, dtype="int32")[None, :] - first[:, k : k + 1] for k, n in enumerate((nx, ny)))
        rows, columns = (ops.one_hot(cell, 2 * n, dtype="float32") for cell, n in zip(cells, (nx, ny), strict=True))
        cropped = ops.matmul(ops.matmul(rows[:, None], maps), ops.transpose(columns, (0, 2, 1))[:, None])
        cropped = ops.reshape(cropped, (-1, 2, nx * ny))
        place, log_scale = ops.unstack(cropped, axis=1)
        return place, 3.0 * ops.tanh(log_scale / 3.0)

    def adapt(self, conditions, photons, code, ridge=3.0):
        """Fit the nine maps to codes by least squares, cell by cell of the frame: first the mean, then the spread.

        Arguments:
            conditions: (N, 9); photons: (N, 1); code: (N, D) of training showers, some 10,000 are enough.
            ridge: weight of the zero prior, in showers.
        """
        nx, ny = self.detector.shape
        conditions, photons = np.asarray(conditions, "float32"), np.asarray(photons, "float32")
        basis = ops.convert_to_numpy(self.basis(conditions, photons)).astype("float64")
        first = ops.convert_to_numpy(self.first_cell(conditions))
        target = np.array(code, "float64").reshape(-1, nx, ny)
        tables = np.zeros((BASIS, 2, 2 * nx, 2 * ny))
        for which in range(2):
            for group in range(0, BASIS, 3):
                members = np.flatnonzero(basis[:, group])
                gram, moment = np.zeros((3, 3, 2 * nx, 2 * ny)), np.zeros((3, 2 * nx, 2 * ny))
                for n in members:
                    x, y = slice(nx - first[n, 0], 2 * nx - first[n, 0]), slice(ny - first[n, 1], 2 * ny - first[n, 1])
                    b = basis[n, group : group + 3]
                    gram[:, :, x, y] += np.outer(b, b)[:, :, None, None]
                    moment[:, x, y] += b[:, None, None] * target[n]
                gram = np.moveaxis(gram, (0, 1), (2, 3)) + ridge * np.eye(3)
                fitted = np.linalg.solve(gram, np.moveaxis(moment, 0, 2)[..., None])[..., 0]
                tables[group : group + 3, which] = np.moveaxis(fitted, 2, 0)
                if which == 0:
                    for n in members:
                        x = slice(nx - first[n, 0], 2 * nx - first[n, 0])
                        y = slice(ny - first[n, 1], 2 * ny - first[n, 1])
                        target[n] -= np.tensordot(basis[n, group : group + 3], tables[group : group + 3, 0, x, y], 1)
            # E ln r^2 = 2 ln sigma - 1.27 for a Gaussian
            target = 0.5 * (np.log(np.square(target) + 1e-4) + 1.27) if which == 0 else target
        values = ops.convert_to_numpy(self.tables.value).copy()
        values[:BASIS] = tables.reshape(BASIS, -1)
        self.tables.assign(values)

    def compute_output_shape(self, conditions_shape, photons_shape, context_shape):
        return ((conditions_shape[0], self.detector.cells),) * 2

    def get_config(self):
        return {**super().get_config(), "detector": self.detector.name, "context": self.context, "maps": self.maps,
                "seed": self.seed}

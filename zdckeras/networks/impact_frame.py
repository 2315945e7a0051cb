"""Maps drawn in the frame of the expected impact point and cropped at the detector's edge."""

import keras
import numpy as np
from keras import layers, ops

from zdckeras.detectors import detector
from zdckeras.networks.conditioning import ParticleFeatures


@keras.saving.register_keras_serializable("zdckeras")
class ImpactFrame(layers.Layer):
    """Elementwise affine map of a response's code whose shift and scale move with the expected impact.

    r_ij = (y_ij - mu_ij) exp(-s_ij),   (mu, s)_ij = sum_k w_k(context) T_k[i - i_0 + n_x, j - j_0 + n_y]

    with (i_0, j_0) the cell of the expected impact point and T_k learnt maps twice as wide as the detector: one
    light profile serves every position, so a flow on r need not learn it 1936 times. Zero maps: the identity.

    Arguments:
        where: detector name.
        context: width C of the context.
        maps: number K of learnt maps.
        seed: of the weights w.

    Returns:
        call((B, 9) conditions, (B, C) context) gives shift and log-scale, each (B, D).

    Example:
        >>> frame = ImpactFrame("zn", context=4)
        >>> shift, log_scale = frame(np.ones((2, 9), "float32"), np.ones((2, 4), "float32"))
        >>> tuple(shift.shape), float(ops.sum(shift)), float(ops.sum(log_scale))
        ((2, 1936), 0.0, 0.0)
    """

    def __init__(self, where, context, maps=16, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.detector, self.context, self.maps, self.seed = detector(where), context, maps, seed
        nx, ny = self.detector.shape
        self.weigh = layers.Dense(maps, kernel_initializer=keras.initializers.GlorotUniform(seed))
        self.weigh.build((None, context))
        self.tables = self.add_weight(shape=(maps, 2 * 2 * nx * 2 * ny), initializer="zeros", name="tables")
        self.built = True

    def _select(self, centre, cells):
        """One-hot (B, n, 2n) that picks row i - i_0 + n for each cell i."""
        first = ops.cast(ops.clip(ops.floor(centre), 0, cells - 1), "int32")
        return ops.one_hot(ops.arange(cells, 2 * cells, dtype="int32")[None, :] - first[:, None], 2 * cells, dtype="float32")

    def call(self, conditions, context):
        nx, ny = self.detector.shape
        impact = ParticleFeatures.impact(self.detector, ops.cast(conditions, "float32"))
        centre = ops.add(impact / self.detector.pitch, np.asarray(self.detector.shape, "float32") / 2)
        maps = ops.reshape(ops.matmul(self.weigh(context), self.tables), (-1, 2, 2 * nx, 2 * ny))
        rows, columns = self._select(centre[:, 0], nx), self._select(centre[:, 1], ny)
        cropped = ops.matmul(ops.matmul(rows[:, None], maps), ops.transpose(columns, (0, 2, 1))[:, None])
        cropped = ops.reshape(cropped, (-1, 2, nx * ny))
        return cropped[:, 0], 3.0 * ops.tanh(cropped[:, 1] / 3.0)

    def compute_output_shape(self, conditions_shape, context_shape):
        return ((conditions_shape[0], self.detector.cells),) * 2

    def get_config(self):
        return {**super().get_config(), "where": self.detector.name, "context": self.context, "maps": self.maps,
                "seed": self.seed}

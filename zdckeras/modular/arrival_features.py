"""What a network sees of a particle that arrives on a detector's face, and which cell it strikes."""

import keras
import numpy as np
from keras import layers, ops

from zdckeras.data.detectors import get_detector
from zdckeras.simulation.response_fit import FITTED_KINDS, MESONS, PHOTON

REFERENCE = 5.8  # of ln(E / GeV), taken away
ORDERS = (1, 2, 3)  # of the Fourier terms of the place in the struck cell
MIXED = (1, 2)  # of their products


@keras.saving.register_keras_serializable("zdckeras")
class ArrivalFeatures(layers.Layer):
    """Features of arrivals: kind, energy, where on the face, where in the struck cell.

    f = [ one-hot kind, l, l^2, l^3 / 4, l and l^2 of photons, l of mesons, (x, y) / half size, u,
          sin and cos of 2 pi k u (k = 1, 2, 3), their products in x and y (k = 1, 2), all of these again for photons ]

    with l = ln E - 5.8, cut at -4.5 and 3, and u in [-1/2, 1/2)^2 the place in the cell, measured from its fibre: it
    decides how much light of a photon the brightest fibres get.

    Arguments:
        detector: name.

    Returns:
        call((B,) kind, (B,) energy [GeV], (B,) x, (B,) y [cm]) gives features (B, `width`) and the
        struck cell (B, 2) int32, within the detector.

    Example:
        >>> features, cell = ArrivalFeatures("zn")(*np.array([[0], [100.0], [0.1], [-3.5]], "float32"))
        >>> tuple(features.shape), ops.convert_to_numpy(cell).tolist()
        ((1, 74), [[22, 0]])
    """

    def __init__(self, detector, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.detector = get_detector(detector)
        periodic = 4 * len(ORDERS) + 4 * len(MIXED) ** 2
        self.width = len(FITTED_KINDS) + 6 + 2 + 2 + 2 * periodic
        self.built = True

    def call(self, kind, energy, x, y):
        shape, half = np.array(self.detector.shape), np.array(self.detector.half_size, "float32")
        place = ops.stack([ops.cast(x, "float32"), ops.cast(y, "float32")], axis=-1)
        position = place / self.detector.pitch + (shape / 2).astype("float32")
        cell = ops.clip(ops.floor(position), 0.0, (shape - 1).astype("float32"))
        u = position - cell - 0.5
        kinds = ops.one_hot(ops.cast(kind, "int32"), len(FITTED_KINDS), dtype="float32")
        photon = kinds[:, FITTED_KINDS.index(PHOTON) : FITTED_KINDS.index(PHOTON) + 1]
        meson = sum(kinds[:, FITTED_KINDS.index(k) : FITTED_KINDS.index(k) + 1] for k in MESONS)
        log = ops.clip(ops.log(ops.maximum(ops.cast(energy, "float32"), 1e-3))[:, None] - REFERENCE, -4.5, 3.0)
        square = log * log
        waves = {k: (ops.sin(2.0 * np.pi * k * u), ops.cos(2.0 * np.pi * k * u)) for k in ORDERS}
        periodic = [wave for k in ORDERS for wave in waves[k]]
        periodic += [a[:, :1] * b[:, 1:] for j in MIXED for k in MIXED for a in waves[j] for b in waves[k]]
        periodic = ops.concatenate(periodic, axis=-1)
        features = [kinds, log, square, 0.25 * square * log, photon * log, photon * square, meson * log, place / half,
                    u, periodic, photon * periodic]
        return ops.concatenate(features, axis=-1), ops.cast(cell, "int32")

    def get_config(self):
        return {**super().get_config(), "detector": self.detector.name}

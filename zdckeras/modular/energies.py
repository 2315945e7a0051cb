"""Networks of a single arrival in a calorimeter that is read out in energy: its slope counts, and cells hold MeV."""

import keras
import numpy as np
from keras import ops

from zdckeras.modular.cells import EnergyCells
from zdckeras.modular.guns import TILTED
from zdckeras.modular.networks import ArrivalFeatures, LightDecoder, ResponseEncoder

DEPTHS = {"ecal": 12.7, "focalh": 35.0}  # cm, of the mean shower: its centre lies so far behind the front face
STEEP = 4.0  # on the slopes, which are below 1/4
AT_ONCE, ENOUGH = 1_000, 10_000  # responses that scales are fitted on
LEAST_SPREAD = 0.05  # of what an encoder sees


@keras.saving.register_keras_serializable("zdckeras")
class TiltedFeatures(ArrivalFeatures):
    """`ArrivalFeatures` of where the axis of a shower is at its mean depth d, and of its slopes.

    f = [ features of kind, E and (x, y) + d (t_x, t_y),  s, s^2, s l, s u ],   s = 4 (t_x, t_y)

    with t the slopes, l = ln E - 3.5 and u the place in the cell that the axis crosses there: around this cell the
    shower lies, more or less, whatever its slope.

    Arguments:
        detector: name, of one that is read out in energy.

    Returns:
        call((B,) kind, energy [GeV], x, y [cm], slope_x, slope_y) gives features (B, `width`) and the cell
        (B, 2) int32, within the detector.

    Raises:
        ValueError: for a detector whose showers' depth is not known.

    Example:
        >>> import numpy as np
        >>> features, cell = TiltedFeatures("ecal")(*np.array([[0], [10.0], [0.1], [0.1], [0.2], [-0.2]], "float32"))
        >>> tuple(features.shape), ops.convert_to_numpy(cell).tolist()  # 2.5 cm aside at a depth of 12.7 cm
        ((1, 80), [[16, 13]])
    """

    INPUTS = TILTED
    MIDDLE = 3.5

    def __init__(self, detector, **kwargs):
        super().__init__(detector, **kwargs)
        if self.detector.name not in DEPTHS:
            raise ValueError(f"Expected a detector whose showers' mean depth is known, {' or '.join(DEPTHS)}; received "
                             f"{self.detector.name!r}.")
        self.width += 8

    def call(self, kind, energy, x, y, slope_x, slope_y):
        depth = DEPTHS[self.detector.name]
        slope_x, slope_y = ops.cast(slope_x, "float32"), ops.cast(slope_y, "float32")
        features, cell = super().call(kind, energy, x + depth * slope_x, y + depth * slope_y)
        tilt, log = STEEP * ops.stack([slope_x, slope_y], axis=-1), features[:, self.LOG : self.LOG + 1]
        within = features[:, self.LOG + 8 : self.LOG + 10]
        return ops.concatenate([features, tilt, tilt * tilt, tilt * log, tilt * within], axis=-1), cell


@keras.saving.register_keras_serializable("zdckeras")
class EnergyDecoder(LightDecoder):
    """`LightDecoder` of energies: ln m = l + a + W [h, g], and beside it ln k and ln h, d and ln s of `EnergyCells`.

    l is ln E up to a constant: energies are in proportion to that of the particle, so maps need not learn it.

    Arguments: as `LightDecoder`.

    Returns:
        call((B, latent), features (B, F), struck cell (B, 2)) gives ln m [MeV], ln k and ln h, each (B, D), and d
        and ln s, each (B, 1).
    """

    FEATURES, CELLS = TiltedFeatures, EnergyCells
    BRIGHTEST = 12.0
    NUMBERS = ((1.5, 0.5, -4.0, 10.0), (0.0, 1.0, -10.0, 7.0))  # ln k and ln h
    TOTALS = ((0.0, -2.0, 2.0), (-1.5, -6.0, 1.0))  # d and ln s

    def expected(self, features):
        return self.mean + features[:, self.features.LOG : self.features.LOG + 1]

    def fit_mean(self, responses, features, cell):
        log = ops.convert_to_numpy(features)[:, self.features.LOG]
        super().fit_mean(responses / np.exp(log)[:, None, None], features, cell)


@keras.saving.register_keras_serializable("zdckeras")
class EnergyEncoder(ResponseEncoder):
    """`ResponseEncoder` of energies, which it sees relative to that of the particle: ln(1 + 20 e / exp(l)).

    All that it sees is standardised (`fit_scales`): the sum of a response varies by some per cent, which count.

    Arguments, Returns: as `ResponseEncoder`, of energies [MeV] in place of photons.
    """

    FEATURES = TiltedFeatures

    def __init__(self, detector, latent=16, hidden=(512, 256), seed=0, **kwargs):
        super().__init__(detector, latent, hidden, seed, **kwargs)
        self.mean = self.add_weight(shape=(self.numbers,), initializer="zeros", trainable=False, name="mean")
        self.scale = self.add_weight(shape=(self.numbers,), initializer="ones", trainable=False, name="scale")

    def seen(self, responses, features, cell):
        return (super().seen(responses, features, cell) - self.mean) / self.scale

    def fit_scales(self, responses, features, cell):
        blocks = [slice(start, start + AT_ONCE) for start in range(0, min(len(responses), ENOUGH), AT_ONCE)]
        found = np.concatenate([ops.convert_to_numpy(super(EnergyEncoder, self).seen(*(
            values[rows] for values in (responses, features, cell)))) for rows in blocks])
        self.mean.assign(found.mean(axis=0))
        self.scale.assign(found.std(axis=0) + LEAST_SPREAD)

    def scaled(self, responses, features):
        return responses * ops.exp(-features[:, TiltedFeatures.LOG])[:, None, None]

    def root(self, photons):
        return ops.log1p(20.0 * photons)

    def size(self, total):
        return 10.0 * ops.log1p(total)

"""Networks that read responses in energy: regressor of the particle's parameters, critic, and emulator."""

from typing import Any, Self

import keras
import numpy as np
from keras import layers, ops

from zdckeras.arguments import plain
from zdckeras.backend import Tensor
from zdckeras.data.detectors import Detector, get_detector
from zdckeras.data.impact import slopes
from zdckeras.data.particles import MOMENTUM_COLUMNS
from zdckeras.layers.cnn import mirrored
from zdckeras.layers.dense import dense_layers, linear, seeds_of
from zdckeras.layers.particle_features import FlightFeatures, ParticleFeatures

PARAMETERS = ("ln p", "px/pz", "py/pz", "x", "y")
BOXCOX_SCALE = 0.3  # scale of Box-Cox images as convolutions see them


def shower_parameters(detector: Detector, conditions: Tensor) -> Tensor:
    """The five parameters of a particle as a regressor learns them: ln p [GeV], px/|pz|, py/|pz|, x, y [cm].

    They say the same as (px, py, pz, x, y), with spreads of one size; x, y is where the particle meets the front face.

    Arguments:
        detector: `Detector`.
        conditions: (B, 9).

    Returns:
        (B, 5).
    """
    conditions = ops.cast(conditions, "float32")
    momentum = ops.sqrt(ops.sum(ops.square(conditions[:, MOMENTUM_COLUMNS]), axis=-1, keepdims=True))
    return ops.concatenate([ops.log(ops.maximum(momentum, 1e-6)), slopes(conditions, ops),
                            ParticleFeatures.impact(detector, conditions)], axis=-1)


@keras.saving.register_keras_serializable("zdckeras")
class ParameterRegressor(layers.Layer):
    """The particle's parameters read from a Box-Cox image of its response, standardised: (t - mean) / scale.

    Arguments:
        detector: name.
        mean, scale: (5,) of `shower_parameters` over the training part; 0 and 1 by default.
        channels: of the grids from coarse to fine, mirrored: (256, 128, 64, 32) in the study.
        hidden: width of the dense layer on top.
        seed: of the weights.

    Returns:
        call((B, nx, ny) in network space) gives (B, 5).

    Source:
        LHCb study, arXiv:1812.01319, section 3.3.

    Example:
        >>> tuple(ParameterRegressor("ecal", channels=(4, 4, 2, 2))(np.ones((3, 30, 30), "float32")).shape)
        (3, 5)
    """

    def __init__(self, detector, mean=None, scale=None, channels=(256, 128, 64, 32), hidden=128, seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.detector, seeds = get_detector(detector), seeds_of([seed, 4])
        self.mean = np.zeros(len(PARAMETERS), "float32") if mean is None else np.asarray(mean, "float32")
        self.scale = np.ones(len(PARAMETERS), "float32") if scale is None else np.asarray(scale, "float32")
        self.settings = dict(detector=self.detector.name, mean=self.mean.tolist(), scale=self.scale.tolist(),
                             channels=tuple(channels), hidden=hidden, seed=seed)
        self.body, width = mirrored(channels, self.detector.shape, seeds)
        self.dense = dense_layers((hidden,), width, seeds)
        self.read = linear(hidden, len(PARAMETERS), seeds)
        self.built = True

    @classmethod
    def fit_scales(cls, conditions: np.ndarray, detector: Detector | str, **settings: Any) -> Self:
        """A fresh regressor, its parameters standardised over training conditions (N, 9)."""
        table = ops.convert_to_numpy(shower_parameters(get_detector(detector), conditions[:20_000])).astype("float64")
        return cls(detector, table.mean(axis=0), table.std(axis=0) + 1e-6, **settings)

    def truth(self, conditions: Tensor) -> Tensor:
        """The standardised parameters of conditions (B, 9)."""
        return ops.divide(ops.subtract(shower_parameters(self.detector, conditions), self.mean), self.scale)

    def call(self, image):
        return self.read(ops.cast(self.dense(self.body(BOXCOX_SCALE * image[..., None])), "float32"))

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("zdckeras")
class EnergyCritic(layers.Layer):
    """Score of a Box-Cox image of a response for a particle, unbounded.

    The generator's body mirrored; its code, the particle's features, and what a frozen regressor reads from the image
    minus the particle's true parameters, go through a dense layer to the score.

    Arguments:
        detector: name.
        scaler: of the conditions.
        channels: of the grids from coarse to fine, mirrored.
        hidden: width of the dense layer.
        seed: of the weights.

    Returns:
        call((B, nx, ny) in network space, (B, 9) conditions, (B, 5) what the regressor is wrong by) gives (B, 1).

    Source:
        LHCb study, arXiv:1812.01319, section 3.2.
    """

    def __init__(self, detector, scaler, channels=(256, 128, 64, 32), hidden=128, seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.detector, seeds = get_detector(detector), seeds_of([seed, 5])
        self.settings = dict(detector=self.detector.name, scaler=plain(scaler), channels=tuple(channels), hidden=hidden,
                             seed=seed)
        self.features = FlightFeatures(self.detector.name, **scaler, dtype="float32")
        self.body, width = mirrored(channels, self.detector.shape, seeds)
        self.dense = dense_layers((hidden,), width + self.features.width + len(PARAMETERS), seeds)
        self.judge = linear(hidden, 1, seeds)
        self.built = True

    def call(self, image, conditions, wrong):
        conditions = ops.cast(conditions, "float32")
        code = [self.body(BOXCOX_SCALE * image[..., None]), self.features(conditions), wrong]
        return self.judge(self.dense(ops.concatenate(code, axis=-1)))

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("zdckeras")
class Emulator(layers.Layer):
    """The mean response to a particle, coarse: standardised parameters to Box-Cox means of blocks of 2 x 2 cells.

    Trained by `zdckeras.wgan_gp.regression.EmulatorFit`; a regressor's perceptual loss then measures errors of the
    parameters by the response that they would leave.

    Arguments:
        detector: name.
        widths: of the dense layers, whose outputs are features as well.
        seed: of the weights.

    Returns:
        call((B, 5)) gives a list of (B, width): the features of every layer, the blocks last.
    """

    def __init__(self, detector, widths=(64, 64), seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.detector, seeds = get_detector(detector), seeds_of([seed, 6])
        self.settings = dict(detector=self.detector.name, widths=tuple(widths), seed=seed)
        sizes = [len(PARAMETERS), *widths]
        self.dense = [dense_layers((size,), before, seeds) for before, size in zip(sizes, sizes[1:], strict=False)]
        self.read = linear(sizes[-1], int(np.prod([n // 2 for n in self.detector.shape])), seeds)
        self.built = True

    def blocks(self, image: Tensor) -> Tensor:
        """What is to be predicted from an image (B, nx, ny) in network space: (B, nx/2 ny/2)."""
        nx, ny = (n // 2 for n in self.detector.shape)
        image = ops.reshape(image[:, : 2 * nx, : 2 * ny], (-1, nx, 2, ny, 2))
        return BOXCOX_SCALE * ops.reshape(ops.mean(image, axis=(2, 4)), (-1, nx * ny))

    def call(self, parameters):
        features = []
        for layer in self.dense:
            parameters = layer(parameters)
            features.append(parameters)
        return [*features, self.read(parameters)]

    def get_config(self):
        return {**super().get_config(), **self.settings}

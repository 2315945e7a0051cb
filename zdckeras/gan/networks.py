"""DCGAN bodies conditioned on the particle: generator, critic and peak regressor, for one detector or several."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from zdckeras import backend
from zdckeras.arguments import plain
from zdckeras.backend import Tensor
from zdckeras.data.detectors import CHANNEL_COUNT, get_detector
from zdckeras.layers.cnn import convolve, downscale, unfold
from zdckeras.layers.dense import dense_layers, linear, products, seeds_of
from zdckeras.layers.particle_features import ParticleFeatures
from zdckeras.layers.photon_drawing import CellNoise, log_whole, round_up_or_down
from zdckeras.layers.response_features import SummaryFeatures
from zdckeras.layers.spots import Light
from zdckeras.policy import made_in

COARSE_CELLS = 8  # cells along each side of a cell of the first grid
FINE_CELLS = 4  # the same for the second grid, which is unfolded to cells
LARGEST_LN_SUM = 8.5  # ln of one plus the photons of a channel, at most


def _features(names, scaler):
    """`ParticleFeatures` of each detector."""
    return [ParticleFeatures(name, **scaler, dtype="float32") for name in names]


def _known(features, conditions):
    """What all of them tell of the particles, (B, sum of widths)."""
    return ops.concatenate([f(conditions) for f in features], axis=-1)


class SumsNetwork(layers.Layer):
    """Latent noise and particle to whole channel sums, S_k = floor(y (exp(softplus(f_k(z, c))) - 1) + u_k), f dense.

    The light yield y of each detector, a weight that is not trained, is 1 unless it is set (see `GanGenerator`).

    Arguments:
        names: detector names.
        scaler, latent, seeds: as in `ResponseNetwork`; seeds is an iterator.
        widths: of the dense layers.
        policy: of these.

    Returns:
        call((B, d) noise, (B, 9) conditions) gives a tuple of (B, 5), one for each detector.
    """

    def __init__(self, names, scaler, latent, widths, seeds, policy):
        super().__init__(dtype="float32")
        self.features, self.number = _features(names, scaler), len(names)
        self.noise = CellNoise(CHANNEL_COUNT * self.number, latent, seed=next(seeds))
        self.dense = dense_layers(widths, latent + sum(f.width for f in self.features), seeds, policy=policy)
        self.read = linear(widths[-1], CHANNEL_COUNT * self.number, seeds)
        self.factors = self.add_weight(shape=(self.number,), initializer="ones", trainable=False, name="factors")
        self.built = True

    def call(self, noise, conditions):
        known = ops.concatenate([noise, _known(self.features, conditions)], axis=-1)
        raw = self.read(ops.cast(self.dense(known), "float32"))
        expected = ops.expm1(ops.minimum(ops.softplus(2.0 * raw + 1.0), LARGEST_LN_SUM))
        expected = expected * ops.repeat(self.factors, CHANNEL_COUNT)
        return tuple(ops.split(round_up_or_down(expected, self.noise(noise)), self.number, axis=-1))


class ShapeNetwork(layers.Layer):
    """Channel sums to photons in cells: h = g(z, c, ln(1 + S)), n = light(h, texture(h), S), g dense.

    Arguments:
        names: detector names.
        scaler, latent, hidden, channels, spots, seeds: as in `ResponseNetwork`; seeds is an iterator.
        policy: of dense layers and convolutions.

    Returns:
        call((B, d) noise, (B, 9) conditions, tuple of (B, 5) whole sums) gives a tuple of (B, nx, ny).
    """

    def __init__(self, names, scaler, latent, hidden, channels, spots, seeds, policy):
        super().__init__(dtype="float32")
        self.detectors, self.features = [get_detector(name) for name in names], _features(names, scaler)
        self.grid = tuple(int(n) for n in -(-np.max([d.shape for d in self.detectors], axis=0) // COARSE_CELLS))
        self.first, second, third = channels
        width = latent + sum(f.width for f in self.features) + CHANNEL_COUNT * len(names)
        self.dense = dense_layers((hidden, hidden), width, seeds, policy=policy)
        self.spread = dense_layers((self.grid[0] * self.grid[1] * self.first,), hidden, seeds, policy=policy)
        self.shared = convolve(4 * second, 3, (*self.grid, self.first), seeds, policy=policy)
        self.crops = [tuple(-(-n // FINE_CELLS) for n in d.shape) for d in self.detectors]
        self.own = [convolve(third, 3, (*crop, second), seeds, policy=policy) for crop in self.crops]
        self.last = [convolve(FINE_CELLS**2, 1, (*crop, third), seeds, keras.initializers.GlorotUniform, policy)
                     for crop in self.crops]
        self.lights = [Light(name, hidden, latent, spots, seed=next(seeds)) for name in names]
        self.built = True

    def call(self, noise, conditions, sums):
        hidden = self.dense(ops.concatenate([noise, _known(self.features, conditions), *map(log_whole, sums)], axis=-1))
        shared = self.shared(ops.reshape(self.spread(hidden), (-1, *self.grid, self.first)))
        shared = unfold(ops.leaky_relu(shared, 0.1), 2)
        hidden, responses = ops.cast(hidden, "float32"), []
        for k, (detector, (rows, columns), photons) in enumerate(zip(self.detectors, self.crops, sums, strict=True)):
            grid = ops.leaky_relu(self.own[k](backend.cropped(shared, rows, columns)), 0.1)
            texture = ops.squeeze(backend.cropped(unfold(self.last[k](grid), FINE_CELLS), *detector.shape), -1)
            responses.append(self.lights[k](hidden, ops.cast(texture, "float32"), photons, noise, conditions))
        return tuple(responses)


@keras.saving.register_keras_serializable("zdckeras")
class ResponseNetwork(layers.Layer):
    """Latent noise and particle to photon counts: channel sums first, then their place on the detector.

    S = sums(z, c),  n = shape(z, c, S): see `SumsNetwork` and `ShapeNetwork`, a DCGAN body that gives the texture of
    `Light`. Its convolutions work on coarse grids and are unfolded to cells (sub-pixel convolution), several times
    faster on a CPU than transposed convolutions on fine ones. The dense layers of both and the first grid are shared
    between detectors; each has its own second grid and its own light, so one pass answers for all of them.

    Arguments:
        detector: name, or several: ("zn", "zp").
        scaler: {"mean": (9,), "scale": (9,)} of the conditions.
        latent: numbers of latent noise; 10 is what ALICE O2 hands over.
        hidden: width of the two dense layers of the shape.
        widths: of the dense layers of the sums.
        channels: of the first grid, of the second, and of its last convolution.
        spots: spots of light, see `Light`.
        seed: of the weights.
        dtype: policy of dense layers and convolutions, the global one by default; all around them is float32.

    Returns:
        call((B, d) noise, (B, 9) conditions) gives one (B, nx, ny) array of photon counts for each detector, in a
        tuple.

    Source:
        DCGAN, arXiv:1511.06434; sub-pixel convolution, arXiv:1609.05158; joint model of the ZDC poster (one generator
        with two outputs). Sums and light: ours.

    Example:
        >>> scaler = {"mean": [0.0] * 9, "scale": [1.0] * 9}
        >>> g = ResponseNetwork("zp", scaler, hidden=8, widths=(8,), channels=(4, 4, 2), spots=2)
        >>> [tuple(n.shape) for n in g(np.zeros((3, 10), "float32"), np.ones((3, 9), "float32"))]
        [(3, 56, 30)]
    """

    def __init__(self, detector, scaler, latent=10, hidden=256, widths=(256, 256), channels=(64, 32, 16), spots=8,
                 seed=0, **kwargs):
        super().__init__(autocast=False, **kwargs)
        names, seeds = (detector,) if isinstance(detector, str) else tuple(detector), seeds_of(seed)
        self.settings = dict(detector=names, scaler=plain(scaler), latent=latent, hidden=hidden, widths=tuple(widths),
                             channels=tuple(channels), spots=spots, seed=seed)
        self.detectors, self.latent = [get_detector(name) for name in names], latent
        self.sums = SumsNetwork(names, scaler, latent, widths, seeds, self.dtype_policy)
        self.shape = ShapeNetwork(names, scaler, latent, hidden, channels, spots, seeds,
                                  self.dtype_policy)
        self.built = True

    def call(self, noise, conditions):
        noise, conditions = ops.cast(noise, "float32"), ops.cast(conditions, "float32")
        return self.shape(noise, conditions, self.sums(noise, conditions))

    def operations(self) -> int:
        """Multiplications with a weight for one response of every detector."""
        shape, sums = self.shape, self.sums
        total = products(sums.dense, sums.read, shape.dense, shape.spread)
        total += products(*(light.spots.read for light in shape.lights))
        grids = [(shape.shared, shape.grid), *zip(shape.own + shape.last, 2 * shape.crops, strict=True)]
        total += sum(products(layer) * rows * columns for layer, (rows, columns) in grids)
        cells = sum(light.spots.number * light.detector.cells for light in shape.lights)
        return total + cells + self.latent * sum(detector.cells for detector in self.detectors)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("zdckeras")
class Critic(layers.Layer):
    """How real do responses look to these particles: one logit for each detector.

    Its embedding of a response is the code of strided convolutions over ln(1 + n), normalised, beside standardised
    `SummaryFeatures`; dense layers read the logits from the embeddings of all detectors and the particle.

    Arguments:
        detector: name, or several.
        scaler: of the conditions.
        summary: {"mean", "scale"} of `SummaryFeatures` for each detector, from its `fit`; 0 and 1 by default.
        hidden: widths of the dense layers.
        channels: of the three convolutions.
        code: width of the code of an image.
        seed: of the weights.
        dtype: as in `ResponseNetwork`.

    Returns:
        call(tuple of (B, nx, ny) photon counts, (B, 9) conditions) gives (B, detectors) logits.
    """

    def __init__(self, detector, scaler, summary=None, hidden=(256, 128), channels=(16, 32, 48), code=64, seed=0,
                 **kwargs):
        super().__init__(autocast=False, **kwargs)
        names = (detector,) if isinstance(detector, str) else tuple(detector)
        summary = summary or [{}] * len(names)
        self.settings = dict(detector=names, scaler=plain(scaler), summary=list(summary), hidden=tuple(hidden),
                             channels=tuple(channels), code=code, seed=seed)
        self.detectors, seeds = [get_detector(name) for name in names], seeds_of([seed, 1])
        self.summaries = [SummaryFeatures(name, **fitted) for name, fitted in zip(names, summary, strict=True)]
        self.features = _features(names, scaler)
        self.images = [downscale(channels, d.shape, seeds, policy=self.dtype_policy) for d in self.detectors]
        flat = [channels[-1] * int(np.prod([-(-n // COARSE_CELLS) for n in d.shape])) for d in self.detectors]
        with made_in(self.dtype_policy):
            self.codes = [keras.Sequential([layers.Dense(code, kernel_initializer=keras.initializers.HeNormal(
                next(seeds))), layers.LayerNormalization(dtype="float32")]) for _ in names]
            for body, width in zip(self.codes, flat, strict=True):
                body.build((None, width))
        width = sum(f.width for f in self.features) + len(names) * (code + SummaryFeatures.WIDTH)
        self.dense = dense_layers(hidden, width, seeds, policy=self.dtype_policy)
        self.judge = linear(hidden[-1], len(names), seeds)
        self.built = True

    def embed(self, responses: Sequence[Tensor], conditions: Tensor) -> Tensor:
        """Embeddings e of responses, (B, detectors (code + F))."""
        parts = []
        for image, code, summary, photons in zip(self.images, self.codes, self.summaries, responses, strict=True):
            photons = ops.cast(photons, "float32")
            parts += [ops.cast(code(image(ops.log1p(photons)[..., None])), "float32"),
                      ops.clip(summary(photons, conditions), -10.0, 10.0)]
        return ops.concatenate(parts, axis=-1)

    def logits(self, embedding: Tensor, conditions: Tensor) -> Tensor:
        """Logits (B, detectors) of embeddings."""
        known = _known(self.features, ops.cast(conditions, "float32"))
        return self.judge(ops.cast(self.dense(ops.concatenate([embedding, known], axis=-1)), "float32"))

    def call(self, responses, conditions):
        conditions = ops.cast(conditions, "float32")
        return self.logits(self.embed(responses, conditions), conditions)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("zdckeras")
class PeakRegressor(layers.Layer):
    """Where is the brightest cell: (row, column) of one detector's response, in cells.

    Arguments:
        detector: name.
        channels: of the three convolutions.
        hidden: width of the dense layer on top.
        seed: of the weights.
        dtype: as in `ResponseNetwork`.

    Returns:
        call((B, nx, ny) photon counts) gives (B, 2).
    """

    def __init__(self, detector, channels=(8, 16, 32), hidden=64, seed=0, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.detector, seeds = get_detector(detector), seeds_of([seed, 2])
        self.settings = dict(detector=self.detector.name, channels=tuple(channels), hidden=hidden, seed=seed)
        self.image = downscale(channels, self.detector.shape, seeds, policy=self.dtype_policy)
        flat = channels[-1] * int(np.prod([-(-n // COARSE_CELLS) for n in self.detector.shape]))
        self.dense = dense_layers((hidden,), flat, seeds, policy=self.dtype_policy)
        self.point = linear(hidden, 2, seeds)
        self.built = True

    def call(self, photons):
        half = ops.convert_to_tensor(self.detector.shape, "float32") / 2.0
        code = self.dense(self.image(ops.log1p(ops.cast(photons, "float32"))[..., None]))
        return (self.point(ops.cast(code, "float32")) + 1.0) * half - 0.5

    def get_config(self):
        return {**super().get_config(), **self.settings}

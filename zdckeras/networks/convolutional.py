"""DCGAN bodies conditioned on the particle: response generator, critic and peak regressor, for one or more detectors."""

import keras
import numpy as np
from keras import layers, ops

from zdckeras.detectors import CHANNELS, channel_masks, detector
from zdckeras.networks.conditioning import ParticleFeatures
from zdckeras.networks.light import CellNoise, Light, log_whole, round_up_or_down

STRIDE = 8  # three doublings between the first grid and the read-out
LARGEST = 8.5  # ln of one plus the photons of a channel, at most
SUMMARY = 13  # columns of `summary_features`


def _seeds(seed):
    """Endless seeds for the layers of one network."""
    rng = np.random.default_rng(seed)
    while True:
        yield int(rng.integers(2**31))


def _dense(widths, width, seeds):
    """Dense layers with LeakyReLU, built for inputs of one width."""
    body = keras.Sequential([layer for size in widths for layer in (
        layers.Dense(size, kernel_initializer=keras.initializers.HeNormal(next(seeds))), layers.LeakyReLU(0.1))])
    body.build((None, width))
    return body


def _upscale(sizes, first, seeds, last=None):
    """Transposed convolutions 4 x 4 with stride 2 and LeakyReLU; `last` adds one without activation."""
    body = []
    for size in sizes:
        body += [layers.Conv2DTranspose(size, 4, 2, "same", kernel_initializer=keras.initializers.HeNormal(
            next(seeds))), layers.LeakyReLU(0.1)]
    if last:
        body.append(layers.Conv2DTranspose(last, 4, 2, "same", kernel_initializer=keras.initializers.GlorotUniform(
            next(seeds))))
    body = keras.Sequential(body)
    body.build((None, *first))
    return body


def _downscale(sizes, shape, seeds):
    """Convolutions 4 x 4 with stride 2 and LeakyReLU over images with one channel, flattened at the end."""
    body = []
    for size in sizes:
        body += [layers.Conv2D(size, 4, 2, "same", kernel_initializer=keras.initializers.HeNormal(next(seeds))),
                 layers.LeakyReLU(0.1)]
    body = keras.Sequential([*body, layers.Flatten()])
    body.build((None, *shape, 1))
    return body


def _features(names, scaler):
    return [ParticleFeatures(name, **scaler, dtype="float32") for name in names]


def _read(features, conditions):
    return ops.concatenate([f(conditions) for f in features], axis=-1)


class SumsNetwork(layers.Layer):
    """Latent noise and particle to whole channel sums, S_k = floor(exp(softplus(f_k(z, c))) - 1 + u_k), f dense.

    Arguments:
        names: detector names.
        scaler, latent, seeds: as in `ResponseNetwork`; seeds is an iterator.
        widths: of the dense layers.

    Returns:
        call((B, d) noise, (B, 9) conditions) gives a tuple of (B, 5), one for each detector.
    """

    def __init__(self, names, scaler, latent, widths, seeds, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.features, self.number = _features(names, scaler), len(names)
        self.noise = CellNoise(CHANNELS * self.number, latent, seed=next(seeds))
        self.dense = _dense(widths, latent + sum(f.width for f in self.features), seeds)
        self.read = layers.Dense(CHANNELS * self.number, dtype="float32",
                                 kernel_initializer=keras.initializers.GlorotUniform(next(seeds)))
        self.read.build((None, widths[-1]))
        self.built = True

    def call(self, noise, conditions, factors=None):
        seen = ops.concatenate([noise, _read(self.features, conditions)], axis=-1)
        raw = self.read(ops.cast(self.dense(seen), "float32"))
        expected = ops.expm1(ops.minimum(ops.softplus(2.0 * raw + 1.0), LARGEST))
        if factors is not None:
            expected = ops.multiply(expected, np.repeat(np.asarray(factors, "float32"), CHANNELS))
        return tuple(ops.split(round_up_or_down(expected, self.noise(noise)), self.number, axis=-1))


class ShapeNetwork(layers.Layer):
    """Channel sums to photons in cells: h = g(z, c, ln(1 + S)), n = light(h, texture(h), S), g dense.

    Arguments:
        names: detector names.
        scaler, latent, hidden, channels, spots, seeds: as in `ResponseNetwork`; seeds is an iterator.

    Returns:
        call((B, d) noise, (B, 9) conditions, tuple of (B, 5) whole sums) gives a tuple of (B, nx, ny).
    """

    def __init__(self, names, scaler, latent, hidden, channels, spots, seeds, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.detectors, self.features = [detector(name) for name in names], _features(names, scaler)
        self.grid = tuple(int(n) for n in -(-np.max([d.shape for d in self.detectors], axis=0) // STRIDE))
        self.first, second, third = channels
        self.dense = _dense((hidden, hidden), latent + sum(f.width for f in self.features) + CHANNELS * len(names), seeds)
        self.spread = _dense((self.grid[0] * self.grid[1] * self.first,), hidden, seeds)
        self.shared = _upscale((second,), (*self.grid, self.first), seeds)
        self.crops = [tuple(-(-n // (STRIDE // 2)) for n in d.shape) for d in self.detectors]
        self.own = [_upscale((third,), (*crop, second), seeds, last=1) for crop in self.crops]
        self.lights = [Light(name, hidden, latent, spots, seed=next(seeds)) for name in names]
        self.built = True

    def call(self, noise, conditions, sums):
        hidden = self.dense(ops.concatenate([noise, _read(self.features, conditions), *map(log_whole, sums)], axis=-1))
        shared = self.shared(ops.reshape(self.spread(hidden), (-1, *self.grid, self.first)))
        hidden, responses = ops.cast(hidden, "float32"), []
        for (nx, ny), crop, own, light, photons in zip((d.shape for d in self.detectors), self.crops, self.own,
                                                       self.lights, sums, strict=True):
            texture = ops.cast(own(shared[:, : crop[0], : crop[1]])[:, :nx, :ny, 0], "float32")
            responses.append(light(hidden, texture, photons, noise, conditions))
        return tuple(responses)


@keras.saving.register_keras_serializable("zdckeras")
class ResponseNetwork(layers.Layer):
    """Latent noise and particle to photon counts: channel sums first, then their place on the detector.

    S = sums(z, c),  n = shape(z, c, S): see `SumsNetwork` and `ShapeNetwork`, a DCGAN body that gives the texture of
    `Light`. The dense layers of both and the first doubling of the texture are shared between detectors; each has its
    own two further doublings and its own light, so one pass answers for all of them.

    Arguments:
        where: detector name, or several: ("zn", "zp").
        scaler: {"mean": (9,), "scale": (9,)} of the conditions.
        latent: numbers of latent noise; 10 is what ALICE O2 hands over.
        hidden: width of the two dense layers of the shape.
        widths: of the dense layers of the sums.
        channels: of the first grid, after the first and after the second doubling.
        spots: spots of light, see `Light`.
        seed: of the weights.

    Returns:
        call((B, d) noise, (B, 9) conditions) gives one (B, nx, ny) array of photon counts for each detector, in a
        tuple. `factors` multiply the light of each detector.

    Source:
        DCGAN, arXiv:1511.06434; joint model of the ZDC poster (one generator with two outputs). Sums and light: ours.

    Example:
        >>> scaler = {"mean": [0.0] * 9, "scale": [1.0] * 9}
        >>> g = ResponseNetwork("zp", scaler, hidden=8, widths=(8,), channels=(4, 4, 2), spots=2)
        >>> [tuple(n.shape) for n in g(np.zeros((3, 10), "float32"), np.ones((3, 9), "float32"))]
        [(3, 56, 30)]
    """

    def __init__(self, where, scaler, latent=10, hidden=256, widths=(256, 256), channels=(64, 32, 16), spots=8, seed=0,
                 **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        names, seeds = (where,) if isinstance(where, str) else tuple(where), _seeds(seed)
        self.settings = dict(where=names, scaler=scaler, latent=latent, hidden=hidden, widths=tuple(widths),
                             channels=tuple(channels), spots=spots, seed=seed)
        self.detectors, self.latent = [detector(name) for name in names], latent
        self.sums = SumsNetwork(names, scaler, latent, widths, seeds)
        self.shape = ShapeNetwork(names, scaler, latent, hidden, channels, spots, seeds)
        self.built = True

    def call(self, noise, conditions, factors=None):
        noise, conditions = ops.cast(noise, "float32"), ops.cast(conditions, "float32")
        return self.shape(noise, conditions, self.sums(noise, conditions, factors=factors))

    def operations(self):
        """Floating-point operations of one response, 2 for each multiplication with a weight, without activations."""
        shape = self.shape
        dense = [layer for body in (self.sums.dense, shape.dense, shape.spread) for layer in body.layers]
        dense += [self.sums.read, *(light.read for light in shape.lights)]
        total = sum(int(np.prod(layer.kernel.shape)) for layer in dense if hasattr(layer, "kernel"))
        for body, (rows, columns) in [(shape.shared, shape.grid), *zip(shape.own, shape.crops, strict=True)]:
            kernels = [layer.kernel for layer in body.layers if hasattr(layer, "kernel")]
            total += sum(int(np.prod(k.shape)) * rows * columns * 4**i for i, k in enumerate(kernels))
        cells = sum(light.spots * where.cells for where, light in zip(self.detectors, shape.lights, strict=True))
        return 2 * (total + cells + self.latent * sum(where.cells for where in self.detectors))

    def get_config(self):
        return {**super().get_config(), **self.settings}


def summary_features(photons, where, conditions):
    """What a critic ought to see at once of a response: light in the channels, where it is, how wide, how lumpy.

    [ ln(1 + S_k) (5), ln(1 + S), centre of gravity minus expected impact (2), ln of the rms width,
      lit cells sum (1 - exp(-n)) over sqrt(S + 1), ln(1 + max n), centre of gravity (2) ]

    Arguments:
        photons: (B, nx, ny) counts; where: `Detector`; conditions: (B, 9).

    Returns:
        (B, 13), differentiable.
    """
    nx, ny = where.shape
    flat = ops.reshape(photons, (-1, nx * ny))
    x, y = (axis.reshape(-1) for axis in np.indices((nx, ny)).astype("float32"))
    x, y = x - (nx - 1) / 2, y - (ny - 1) / 2
    masks = channel_masks(where.shape).reshape(5, -1).astype("float32")
    moments = ops.matmul(flat, np.stack([*masks, x, y, x * x + y * y], axis=1).astype("float32"))
    total = ops.sum(flat, axis=-1, keepdims=True)
    centre, square = moments[:, 5:7] / (total + 1e-3), moments[:, 7:] / (total + 1e-3)
    impact = ParticleFeatures.impact(where, conditions) / where.pitch
    variance = ops.maximum(square - ops.sum(ops.square(centre), axis=-1, keepdims=True), 0.0)
    lit = ops.sum(1.0 - ops.exp(-flat), axis=-1, keepdims=True) / ops.sqrt(total + 1.0)
    brightest = ops.max(flat, axis=-1, keepdims=True)
    scale = ops.convert_to_tensor([2.0 / nx, 2.0 / ny], "float32")
    return ops.concatenate([
        ops.log1p(moments[:, :5]) - 2.0, ops.log1p(total) - 3.0, (centre - impact) * scale * 2.0,
        0.5 * ops.log(variance + 1.0) - 1.0, 0.3 * lit - 1.0, ops.log1p(brightest) - 2.0, centre * scale], axis=-1)


@keras.saving.register_keras_serializable("zdckeras")
class Critic(layers.Layer):
    """How real do responses look to these particles: one logit for each detector.

    First it looks: strided convolutions over ln(1 + n), whose code is normalised, and standardised
    `summary_features` of each detector's response. Then it decides: dense layers over what was seen and the particle.

    Arguments:
        where: detector name, or several.
        scaler: of the conditions.
        summary: {"mean", "scale"} of the summary features, one list of 13 for each detector, from
            `Critic.fit_summary`; 0 and 1 by default.
        hidden: widths of the dense layers that decide.
        channels: of the three convolutions.
        code: width of the code of an image.
        seed: of the weights.

    Returns:
        call(tuple of (B, nx, ny) photon counts, (B, 9) conditions) gives (B, detectors) logits.
    """

    def __init__(self, where, scaler, summary=None, hidden=(256, 128), channels=(16, 32, 48), code=64, seed=0,
                 **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        names = (where,) if isinstance(where, str) else tuple(where)
        summary = summary or {"mean": [[0.0] * SUMMARY] * len(names), "scale": [[1.0] * SUMMARY] * len(names)}
        self.settings = dict(where=names, scaler=scaler, summary=summary, hidden=tuple(hidden),
                             channels=tuple(channels), code=code, seed=seed)
        self.detectors, seeds = [detector(name) for name in names], _seeds([seed, 1])
        self.mean, self.scale = (np.asarray(summary[k], "float32") for k in ("mean", "scale"))
        self.features = _features(names, scaler)
        self.images = [_downscale(channels, d.shape, seeds) for d in self.detectors]
        flat = [channels[-1] * int(np.prod([-(-n // STRIDE) for n in d.shape])) for d in self.detectors]
        self.codes = [keras.Sequential([layers.Dense(code, kernel_initializer=keras.initializers.HeNormal(
            next(seeds))), layers.LayerNormalization(dtype="float32")]) for _ in names]
        for body, width in zip(self.codes, flat, strict=True):
            body.build((None, width))
        self.dense = _dense(hidden, sum(f.width for f in self.features) + len(names) * (code + SUMMARY), seeds)
        self.judge = layers.Dense(len(names), dtype="float32",
                                  kernel_initializer=keras.initializers.GlorotUniform(next(seeds)))
        self.judge.build((None, hidden[-1]))
        self.built = True

    @staticmethod
    def fit_summary(showers, rows=5000):
        """Mean and deviation of the summary features of some real `Showers`, for `summary`."""
        table = [ops.convert_to_numpy(summary_features(ops.convert_to_tensor(counts[:rows], "float32"), detector(name),
                                                       ops.convert_to_tensor(showers.particles[:rows], "float32")))
                 for name, counts in showers.responses.items()]
        return {"mean": [t.mean(axis=0).tolist() for t in table], "scale": [(t.std(axis=0) + 0.05).tolist() for t in table]}

    def standardise(self, summary, k):
        """Summary features (B, 13) of the k-th detector in units of their spread over real showers."""
        return ops.divide(ops.subtract(summary, self.mean[k]), self.scale[k])

    def look(self, responses, conditions):
        """What is seen of responses, (B, detectors (code + 13))."""
        seen = []
        for k, (where, photons) in enumerate(zip(self.detectors, responses, strict=True)):
            photons = ops.cast(photons, "float32")
            code = self.codes[k](self.images[k](ops.log1p(photons)[..., None]))
            summary = self.standardise(summary_features(photons, where, conditions), k)
            seen += [ops.cast(code, "float32"), ops.clip(summary, -10.0, 10.0)]
        return ops.concatenate(seen, axis=-1)

    def decide(self, seen, conditions):
        """Logits (B, detectors) from what was seen."""
        known = _read(self.features, ops.cast(conditions, "float32"))
        return self.judge(ops.cast(self.dense(ops.concatenate([seen, known], axis=-1)), "float32"))

    def call(self, responses, conditions):
        conditions = ops.cast(conditions, "float32")
        return self.decide(self.look(responses, conditions), conditions)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("zdckeras")
class PeakRegressor(layers.Layer):
    """Where is the brightest cell: (row, column) of one detector's response, in cells.

    Arguments:
        where: detector name.
        channels: of the three convolutions.
        hidden: width of the dense layer on top.
        seed: of the weights.

    Returns:
        call((B, nx, ny) photon counts) gives (B, 2).
    """

    def __init__(self, where, channels=(8, 16, 32), hidden=64, seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.detector, seeds = detector(where), _seeds([seed, 2])
        self.settings = dict(where=self.detector.name, channels=tuple(channels), hidden=hidden, seed=seed)
        self.image = _downscale(channels, self.detector.shape, seeds)
        self.dense = _dense((hidden,), channels[-1] * int(np.prod([-(-n // STRIDE) for n in self.detector.shape])),
                            seeds)
        self.point = layers.Dense(2, dtype="float32", kernel_initializer=keras.initializers.GlorotUniform(next(seeds)))
        self.point.build((None, hidden))
        self.built = True

    def call(self, photons):
        half = ops.convert_to_tensor(self.detector.shape, "float32") / 2.0
        code = self.dense(self.image(ops.log1p(ops.cast(photons, "float32"))[..., None]))
        return (self.point(ops.cast(code, "float32")) + 1.0) * half - 0.5

    def get_config(self):
        return {**super().get_config(), **self.settings}

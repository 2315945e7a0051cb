"""Whole photons in cells: noise for every cell from a few latent numbers, rounding, and drawing with given sums."""

import math

import keras
import numpy as np
from keras import layers, ops

from zdckeras import backend
from zdckeras.backend import Tensor
from zdckeras.data.detectors import CHANNEL_COUNT, flat_masks, get_detector

FREQUENCY = 5.0  # turns of the cell noise per unit of latent noise

QUANTUM = 2.0**-12  # of light [photons], see `PhotonDraw`

EDGE = 1e-4  # uniform numbers stay this far from 0 and 1, those of `CellNoise`

CERTAIN = 1e-7  # and those of `uniform_of_normal`


def straight_through(values: Tensor, whole: Tensor) -> Tensor:
    """The numbers `whole`, exactly, with the gradient of `values`."""
    return ops.stop_gradient(whole) + (values - ops.stop_gradient(values))


def round_up_or_down(values: Tensor, uniform: Tensor) -> Tensor:
    """Whole numbers with the given mean: n = floor(v + u), so that E_u n = v.

    The gradient by v is that of the mean, 1 (straight-through): the floor has none.

    Arguments:
        values: expected photons, any shape, non-negative.
        uniform: numbers in [0, 1) of the same shape.

    Returns:
        Whole numbers as float32.

    Example:
        >>> n = round_up_or_down(ops.convert_to_tensor([0.2, 0.2, 3.0]), ops.convert_to_tensor([0.5, 0.9, 0.5]))
        >>> ops.convert_to_numpy(n).tolist()
        [0.0, 1.0, 3.0]
    """
    return straight_through(values, ops.floor(values + uniform))


@keras.saving.register_keras_serializable("zdckeras")
class CellNoise(layers.Layer):
    """Uniform numbers for every cell from a few standard-normal ones: u_j = frac(z . a_j).

    The vectors a_j are fixed random directions of about 5 sqrt(d) turns per unit: each z . a_j, wrapped to [0, 1), is
    uniform, and numbers of different cells are independent in pairs. So a generator that is handed 10 normal numbers
    still fills 1936 cells with noise of their own, by operations that every exchange format knows. z is rounded to
    2^-10 and a_j to 2^-6, so that float32 adds up 256 turns exactly, 16 deviations of d = 10 and 5 of d = 100: to there
    every backend makes the same numbers, bit by bit. With many more, turns are rounded, and may wrap otherwise.

    Arguments:
        numbers: how many uniform numbers N.
        latent: d, how many normal numbers come in.
        seed: of the directions.

    Returns:
        call((B, d)) gives (B, N) within [1e-4, 1 - 1e-4].

    Example:
        >>> u = ops.convert_to_numpy(CellNoise(1000, 10)(np.random.default_rng(0).normal(size=(50, 10))))
        >>> round(float(u.mean()), 2), round(float(u.var() * 12), 1)
        (0.5, 1.0)
    """

    def __init__(self, numbers, latent, seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.numbers, self.latent, self.seed = numbers, latent, seed
        directions = np.random.default_rng([seed, latent, numbers]).standard_normal((latent, numbers))
        self.directions = (np.round(64.0 * FREQUENCY * directions) / 64.0).astype("float32")
        self.built = True

    def call(self, noise):
        turns = backend.exact_matmul(ops.round(1024.0 * noise) / 1024.0, self.directions)
        return ops.clip(turns - ops.floor(turns), EDGE, 1.0 - EDGE)

    def get_config(self):
        return {**super().get_config(), "numbers": self.numbers, "latent": self.latent, "seed": self.seed}


@keras.saving.register_keras_serializable("zdckeras")
class PhotonDraw(layers.Layer):
    """Whole photons in every cell, with the channel sums kept: systematic sampling along the cells of a channel.

    Cells are put in a fixed random order, channel after channel. With C_j the light summed up to cell j,
    n_j = floor(C_j + u) - floor(C_{j-1} + u): whole numbers with mean l_j and, for whole channel sums, exactly those
    sums. The gradient is that of the mean (straight-through). Light is summed in multiples of 2^-12 photons, which
    float32 adds without rounding up to 4096 photons: equal light gives equal photons on every backend. Of
    brighter responses a channel's sum may be off by one.

    Arguments:
        detector: name.
        convention: of the five channels.
        seed: of the order.

    Returns:
        call((B, D) weights, (B, 5) whole sums, (B, 1) uniform numbers) gives (B, nx, ny) photons: the sums S_k spread
        over the cells of their channel in proportion to the weights.

    Example:
        >>> draw = PhotonDraw("zp")
        >>> n = draw(np.ones((1, 1680), "float32"), np.array([[3.0, 0, 0, 0, 700]], "float32"), np.array([[0.5]]))
        >>> tuple(n.shape), float(ops.sum(n)), sorted(set(ops.convert_to_numpy(n).ravel().tolist()))
        ((1, 56, 30), 703.0, [0.0, 1.0])
    """

    def __init__(self, detector, convention="papers", seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.detector, self.convention, self.seed = get_detector(detector), convention, seed
        channel = flat_masks(self.detector.shape, convention).argmax(axis=0)
        mixed = np.random.default_rng(seed).permutation(self.detector.cells)
        self.order = mixed[np.argsort(channel[mixed], kind="stable")].astype("int32")
        self.back = np.argsort(self.order).astype("int32")
        self.masks = (channel[None, :] == np.arange(CHANNEL_COUNT)[:, None]).astype("float32")
        last = self.order[np.cumsum(self.masks.sum(axis=1)).astype(int) - 1]
        self.last = (np.arange(self.detector.cells)[None, :] == last[:, None]).astype("float32")
        self.within = channel[self.order].astype("int32")  # the channel of each cell, in order
        self.built = True

    def call(self, weights, sums, uniform):
        weights = weights + 1e-12
        light = weights * backend.exact_matmul(sums / backend.exact_matmul(weights, self.masks.T), self.masks)
        whole = self._whole(ops.stop_gradient(light), ops.stop_gradient(sums), uniform)
        return ops.reshape(straight_through(light, whole), (-1, *self.detector.shape))

    def _whole(self, light, sums, uniform):
        """Whole photons (B, D) of light (B, D) that adds up to the sums."""
        quanta = ops.round(light / QUANTUM) * QUANTUM
        quanta = quanta + backend.exact_matmul(sums - backend.exact_matmul(quanta, self.masks.T), self.last)
        nx, ny = self.detector.shape
        rows = ops.reshape(ops.take(ops.transpose(quanta), self.order, axis=0), (nx, ny, -1))
        # cumulative sums as products: several times faster
        within = backend.exact_matmul(np.tri(ny, dtype="float32"), rows)
        before = backend.exact_matmul(np.tri(nx, k=-1, dtype="float32"), within[:, -1])
        steps = ops.reshape(within + before[:, None], (nx * ny, -1))
        ends = backend.exact_matmul(np.tri(CHANNEL_COUNT, dtype="float32"), ops.transpose(sums))
        steps = ops.minimum(steps, backend.rows_at(ends, self.within))  # cells that round up together pass no sum
        start = ops.minimum(ops.round(uniform / QUANTUM) * QUANTUM, 1.0 - QUANTUM)
        steps = ops.floor(steps + ops.transpose(start))
        whole = steps - ops.concatenate([ops.zeros_like(steps[:1]), steps[:-1]], axis=0)
        return ops.transpose(ops.take(ops.maximum(whole, 0.0), self.back, axis=0))

    def get_config(self):
        return {**super().get_config(), "detector": self.detector.name, "convention": self.convention,
                "seed": self.seed}


def normal_quantile(uniform: Tensor) -> Tensor:
    """z with Phi(z) = u, to 5e-4, by operations that every exchange format knows (no inverse error function).

    Arguments:
        uniform: numbers in (0, 1).

    Source:
        Abramowitz and Stegun, Handbook of Mathematical Functions, 26.2.23.

    Example:
        >>> round(float(normal_quantile(ops.convert_to_tensor(0.975))), 2)
        1.96
    """
    tail = ops.minimum(uniform, 1.0 - uniform)
    t = ops.sqrt(-2.0 * ops.log(ops.maximum(tail, 1e-30)))
    above = 2.515517 + t * (0.802853 + t * 0.010328)
    below = 1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308))
    return ops.where(uniform < 0.5, -1.0, 1.0) * (t - above / below)


def uniform_of_normal(noise: Tensor) -> Tensor:
    """Phi(z) of standard normal numbers, kept within (1e-7, 1 - 1e-7)."""
    return ops.clip(0.5 * (1.0 + ops.erf(noise * math.sqrt(0.5))), CERTAIN, 1.0 - CERTAIN)


def logit(uniform: Tensor) -> Tensor:
    """ln(u / (1 - u)) of uniform numbers: logistic noise, of deviation pi / sqrt(3)."""
    return ops.log(uniform) - ops.log1p(-uniform)


def log_whole(sums: Tensor) -> Tensor:
    """ln(1 + S) - 3, the scale on which networks see photon sums."""
    return ops.log1p(sums) - math.log(20.0)

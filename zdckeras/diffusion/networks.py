"""Dense networks of diffusion: what they see of time, vectors, and images in patches told where the impact is."""

import math

import keras
import numpy as np
from keras import layers, ops

from zdckeras import backend
from zdckeras.backend import Tensor
from zdckeras.data.detectors import get_detector
from zdckeras.layers.cnn import fold, unfold
from zdckeras.layers.dense import linear, products, seeds_of, silu_layers
from zdckeras.layers.patches import Mixer
from zdckeras.layers.tokens import on_tokens, tile

WAVES = 8  # cosines of a time


def time_features(times: Tensor, waves: int = WAVES) -> Tensor:
    """cos(k pi t), k = 1..waves, of each of n times: (B, n) -> (B, n waves).

    Example:
        >>> ops.convert_to_numpy(time_features(np.array([[1.0]], "float32"), 3)).round(3).tolist()
        [[-1.0, 1.0, -1.0]]
    """
    waved = ops.cos(ops.multiply(times[:, :, None], math.pi * np.arange(1, waves + 1, dtype="float32")))
    return ops.reshape(waved, (-1, times.shape[1] * waves))


@keras.saving.register_keras_serializable("zdckeras")
class DenseField(layers.Layer):
    """A dense network of vectors: h_1 = f(x, k), h_{i+1} = h_i + f(h_i, k), y = V h, with f(h, k) = silu(W [h, k]).

    k is the context beside `time_features`. V is zero at first: the answer then is 0, the mean of what is asked for.

    Arguments:
        variables: D of a vector.
        context: C.
        hidden: width of h.
        depth: layers f.
        times: numbers n that say the time.
        seed: of the weights.

    Returns:
        call((B, D), (B, n) times, (B, C)) gives (B, D).
    """

    def __init__(self, variables, context, hidden=192, depth=4, times=1, seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings = dict(variables=variables, context=context, hidden=hidden, depth=depth, times=times, seed=seed)
        seeds, told = seeds_of([seed, 61]), context + times * WAVES
        self.stack = [silu_layers((hidden,), width + told, seeds, keras.initializers.GlorotUniform)
                       for width in (variables, *(hidden,) * (depth - 1))]
        self.read = layers.Dense(variables, kernel_initializer="zeros", dtype="float32")
        self.read.build((None, hidden))
        self.built = True

    def call(self, x, times, context):
        told = ops.concatenate([time_features(times), context], axis=-1)
        hidden = self.stack[0](ops.concatenate([x, told], axis=-1))
        for layer in self.stack[1:]:
            hidden = hidden + layer(ops.concatenate([hidden, told], axis=-1))
        return self.read(hidden)

    def operations(self):
        """Multiplications with a weight for one vector."""
        return products(*self.stack, self.read)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("zdckeras")
class PatchField(layers.Layer):
    """Images in patches that are mixed by dense layers, each told how far from the expected impact it lies.

    A patch becomes a vector, to which time and context, and cos and sin of its distance from the impact are added; a
    `Mixer` follows, and the vectors become patches again, added to a multiple of what came in that time alone decides.
    Few large products: on a CPU several times faster a weight than convolutions on the full grid.

    Arguments:
        detector: name.
        context: C; its columns `impact` are the expected impact in half-sizes of the detector.
        impact: the first of these two columns.
        patch: pixels along each side.
        hidden, depth, across: of the `Mixer`.
        times: numbers n that say the time.
        seed: of the weights.

    Returns:
        call((B, nx, ny), (B, n) times, (B, C)) gives (B, nx, ny).
    """

    ORDERS = (0.5, 1.0, 2.0, 4.0)  # half waves over a half-size of the detector

    def __init__(self, detector, context, impact, patch=4, hidden=96, depth=3, across=96, times=1, seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings = dict(detector=detector, context=context, impact=impact, patch=patch, hidden=hidden, depth=depth,
                             across=across, times=times, seed=seed)
        self.image, self.patch, self.impact = get_detector(detector).shape, patch, impact
        self.grid, seeds = tile(self.image, patch), seeds_of([seed, 62])
        self.tokens, told = self.grid[0] * self.grid[1], times * WAVES
        self.take = linear(patch**2, hidden, seeds)
        self.place = linear(4 * len(self.ORDERS) * 2, hidden, seeds)
        self.known = silu_layers((hidden,), context + told, seeds)
        self.spread = linear(hidden, hidden, seeds)
        self.core = Mixer(self.tokens, hidden, depth, across, seed=next(seeds))
        self.read, self.keep = linear(hidden, patch**2, seeds), linear(told, 1, seeds)
        centre = np.stack(np.indices(self.grid), axis=-1).reshape(-1, 2) * patch + 0.5 * (patch - 1)
        self.centre = (2.0 * (centre + 0.5) / np.array(self.image) - 1.0).astype("float32")  # in half-sizes
        self.built = True

    def call(self, x, times, context):
        away, orders = ops.subtract(self.centre, context[:, None, self.impact : self.impact + 2]), np.array(self.ORDERS)
        waves = ops.reshape(ops.multiply(away[..., None], (math.pi * orders).astype("float32")),
                            (-1, self.tokens, 2 * len(orders)))
        near = ops.reshape(ops.exp(-ops.square(ops.multiply(away[..., None], (4.0 * orders).astype("float32")))),
                           (-1, self.tokens, 2 * len(orders)))
        place = ops.concatenate([ops.cos(waves), ops.sin(waves), near, away[..., :1] * near], axis=-1)
        seen = time_features(times)
        known = self.spread(self.known(ops.concatenate([seen, context], axis=-1)))
        tokens = on_tokens(self.take, fold(x, self.grid, self.patch)) + on_tokens(self.place, place) + known[:, None]
        made = ops.reshape(on_tokens(self.read, self.core(tokens)), (-1, *self.grid, self.patch**2))
        made = ops.squeeze(backend.cropped(unfold(made, self.patch), *self.image), -1)
        return made + self.keep(seen)[..., None] * x

    def operations(self):
        """Multiplications with a weight for one image."""
        return (self.tokens * products(self.take, self.place, self.read) + products(self.known, self.spread, self.keep)
                + self.core.operations())

    def get_config(self):
        return {**super().get_config(), **self.settings}

"""Convolutional networks from images to tokens and back: built and seeded convolutions, sub-pixel steps, grids."""

from collections.abc import Iterator, Sequence

import keras
import numpy as np
from keras import layers, ops

from zdckeras import backend
from zdckeras.backend import Tensor
from zdckeras.layers.dense import dense_layers, linear, products, seeds_of
from zdckeras.layers.tokens import Body, on_tokens, tile
from zdckeras.policy import made_in
from zdckeras.training.cost import products_of


def convolve(size: int, kernel: int, first: tuple[int, int, int], seeds: Iterator[int],
             initializer: type = keras.initializers.HeNormal,
             policy: str | keras.DTypePolicy = "float32") -> keras.layers.Layer:
    """One convolution over a grid (rows, columns, channels) that keeps its size, built, in a dtype policy."""
    body = layers.Conv2D(size, kernel, padding="same", kernel_initializer=initializer(next(seeds)), dtype=policy)
    body.build((None, *first))
    return body


def unfold(grid: Tensor, factor: int) -> Tensor:
    """Sub-pixel step: channels become cells, (B, r, c, f^2 n) -> (B, f r, f c, n)."""
    _, rows, columns, channels = grid.shape
    n = channels // factor**2
    grid = ops.transpose(ops.reshape(grid, (-1, rows, columns, factor, factor, n)), (0, 1, 3, 2, 4, 5))
    return ops.reshape(grid, (-1, factor * rows, factor * columns, n))


def fold(image: Tensor, grid: tuple[int, int], factor: int, before: Sequence[int] = (0, 0)) -> Tensor:
    """Cells of one channel become patches: (B, nx, ny) -> (B, r c, f^2), row by row, as `unfold` takes them apart.

    Arguments:
        image: with at most f r by f c cells; zeros fill it up.
        grid: (r, c).
        factor: f.
        before: rows and columns of zeros before the image; the others come behind it.
    """
    (rows, columns), (_, *cells) = grid, image.shape
    fill = [(0, 0), *((first, factor * n - size - first) for n, size, first in zip(grid, cells, before, strict=True))]
    patches = ops.reshape(ops.pad(image, fill), (-1, rows, factor, columns, factor))
    return ops.reshape(ops.transpose(patches, (0, 1, 3, 2, 4)), (-1, rows * columns, factor**2))


@keras.saving.register_keras_serializable("zdckeras")
class Cropping(layers.Cropping2D):
    """`keras.layers.Cropping2D` by `zdckeras.backend.cropped`: a sixth less of the published CorrVAE's step."""

    def call(self, inputs):
        (top, bottom), (left, right) = self.cropping
        _, rows, columns, _ = inputs.shape
        return backend.cropped(inputs, rows - top - bottom, columns - left - right, (top, left))


def downscale(sizes: Sequence[int], shape: tuple[int, int], seeds: Iterator[int], first: int = 0,
              policy: str | keras.DTypePolicy = "float32") -> keras.Sequential:
    """Convolutions 4 x 4 with stride 2 and LeakyReLU over images with one channel, flattened at the end.

    Before them, if `first` is not 0, one of 3 x 3 with so many channels at full size. All in a dtype policy.
    """
    kernels = [(first, 3, 1)] * bool(first) + [(size, 4, 2) for size in sizes]
    with made_in(policy):
        body = [layer for size, kernel, stride in kernels for layer in (
            layers.Conv2D(size, kernel, stride, "same", kernel_initializer=keras.initializers.HeNormal(next(seeds))),
            layers.LeakyReLU(0.1))]
        body = keras.Sequential([*body, layers.Flatten()])
        body.build((None, *shape, 1))
    return body


def mirrored(channels: Sequence[int], shape: tuple[int, int], seeds: Iterator[int]) -> tuple[keras.Sequential, int]:
    """The grids of a `GridDecoder` the other way round, flattened, and the width of the result."""
    sizes = tuple(channels)[-2::-1]
    width = sizes[-1] * int(np.prod([-(-n // 2 ** len(sizes)) for n in shape]))
    return downscale(sizes, shape, seeds, first=channels[-1]), width


def subpixel_layers(grid: tuple[int, int], channels: Sequence[int],
                    seeds: Iterator[int]) -> tuple[list, keras.layers.Layer]:
    """Convolutions that take a grid of the first of `channels` to the last, each grid twice as fine, and to an image.

    Arguments:
        grid: (rows, columns) of the coarsest grid.
        channels: of the grids from coarse to fine.
        seeds: iterator.

    Returns:
        The convolutions of the sub-pixel steps, and the last one, to one channel.
    """
    steps = []
    for coarse, fine in zip(channels[:-1], channels[1:], strict=True):
        steps.append(convolve(4 * fine, 3, (*grid, coarse), seeds))
        grid = tuple(2 * n for n in grid)
    return steps, convolve(1, 3, (*grid, channels[-1]), seeds, keras.initializers.GlorotUniform)


def upscale(grid: Tensor, steps: list, last: keras.layers.Layer, shape: tuple[int, int]) -> Tensor:
    """Sub-pixel steps with ReLU from the coarsest grid (B, r, c, n) to an image, cropped to shape (B, nx, ny)."""
    for step in steps:
        grid = ops.relu(unfold(step(grid), 2))
    return ops.squeeze(backend.cropped(last(grid), *shape), -1)


def upscale_operations(cells: int, steps: list, last: keras.layers.Layer) -> int:
    """Multiplications with a weight of `upscale` for one image, from a coarsest grid of so many cells."""
    return sum(cells * 4**k * products(step) for k, step in enumerate([*steps, last]))


class GridDecoder(layers.Layer):
    """A vector to an image: dense layer, coarsest grid, then sub-pixel convolutions with ReLU, each twice as fine.

    Arguments:
        width: of the vector.
        shape: (nx, ny) of the image; the finest grid is cropped to it.
        channels: of the grids from coarse to fine; the coarsest has 2^(len - 1) times fewer cells along each side.
        seeds: iterator.

    Returns:
        call((B, width)) gives (B, nx, ny).
    """

    def __init__(self, width, shape, channels, seeds, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.image, self.first = tuple(shape), channels[0]
        self.grid = tile(shape, 2 ** (len(channels) - 1))
        self.cells = self.grid[0] * self.grid[1]
        self.spread = dense_layers((self.cells * channels[0],), width, seeds, slope=0.0)
        self.steps, self.last = subpixel_layers(self.grid, channels, seeds)
        self.built = True

    def call(self, vector):
        grid = ops.reshape(self.spread(vector), (-1, *self.grid, self.first))
        return upscale(grid, self.steps, self.last, self.image)

    def operations(self) -> int:
        """Multiplications with a weight for one image."""
        return products(self.spread) + upscale_operations(self.cells, self.steps, self.last)


@keras.saving.register_keras_serializable("zdckeras")
class CnnEncoder(Body):
    """Image to tokens by strided convolutions, the mirror image of `CnnDecoder`.

    Arguments:
        shape: (nx, ny) of the image.
        width: d of a token.
        context: C, numbers known of the particle; may be 0.
        channels: of the grids from coarse to fine, as in `GridDecoder`; a token covers 2^(len - 1) pixels a side.
        seed: of the weights.

    Returns:
        call((B, nx, ny), (B, C)) gives (B, T, d).

    Raises:
        ValueError: if so many steps cannot tile the image, or for input of another shape.

    Example:
        >>> body = CnnEncoder((30, 30), width=3, channels=(4, 4, 2, 2))
        >>> body.grid, tuple(body(np.zeros((2, 30, 30), "float32"), np.zeros((2, 0), "float32")).shape)
        ((4, 4), (2, 16, 3))
    """

    def __init__(self, shape, width=32, context=0, channels=(64, 32, 16, 8), seed=0, **kwargs):
        channels = tuple(channels)
        super().__init__(shape, width, context, 2 ** (len(channels) - 1), channels[0],
                         dict(channels=channels, seed=seed), **kwargs)
        seeds = seeds_of([seed, 25])
        self.body, flat = mirrored(channels, self.image, seeds)
        self.mix = convolve(self.hidden, 3, (*self.grid, flat // self.tokens), seeds)
        self._build_context(seeds)
        self.read = linear(self.hidden, width, seeds)
        self.built = True

    def call(self, image, context):
        self._check_shape(image, self.image, "images")
        grid = self.mix(ops.reshape(self.body(image[..., None]), (-1, *self.grid, self.mix.kernel.shape[2])))
        tokens = self._add_context(ops.reshape(grid, (-1, self.tokens, self.hidden)), context)
        return on_tokens(self.read, ops.leaky_relu(tokens, 0.1))

    def operations(self) -> int:
        """Multiplications with a weight for one image."""
        total, grid = 0, np.array(self.image)
        for layer in self.body.layers:
            if hasattr(layer, "kernel"):
                grid = -(-grid // layer.strides[0])
                total += products(layer) * int(grid.prod())
        return total + self.tokens * products(self.mix, self.read) + products(self.known)


@keras.saving.register_keras_serializable("zdckeras")
class CnnDecoder(Body):
    """Tokens to an image by sub-pixel convolutions with ReLU, each grid twice as fine as the one before.

    Arguments:
        shape, width, context, channels, seed: as in `CnnEncoder`.

    Returns:
        call((B, T, d), (B, C)) gives (B, nx, ny), of either sign.

    Raises:
        ValueError: as `CnnEncoder`.
    """

    def __init__(self, shape, width=32, context=0, channels=(64, 32, 16, 8), seed=0, **kwargs):
        channels = tuple(channels)
        super().__init__(shape, width, context, 2 ** (len(channels) - 1), channels[0],
                         dict(channels=channels, seed=seed), **kwargs)
        seeds = seeds_of([seed, 26])
        self.take = convolve(self.hidden, 3, (*self.grid, width), seeds)
        self._build_context(seeds)
        self.steps, self.last = subpixel_layers(self.grid, channels, seeds)
        self.built = True

    def call(self, tokens, context):
        self._check_shape(tokens, (self.tokens, self.width), "tokens")
        grid = self.take(ops.reshape(tokens, (-1, *self.grid, self.width)))
        tokens = self._add_context(ops.reshape(grid, (-1, self.tokens, self.hidden)), context)
        return upscale(ops.relu(ops.reshape(tokens, (-1, *self.grid, self.hidden))), self.steps, self.last, self.image)

    def operations(self) -> int:
        """Multiplications with a weight for one image."""
        here = self.tokens * products(self.take) + products(self.known)
        return here + upscale_operations(self.tokens, self.steps, self.last)


def _residual(x, size, seeds):
    """x + W f(W f(W f(W f(x)))), f GELU, W of 1, 3, 3 and 1 cells; a quarter of the channels inside."""
    found, narrow = x, max(size // 4, 1)
    for channels, kernel in ((narrow, 1), (narrow, 3), (narrow, 3), (size, 1)):
        found = _one(layers.Activation(ops.gelu)(found), channels, kernel, seeds)
    return layers.Add()([x, found])


def _one(x, channels, kernel, seeds, padding="same"):
    return layers.Conv2D(channels, kernel, padding=padding,
                         kernel_initializer=keras.initializers.LecunNormal(next(seeds)))(x)


class _PublishedCnn(Body):
    """What the study's CNNs share: three grids, each twice as fine, of two residual blocks and batch normalisation."""

    def __init__(self, shape, width, context, channels, seed, grid, wide, **kwargs):
        channels = tuple(channels)
        super().__init__(shape, width or wide, context, 2 ** len(channels), channels[0],
                         dict(channels=channels, seed=seed), **kwargs)
        self.settings["width"], self.grid, self.tokens = width, grid, grid[0] * grid[1]

    def _beside(self, tokens, context):
        """Tokens, and behind each what is known of the particle."""
        self._check_context(context)
        if not self.context:
            return tokens
        return ops.concatenate([tokens, ops.repeat(context[:, None], self.tokens, axis=1)], axis=-1)

    def operations(self) -> int:
        """Multiplications with a weight for one image."""
        return products_of(self.network) + self.tokens * products(self.dense)


@keras.saving.register_keras_serializable("zdckeras")
class PublishedCnnEncoder(_PublishedCnn):
    """The study's CNN, image to tokens: residual blocks, averages over 2 x 2 cells; the particle stands in every token.

    Arguments:
        shape: (nx, ny) of the image.
        width: of a token, by a last dense layer; None: there is none.
        context: C, numbers known of the particle; may be 0.
        channels: of the grids from coarse to fine.
        seed: of the weights.

    Returns:
        call((B, nx, ny), (B, C)) gives (B, T, d): 5 x 5 tokens for 44 x 44 cells, as odd ends are left out.

    Source:
        neutron ZDC study, CNN; from the authors' code, m-wojnar/zdc, architectures/conv.py.
    """

    def __init__(self, shape, width=None, context=0, channels=(256, 128, 64), seed=0, **kwargs):
        grid = tuple(n // 2 ** len(channels) for n in shape)
        super().__init__(shape, width, context, channels, seed, grid, channels[0] + context, **kwargs)
        seeds = seeds_of([seed, 75])
        self.network = self._network(seeds)
        self.dense = None if width is None else linear(channels[0] + context, width, seeds)
        self.built = True

    @made_in("float32")
    def _network(self, seeds):
        image = x = keras.Input((*self.image, 1))
        for size in self.settings["channels"][::-1]:
            x = _one(x, size, 1, seeds)
            for _ in range(2):
                x = _residual(x, size, seeds)
            x = layers.AveragePooling2D(2)(layers.BatchNormalization(epsilon=1e-5)(x))
        return keras.Model(image, layers.LeakyReLU(0.1)(x))

    def call(self, image, context):
        self._check_shape(image, self.image, "images")
        tokens = self._beside(ops.reshape(self.network(image[..., None]), (-1, self.tokens, self.hidden)), context)
        return tokens if self.dense is None else on_tokens(self.dense, tokens)


@keras.saving.register_keras_serializable("zdckeras")
class PublishedCnnDecoder(_PublishedCnn):
    """The study's CNN, tokens to image: grids repeated twice along each side, residual blocks, one of 5 x 5 at the end.

    Arguments:
        shape, context, channels, seed: as in `PublishedCnnEncoder`.
        width: d of a token.

    Returns:
        call((B, T, d), (B, C)) gives (B, nx, ny), of either sign: from 6 x 6 tokens for 44 x 44 cells.
    """

    def __init__(self, shape, width, context=0, channels=(256, 128, 64), seed=0, **kwargs):
        super().__init__(shape, width, context, channels, seed, tile([n + 4 for n in shape], 2 ** len(channels)), width,
                         **kwargs)
        seeds = seeds_of([seed, 76])
        self.dense = linear(width + context, self.hidden, seeds)
        self.network = self._network(seeds)
        self.built = True

    @made_in("float32")
    def _network(self, seeds):
        grid = x = keras.Input((*self.grid, self.hidden))
        for size in self.settings["channels"]:
            x = layers.UpSampling2D()(_one(x, size, 1, seeds))
            for _ in range(2):
                x = _residual(x, size, seeds)
            x = layers.BatchNormalization(epsilon=1e-5)(x)
        return keras.Model(grid, _one(x, 1, 5, seeds, "valid"))

    def call(self, tokens, context):
        self._check_shape(tokens, (self.tokens, self.width), "tokens")
        tokens = on_tokens(self.dense, self._beside(tokens, context))
        image = self.network(ops.reshape(tokens, (-1, *self.grid, self.hidden))) + 0.5
        return ops.squeeze(backend.cropped(image, *self.image), -1)

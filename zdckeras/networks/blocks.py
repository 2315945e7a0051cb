"""Built and seeded pieces that network bodies are made of: dense layers, convolutions, sub-pixel steps, grids."""

import keras
import numpy as np
from keras import layers, ops


def seeds_of(seed):
    """Endless seeds for the layers of one network."""
    rng = np.random.default_rng(seed)
    while True:
        yield int(rng.integers(2**31))


def dense_layers(widths, width, seeds, slope=0.1):
    """Dense layers with LeakyReLU of a slope below 0, built for inputs of one width."""
    body = keras.Sequential([layer for size in widths for layer in (
        layers.Dense(size, kernel_initializer=keras.initializers.HeNormal(next(seeds))), layers.LeakyReLU(slope))])
    body.build((None, width))
    return body


def convolve(size, kernel, first, seeds, initializer=keras.initializers.HeNormal):
    """One convolution over a grid (rows, columns, channels) that keeps its size, built."""
    body = layers.Conv2D(size, kernel, padding="same", kernel_initializer=initializer(next(seeds)))
    body.build((None, *first))
    return body


def unfold(grid, factor):
    """Sub-pixel step: channels become cells, (B, r, c, f^2 n) -> (B, f r, f c, n)."""
    _, rows, columns, channels = grid.shape
    n = channels // factor**2
    grid = ops.transpose(ops.reshape(grid, (-1, rows, columns, factor, factor, n)), (0, 1, 3, 2, 4, 5))
    return ops.reshape(grid, (-1, factor * rows, factor * columns, n))


def downscale(sizes, shape, seeds, first=0):
    """Convolutions 4 x 4 with stride 2 and LeakyReLU over images with one channel, flattened at the end.

    Before them, if `first` is not 0, one of 3 x 3 with so many channels at full size.
    """
    body = [layers.Conv2D(first, 3, 1, "same", kernel_initializer=keras.initializers.HeNormal(next(seeds))),
            layers.LeakyReLU(0.1)] if first else []
    for size in sizes:
        body += [layers.Conv2D(size, 4, 2, "same", kernel_initializer=keras.initializers.HeNormal(next(seeds))),
                 layers.LeakyReLU(0.1)]
    body = keras.Sequential([*body, layers.Flatten()])
    body.build((None, *shape, 1))
    return body


def mirrored(channels, shape, seeds):
    """The grids of a `GridDecoder` the other way round, flattened, and the width of the result."""
    sizes = tuple(channels)[-2::-1]
    width = sizes[-1] * int(np.prod([-(-n // 2 ** len(sizes)) for n in shape]))
    return downscale(sizes, shape, seeds, first=channels[-1]), width


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
        self.shape_of, self.first = tuple(shape), channels[0]
        self.grid = tuple(-(-n // 2 ** (len(channels) - 1)) for n in shape)
        self.spread = dense_layers((self.grid[0] * self.grid[1] * channels[0],), width, seeds, slope=0.0)
        self.steps, grid = [], self.grid
        for coarse, fine in zip(channels[:-1], channels[1:], strict=True):
            self.steps.append(convolve(4 * fine, 3, (*grid, coarse), seeds))
            grid = tuple(2 * n for n in grid)
        self.last = convolve(1, 3, (*grid, channels[-1]), seeds, keras.initializers.GlorotUniform)
        self.built = True

    def call(self, vector):
        grid = ops.reshape(self.spread(vector), (-1, *self.grid, self.first))
        for step in self.steps:
            grid = ops.relu(unfold(step(grid), 2))
        return self.last(grid)[:, : self.shape_of[0], : self.shape_of[1], 0]

    def operations(self):
        """Multiplications with a weight for one image."""
        total = int(np.prod(self.spread.layers[0].kernel.shape))
        for k, step in enumerate([*self.steps, self.last]):
            total += int(np.prod(step.kernel.shape)) * self.grid[0] * self.grid[1] * 4**k
        return total

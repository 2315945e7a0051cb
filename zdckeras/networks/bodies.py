"""Bodies that turn images of any size into grids of tokens and back: what they share, and convolutional ones.

An encoder maps an image (B, nx, ny) and what is known of the particle (B, C) to tokens (B, T, d), one for each cell of
a grid over the image; a decoder maps such tokens and the particle to an image. Tokens are what a codebook quantises;
`TokensToVector` and `VectorToTokens` stand between them and the latent vector of a VAE. So any encoder goes with any
decoder of the same grid, and either with a codebook or a vector.

Images whose sides are no multiples of the cells are filled up with zeros behind their last row and column, and
cropped. Bodies made of patches, the vision transformer and the MLP-Mixer, are in `zdckeras.networks.patch_bodies`.
"""

import keras
import numpy as np
from keras import layers, ops

from zdckeras.networks.blocks import convolve, dense_layers, mirrored, seeds_of, unfold


def tile(shape, patch):
    """The grid (rows, columns) of square patches that covers an image.

    Arguments:
        shape: (nx, ny) of the image.
        patch: pixels along each side.

    Raises:
        ValueError: for a patch smaller than a pixel or larger than the image.

    Example:
        >>> tile((44, 44), 8), tile((56, 30), 8)
        ((6, 6), (7, 4))
    """
    if len(shape) != 2 or not 1 <= patch <= min(shape):
        raise ValueError(f"Expected a patch of 1 to {min(shape)} pixels for an image of {' x '.join(map(str, shape))}; "
                         f"received one of {patch} x {patch}, which cannot tile it.")
    return tuple(-(-n // patch) for n in shape)


def linear(inputs, units, seeds):
    """A seeded dense layer, built."""
    layer = layers.Dense(units, kernel_initializer=keras.initializers.GlorotUniform(next(seeds)), dtype="float32")
    layer.build((None, inputs))
    return layer


def on_tokens(layer, tokens):
    """A layer of vectors on tokens (B, T, .): as one matrix, which is what processors multiply fastest."""
    return ops.reshape(layer(ops.reshape(tokens, (-1, tokens.shape[-1]))), (-1, tokens.shape[1], _units(layer)))


def _units(layer):
    """Outputs of a dense layer or of a stack that ends in one."""
    found = getattr(layer, "layers", [layer])
    return next(part.units for part in reversed(found) if hasattr(part, "units"))


def products(*parts):
    """Multiplications with the kernels of dense layers, once each."""
    return sum(int(np.prod(layer.kernel.shape)) for part in parts if part is not None
               for layer in getattr(part, "layers", [part]) if hasattr(layer, "kernel"))


class Body(layers.Layer):
    """What encoders and decoders share: image, grid, tokens, and the particle added to all tokens alike."""

    def __init__(self, shape, width, context, patch, hidden, settings, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.grid = tile(shape, patch)
        if width < 1 or context < 0:
            raise ValueError(f"Expected tokens of width 1 at least and a context of 0 at least, received {width} and "
                             f"{context}.")
        self.settings = dict(shape=tuple(shape), width=width, context=context, **settings)
        self.image, self.width, self.context, self.patch = tuple(shape), width, context, patch
        self.tokens, self.hidden = self.grid[0] * self.grid[1], hidden

    def _know(self, seeds):
        self.known = linear(self.context, self.hidden, seeds) if self.context else None

    def _add(self, tokens, context):
        """Tokens (B, T, hidden) and what the particle (B, C) adds to each."""
        if context.shape[-1] != self.context:
            raise ValueError(f"Expected a context of width {self.context}, received {context.shape[-1]}.")
        return tokens if self.known is None else tokens + self.known(context)[:, None]

    def _check(self, found, expected, what):
        if tuple(found.shape[1:]) != expected:
            raise ValueError(f"Expected {what} of shape (B, {', '.join(map(str, expected))}), "
                             f"received {tuple(found.shape)}.")

    def get_config(self):
        return {**super().get_config(), **self.settings}


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
        self._know(seeds)
        self.read = linear(self.hidden, width, seeds)
        self.built = True

    def call(self, image, context):
        self._check(image, self.image, "images")
        grid = self.mix(ops.reshape(self.body(image[..., None]), (-1, *self.grid, self.mix.kernel.shape[2])))
        tokens = self._add(ops.reshape(grid, (-1, self.tokens, self.hidden)), context)
        return on_tokens(self.read, ops.leaky_relu(tokens, 0.1))

    def operations(self):
        """Multiplications with a weight for one image."""
        total, grid = 0, np.array(self.image)
        for layer in self.body.layers:
            if hasattr(layer, "kernel"):
                grid = -(-grid // layer.strides[0])
                total += int(np.prod(layer.kernel.shape) * grid.prod())
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
        seeds, grid = seeds_of([seed, 26]), self.grid
        self.take, self.steps = convolve(self.hidden, 3, (*grid, width), seeds), []
        self._know(seeds)
        for coarse, fine in zip(channels[:-1], channels[1:], strict=True):
            self.steps.append(convolve(4 * fine, 3, (*grid, coarse), seeds))
            grid = tuple(2 * n for n in grid)
        self.last = convolve(1, 3, (*grid, channels[-1]), seeds, keras.initializers.GlorotUniform)
        self.built = True

    def call(self, tokens, context):
        self._check(tokens, (self.tokens, self.width), "tokens")
        grid = self.take(ops.reshape(tokens, (-1, *self.grid, self.width)))
        tokens = self._add(ops.reshape(grid, (-1, self.tokens, self.hidden)), context)
        grid = ops.relu(ops.reshape(tokens, (-1, *self.grid, self.hidden)))
        for step in self.steps:
            grid = ops.relu(unfold(step(grid), 2))
        return self.last(grid)[:, : self.image[0], : self.image[1], 0]

    def operations(self):
        """Multiplications with a weight for one image."""
        total = self.tokens * products(self.take) + products(self.known)
        return total + sum(self.tokens * 4**k * products(step) for k, step in enumerate([*self.steps, self.last]))


@keras.saving.register_keras_serializable("zdckeras")
class TokensToVector(layers.Layer):
    """Tokens and the particle to one vector: v = A LeakyReLU(B [tokens, context]).

    Arguments:
        tokens, width, context: T, d and C of the body before it.
        vector: numbers that come out.
        hidden: width between.
        seed: of the weights.

    Returns:
        call((B, T, d), (B, C)) gives (B, vector).

    Example:
        >>> tuple(TokensToVector(4, 3, 2, vector=5)(np.zeros((1, 4, 3), "float32"), np.ones((1, 2), "float32")).shape)
        (1, 5)
    """

    def __init__(self, tokens, width, context=0, vector=10, hidden=256, seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings = dict(tokens=tokens, width=width, context=context, vector=vector, hidden=hidden, seed=seed)
        seeds, self.flat = seeds_of([seed, 31]), tokens * width
        self.dense = dense_layers((hidden,), self.flat + context, seeds)
        self.read = linear(hidden, vector, seeds)
        self.built = True

    def call(self, tokens, context):
        return self.read(self.dense(ops.concatenate([ops.reshape(tokens, (-1, self.flat)), context], axis=-1)))

    def operations(self):
        """Multiplications with a weight for one vector."""
        return products(self.dense, self.read)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("zdckeras")
class VectorToTokens(layers.Layer):
    """One vector and the particle to tokens, the way back of `TokensToVector`.

    Arguments:
        tokens, width, context, vector, hidden, seed: as in `TokensToVector`.

    Returns:
        call((B, vector), (B, C)) gives (B, T, d).
    """

    def __init__(self, tokens, width, context=0, vector=10, hidden=256, seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings = dict(tokens=tokens, width=width, context=context, vector=vector, hidden=hidden, seed=seed)
        seeds, self.shape_of = seeds_of([seed, 32]), (tokens, width)
        self.dense = dense_layers((hidden,), vector + context, seeds)
        self.read = linear(hidden, tokens * width, seeds)
        self.built = True

    def call(self, vector, context):
        return ops.reshape(self.read(self.dense(ops.concatenate([vector, context], axis=-1))), (-1, *self.shape_of))

    operations = TokensToVector.operations

    def get_config(self):
        return {**super().get_config(), **self.settings}

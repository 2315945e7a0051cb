"""Bodies that turn images of any size into grids of tokens and back: what they share, and vectors beside tokens.

An encoder maps an image (B, nx, ny) and what is known of the particle (B, C) to tokens (B, T, d), one for each cell of
a grid over the image; a decoder maps such tokens and the particle to an image. Tokens are what a codebook quantises;
`TokensToVector` and `VectorToTokens` stand between them and the latent vector of a VAE. So any encoder goes with any
decoder of the same grid, and either with a codebook or a vector.

Images whose sides are no multiples of the cells are filled up with zeros behind their last row and column, and
cropped. Convolutional bodies are in `zdckeras.layers.cnn`; those made of patches, the vision transformer and the
MLP-Mixer, in `zdckeras.layers.patches`.
"""

import keras
from keras import layers, ops

from zdckeras.backend import Tensor
from zdckeras.layers.dense import dense_layers, linear, products, seeds_of


def tile(shape: tuple[int, int], patch: int) -> tuple[int, int]:
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


def on_tokens(layer: keras.layers.Layer, tokens: Tensor) -> Tensor:
    """A layer of vectors on tokens (B, T, .): as one matrix, which is what processors multiply fastest."""
    return ops.reshape(layer(ops.reshape(tokens, (-1, tokens.shape[-1]))), (-1, tokens.shape[1], _units(layer)))


def _units(layer):
    """Outputs of a dense layer or of a stack that ends in one."""
    found = getattr(layer, "layers", [layer])
    return next(part.units for part in reversed(found) if hasattr(part, "units"))


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

    def _build_context(self, seeds):
        self.known = linear(self.context, self.hidden, seeds) if self.context else None

    def _check_context(self, context):
        if context.shape[-1] != self.context:
            raise ValueError(f"Expected a context of width {self.context}, received {context.shape[-1]}.")

    def _add_context(self, tokens, context):
        """Tokens (B, T, hidden) and what the particle (B, C) adds to each."""
        self._check_context(context)
        return tokens if self.known is None else tokens + self.known(context)[:, None]

    def _check_shape(self, found, expected, what):
        if tuple(found.shape[1:]) != expected:
            raise ValueError(f"Expected {what} of shape (B, {', '.join(map(str, expected))}), "
                             f"received {tuple(found.shape)}.")

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("zdckeras")
class TokensToVector(layers.Layer):
    """Tokens and the particle to one vector: v = A LeakyReLU(B [tokens, context]).

    Arguments:
        tokens, width, context: T, d and C of the body before it.
        vector: numbers that come out.
        hidden: width between; 0: there is no layer between.
        seed: of the weights.
        slope: of LeakyReLU below 0.

    Returns:
        call((B, T, d), (B, C)) gives (B, vector).

    Example:
        >>> tuple(TokensToVector(4, 3, 2, vector=5)(ops.zeros((1, 4, 3)), ops.ones((1, 2))).shape)
        (1, 5)
    """

    def __init__(self, tokens, width, context=0, vector=10, hidden=256, seed=0, slope=0.1, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings = dict(tokens=tokens, width=width, context=context, vector=vector, hidden=hidden, seed=seed,
                             slope=slope)
        seeds, self.flat = seeds_of([seed, 31]), tokens * width
        self.dense = dense_layers((hidden,), self.flat + context, seeds, slope) if hidden else None
        self.read = linear(hidden or self.flat + context, vector, seeds)
        self.built = True

    def call(self, tokens, context):
        read = ops.concatenate([ops.reshape(tokens, (-1, self.flat)), context], axis=-1)
        return self.read(read if self.dense is None else self.dense(read))

    def operations(self) -> int:
        """Multiplications with a weight for one vector."""
        return products(self.dense, self.read)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("zdckeras")
class VectorToTokens(layers.Layer):
    """One vector and the particle to tokens, the way back of `TokensToVector`.

    Arguments:
        tokens, width, context, vector, hidden, seed, slope: as in `TokensToVector`.

    Returns:
        call((B, vector), (B, C)) gives (B, T, d).
    """

    def __init__(self, tokens, width, context=0, vector=10, hidden=256, seed=0, slope=0.1, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings = dict(tokens=tokens, width=width, context=context, vector=vector, hidden=hidden, seed=seed,
                             slope=slope)
        seeds, self.shape_of = seeds_of([seed, 32]), (tokens, width)
        self.dense = dense_layers((hidden,), vector + context, seeds, slope) if hidden else None
        self.read = linear(hidden or vector + context, tokens * width, seeds)
        self.built = True

    def call(self, vector, context):
        known = ops.concatenate([vector, context], axis=-1) if self.settings["context"] else vector
        return ops.reshape(self.read(known if self.dense is None else self.dense(known)), (-1, *self.shape_of))

    operations = TokensToVector.operations

    def get_config(self):
        return {**super().get_config(), **self.settings}

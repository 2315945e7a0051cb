"""Bodies made of patches: vision transformer and MLP-Mixer, image to tokens and back."""

import keras
from keras import layers, ops

from zdckeras.layers.cnn import fold, unfold
from zdckeras.layers.dense import linear, products, seeds_of
from zdckeras.layers.tokens import Body, on_tokens
from zdckeras.layers.transformer import CURVES, Transformer
from zdckeras.policy import made_in


@keras.saving.register_keras_serializable("zdckeras")
class Mixer(layers.Layer):
    """A stack of MLP-Mixer blocks: x += (M_t (N x)')', x += M_c N x, M dense layers over the tokens and the width.

    Arguments:
        length: T tokens.
        width: w of the vectors.
        depth: blocks.
        across: width of the dense layer over tokens.
        expansion: width of the dense layer over the width, times w.
        seed: of the weights.
        curve: between the two dense layers of M, "silu" or "gelu".
        normed: whether the last block's vectors are normalised.

    Returns:
        call((B, T, w)) gives (B, T, w).

    Source:
        Tolstikhin et al., arXiv:2105.01601.

    Example:
        >>> tuple(Mixer(6, width=8, depth=1)(ops.zeros((2, 6, 8))).shape)
        (2, 6, 8)
    """

    def __init__(self, length, width=96, depth=4, across=64, expansion=4, seed=0, curve="silu", normed=True,
                 **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings = dict(length=length, width=width, depth=depth, across=across, expansion=expansion, seed=seed,
                             curve=curve, normed=normed)
        self.length, self.width, seeds = length, width, seeds_of([seed, 24])
        self.norms = [layers.LayerNormalization(epsilon=1e-5, dtype="float32") for _ in range(2 * depth + normed)]
        for norm in self.norms:
            norm.build((None, None, width))
        self.over_tokens = [self._back_and_forth(length, across, seeds, curve) for _ in range(depth)]
        self.over_width = [self._back_and_forth(width, expansion * width, seeds, curve) for _ in range(depth)]
        self.built = True

    @staticmethod
    @made_in("float32")
    def _back_and_forth(size, hidden, seeds, curve):
        body = keras.Sequential([
            layers.Dense(hidden, CURVES[curve], kernel_initializer=keras.initializers.GlorotUniform(next(seeds))),
            layers.Dense(size, kernel_initializer=keras.initializers.GlorotUniform(next(seeds)))])
        body.build((None, size))
        return body

    def call(self, x):
        for k, (tokens, width) in enumerate(zip(self.over_tokens, self.over_width, strict=True)):
            turned = on_tokens(tokens, ops.transpose(self.norms[2 * k](x), (0, 2, 1)))
            x = x + ops.transpose(turned, (0, 2, 1))
            x = x + on_tokens(width, self.norms[2 * k + 1](x))
        return self.norms[-1](x) if self.settings["normed"] else x

    def operations(self) -> int:
        """Multiplications with a weight for one row."""
        return self.width * products(*self.over_tokens) + self.length * products(*self.over_width)

    def get_config(self):
        return {**super().get_config(), **self.settings}


class _Patches(Body):
    """What bodies made of patches share: a dense layer into the width of a core that mixes tokens, and one out of it.

    Whether they go from image to tokens or back says `_ends`, the core `_core`; SALT keeps their weights apart.
    """

    SALT = 0

    def __init__(self, shape, width, context, patch, hidden, depth, seed, mixing, **kwargs):
        settings = dict(patch=patch, hidden=hidden, depth=depth, seed=seed, **mixing)
        super().__init__(shape, width, context, patch, hidden, settings, **kwargs)
        seeds, (inputs, outputs) = seeds_of([seed, self.SALT]), self._ends()
        self.take, self.read = linear(inputs, hidden, seeds), linear(hidden, outputs, seeds)
        self._build_context(seeds)
        self.core = self._core(depth, seed=next(seeds), **mixing)
        self.built = True

    def _before(self):
        """Rows and columns of zeros before the image; what else fills its patches up comes behind it."""
        return 0, 0

    def _mix(self, tokens, context):
        return on_tokens(self.read, self.core(self._add_context(on_tokens(self.take, tokens), context)))

    def operations(self) -> int:
        """Multiplications with a weight for one image."""
        return self.tokens * products(self.take, self.read) + products(self.known) + self.core.operations()


class _Encoder(_Patches):
    """Patches of an image to tokens."""

    def _ends(self):
        return self.patch**2, self.width

    def call(self, image, context):
        self._check_shape(image, self.image, "images")
        return self._mix(fold(image, self.grid, self.patch, self._before()), context)


class _Decoder(_Patches):
    """Tokens to patches of an image."""

    def _ends(self):
        return self.width, self.patch**2

    def call(self, tokens, context):
        self._check_shape(tokens, (self.tokens, self.width), "tokens")
        image = unfold(ops.reshape(self._mix(tokens, context), (-1, *self.grid, self.patch**2)), self.patch)
        x, y = (slice(before, before + n) for before, n in zip(self._before(), self.image, strict=True))
        return image[:, x, y, 0]


class _Attention(_Patches):
    """Tokens are mixed by a `Transformer`."""

    def __init__(self, shape, width=32, context=0, patch=8, hidden=96, heads=4, depth=4, seed=0, **kwargs):
        super().__init__(shape, width, context, patch, hidden, depth, seed, dict(heads=heads), **kwargs)

    def _core(self, depth, seed, heads):
        return Transformer(self.tokens, self.hidden, heads, depth, seed=seed)


class _Mixing(_Patches):
    """Tokens are mixed by a `Mixer`."""

    def __init__(self, shape, width=32, context=0, patch=8, hidden=96, across=64, depth=4, seed=0, **kwargs):
        super().__init__(shape, width, context, patch, hidden, depth, seed, dict(across=across), **kwargs)

    def _core(self, depth, seed, across):
        return Mixer(self.tokens, self.hidden, depth, across, seed=seed)


@keras.saving.register_keras_serializable("zdckeras")
class VitEncoder(_Attention, _Encoder):
    """Image to tokens by a vision transformer: patches, positions, attention between all of them.

    Arguments:
        shape: (nx, ny) of the image.
        width: d of a token.
        context: C, numbers known of the particle; may be 0.
        patch: pixels along each side of a patch.
        hidden: width of the `Transformer`.
        heads, depth: of it.
        seed: of the weights.

    Returns:
        call((B, nx, ny), (B, C)) gives (B, T, d).

    Raises:
        ValueError: if such patches cannot tile the image, or for input of another shape.

    Source:
        Dosovitskiy et al., arXiv:2010.11929.

    Example:
        >>> VitEncoder((44, 44)).grid
        (6, 6)
    """

    SALT = 27


@keras.saving.register_keras_serializable("zdckeras")
class VitDecoder(_Attention, _Decoder):
    """Tokens to an image by a vision transformer, the other way round.

    Arguments:
        shape, width, context, patch, hidden, heads, depth, seed: as in `VitEncoder`.

    Returns:
        call((B, T, d), (B, C)) gives (B, nx, ny), of either sign.
    """

    SALT = 28


@keras.saving.register_keras_serializable("zdckeras")
class MixerEncoder(_Mixing, _Encoder):
    """Image to tokens by an MLP-Mixer over patches.

    Arguments:
        shape, width, context, patch, hidden, depth, seed: as in `VitEncoder`, with a `Mixer` inside.
        across: width of its dense layers over tokens.

    Returns:
        call((B, nx, ny), (B, C)) gives (B, T, d).
    """

    SALT = 29


@keras.saving.register_keras_serializable("zdckeras")
class MixerDecoder(_Mixing, _Decoder):
    """Tokens to an image by an MLP-Mixer.

    Arguments:
        shape, width, context, patch, hidden, across, depth, seed: as in `MixerEncoder`.

    Returns:
        call((B, T, d), (B, C)) gives (B, nx, ny), of either sign.
    """

    SALT = 30


class _Published(_Patches):
    """As in the neutron study: the particle is a token before the others, GELU inside, zeros all around the image.

    Tokens of an encoder are normalised and, where `width` is None, come as they are, `hidden` wide. A decoder
    normalises nothing and has one bias, and 1/2, for all pixels.
    """

    POSITIONS = True

    def __init__(self, shape, width, context, patch, hidden, depth, seed, mixing, **kwargs):
        settings = dict(patch=patch, hidden=hidden, depth=depth, seed=seed, **mixing)
        Body.__init__(self, shape, width or hidden, context, patch, hidden, settings, **kwargs)
        seeds, (inputs, outputs), encodes = seeds_of([seed, self.SALT]), self._ends(), isinstance(self, _Encoder)
        self.take = linear(inputs, hidden, seeds)
        self.read = None if encodes and width is None else linear(hidden, outputs, seeds, encodes)
        self.bias = None if encodes else self.add_weight(shape=(1,), initializer="zeros", name="bias")
        if self.POSITIONS:
            self.positions = self.add_weight(shape=(self.tokens, hidden), name="positions",
                                             initializer=keras.initializers.RandomNormal(0, 0.1, next(seeds)))
        self._build_context(seeds)
        self.core = self._core(depth, seed=next(seeds), normed=encodes, **mixing)
        self.settings["width"], self.built = width, True

    def _before(self):
        return tuple((self.patch * cells - n) // 2 for cells, n in zip(self.grid, self.image, strict=True))

    def _mix(self, tokens, context):
        self._check_context(context)
        x = on_tokens(self.take, tokens)
        x = x + self.positions if self.POSITIONS else x
        x = x if self.known is None else ops.concatenate([self.known(context)[:, None], x], axis=1)
        x = self.core(x)[:, -self.tokens :]
        x = x if self.read is None else on_tokens(self.read, x)
        return x if self.bias is None else x + self.bias + 0.5


class _PublishedAttention(_Published):
    """Its blocks are those of a `Transformer` with dropout; positions are learned for the patches alone."""

    def __init__(self, shape, width=None, context=0, patch=8, hidden=96, heads=4, depth=4, dropout=0.1, seed=0,
                 **kwargs):
        super().__init__(shape, width, context, patch, hidden, depth, seed, dict(heads=heads, dropout=dropout),
                         **kwargs)

    def _core(self, depth, seed, normed, heads, dropout):
        return Transformer(self.tokens + (self.context > 0), self.hidden, heads, depth, seed=seed, curve="gelu",
                           dropout=dropout, positions=False, normed=normed)


class _PublishedMixing(_Published):
    """Its blocks are those of a `Mixer`."""

    POSITIONS = False

    def __init__(self, shape, width=None, context=0, patch=8, hidden=96, across=128, depth=5, seed=0, **kwargs):
        super().__init__(shape, width, context, patch, hidden, depth, seed, dict(across=across), **kwargs)

    def _core(self, depth, seed, normed, across):
        return Mixer(self.tokens + (self.context > 0), self.hidden, depth, across, seed=seed, curve="gelu",
                     normed=normed)


@keras.saving.register_keras_serializable("zdckeras")
class PublishedVitEncoder(_PublishedAttention, _Encoder):
    """The study's vision transformer, image to tokens.

    Arguments:
        shape: (nx, ny) of the image.
        width: of a token, by a last dense layer; None: there is none, and it is `hidden`.
        context: C, numbers known of the particle; may be 0.
        patch, hidden, heads, depth: as in `VitEncoder`.
        dropout: share left out of the dense layers of a block in training.
        seed: of the weights.

    Returns:
        call((B, nx, ny), (B, C)) gives (B, T, d).

    Source:
        neutron ZDC study, ViT; from the authors' code, m-wojnar/zdc, architectures/vit.py.
    """

    SALT = 71


@keras.saving.register_keras_serializable("zdckeras")
class PublishedVitDecoder(_PublishedAttention, _Decoder):
    """The study's vision transformer, tokens to image; arguments as of `PublishedVitEncoder`, `width` that of tokens.

    Returns:
        call((B, T, d), (B, C)) gives (B, nx, ny), of either sign.
    """

    SALT = 72


@keras.saving.register_keras_serializable("zdckeras")
class PublishedMixerEncoder(_PublishedMixing, _Encoder):
    """The study's MLP-Mixer, image to tokens; arguments as of `PublishedVitEncoder` and `MixerEncoder`.

    Source:
        neutron ZDC study, MLP-Mixer; from the authors' code, m-wojnar/zdc, architectures/mlp_mixer.py.
    """

    SALT = 73


@keras.saving.register_keras_serializable("zdckeras")
class PublishedMixerDecoder(_PublishedMixing, _Decoder):
    """The study's MLP-Mixer, tokens to image; arguments as of `PublishedMixerEncoder`, `width` that of tokens."""

    SALT = 74

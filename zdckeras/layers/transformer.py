"""Transformer body: pre-norm blocks over learned positions, causal with a cache (priors) or seeing all (images)."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from zdckeras import backend
from zdckeras.backend import Tensor
from zdckeras.layers.dense import products, seeds_of

HIDDEN = -1e9  # added to the scores of positions that must not be seen
CURVES = {"silu": ops.silu, "gelu": ops.gelu}


def unchanged(x: Tensor) -> Tensor:
    """x, where there is no layer."""
    return x


class Block(layers.Layer):
    """Attention, then a dense layer and back, each on normalised input and added to it: x += A(N x), x += M(N x).

    A(x) = concat_h softmax(q_h k_h' / sqrt(w / H) + hide) v_h W,  M(x) = W_2 f(W_1 x)

    Arguments:
        width: w of the vectors.
        heads: H, which divides w.
        expansion: width of the dense layer over w.
        scale: of the variance of weights that add to x, small in deep stacks.
        seeds: iterator.
        curve: f, "silu" or "gelu".
        dropout: share of what M and its inner layer give that training leaves out.

    Returns:
        call((B T, w) vectors, T, hide, cache, index) gives (B T, w) and the keys and values (B, H, T, w / H) that were
        seen. Without a cache all T positions see each other as far as `hide` (T, T), added to the scores, lets them.
        With a cache, keys and values of all positions, T is 1 and the new ones go to the position `index`.
    """

    def __init__(self, width, heads, expansion, scale, seeds, curve="silu", dropout=0.0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.width, self.heads, self.each = width, heads, width // heads

        def dense(inputs, units, gain=1.0):
            initializer = keras.initializers.VarianceScaling(gain, "fan_avg", "uniform", next(seeds))
            layer = layers.Dense(units, kernel_initializer=initializer, dtype="float32")
            layer.build((None, inputs))
            return layer

        self.norms = [layers.LayerNormalization(epsilon=1e-5, dtype="float32") for _ in range(2)]
        for norm in self.norms:
            norm.build((None, width))
        self.look, self.mix = dense(width, 3 * width), dense(width, width, scale)
        self.widen, self.narrow = dense(width, expansion * width), dense(expansion * width, width, scale)
        self.curve = CURVES[curve]
        self.drop = layers.Dropout(dropout, seed=next(seeds), dtype="float32") if dropout else unchanged
        self.built = True

    def call(self, x, length, hide=None, cache=None, index=None):
        seen = ops.reshape(self.look(self.norms[0](x)), (-1, length, 3, self.heads, self.each))
        query, keys, values = ops.unstack(ops.transpose(seen, (2, 0, 3, 1, 4)), 3)
        if cache is not None:
            keys, values = (backend.put_at(old, index, new) for new, old in zip((keys, values), cache, strict=True))
        scores = ops.matmul(query * self.each**-0.5, ops.transpose(keys, (0, 1, 3, 2)))
        if hide is not None:
            scores = scores + hide
        found = ops.transpose(ops.matmul(ops.softmax(scores), values), (0, 2, 1, 3))
        x = x + self.mix(ops.reshape(found, (-1, self.width)))
        found = self.narrow(self.drop(self.curve(self.widen(self.norms[1](x)))))
        return x + self.drop(found), (keys, values)


@keras.saving.register_keras_serializable("zdckeras")
class Transformer(layers.Layer):
    """A stack of blocks over T positions: y = N(block_L ... block_1(x + p)), p learned.

    Arguments:
        length: T positions.
        width: w of the vectors.
        heads: of the attention; they share the width.
        depth: blocks L.
        causal: position t sees positions up to t only.
        expansion: width of the dense layer inside a block over w.
        seed: of the weights.
        curve, dropout: of the blocks.
        positions, normed: whether there are p and N.

    Returns:
        call((B, T, w)) gives (B, T, w).

    Raises:
        ValueError: if the heads do not divide the width, or for input of another length or width.

    Source:
        Vaswani et al., arXiv:1706.03762; pre-norm: Xiong et al., arXiv:2002.04745.

    Example:
        >>> body = Transformer(4, width=8, heads=2, depth=1, causal=True)
        >>> x = np.random.default_rng(0).normal(size=(1, 4, 8)).astype("float32")
        >>> y, cache = ops.convert_to_numpy(body(x)), body.empty(1)
        >>> for t in range(4):
        ...     last, cache = body.step(x[:, t], t, cache)
        >>> np.allclose(y[:, 3], ops.convert_to_numpy(last), atol=1e-5)
        True
    """

    def __init__(self, length, width=256, heads=4, depth=5, causal=False, expansion=4, seed=0, curve="silu",
                 dropout=0.0, positions=True, normed=True, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        if min(length, width, heads, depth) < 1 or width % heads:
            raise ValueError("Expected at least one position, head and block, and a width that heads divide; received "
                             f"length {length}, width {width}, heads {heads}, depth {depth}.")
        self.settings = dict(length=length, width=width, heads=heads, depth=depth, causal=causal, expansion=expansion,
                             seed=seed, curve=curve, dropout=dropout, positions=positions, normed=normed)
        self.length, self.width, self.causal, seeds = length, width, causal, seeds_of([seed, 21])
        first = keras.initializers.RandomNormal(0.0, 0.02, next(seeds))
        self.positions = (self.add_weight(shape=(length, width), name="positions", initializer=first) if positions
                          else np.zeros((length, width), "float32"))
        self.blocks = [Block(width, heads, expansion, 0.5 / depth, seeds, curve, dropout) for _ in range(depth)]
        self.norm = layers.LayerNormalization(epsilon=1e-5, dtype="float32") if normed else unchanged
        if normed:
            self.norm.build((None, width))
        self.hide = np.triu(np.full((length, length), HIDDEN, "float32"), 1) if causal else None
        self.built = True

    def call(self, x):
        if tuple(x.shape[1:]) != (self.length, self.width):
            raise ValueError(f"Expected shape (B, {self.length}, {self.width}), received {tuple(x.shape)}.")
        x = ops.reshape(ops.add(x, self.positions), (-1, self.width))
        for block in self.blocks:
            x, _ = block(x, length=self.length, hide=self.hide)
        return ops.reshape(self.norm(x), (-1, self.length, self.width))

    def empty(self, rows: int) -> tuple:
        """A cache before the first step: keys and values of each block, (rows, heads, T, w / heads) each."""
        return tuple((ops.zeros((rows, block.heads, self.length, block.each)),
                      ops.zeros((rows, block.heads, self.length, block.each))) for block in self.blocks)

    def step(self, x: Tensor, index: Any, cache: tuple) -> tuple[Tensor, tuple]:
        """One position of a causal body, from the keys and values of those before.

        Arguments:
            x: (B, w), the vector of this position.
            index: t, number or scalar tensor.
            cache: from `empty` or the step before.

        Returns:
            (B, w), what `call` gives at position t, and the cache with this position in it.

        Raises:
            ValueError: if the body is not causal: later positions would change what was found at earlier ones.
        """
        if not self.causal:
            raise ValueError("Expected a causal body for steps, received causal=False.")
        x = ops.convert_to_tensor(x) + ops.take(self.positions, index, axis=0)
        hide, found = ops.where(ops.arange(self.length) > index, HIDDEN, 0.0), []
        for block, old in zip(self.blocks, cache, strict=True):
            x, new = block(x, length=1, hide=hide, cache=old, index=index)
            found.append(new)
        return self.norm(x), tuple(found)

    def operations(self) -> int:
        """Multiplications for one row of `call`, scores and sums of attention included."""
        dense = sum(products(block.look, block.mix, block.widen, block.narrow) for block in self.blocks)
        return self.length * dense + 2 * len(self.blocks) * self.length**2 * self.width

    def get_config(self):
        return {**super().get_config(), **self.settings}

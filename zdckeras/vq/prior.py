"""Transformer prior: which tokens of a codebook follow each other in the response to a particle."""

from typing import Any

import keras
import numpy as np
from keras import ops

from zdckeras import backend
from zdckeras.arguments import plain
from zdckeras.backend import Tensor
from zdckeras.data.particles import Scaler
from zdckeras.data.showers import Showers
from zdckeras.layers.dense import dense_layers, linear, products, seeds_of
from zdckeras.layers.particle_features import ParticleFeatures
from zdckeras.layers.photon_drawing import log_whole
from zdckeras.layers.transformer import Transformer
from zdckeras.training.loop import SampleLoss


def draw(logits: Tensor, uniform: Tensor, temperature: float = 1.0, top_k: int | None = None,
         top_p: float = 1.0) -> Tensor:
    """One category for each row by the inverse of its cumulative distribution.

    p = softmax(logits / temperature). Kept are the likeliest `top_k`, and of those the fewest whose probabilities add
    up to at least `top_p`, the likeliest first; where neither leaves any out, all are kept as they are numbered, for
    sorting takes ten times longer than the rest. Drawn is the first whose cumulative sum exceeds u times that of all
    kept.

    Arguments:
        logits: (B, K).
        uniform: (B,) numbers in [0, 1): the noise, given as data.
        temperature: above 1 flattens, below 1 sharpens.
        top_k: categories kept at most; all by default.
        top_p: probability kept at least.

    Returns:
        (B,) int32.

    Raises:
        ValueError: for settings out of range.

    Source:
        top-p: Holtzman et al., arXiv:1904.09751.

    Example:
        >>> logits = ops.log(ops.convert_to_tensor([[0.1, 0.6, 0.3]] * 3))
        >>> ops.convert_to_numpy(draw(logits, ops.convert_to_tensor([0.09, 0.61, 0.95]))).tolist()
        [0, 1, 2]
        >>> ops.convert_to_numpy(draw(logits, ops.convert_to_tensor([0.59, 0.61, 0.95]), top_p=0.8)).tolist()
        [1, 1, 2]
    """
    codes = logits.shape[-1]
    top_k = codes if top_k is None else top_k
    if not temperature > 0.0 or not 1 <= top_k <= codes or not 0.0 < top_p <= 1.0:
        raise ValueError(f"Expected a temperature above 0, top_k of 1 to {codes} and top_p above 0 and at most 1; "
                         f"received {temperature}, {top_k} and {top_p}.")
    uniform = ops.minimum(uniform, 1.0 - 1e-6)  # float32 adds up many numbers no better than that
    if top_k == codes and top_p == 1.0:
        share = ops.exp((logits - ops.max(logits, axis=-1, keepdims=True)) / temperature)
        # several times faster than cumsum
        total = backend.exact_matmul(share, np.triu(np.ones((codes, codes), "float32")))
        place = ops.sum(ops.cast(total <= uniform[:, None] * total[:, -1:], "int32"), axis=-1)
        return ops.minimum(place, codes - 1)
    found, order = ops.top_k(logits, top_k)
    share = ops.exp((found - found[:, :1]) / temperature)
    total = ops.cumsum(share, axis=-1)
    kept = ops.sum(ops.cast(total - share < top_p * total[:, -1:], "int32"), axis=-1, keepdims=True)
    places = ops.arange(top_k)
    most = ops.sum(ops.where(places == kept - 1, total, 0.0), axis=-1, keepdims=True)
    place = ops.sum(ops.cast(total <= uniform[:, None] * most, "int32"), axis=-1, keepdims=True)
    return ops.sum(ops.where(places == ops.minimum(place, kept - 1), ops.cast(order, "int32"), 0), axis=-1)


@keras.saving.register_keras_serializable("zdckeras")
class TokenPrior(SampleLoss):
    """Autoregressive distribution of the tokens of a response given the particle: L = -(1/T) sum_t ln p(k_t | k_<t, c).

    The particle enters as the vector of the first position; position t then sees the tokens before it. With `sums`,
    the channel sums of the response belong to c: they are drawn by another model first, and tokens say where they lie.

    Arguments:
        detector: name.
        scaler: {"mean": (9,), "scale": (9,)} of the conditions.
        codes: K of the codebook.
        tokens: T of a response.
        width, heads, depth: of the `Transformer`.
        sums: channel sums that are known, 0 or 5.
        seed: of the weights.

    Returns:
        call({"conditions": (B, 9), "tokens": (B, T), "sums": (B, 5) if known}) gives the per-sample loss (B,) [nats per
        token]; tokens may be whole numbers kept as float32.

    Example:
        >>> prior = TokenPrior("zn", {"mean": [0.0] * 9, "scale": [1.0] * 9}, 8, 4, width=8, heads=2, depth=1)
        >>> tuple(prior.sample(ops.ones((2, 9)), ops.zeros((2, 4))).shape)
        (2, 4)
    """

    def __init__(self, detector: str, scaler: dict[str, Any], codes: int = 256, tokens: int = 36, width: int = 256,
                 heads: int = 4, depth: int = 5, sums: int = 0, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        if codes < 1:
            raise ValueError(f"Expected at least one code, received {codes}.")
        self.settings = dict(detector=detector, scaler=plain(scaler), codes=codes, tokens=tokens, width=width,
                             heads=heads, depth=depth, sums=sums, seed=seed)
        self.codes, self.tokens, self.width, self.sums, seeds = codes, tokens, width, sums, seeds_of([seed, 22])
        self.features = ParticleFeatures(detector, **scaler, dtype="float32")
        self.hidden = dense_layers((width,), self.features.width + sums, seeds)
        self.prefix, self.read = (linear(width, size, seeds) for size in (width, codes))
        self.vectors = self.add_weight(shape=(codes, width), name="vectors",
                                       initializer=keras.initializers.RandomNormal(0.0, 0.5, next(seeds)))
        self.body = Transformer(tokens, width, heads, depth, causal=True, seed=next(seeds))
        self.built = True

    @classmethod
    def fit_scales(cls, showers: Showers, **settings) -> "TokenPrior":
        """A fresh prior for the one detector of training `Showers`."""
        scaler = Scaler.fit(showers.particles)
        return cls(showers.detector().name, scaler.get_config(), **settings)

    def _first(self, conditions, sums):
        if (0 if sums is None else sums.shape[1]) != self.sums:
            raise ValueError(f"Expected {self.sums} channel sums of every response, received "
                             f"{'none' if sums is None else sums.shape[1]}.")
        seen = self.features(ops.cast(conditions, "float32"))
        if self.sums:
            seen = ops.concatenate([seen, log_whole(ops.cast(sums, "float32"))], axis=-1)
        return self.prefix(self.hidden(seen))

    def logits(self, tokens: Tensor, conditions: Tensor, sums: Tensor | None = None) -> Tensor:
        """Logits of every token given those before it, all at once.

        Arguments:
            tokens: (B, T); the last is not looked at.
            conditions: (B, 9).
            sums: (B, 5) channel sums, where the prior knows them.

        Returns:
            (B, T, K).

        Raises:
            ValueError: for another number of tokens or sums.
        """
        if tuple(tokens.shape[1:]) != (self.tokens,):
            raise ValueError(f"Expected tokens of shape (B, {self.tokens}), received {tuple(tokens.shape)}.")
        before = ops.take(self.vectors, ops.cast(tokens[:, :-1], "int32"), axis=0)
        found = self.body(ops.concatenate([self._first(conditions, sums)[:, None], before], axis=1))
        return ops.reshape(self.read(ops.reshape(found, (-1, self.width))), (-1, self.tokens, self.codes))

    def step(self, vector: Tensor, index: Any, cache: tuple) -> tuple[Tensor, tuple]:
        """Logits (B, K) of the token at `index` from the vector (B, width) of the position, and the new cache."""
        found, cache = self.body.step(vector, index, cache)
        return self.read(found), cache

    def sample(self, conditions: Tensor, uniform: Tensor, temperature: float = 1.0, top_k: int | None = None,
               top_p: float = 1.0, sums: Tensor | None = None) -> Tensor:
        """Tokens of responses to particles, one after the other in one loop of the graph, from a cache.

        Arguments:
            conditions: (B, 9).
            uniform: (B, T) numbers in [0, 1), the noise.
            temperature, top_k, top_p: as in `draw`; numbers, fixed when the graph is compiled.
            sums: (B, 5) channel sums, where the prior knows them.

        Returns:
            (B, T) int32.

        Raises:
            ValueError: for uniform numbers of another shape, or settings out of range.
        """
        if tuple(uniform.shape[1:]) != (self.tokens,):
            raise ValueError(f"Expected uniform numbers of shape (B, {self.tokens}), received {tuple(uniform.shape)}.")
        places, noise = ops.arange(self.tokens), ops.transpose(uniform)

        def append(index, state):
            vector, tokens, cache = state
            logits, cache = self.step(vector, index, cache)
            token = draw(logits, ops.take(noise, index, axis=0), temperature, top_k, top_p)
            tokens = ops.where(places == index, token[:, None], tokens)
            return ops.take(self.vectors, token, axis=0), tokens, cache

        first = self._first(conditions, sums)
        rows = ops.shape(first)[0]
        state = (first, ops.zeros((rows, self.tokens), "int32"), self.body.empty(rows))
        return ops.fori_loop(0, self.tokens, append, state)[1]

    def operations(self) -> int:
        """Multiplications for the tokens of one response, those of attention to all places included."""
        return products(self.hidden, self.prefix) + self.tokens * products(self.read) + self.body.operations()

    def call(self, inputs):
        tokens = ops.cast(inputs["tokens"], "int32")
        logits = self.logits(tokens, inputs["conditions"], inputs.get("sums") if self.sums else None)
        return ops.mean(ops.sparse_categorical_crossentropy(tokens, logits, from_logits=True), axis=-1)

    def get_config(self):
        return {**self.settings, "name": self.name}

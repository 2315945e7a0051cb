"""The transformer prior of the neutron study: the particle is told as two tokens of a codebook of its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import keras
from keras import ops

from zdckeras.arguments import plain
from zdckeras.backend import Tensor
from zdckeras.data.particles import CONDITION_COUNT, Scaler
from zdckeras.data.showers import Showers
from zdckeras.generators import WithParts
from zdckeras.layers.dense import dense_layers, linear, products, seeds_of
from zdckeras.layers.log_images import ScaledParticle
from zdckeras.layers.tokens import on_tokens
from zdckeras.layers.transformer import Transformer
from zdckeras.training.loop import SampleLoss, fit_arrays, hand_on
from zdckeras.vq.codebook import Codebook
from zdckeras.vq.prior import draw


@keras.saving.register_keras_serializable("zdckeras")
class ParticleVQVAE(SampleLoss):
    """The particle to two tokens and back: L = |c - c'|^2 + sum over tokens of the codebook's loss, c standardised.

    Four dense layers there, three and one back, LeakyReLU between.

    Arguments:
        detector: name.
        scaler: {"mean": (9,), "scale": (9,)} of the conditions.
        codes, width, projection: of the `Codebook`, learnt by gradient, with a dense layer behind.
        tokens: of a particle.
        seed: of all weights.

    Returns:
        call({"conditions": (B, 9)}) gives the per-sample loss (B,).

    Source:
        neutron ZDC study; from the authors' code, m-wojnar/zdc, models/quantization/vq_vae_cond.py.

    Example:
        >>> model = ParticleVQVAE("zn", {"mean": [0.0] * 9, "scale": [1.0] * 9})
        >>> tuple(model.encode(ops.ones((3, 9)))[1].shape)
        (3, 2)
    """

    def __init__(self, detector: str, scaler: dict[str, Any], codes: int = 256, width: int = 64, projection: int = 16,
                 tokens: int = 2, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.settings = dict(detector=detector, scaler=plain(scaler), codes=codes, width=width, projection=projection,
                             tokens=tokens, seed=seed)
        seeds, self.shape_of, flat = seeds_of([seed, 65]), (tokens, width), tokens * width
        self.features = ScaledParticle(detector, **scaler)
        self.there = dense_layers((width, flat, flat, flat), CONDITION_COUNT, seeds, 0.2)
        self.before = linear(width, width, seeds)
        self.codebook = Codebook(codes, width, decay=None, threshold=0.0, projection=projection, behind=True,
                                 seed=next(seeds))
        self.back = dense_layers((flat, flat, width), flat, seeds, 0.2)
        self.read = linear(width, CONDITION_COUNT, seeds)
        self.built = True

    @classmethod
    def fit_scales(cls, showers: Showers, **settings: Any) -> Self:
        """A fresh model for the one detector of training `Showers`."""
        return cls(showers.detector().name, Scaler.fit(showers.particles).get_config(), **settings)

    def encode(self, conditions: Tensor, training: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """What the `Codebook` gives for particles (B, 9): codes (B, T, width), tokens (B, T) and loss (B,)."""
        vectors = ops.reshape(self.there(self.features(conditions)), (-1, *self.shape_of))
        return self.codebook(on_tokens(self.before, vectors), training=training)

    def call(self, inputs, training=False):
        codes, _, loss = self.encode(inputs["conditions"], training)
        made = self.read(self.back(ops.reshape(codes, (-1, self.shape_of[0] * self.shape_of[1]))))
        wrong = ops.sum(ops.square(made - self.features(inputs["conditions"])), axis=-1)
        return wrong + self.shape_of[0] * loss

    def get_config(self):
        return {**self.settings, "name": self.name}


def fit_reader(showers: Showers, states: str | Path, sizes: Mapping[str, Any], adam: Mapping[str, Any] | None = None,
               seed: int = 0) -> tuple[ParticleVQVAE, dict[str, dict]]:
    """A trained `ParticleVQVAE` of training `Showers`, and its history by name.

    Arguments:
        showers: training `Showers`.
        states: folder of the state file.
        sizes: of which `epochs`, `batch` and `rate` count.
        adam: as in `fit_adam`.
        seed: of weights and order.
    """
    reader, name = ParticleVQVAE.fit_scales(showers, seed=seed), "particle tokens"
    how = {key: sizes[key] for key in ("epochs", "batch", "rate")}
    return reader, {name: fit_arrays(reader, {"conditions": showers.particles}, Path(states) / f"{name}.npz", seed=seed,
                                     adam=adam, **how)}


@keras.saving.register_keras_serializable("zdckeras")
class ParticleTokenPrior(WithParts, SampleLoss):
    """Autoregressive logits l_k of the tokens of a response after those of its particle, which are predicted as well.

    L = mean over tokens of sum_k ln(1 + e^l_k) - l of the right one, every code a yes or no of its own, as published,
    while tokens are drawn by softmax(l / temperature). That sharpens: where l_k = ln(p_k / (1 - p_k)) is learnt, codes
    are drawn at temperature 1 like p_k / (1 - p_k). With dropout.

    Arguments:
        reader: trained `ParticleVQVAE`; it stays as it is.
        codes: K of the codebook of responses.
        tokens: T of a response.
        width, heads, depth, dropout: of the `Transformer`.
        seed: of the weights.

    Returns:
        call({"conditions": (B, 9), "tokens": (B, T)}) gives the per-sample loss (B,).

    Raises:
        ValueError: for fewer codes than those of the particle.

    Source:
        neutron ZDC study; from the authors' code, m-wojnar/zdc, models/quantization/vq_vae_prior.py.
    """

    PARTS, sums = ("reader",), 0

    def __init__(self, reader: ParticleVQVAE, codes: int = 256, tokens: int = 36, width: int = 256, heads: int = 4,
                 depth: int = 5, dropout: float = 0.1, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        if codes < reader.codebook.codes:
            raise ValueError(f"codes: expected at least the {reader.codebook.codes} of the particle, whose tokens are "
                             f"predicted as well, received {codes}.")
        self.settings = dict(codes=codes, tokens=tokens, width=width, heads=heads, depth=depth, dropout=dropout,
                             seed=seed)
        self.reader, self.codes, self.tokens, self.width, seeds = reader, codes, tokens, width, seeds_of([seed, 66])
        self.features = reader.features
        self.known = reader.shape_of[0]
        self.particles, self.vectors, self.positions = (self.add_weight(
            shape=(rows, width), name=name, initializer=keras.initializers.RandomNormal(0.0, width**-0.5, next(seeds)))
            for name, rows in (("particles", reader.codebook.codes), ("vectors", codes), ("positions", tokens - 1)))
        self.first = keras.layers.LayerNormalization(epsilon=1e-5, dtype="float32")
        self.first.build((None, None, width))
        self.body = Transformer(self.known + tokens - 1, width, heads, depth, causal=True, seed=next(seeds),
                                curve="gelu", dropout=dropout, positions=False)
        self.read = linear(width, codes, seeds)
        self.built = True

    @property
    def constants(self) -> tuple[keras.Layer, ...]:
        """Layers whose weights stay as they are."""
        return (self.reader,)

    @classmethod
    def fit_scales(cls, showers: Showers, reader: ParticleVQVAE | None = None, sums: int = 0, **settings: Any) -> Self:
        """A fresh prior for training `Showers`, of an untrained reader unless there is one; it takes no sums."""
        if sums:
            raise ValueError(f"Expected no channel sums beside the published prior, received {sums}.")
        return cls(reader or ParticleVQVAE.fit_scales(showers), **settings)

    def logits(self, tokens: Tensor, conditions: Tensor, particle: Tensor | None = None) -> Tensor:
        """Logits (B, t + T - 1, K) of what follows each of the t tokens of the particle and T - 1 of the response.

        Arguments:
            tokens: (B, T).
            conditions: (B, 9).
            particle: (B, t) tokens of these, where they have been read before.
        """
        before = ops.take(self.vectors, ops.cast(tokens[:, :-1], "int32"), axis=0) + self.positions
        particle = self.reader.encode(conditions)[1] if particle is None else particle
        known = ops.take(self.particles, particle, axis=0)
        found = self.body(self.first(ops.concatenate([known, before], axis=1)))
        return on_tokens(self.read, found)

    def sample(self, conditions: Tensor, uniform: Tensor, temperature: float = 1.0, top_k: int | None = None,
               top_p: float = 1.0, sums: None = None) -> Tensor:
        """Tokens (B, T) int32 of responses to particles (B, 9); arguments as of `TokenPrior.sample`."""
        known = self.first(ops.take(self.particles, self.reader.encode(conditions)[1], axis=0))
        places, noise, cache = ops.arange(self.tokens), ops.transpose(uniform), self.body.empty(ops.shape(known)[0])
        for k in range(self.known - 1):
            _, cache = self.body.step(known[:, k], k, cache)

        def append(index, state):
            vector, tokens, cache = state
            found, cache = self.body.step(vector, index + self.known - 1, cache)
            token = draw(self.read(found), ops.take(noise, index, axis=0), temperature, top_k, top_p)
            tokens = ops.where(places == index, token[:, None], tokens)
            position = ops.take(self.positions, ops.minimum(index, self.tokens - 2), axis=0)
            return self.first(ops.take(self.vectors, token, axis=0) + position), tokens, cache

        state = (known[:, -1], ops.zeros((ops.shape(known)[0], self.tokens), "int32"), cache)
        return ops.fori_loop(0, self.tokens, append, state)[1]

    def operations(self) -> int:
        """Multiplications for the tokens of one response, those of attention to all places and the particle's included.
        """
        reader, tokens = self.reader, self.reader.shape_of[0]
        read = products(reader.there) + tokens * (products(reader.before) + reader.codebook.operations())
        return read + self.tokens * products(self.read) + self.body.operations()

    def call(self, inputs, training=False):
        particle = self.reader.encode(inputs["conditions"])[1]  # not in training, nor what Keras calls behind it
        return hand_on(self._each, {**inputs, "particle": particle}, training)

    def _each(self, inputs):
        tokens, particle = (ops.cast(inputs[name], "int32") for name in ("tokens", "particle"))
        right = ops.concatenate([particle[:, 1:], tokens], axis=1)
        logits = self.logits(tokens, inputs["conditions"], particle)
        each = ops.softplus(logits) - ops.one_hot(right, self.codes) * logits
        return ops.mean(ops.sum(each, axis=-1), axis=-1)

    def get_config(self):
        return {**self.settings, **self.parts_config(), "name": self.name}

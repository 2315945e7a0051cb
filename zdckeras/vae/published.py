"""The autoencoders of the neutron study with its layers: one dense layer between code and tokens, images ln(1 + n).

Bodies are the study's: `PublishedVitEncoder`, `PublishedMixerEncoder`, `PublishedCnnEncoder` and their decoders. Only
the VAE's encoder is told of the particle; decoders are driven by codes. Layers, sizes, losses and their weights are
those of the authors' code, m-wojnar/zdc, models/autoencoder. Differences: weights begin as in our other networks and
not as Flax has them, layer normalisation has epsilon 1e-5 and not 1e-6, the VAE's encoder reads ln s and not ln s^2,
and photons are rounded.
"""

from typing import Any, Self

import keras
from keras import layers, ops

from zdckeras.backend import Tensor
from zdckeras.data.showers import Showers
from zdckeras.layers.dense import dense_layers, linear, products, seeds_of
from zdckeras.layers.log_images import LogImageDecoder, LogImageEncoder, log_image_pair
from zdckeras.layers.tokens import TokensToVector, VectorToTokens
from zdckeras.vae.autoencoders import DrivenAutoencoder, PhotonAutoencoder, PhotonVAE
from zdckeras.vae.sinkhorn import published_divergence


class _Plain:
    """Mixin before a `PhotonAutoencoder`: a code is read from all tokens, and tokens from a code, by one dense layer.

    `of` makes a fresh one.
    """

    READ_BY = 0  # width of a layer with ReLU between tokens and code, for each number of the code
    TOLD = False  # whether the encoder is told of the particle; its tokens then have the width of the decoder's
    INFORMED = True  # whether the particle stands beside the code

    def _heads(self, latent, hidden, seed):
        encoder, decoder = self.encoder, self.decoder
        known = decoder.features.width if self.INFORMED else 0
        return (TokensToVector(encoder.tokens, encoder.width, 0, self.READ * latent + self.EXTRA,
                               self.READ_BY * latent, seed, 0.0),
                VectorToTokens(decoder.tokens, decoder.width, known, latent, 0, seed))

    @classmethod
    def of(cls, showers: Showers, encoder: type, decoder: type, width: int = 64, seed: int = 0,
           settings: dict[str, Any] | None = None, **sizes: Any) -> Self:
        """A fresh model for the one detector of training `Showers`.

        Arguments:
            showers: training `Showers`.
            encoder, decoder: classes of the bodies, such as `PublishedVitEncoder` and `PublishedVitDecoder`.
            width: of the decoder's tokens.
            seed: of all weights.
            settings: of the model.
            sizes: of both bodies.
        """
        pair = log_image_pair(showers, encoder, decoder, (width if cls.TOLD else None, width), (cls.TOLD, False), seed,
                              **sizes)
        return cls(*pair, weight=1.0, seed=seed, **(settings or {}))


@keras.saving.register_keras_serializable("zdckeras")
class ImageVAE(_Plain, PhotonVAE):
    """The study's VAE: L = sum_ij (x - x')^2 + 0.7 KL(N(m, s^2) | N(0, 1)), a code of 10 numbers, x = ln(1 + n).

    Arguments:
        encoder, decoder, latent, weight, kl, seed: as in `PhotonVAE`.
    """

    READ_BY, TOLD = 2, True

    def __init__(self, encoder: LogImageEncoder, decoder: LogImageDecoder, kl: float = 0.7, **kwargs):
        super().__init__(encoder, decoder, kl=kl, **kwargs)


@keras.saving.register_keras_serializable("zdckeras")
class ImageSupervisedAutoencoder(_Plain, DrivenAutoencoder):
    """The study's supervised autoencoder, see `DrivenAutoencoder`: 10 numbers of noise, w_c = 1."""


@keras.saving.register_keras_serializable("zdckeras")
class ImageNoiseGenerator(layers.Layer):
    """Noise and particle to a code >= 0: dense layers of 2h and h numbers side by side, two of 4h, LeakyReLU, ReLU.

    Arguments:
        noise, context, latent: numbers of noise, of what is known of the particle, and of the code.
        hidden: h.
        seed: of the weights.

    Returns:
        call((B, noise), (B, context)) gives (B, latent).

    Example:
        >>> ImageNoiseGenerator(10, 9, 20).count_params() == 10 * 256 + 256 + 9 * 128 + 128 + 384 * 512 + 512 + (
        ...     512 * 512 + 512 + 512 * 20 + 20)
        True
    """

    def __init__(self, noise, context, latent, hidden=128, seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings = dict(noise=noise, context=context, latent=latent, hidden=hidden, seed=seed)
        seeds = seeds_of([seed, 77])
        self.first, self.second = (dense_layers((wide * hidden,), width, seeds, 0.2)
                                   for wide, width in ((2, noise), (1, context)))
        self.dense = dense_layers((4 * hidden, 4 * hidden), 3 * hidden, seeds, 0.2)
        self.read = linear(4 * hidden, latent, seeds)
        self.built = True

    def call(self, noise, context):
        both = ops.concatenate([self.first(noise), self.second(context)], axis=-1)
        return ops.relu(self.read(self.dense(both)))

    def operations(self) -> int:
        """Multiplications with a weight for one code."""
        return products(self.first, self.second, self.dense, self.read)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("zdckeras")
class ImageNoiseAutoencoder(_Plain, PhotonAutoencoder):
    """The study's autoencoders with a noise generator g: L = sum_ij (x - x'(e))^2 + w_g G, e = ReLU(encoder(x)).

    match "sinkhorn":  G = `published_divergence` of {(e, c)} and {(g(z, c), c)}, w_g = 20
    match "mse":       G = |e - g(z, c)|^2, w_g = 10

    e has 20 numbers, z has 10, c is the particle, standardised. The decoder gets the code alone: what it draws of the
    particle, g has put there.

    Arguments:
        encoder, decoder, weight, seed: as in `PhotonAutoencoder`.
        match: "sinkhorn" or "mse".
        latent: numbers of e.
        hidden: of `ImageNoiseGenerator`.

    Raises:
        ValueError: for another match.
    """

    NOISE, INFORMED = 10, False
    WEIGHTS = {"sinkhorn": 20.0, "mse": 10.0}

    def __init__(self, encoder: LogImageEncoder, decoder: LogImageDecoder, match: str = "sinkhorn", latent: int = 20,
                 **kwargs):
        super().__init__(encoder, decoder, latent=latent, **kwargs)
        if match not in self.WEIGHTS:
            raise ValueError(f"Expected match='sinkhorn' or 'mse', received {match!r}.")
        self.settings |= dict(match=match)
        self.match, self.matching = match, self.WEIGHTS[match]
        self.noise = ImageNoiseGenerator(self.NOISE, decoder.features.width, latent, self.settings["hidden"],
                                         self.settings["seed"])

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        return ops.relu(super().encode(inputs))

    def code(self, noise: Tensor, conditions: Tensor) -> Tensor:
        return self.noise(noise, self.decoder.features(conditions))

    def reconstruct(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        conditions = inputs["conditions"]
        code, made, known = self.encode(inputs), self.code(inputs["z"], conditions), self.decoder.features(conditions)
        light = self.decode(code, conditions)
        if self.match == "mse":
            return light, self.matching * ops.sum(ops.square(code - made), axis=-1)
        divergence = published_divergence(*(ops.concatenate([c, known], axis=-1) for c in (code, made)))
        return light, self.matching * divergence * ops.ones_like(code[:, 0])

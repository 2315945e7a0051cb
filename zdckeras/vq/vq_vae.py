"""VQ-VAE of photon responses: an image becomes tokens of a codebook, and tokens the light of an image."""

from typing import Any

import keras
import numpy as np

from zdckeras import backend
from zdckeras.backend import Tensor
from zdckeras.data.showers import Showers
from zdckeras.generators import WithParts, one_detector
from zdckeras.layers.log_images import log_image_pair
from zdckeras.layers.patches import PublishedVitDecoder, PublishedVitEncoder, VitDecoder, VitEncoder
from zdckeras.layers.photon_coding import PhotonDecoder, PhotonEncoder, photon_pair
from zdckeras.training.loop import SampleLoss
from zdckeras.vq.codebook import Codebook

MODEL_SIZES = {  # trained numbers of a model of 44 x 44 cells -> transformers of encoder and decoder
    "0.25M": dict(hidden=60, depth=2, heads=4, light=32),
    "1M": dict(hidden=108, depth=3, heads=4, light=64),
    "4M": dict(hidden=200, depth=4, heads=4, light=96),
    "13M": dict(hidden=360, depth=4, heads=8, light=128),
    "52M": dict(hidden=728, depth=4, heads=8, light=256),
}


@keras.saving.register_keras_serializable("zdckeras")
class PhotonVQVAE(WithParts, SampleLoss):
    """Image to tokens to light: L = w D(n, l) + w_code L_codebook, l = decoder(codes(encoder(n, c)), c).

    D is the decoder's mismatch, the Poisson `deviance` of the photons n from the light l, and L_codebook that of
    `Codebook`, whose gradient passes the quantisation straight through. Encoder and decoder are told of the particle,
    so that tokens need not repeat what it decides; those of `published` are not.

    Arguments:
        encoder: `PhotonEncoder`.
        decoder: `PhotonDecoder` of the same tokens.
        codebook: settings of `Codebook` except its width.
        weight: w.
        seed: of the codebook and cell noise.
        coding: w_code.

    Returns:
        call({"conditions": (B, 9), "responses": (B, nx, ny)}) gives the per-sample loss (B,).

    Raises:
        ValueError: if encoder and decoder do not have the same tokens.

    Source:
        van den Oord et al., arXiv:1711.00937; sizes: neutron ZDC study, "The more, not always the better".
    """

    PARTS = ("encoder", "decoder")

    def __init__(self, encoder: PhotonEncoder, decoder: PhotonDecoder, codebook: dict[str, Any] | None = None,
                 weight: float = 0.01, seed: int = 0, coding: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        if (encoder.tokens, encoder.width) != (decoder.tokens, decoder.width):
            raise ValueError(f"Expected encoder and decoder of the same tokens, received {encoder.tokens} x "
                             f"{encoder.width} and {decoder.tokens} x {decoder.width}.")
        self.settings = dict(codebook=codebook or {}, weight=weight, seed=seed, coding=coding)
        self.encoder, self.decoder, self.weight, self.coding = encoder, decoder, weight, coding
        self.codebook = Codebook(width=encoder.width, **{"seed": seed, **(codebook or {})})
        self.scatter = decoder.scatter(seed=seed)
        self.detector, self.tokens = one_detector(encoder=encoder.detector, decoder=decoder.detector), encoder.tokens
        self.used = keras.metrics.Mean(name="perplexity")
        self.built = True

    @classmethod
    def of_size(cls, showers: Showers, size: str = "1M", patch: int = 8, width: int = 32, seed: int = 0,
                **settings) -> "PhotonVQVAE":
        """A fresh model with vision transformers of one of the study's sizes, for one detector's training `Showers`.

        Arguments:
            showers: training `Showers`.
            size: one of "0.25M", "1M", "4M", "13M", "52M": numbers that are trained.
            patch: cells along each side of a token.
            width: of a code.
            seed: of all weights.
            settings: as of the class.

        Raises:
            ValueError: for another size.
        """
        if size not in MODEL_SIZES:
            raise ValueError(f"Expected one of the sizes {', '.join(MODEL_SIZES)}, received {size!r}.")
        sizes = dict(MODEL_SIZES[size])
        pair = photon_pair(showers, VitEncoder, VitDecoder, width, sizes.pop("light"), seed=seed, patch=patch, **sizes)
        return cls(*pair, seed=seed, **settings)

    @classmethod
    def published(cls, showers: Showers, hidden: int = 96, heads: int = 4, depth: int = 4, width: int = 256,
                  codes: int = 256, projection: int = 32, patch: int = 8, averaged: bool = False, seed: int = 0,
                  **settings) -> "PhotonVQVAE":
        """The study's: images ln(1 + n), L = sum_ij (x - x')^2 + sum over tokens of the codebook's loss.

        Its transformers are told nothing of the particle; 36 tokens in ZN, quantised with a projection and a dense
        layer behind, see `Codebook`. With averages, as in the VQ-GAN, there is no projection and pixels weigh 0.55.

        Arguments:
            showers: training `Showers`.
            hidden, heads, depth, patch: of the vision transformers.
            width, codes: of the codebook; its vectors are of length 1.
            projection: numbers that are compared where codes are learnt by gradient.
            averaged: whether they are moving averages, as in the VQ-GAN, or learnt by gradient.
            seed: of all weights.
            settings: as of the class.

        Source:
            neutron ZDC study, VQ-VAE; sizes, losses and codebook from the authors' code, m-wojnar/zdc,
            models/quantization.
        """
        pair = log_image_pair(showers, PublishedVitEncoder, PublishedVitDecoder, width, (False, False), seed,
                              hidden=hidden, heads=heads, depth=depth, patch=patch)
        codebook = dict(codes=codes, threshold=0.0, behind=True, **(dict(decay=0.99) if averaged else dict(
            decay=None, projection=projection)))
        return cls(*pair, codebook, seed=seed, **{"weight": 0.55 if averaged else 1.0, "coding": pair[0].tokens,
                                                  **settings})

    def light(self, tokens: Tensor, conditions: Tensor) -> Tensor:
        """Expected light (B, nx, ny) of tokens (B, T) and particles (B, 9)."""
        return self.decoder(self.codebook.lookup(tokens), conditions)

    def reconstruct(self, photons: Tensor, conditions: Tensor, training: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Light (B, nx, ny), tokens (B, T) and codebook loss (B,) of photons (B, nx, ny)."""
        codes, tokens, loss = self.codebook(self.encoder(photons, conditions, training=training), training=training)
        return self.decoder(codes, conditions, training=training), tokens, loss

    def call(self, inputs, training=False):
        light, _, loss = self.reconstruct(inputs["responses"], inputs["conditions"], training)
        return self.weight * self.decoder.mismatch(inputs["responses"], light) + self.coding * loss

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Mean over the batch; records the codebook's perplexity."""
        self.used.update_state(self.codebook.perplexity())
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def operations(self) -> int:
        """Multiplications for one image there and back."""
        return (self.encoder.operations() + self.decoder.operations()
                + self.tokens * self.codebook.operations())

    def get_config(self):
        return {**self.parts_config(), **self.settings, "name": self.name}


def encode(model: PhotonVQVAE, showers: Showers, batch_size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and expected light of responses.

    Arguments:
        model: `PhotonVQVAE`.
        showers: `Showers` of its detector.
        batch_size: rows at once.

    Returns:
        (N, T) int32 tokens and (N, nx, ny) float32 light.

    Raises:
        ValueError: for no showers, or showers of another detector.
    """
    photons, conditions = showers.response_of(model.detector.name), showers.particles.astype("float32")
    if not len(photons):
        raise ValueError("Expected at least one response to encode, received none.")
    reader = _Reader(model)
    parts = []
    for start in range(0, len(photons), batch_size):
        rows = np.minimum(np.arange(start, start + batch_size), len(photons) - 1)  # one size: graphs compile once
        found = backend.predicted(reader, {"photons": photons[rows].astype("float32"), "conditions": conditions[rows]})
        parts.append([np.asarray(a)[: len(photons) - start] for a in found])
    tokens, light = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return tokens.astype("int32"), light


class _Reader(keras.Model):
    """Tokens and light as the prediction of a model."""

    def __init__(self, model):
        super().__init__(name="reader")
        self.model, self.built = model, True

    def call(self, inputs):
        light, tokens, _ = self.model.reconstruct(inputs["photons"], inputs["conditions"])
        return tokens, light

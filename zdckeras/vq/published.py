"""The VQ-GAN of the neutron study: images ln(1 + n), and a critic that judges every patch of them."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from zdckeras.arguments import of_kind
from zdckeras.data.particles import CONDITION_COUNT
from zdckeras.data.showers import Showers
from zdckeras.gan.losses import accuracy, critic_loss, generator_loss
from zdckeras.generators import WithParts
from zdckeras.layers.dense import linear, seeds_of
from zdckeras.layers.log_images import LogImageEncoder
from zdckeras.layers.patches import PublishedVitEncoder
from zdckeras.layers.tokens import on_tokens
from zdckeras.training.adversarial import term_weights
from zdckeras.training.cost import Counts, Passes
from zdckeras.training.phases import Phase, PhasedModel
from zdckeras.vq.vq_vae import PhotonVQVAE

TERMS = {"pixels": 0.55, "codebook": 1.0, "adversarial": 0.96}  # absolute and perceptual errors: 0
CRITIC = 0.028  # weight of the critic's loss, which its Adam with a large epsilon feels


@keras.saving.register_keras_serializable("zdckeras")
class PatchCritic(WithParts, layers.Layer):
    """A logit for every patch of an image: body(x, c), then dense layers of h and h / 2 with GELU on every token.

    Arguments:
        encoder: `LogImageEncoder`, told of the particle.
        hidden: h.
        seed: of the dense layers.

    Returns:
        call((B, nx, ny) images ln(1 + n), (B, 9) conditions) gives (B, T) logits.

    Source:
        neutron ZDC study, VQ-GAN; sizes from the authors' code, m-wojnar/zdc.
    """

    PARTS = ("encoder",)

    def __init__(self, encoder: LogImageEncoder, hidden: int = 128, seed: int = 0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        of_kind(encoder, LogImageEncoder, "encoder")
        self.encoder, self.settings, seeds = encoder, dict(hidden=hidden, seed=seed), seeds_of([seed, 41])
        self.first, self.second = linear(encoder.width, hidden, seeds), linear(hidden, hidden // 2, seeds)
        self.read = linear(hidden // 2, 1, seeds)
        self.built = True

    def call(self, images, conditions, training=False):  # handed on by Keras
        tokens = self.encoder.body(images, self.encoder.known(conditions))
        for layer in (self.first, self.second):
            tokens = ops.gelu(on_tokens(layer, tokens))
        return on_tokens(self.read, tokens)[..., 0]

    def get_config(self):
        return {**super().get_config(), **self.settings, **self.parts_config()}


@keras.saving.register_keras_serializable("zdckeras")
class ImageVQGAN(WithParts, PhasedModel):
    """VQ-VAE over images x = ln(1 + n) against a critic of patches, as published.

    L = w_pix sum_ij (x - x')^2 + w_code L_codebook + w_adv L_adv(x', c), all sums over pixels, tokens and patches

    The critic's loss is a sum over patches, too, times 0.028. The codebook is one of moving averages. The study's
    weights w_adv are fixed, after 10,000 steps without a critic: the model handed over is trained for as long as that
    warm-up is to be. Differences: optimizers and their cycles begin anew then, and the critic sees images made without
    dropout.

    Arguments:
        model: `PhotonVQVAE.published(..., averaged=True)`; it is trained in place.
        critic: `PatchCritic`.
        weights: of "pixels", "codebook" and "adversarial", where they differ from the study's.

    Returns:
        call({"conditions": (B, 9), "responses": (B, nx, ny)}) gives reconstructed images (B, nx, ny).

    Raises:
        ValueError: for a model or a critic of another kind, or an unknown or negative weight.

    Source:
        neutron ZDC study, VQ-GAN; weights from the authors' code, m-wojnar/zdc. Esser et al., arXiv:2012.09841.
    """

    PARTS = ("model", "critic")

    def __init__(self, model: PhotonVQVAE, critic: PatchCritic, weights: Mapping[str, float] | None = None, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.weights_of = term_weights(weights, TERMS)
        of_kind(model, PhotonVQVAE, "model")
        of_kind(critic, PatchCritic, "critic")
        self.model, self.critic, self.latent, self.built = model, critic, model.scatter.latent, True

    @classmethod
    def of(cls, model: PhotonVQVAE, showers: Showers, hidden: int = 128, heads: int = 4, depth: int = 4, seed: int = 0,
           **settings: Any) -> "ImageVQGAN":
        """The model with a fresh critic, the study's vision transformer on its patches, of training `Showers`.

        Arguments:
            model: as above.
            showers: training `Showers`.
            hidden, heads, depth: of the critic's transformer; the study's by default.
            seed: of the critic.
            settings: `weights`.
        """
        of_kind(model, PhotonVQVAE, "model")
        detector, patch = model.detector, model.encoder.body.patch
        body = PublishedVitEncoder(detector.shape, None, CONDITION_COUNT, patch, hidden, heads, depth, seed=seed + 1)
        encoder = LogImageEncoder(detector.name, model.encoder.settings["scaler"], body)
        return cls(model, PatchCritic(encoder, hidden, seed), **settings)

    def phases(self) -> dict[str, Phase]:
        return {"critic": Phase(self._critic_loss, (self.critic,), ("adversarial",), watched=("accuracy",)),
                "generator": Phase(self._generator_loss, (self.model,), tuple(TERMS))}

    def passes(self) -> dict[str, Passes]:
        """How often a step runs model and critic, for `zdckeras.training.cost`."""
        rows = {"responses": np.ones((1, *self.model.detector.shape)), "conditions": np.ones((1, CONDITION_COUNT))}
        rows = {name: values.astype("float32") for name, values in rows.items()}
        critic = Counts.of_call(self.critic, *rows.values())
        return {"model": Passes(Counts.of_call(self.model, rows), 1.0, 1.0), "critic": Passes(critic, 0.0, 3.0)}

    def _critic_loss(self, batch, training):
        real, conditions = ops.log1p(ops.cast(batch["responses"], "float32")), batch["conditions"]
        images = real, ops.stop_gradient(self(batch))
        logits = [self.critic(image, conditions, training=training) for image in images]
        return {"adversarial": CRITIC * self.model.tokens * critic_loss(*logits), "accuracy": accuracy(*logits)}

    def _generator_loss(self, batch, training):
        photons, conditions = batch["responses"], batch["conditions"]
        image, _, codebook = self.model.reconstruct(photons, conditions, training)
        patches = self.model.tokens  # the losses of codebook and critic are means over them
        found = {"pixels": ops.mean(self.model.decoder.mismatch(photons, image)),
                 "codebook": patches * ops.mean(codebook),
                 "adversarial": patches * generator_loss(self.critic(image, conditions, training=training))}
        return {name: self.weights_of[name] * value for name, value in found.items()}

    def call(self, inputs):
        return self.model.reconstruct(inputs["responses"], inputs["conditions"])[0]

    def get_config(self):
        return {"weights": self.weights_of, **self.parts_config(), "momentum": self.momentum, "name": self.name}

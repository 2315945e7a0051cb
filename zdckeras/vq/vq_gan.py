"""VQ-GAN: a VQ-VAE with an adversarial and a perceptual loss on whole photons."""


from collections.abc import Mapping

import keras
from keras import layers, ops

from zdckeras.arguments import non_negative, of_kind
from zdckeras.backend import Tensor
from zdckeras.data.showers import Showers
from zdckeras.gan.losses import generator_loss
from zdckeras.gan.model import critic_terms
from zdckeras.gan.networks import Critic
from zdckeras.generators import WithParts
from zdckeras.layers.photon_coding import deviance
from zdckeras.layers.response_features import SummaryFeatures
from zdckeras.training.phases import Phase, PhasedModel
from zdckeras.vq.vq_vae import PhotonVQVAE


def perceptual_loss(body: keras.Sequential, real: Tensor, made: Tensor) -> Tensor:
    """How differently a convolutional network sees two responses: L = sum_l mean_ij |f_l(x) - f_l(x')|^2.

    f_l are the features of the activations of layer l in each cell of its grid, scaled to length 1. The network is a
    critic's own, as it is: it needs no weights from elsewhere, and what it has learnt tells these responses apart.

    Arguments:
        body: `keras.Sequential` of convolutions and activations.
        real, made: (B, nx, ny, 1).

    Returns:
        (B,).

    Source:
        Zhang et al., arXiv:1801.03924, eq. 1; features of a critic: Larsen et al., arXiv:1512.09300, section 2.2.
    """
    loss, features = 0.0, (real, made)
    for layer in body.layers:
        features = tuple(layer(f) for f in features)
        if isinstance(layer, layers.LeakyReLU):
            first, second = (f * ops.rsqrt(ops.sum(ops.square(f), axis=-1, keepdims=True) + 1e-4) for f in features)
            loss = loss + ops.mean(ops.sum(ops.square(first - second), axis=-1), axis=(1, 2))
    return loss


@keras.saving.register_keras_serializable("zdckeras")
class PhotonVQGAN(WithParts, PhasedModel):
    """VQ-VAE against critic: L = w D(n, l) + L_codebook + w_adv L_adv(n', c) + w_per L_per(n, n'), n' = scatter(l).

    The critic sees whole photons, n' drawn from the light of the reconstruction (gradients pass straight through), for
    smooth light it would tell from photons at a glance. Both terms join after a warm-up: the `PhotonVQVAE` handed over
    is a trained one, its spread of cells fitted.

    Arguments:
        model: `PhotonVQVAE`; it is trained in place.
        adversarial, perceptual: w_adv and w_per.
        critic: sizes, as in `Critic`.
        penalty: weight of the gradient penalty at the critic's embeddings, see `critic_terms`.
        seed: of the critic.

    Returns:
        call({"conditions": (B, 9), "responses": (B, nx, ny), "z": (B, d)}) gives reconstructed photons (B, nx, ny).

    Raises:
        ValueError: for a model of another kind, a network in place of the critic's sizes, or a negative weight.

    Source:
        Esser, Rombach, Ommer, arXiv:2012.09841, eq. 4 to 6; fixed w_adv in place of its ratio of gradients.
    """

    PARTS = ("model",)

    def __init__(self, model: PhotonVQVAE, adversarial: float = 0.2, perceptual: float = 0.2,
                 critic: dict | None = None, penalty: float = 0.5, seed: int = 0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        of_kind(model, PhotonVQVAE, "model")
        critic = {"dtype": keras.config.dtype_policy().name, **of_kind(critic or {}, Mapping, "critic")}
        for name, weight in (("adversarial", adversarial), ("perceptual", perceptual), ("penalty", penalty)):
            non_negative(weight, name)
        self.settings = dict(adversarial=adversarial, perceptual=perceptual, critic=critic, penalty=penalty, seed=seed)
        self.model, self.adversarial, self.perceptual, self.penalty = model, adversarial, perceptual, penalty
        scaler = model.decoder.settings["scaler"]
        self.critic = Critic(model.detector.name, scaler, seed=seed, **critic)
        self.latent, self.built = model.scatter.latent, True

    @classmethod
    def fit_scales(cls, model: PhotonVQVAE, showers: Showers, critic: dict | None = None,
                   **settings) -> "PhotonVQGAN":
        """The model with a critic whose summary is scaled on training `Showers`."""
        of_kind(model, PhotonVQVAE, "model")
        summary = [SummaryFeatures.fit(showers, model.detector.name)]
        return cls(model, critic={**(critic or {}), "summary": summary}, **settings)

    def phases(self) -> dict[str, Phase]:
        seen = ("adversarial", "penalty") if self.penalty else ("adversarial",)
        terms = ("deviance", "codebook", "adversarial", "perceptual")
        return {"critic": Phase(self._critic_loss, (self.critic,), seen, watched=("accuracy",)),
                "generator": Phase(self._generator_loss, (self.model,), terms)}

    def _critic_loss(self, batch, training):
        made = self(batch)
        return critic_terms(self.critic, [batch["responses"]], [made], batch["conditions"], self.penalty)

    def _generator_loss(self, batch, training):
        photons, conditions = ops.cast(batch["responses"], "float32"), batch["conditions"]
        light, _, codebook = self.model.reconstruct(photons, conditions, training)
        made = self.model.scatter(light, batch["z"])
        body = self.critic.images[0]
        return {"deviance": self.model.weight * ops.mean(deviance(photons, light)), "codebook": ops.mean(codebook),
                "adversarial": self.adversarial * generator_loss(self.critic([made], conditions)),
                "perceptual": self.perceptual * ops.mean(perceptual_loss(
                    body, ops.log1p(photons)[..., None], ops.log1p(made)[..., None]))}

    def call(self, inputs):
        light, _, _ = self.model.reconstruct(inputs["responses"], inputs["conditions"])
        return self.model.scatter(light, inputs["z"])

    def get_config(self):
        return {**self.settings, **self.parts_config(), "momentum": self.momentum, "name": self.name}

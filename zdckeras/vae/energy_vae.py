"""Conditional variational autoencoder of responses: the smallest generator, and the baseline of the others."""

from typing import Any

import keras
from keras import layers, ops
from numpy.typing import ArrayLike

from zdckeras import backend
from zdckeras.arguments import plain
from zdckeras.backend import Tensor
from zdckeras.data.detectors import get_detector
from zdckeras.data.impact import expected_centre
from zdckeras.data.particles import Scaler
from zdckeras.data.showers import Showers
from zdckeras.data.transforms import BoxCox
from zdckeras.generators import RangedSampler, WithParts
from zdckeras.layers.cnn import GridDecoder, mirrored
from zdckeras.layers.dense import dense_layers, linear, seeds_of
from zdckeras.layers.particle_features import FlightFeatures
from zdckeras.vae.variational import Autoencoder, Variational, normal_of
from zdckeras.wgan_gp.losses import centre_loss
from zdckeras.wgan_gp.regressor import BOXCOX_SCALE


class _ImageLayer(layers.Layer):
    """What the encoder and the decoder share: settings, and the features of the particle."""

    def __init__(self, detector, scaler, latent=10, channels=(64, 32, 16, 8), hidden=256, seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings = dict(detector=detector, scaler=plain(scaler), latent=latent, channels=tuple(channels),
                             hidden=hidden, seed=seed)
        self.features = FlightFeatures(detector, **scaler, dtype="float32")
        self.detector, self.latent = self.features.detector, latent

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("zdckeras")
class ImageEncoder(_ImageLayer):
    """Network-space image and particle to mean and ln of the standard deviation of a latent code.

    Arguments:
        detector: name.
        scaler: {"mean": (9,), "scale": (9,)} of the conditions.
        latent: numbers of the code.
        channels: of the grids from coarse to fine, mirrored.
        hidden: width of the dense layer on top.
        seed: of the weights.

    Returns:
        call((B, nx, ny), (B, 9)) gives two (B, latent).
    """

    def __init__(self, detector, scaler, latent=10, channels=(64, 32, 16, 8), hidden=256, seed=0, **kwargs):
        super().__init__(detector, scaler, latent, channels, hidden, seed, **kwargs)
        seeds = seeds_of([seed, 7])
        self.body, width = mirrored(channels, self.detector.shape, seeds)
        self.dense = dense_layers((hidden,), width + self.features.width, seeds)
        self.read = linear(hidden, 2 * latent, seeds)
        self.built = True

    def call(self, image, conditions):
        code = [self.body(BOXCOX_SCALE * image[..., None]), self.features(conditions)]
        return normal_of(self.read(self.dense(ops.concatenate(code, axis=-1))))


@keras.saving.register_keras_serializable("zdckeras")
class ImageDecoder(_ImageLayer):
    """Latent code and particle to a non-negative image in network space, by a `GridDecoder`.

    Arguments:
        detector, scaler, latent, channels, seed: as in `ImageEncoder`.
        hidden: width of the dense layer before the grid.

    Returns:
        call((B, latent), (B, 9)) gives (B, nx, ny).
    """

    def __init__(self, detector, scaler, latent=10, channels=(64, 32, 16, 8), hidden=256, seed=0, **kwargs):
        super().__init__(detector, scaler, latent, channels, hidden, seed, **kwargs)
        seeds = seeds_of([seed, 8])
        self.dense = dense_layers((hidden,), latent + self.features.width, seeds)
        self.body = GridDecoder(hidden, self.detector.shape, channels, seeds)
        self.built = True

    def call(self, code, conditions):
        known = ops.concatenate([code, self.features(conditions)], axis=-1)
        return ops.softplus(self.body(self.dense(known)))


@keras.saving.register_keras_serializable("zdckeras")
class ResponseVAE(Variational, Autoencoder):
    """Conditional VAE in network space: L = |y - y'|^2 / (2 s^2) + w_KL KL(q(z | y, c) | N(0, 1)) + w_c centre.

    KL = sum_k (m_k^2 + s_k^2 - 1) / 2 - ln s_k, and the centre term is `centre_loss` in photon space.

    Arguments:
        detector: name.
        scaler: of the conditions.
        boxcox: {"power", "shift"} of the network space.
        deviation: s, of a cell in network space.
        kl, centre: weights.
        depth: how deep in the detector the centre of gravity is expected [cm].
        encoder, decoder: sizes, as in `ImageEncoder` and `ImageDecoder`.
        latent: numbers of the code.
        seed: of the weights.

    Returns:
        call({"conditions": (B, 9), "responses": (B, nx, ny), "z": (B, latent)}) gives the per-sample loss (B,).

    Source:
        Kingma and Welling, arXiv:1312.6114; Sohn et al., NIPS 2015 (conditional).
    """

    def __init__(self, detector: str, scaler: dict[str, Any], boxcox: dict[str, Any], deviation: float = 0.3,
                 kl: float = 1.0, centre: float = 0.0, depth: float = 0.0, encoder: dict[str, Any] | None = None,
                 decoder: dict[str, Any] | None = None, latent: int = 10, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.settings = dict(detector=detector, scaler=plain(scaler), boxcox=boxcox, deviation=deviation, kl=kl,
                             centre=centre, depth=depth, encoder=encoder or {}, decoder=decoder or {}, latent=latent,
                             seed=seed)
        self.encoder = ImageEncoder(detector, scaler, latent, seed=seed, **(encoder or {}))
        self.decoder = ImageDecoder(detector, scaler, latent, seed=seed, **(decoder or {}))
        self.detector, self.boxcox, self.kl, self.centre = get_detector(detector), BoxCox(**boxcox), kl, centre
        self.deviation, self.depth = deviation, depth
        self.built = True

    @classmethod
    def fit_scales(cls, showers: Showers, boxcox: dict[str, Any], **settings) -> "ResponseVAE":
        """A fresh model for the one detector of training `Showers`."""
        return cls(showers.detector().name, Scaler.fit(showers.particles).get_config(), boxcox, **settings)

    def posterior(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and ln of the deviation of the codes of a batch, two (B, latent)."""
        return self.encoder(self._image(inputs), inputs["conditions"])

    def decode(self, code: Tensor, conditions: Tensor) -> Tensor:
        """Responses (B, nx, ny) in network space of codes (B, latent) of particles (B, 9)."""
        return self.decoder(code, conditions)

    def mismatch(self, inputs: dict[str, Tensor], made: Tensor) -> Tensor:
        loss = ops.sum(ops.square(self._image(inputs) - made), axis=(1, 2)) / (2.0 * self.deviation**2)
        if self.centre:
            expected = expected_centre(inputs["conditions"], self.detector, self.depth, ops)
            loss = loss + self.centre * centre_loss(self.boxcox.inverse(made), expected)
        return loss

    def _image(self, inputs):
        return self.boxcox.forward(ops.cast(inputs["responses"], "float32"))

    def get_config(self):
        return {**self.settings, "name": self.name}


@keras.saving.register_keras_serializable("zdckeras")
class DecoderGenerator(WithParts, RangedSampler):
    """The shipped generator of an autoencoder: normal numbers and a particle to energies, x = BoxCox^-1(decoder(z, c)).

    Arguments:
        decoder: trained `ImageDecoder`.
        boxcox: {"power", "shift"} of the network space.
        low, high: see `RangedSampler`.
        floor: energies below this are 0 [MeV].
    """

    PARTS = ("decoder",)

    def __init__(self, decoder: ImageDecoder, boxcox: dict[str, Any], low: ArrayLike, high: ArrayLike,
                 floor: float = 0.05, **kwargs):
        super().__init__(low, high, **kwargs)
        self.decoder, self.detectors, self.settings = decoder, [decoder.detector], {"boxcox": boxcox, "floor": floor}
        self.boxcox, self.floor, self.noise_width = BoxCox(**boxcox), floor, decoder.latent
        self.jit_compile = backend.jit_compile()
        self.built = True

    def generate(self, noise: Tensor, conditions: Tensor) -> Tensor:
        energy = self.boxcox.inverse(self.decoder(noise, ops.cast(conditions, "float32")))
        return ops.where(energy > self.floor, energy, ops.zeros_like(energy))

    def get_config(self):
        return {**super().get_config(), **self.parts_config(), **self.settings}

"""Autoencoders of photon responses that generate from a vector of noise: VAE, supervised, with a noise generator."""

import keras
from keras import layers, ops
from numpy.typing import ArrayLike

from zdckeras import backend
from zdckeras.backend import Tensor
from zdckeras.data.particles import CONDITION_COUNT
from zdckeras.data.showers import Showers
from zdckeras.generators import RangedSampler, WithParts, one_detector
from zdckeras.layers.dense import dense_layers, linear, products, seeds_of
from zdckeras.layers.log_images import LogImageDecoder, WholePhotons
from zdckeras.layers.photon_coding import PhotonDecoder, PhotonEncoder, PhotonScatter
from zdckeras.layers.tokens import TokensToVector, VectorToTokens
from zdckeras.vae.sinkhorn import sinkhorn_divergence
from zdckeras.vae.variational import Autoencoder, Variational, kl_of_normal, normal_of, reparametrise


class PhotonAutoencoder(WithParts, Autoencoder):
    """Base: photons n to a code of d numbers to the light l expected of the code and the particle, L = w D(n, l) + ...

    D is the decoder's mismatch, the Poisson `deviance`. What else is in L, and from which code responses are generated,
    subclasses say. Around `LogImageEncoder` and `LogImageDecoder`, l is the image ln(1 + n) and D its squared error.

    Arguments:
        encoder, decoder: `PhotonEncoder` and `PhotonDecoder`, or `LogImageEncoder` and `LogImageDecoder`.
        latent: d.
        hidden: width of the dense layers between tokens and code.
        weight: w.
        seed: of the weights between tokens and code.

    Returns:
        call({"conditions": (B, 9), "responses": (B, nx, ny), "z": (B, noise_width)}) gives the per-sample loss (B,).
    """

    PARTS = ("encoder", "decoder")
    READ = 1  # numbers read from tokens for each number of the code
    EXTRA = 0  # and beside them
    NOISE = None  # numbers of noise that make a code; None: as many as it has

    def __init__(self, encoder, decoder, latent=10, hidden=128, weight=0.01, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.settings = dict(latent=latent, hidden=hidden, weight=weight, seed=seed)
        self.encoder, self.decoder, self.latent, self.weight = encoder, decoder, latent, weight
        self.noise_width = self.NOISE or latent
        self.read, self.spread = self._heads(latent, hidden, seed)
        self.scatter = decoder.scatter(self.noise_width, seed)
        self.detector = one_detector(encoder=encoder.detector, decoder=decoder.detector)
        self.built = True

    def _heads(self, latent, hidden, seed):
        """What stands between the encoder's tokens and the code, and between code and particle and the decoder's."""
        encoder, decoder = self.encoder, self.decoder
        return (TokensToVector(encoder.tokens, encoder.width, 0, self.READ * latent + self.EXTRA, hidden, seed),
                VectorToTokens(decoder.tokens, decoder.width, decoder.features.width, latent, hidden, seed))

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        """What is read from the photons of a batch, (B, READ d + EXTRA)."""
        tokens = self.encoder(inputs["responses"], inputs["conditions"])
        return self.read(tokens, ops.zeros_like(tokens[:, 0, :0]))

    def decode(self, code: Tensor, conditions: Tensor) -> Tensor:
        """Light (B, nx, ny) of codes (B, d) of particles (B, 9)."""
        return self.decoder(self.spread(code, self.decoder.features(conditions)), conditions)

    def code(self, noise: Tensor, conditions: Tensor) -> Tensor:
        """Codes (B, d) to generate from: the noise itself, unless a subclass makes something of it."""
        return noise

    def mismatch(self, inputs: dict[str, Tensor], made: Tensor) -> Tensor:
        return self.weight * self.decoder.mismatch(inputs["responses"], made)

    def operations(self) -> int:
        """Multiplications with a weight for one response from noise."""
        return self.spread.operations() + self.decoder.operations()

    def get_config(self):
        return {**self.parts_config(), **self.settings, "name": self.name}


@keras.saving.register_keras_serializable("zdckeras")
class PhotonVAE(Variational, PhotonAutoencoder):
    """Conditional variational autoencoder: L = w D(n, l(m + s z, c)) + w_KL KL(N(m, s^2) | N(0, 1)).

    Arguments:
        encoder, decoder, latent, hidden, weight, seed: as in `PhotonAutoencoder`.
        kl: w_KL.

    Source:
        Kingma and Welling, arXiv:1312.6114; Sohn et al., NIPS 2015 (conditional).
    """

    READ = 2

    def __init__(self, encoder: PhotonEncoder, decoder: PhotonDecoder, kl: float = 0.07, **kwargs):
        super().__init__(encoder, decoder, **kwargs)
        self.settings |= dict(kl=kl)
        self.kl = kl

    def posterior(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and ln of the deviation of the codes of a batch, two (B, d)."""
        return normal_of(self.encode(inputs))


@keras.saving.register_keras_serializable("zdckeras")
class SupervisedAutoencoder(PhotonAutoencoder):
    """The encoder, told nothing, also reads the particle c' from the photons, and the decoder is driven from that.

    L = w D(n, l(m + s z, c'')) + w_KL KL(N(m, s^2) | N(0, 1)) + w_c |(c' - c) / scale|^2 / 9

    c'' is c' in every second row of a batch, and c in the others. Generation drives the decoder from the true particle,
    which a decoder that has seen nothing but c' takes badly: vertices and charges cannot be read from photons, and
    errors of the momenta that are small against their spread move the expected impact by cells.

    Arguments:
        encoder: `PhotonEncoder` around a body with context 0.
        decoder, latent, hidden, weight, seed: as in `PhotonAutoencoder`.
        kl, supervision: w_KL and w_c.

    Raises:
        ValueError: for an encoder that is told of the particle.

    Source:
        supervised autoencoder of the neutron ZDC study; its loss is not published.
    """

    READ, EXTRA = 2, CONDITION_COUNT

    def __init__(self, encoder: PhotonEncoder, decoder: PhotonDecoder, kl: float = 0.07, supervision: float = 1.0,
                 **kwargs):
        super().__init__(encoder, decoder, **kwargs)
        if encoder.body.context:
            raise ValueError(f"Expected an encoder that is not told of the particle it has to read, received one with "
                             f"a context of {encoder.body.context}.")
        self.settings |= dict(kl=kl, supervision=supervision)
        self.kl, self.supervision = kl, supervision

    def reconstruct(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        found, scaler = self.encode(inputs), self.decoder.features
        read, rest = found[:, : self.EXTRA], found[:, self.EXTRA :]
        mean, log_deviation = normal_of(rest)
        true = ops.divide(ops.subtract(inputs["conditions"], scaler.mean), scaler.scale)
        second = ops.reshape(ops.arange(ops.shape(read)[0]) % 2, (-1, 1)) > 0
        driven = ops.add(ops.multiply(ops.where(second, true, read), scaler.scale), scaler.mean)
        light = self.decode(reparametrise(mean, log_deviation, inputs["z"]), driven)
        wrong = ops.mean(ops.square(read - true), axis=-1)
        return light, self.kl * kl_of_normal(mean, log_deviation) + self.supervision * wrong


@keras.saving.register_keras_serializable("zdckeras")
class DrivenAutoencoder(PhotonAutoencoder):
    """The supervised autoencoder with the published loss: L = w D(n, l(z, c')) + w_c |(c' - c) / scale|^2, z noise.

    c' is all that the encoder reads from the photons, and the decoder is driven from it in training, from the true
    particle in generation. Noise is all else that the decoder gets, so it learns the mean response of what was read.

    Arguments:
        encoder: around a body with context 0.
        decoder, latent, hidden, weight, seed: as in `PhotonAutoencoder`.
        supervision: w_c.

    Source:
        supervised autoencoder of the neutron ZDC study; loss and noise from the authors' code, m-wojnar/zdc. Its layers
        are in `ImageSupervisedAutoencoder`.
    """

    READ, EXTRA = 0, CONDITION_COUNT

    def __init__(self, encoder: PhotonEncoder, decoder: PhotonDecoder, supervision: float = 1.0, **kwargs):
        super().__init__(encoder, decoder, **kwargs)
        self.settings |= dict(supervision=supervision)
        self.supervision = supervision

    def reconstruct(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        read, scaler = self.encode(inputs), self.decoder.features
        true = ops.divide(ops.subtract(inputs["conditions"], scaler.mean), scaler.scale)
        light = self.decode(inputs["z"], ops.add(ops.multiply(read, scaler.scale), scaler.mean))
        return light, self.supervision * ops.sum(ops.square(read - true), axis=-1)


@keras.saving.register_keras_serializable("zdckeras")
class NoiseGenerator(layers.Layer):
    """Noise and the particle to a code, by dense layers.

    Arguments:
        latent: numbers of noise and of the code.
        context: width of what is known of the particle.
        hidden: width of two dense layers.
        seed: of the weights.

    Returns:
        call((B, d), (B, C)) gives (B, d).
    """

    def __init__(self, latent, context, hidden=128, seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings, seeds = dict(latent=latent, context=context, hidden=hidden, seed=seed), seeds_of([seed, 34])
        self.dense = dense_layers((hidden, hidden), latent + context, seeds)
        self.read = linear(hidden, latent, seeds)
        self.built = True

    def call(self, noise, context):
        return self.read(self.dense(ops.concatenate([noise, context], axis=-1)))

    def operations(self) -> int:
        """Multiplications with a weight for one code."""
        return products(self.dense, self.read)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("zdckeras")
class NoiseGeneratorAutoencoder(PhotonAutoencoder):
    """A plain autoencoder, e = encoder(n, c), and a network g that makes such codes: L = w D(n, l(e, c)) + w_g G.

    match "sinkhorn":  G = S({(e, c)}, {(g(z, c), c)}), the `sinkhorn_divergence` of a batch of codes beside particles
    match "mse":       G = |e - g(z, c)|^2 / d

    The particle (standardised) stands beside the code, so that transport between particles costs and g learns the codes
    of each. Both terms move encoder and noise generator: codes become such as can be made. The mean squared error is
    least for the mean code of a particle, so its responses hardly vary.

    Arguments:
        encoder, decoder, latent, hidden, weight, seed: as in `PhotonAutoencoder`.
        match: "sinkhorn" or "mse".
        matching: w_g.

    Raises:
        ValueError: for another match.

    Source:
        neutron ZDC study, "AE + Sinkhorn NG" and "AE + MSE NG"; Patrini et al., arXiv:1810.01118 (Sinkhorn
        autoencoders).
    """

    def __init__(self, encoder: PhotonEncoder, decoder: PhotonDecoder, match: str = "sinkhorn", matching: float = 1.0,
                 **kwargs):
        super().__init__(encoder, decoder, **kwargs)
        if match not in ("sinkhorn", "mse"):
            raise ValueError(f"Expected match='sinkhorn' or 'mse', received {match!r}.")
        self.settings |= dict(match=match, matching=matching)
        self.match, self.matching = match, matching
        self.noise = NoiseGenerator(self.latent, decoder.features.width, self.settings["hidden"],
                                    self.settings["seed"])

    def code(self, noise: Tensor, conditions: Tensor) -> Tensor:
        return self.noise(noise, self.decoder.features(conditions))

    def reconstruct(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        conditions, scaler = inputs["conditions"], self.decoder.features
        code, made = self.encode(inputs), self.code(inputs["z"], conditions)
        light = self.decode(code, conditions)
        if self.match == "mse":
            return light, self.matching * ops.mean(ops.square(code - made), axis=-1)
        beside = ops.clip(ops.divide(ops.subtract(conditions, scaler.mean), scaler.scale), -5.0, 5.0)
        both = (ops.concatenate([c, beside], axis=-1) for c in (code, made))
        divergence = sinkhorn_divergence(*both, blur=0.1, iterations=20, relative=True)
        return light, self.matching * divergence * ops.ones_like(code[:, 0])


@keras.saving.register_keras_serializable("zdckeras")
class CodeGenerator(WithParts, RangedSampler):
    """The shipped generator of an autoencoder: normal numbers and a particle to whole photons.

    n = scatter(l(code(z, c), c), z): one vector of noise, such as the 10 numbers that ALICE O2 hands over, makes the
    code and, by `CellNoise`, the noise of the cells.

    Arguments:
        decoder, spread, scatter: of a trained `PhotonAutoencoder`.
        low, high: see `RangedSampler`.
        noise: its `NoiseGenerator` or `ImageNoiseGenerator`, or None where noise is the code.

    Raises:
        ValueError: for parts of different detectors.
    """

    PARTS = ("decoder", "spread", "scatter", "noise")

    def __init__(self, decoder: PhotonDecoder | LogImageDecoder, spread: VectorToTokens,
                 scatter: PhotonScatter | WholePhotons, low: ArrayLike, high: ArrayLike,
                 noise: layers.Layer | None = None, **kwargs):
        super().__init__(low, high, **kwargs)
        self.decoder, self.spread, self.scatter, self.noise = decoder, spread, scatter, noise
        self.detectors = [one_detector(decoder=decoder.detector, scatter=scatter.detector)]
        self.noise_width = scatter.latent
        self.jit_compile = backend.jit_compile()
        self.built = True

    @classmethod
    def of(cls, model: PhotonAutoencoder, showers: Showers) -> "CodeGenerator":
        """The generator of a trained `PhotonAutoencoder` for the range of its training `Showers`."""
        return cls(model.decoder, model.spread, model.scatter, showers.particles.min(axis=0),
                   showers.particles.max(axis=0), getattr(model, "noise", None))

    def generate(self, noise: Tensor, conditions: Tensor) -> Tensor:
        conditions = ops.cast(conditions, "float32")
        known = self.decoder.features(conditions)
        code = noise if self.noise is None else self.noise(noise, known)
        return self.scatter(self.decoder(self.spread(code, known), conditions), noise)

    def operations(self) -> int:
        """Multiplications with a weight for one response."""
        noise = 0 if self.noise is None else self.noise.operations()
        return noise + self.spread.operations() + self.decoder.operations()

    def get_config(self):
        return {**super().get_config(), **self.parts_config()}

"""CorrVAE: a variational autoencoder of responses whose properties, correlated as they are, can be asked for."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from zdckeras.backend import Tensor
from zdckeras.corr_vae.generator import CorrDecoder, CorrGenerator, properties_of
from zdckeras.corr_vae.properties import PROPERTIES, ResponseProperties
from zdckeras.data.particles import Scaler
from zdckeras.data.showers import Showers
from zdckeras.generators import WithParts
from zdckeras.layers.cnn import CnnDecoder, CnnEncoder
from zdckeras.layers.particle_features import ParticleFeatures
from zdckeras.layers.photon_coding import PhotonDecoder, PhotonEncoder, PhotonScatter, deviance
from zdckeras.layers.tokens import TokensToVector
from zdckeras.training.adversarial import term_weights
from zdckeras.training.loop import SampleLoss, hand_on
from zdckeras.vae.variational import kl_of_normal, normal_of, reparametrise


def _missed(found, wanted, deviation):
    """Squared distance in units of a deviation where it is small, distance where it is large; (B,)."""
    return ops.sum(ops.sqrt(1.0 + ops.square((found - wanted) / deviation)) - 1.0, axis=-1)


def total_correlation(*groups: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """How far groups of codes are from independent of each other, KL(q(w, z) | q(w) q(z)), estimated in a batch.

    With q the mean over the batch of the encoders' normal distributions,
    mean_i [ln q(w_i, z_i) - ln q(w_i) - ln q(z_i)].

    Arguments:
        groups: (code (B, d), mean (B, d), ln of the deviation (B, d)) of each.

    Returns:
        Scalar, at most ln B for two groups.

    Source:
        Chen et al., arXiv:1802.04942, eq. 5, with the batch in place of the data; groups: arXiv:2210.01796.

    Example:
        >>> far, narrow = 100.0 * ops.reshape(ops.arange(4.0), (4, 1)), ops.zeros((4, 1))
        >>> one = (far, far, narrow)
        >>> round(float(total_correlation(one, one)), 4), round(float(total_correlation(one, (narrow,) * 3)), 4)
        (1.3863, 0.0)
    """
    def log_density(code, mean, log_deviation):  # of code i under the distribution of row j, without the constant
        code, mean, log_deviation = (ops.convert_to_tensor(part) for part in (code, mean, log_deviation))
        away = (code[:, None] - mean[None]) * ops.exp(-log_deviation)[None]
        return -ops.sum(0.5 * ops.square(away) + log_deviation[None], axis=-1)

    each = [log_density(*group) for group in groups]
    size = ops.log(ops.cast(ops.shape(groups[0][0])[0], "float32"))
    apart = sum(ops.logsumexp(one, axis=1) - size for one in each)
    return ops.mean(ops.logsumexp(sum(each), axis=1) - size - apart)


class ControlledVAE(WithParts, SampleLoss):
    """Base: an encoder, and a decoder that answers what is asked for; L = sum of the terms, each times its weight.

    Subclasses define `terms(inputs)`, have their WEIGHTS by default, and set `scatter`, which makes photons of what the
    decoder gives. A decoder knows the `names` of the properties that it states.

    Arguments:
        encoder, decoder: its parts.
        low, high: (9,) range of the training conditions.
        smallest, largest: (4,) range of the training properties, physical.
        weights: of the terms, where they differ from the default.

    Raises:
        ValueError: for an unknown or negative weight.
    """

    PARTS = ("encoder", "decoder")
    GENERATOR, WEIGHTS = CorrGenerator, {}

    def __init__(self, encoder, decoder, low, high, smallest, largest, weights, **kwargs):
        super().__init__(**kwargs)
        self.scale = term_weights(weights, self.WEIGHTS)
        self.ranges = {name: np.asarray(values, "float64").tolist() for name, values in
                       (("low", low), ("high", high), ("smallest", smallest), ("largest", largest))}
        self.encoder, self.decoder, self.detector = encoder, decoder, decoder.detector

    def terms(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms of the loss by name, without their weights: (B,) each, or scalars."""
        raise NotImplementedError

    def call(self, inputs, training=False):
        return hand_on(self._each, inputs, training)

    def _each(self, inputs):
        shares = self.shares()
        return sum(self.scale[name] * shares.get(name, 1.0) * term
                   for name, term in self.terms(inputs).items() if self.scale[name])

    def shares(self) -> dict[str, Tensor]:
        """What counts of a term's weight at this step of a training, by name, where that is not all of it."""
        return {}

    @cached_property
    def generator(self) -> CorrGenerator:
        """The generator that ships: this decoder, with the same weights."""
        return self.GENERATOR(self.decoder, self.scatter, **self.ranges)

    def generate(self, properties: dict[str, float | np.ndarray], particle: np.ndarray,
                 seed: int | Sequence[int] = 0) -> np.ndarray:
        """Responses with the properties asked for.

        Arguments:
            properties: name of `PROPERTIES` -> (N,) values or one number, for any that the decoder states.
            particle: (N, 9) conditions.
            seed: integer or integers.

        Returns:
            (N, nx, ny) uint16 photon counts.

        Raises:
            ValueError: see `CorrGenerator.sample`.
        """
        return self.generator.sample(particle, seed, properties=properties)


@keras.saving.register_keras_serializable("zdckeras")
class CorrVAE(ControlledVAE):
    """Photon responses with their four properties under control, L = w_r D + KL_w + KL_z + sum of the terms below.

    - reconstruction: Poisson `deviance` D(n, l) of light l = decoder(w, z, c); weight 1/2 is the log-likelihood;
    - divergence: of q(w | n, c) and q(z | n, c) from N(0, 1);
    - prediction: the properties y(n) from those that w states, f(A w; c), in units of `deviation`;
    - likelihood: -ln p(y(n) | c) for w' = f^-1(y; c) and normal w, so that what is drawn is distributed as the data;
    - consistency: the properties of the light from those w states, for w and z of the encoders, and for w asked for
      (y(n) + `asking` * normal noise, the rest from the prior; every second row), so that what is asked is what comes;
    - sparsity of the mask, and independence: squared covariances of the means of w and z in the batch;
    - total: the paper's total correlation of the groups w and z, see `total_correlation`; of weight 0 by default.

    Beyond `deviation` prediction and consistency grow with the distance, not its square.

    Arguments:
        encoder: `PhotonEncoder`.
        decoder: `CorrDecoder`.
        low, high: (9,) range of the training conditions.
        smallest, largest: (4,) range of the training properties, physical.
        weights: of "reconstruction", "divergence", "prediction", "likelihood", "consistency", "sparsity",
            "independence" and "total", where they differ from the default.
        deviation: by which properties may miss, in units of their spread (see `ResponseProperties.fit`).
        asking: deviation of what is asked for in training from each response's own properties, in the same units.
        hidden: width of the dense layers of the encoders.
        seed: of the encoders and cell noise.

    Returns:
        call({"conditions": (B, 9), "responses": (B, nx, ny), "code": (B, d), "ask": (B, 4 + d)}) gives the per-sample
        loss (B,); d latents and objects, normal noise as `noise` says.

    Raises:
        ValueError: for an unknown or negative weight.

    Source:
        Wang et al., "Multi-objective deep data generation with correlated property control", arXiv:2210.01796.
    """

    WEIGHTS = {"reconstruction": 0.5, "divergence": 1.0, "prediction": 1.0, "likelihood": 1.0, "consistency": 4.0,
               "sparsity": 0.3, "independence": 1.0, "total": 0.0}

    def __init__(self, encoder: PhotonEncoder, decoder: CorrDecoder, low: ArrayLike, high: ArrayLike,
                 smallest: ArrayLike, largest: ArrayLike, weights: Mapping[str, float] | None = None,
                 deviation: float = 0.1, asking: float = 2.0, hidden: int = 128, seed: int = 0, **kwargs):
        super().__init__(encoder, decoder, low, high, smallest, largest, weights, **kwargs)
        self.settings = dict(weights=weights or {}, deviation=deviation, asking=asking, hidden=hidden, seed=seed)
        self.deviation, self.asking = deviation, asking
        codes, context = decoder.latents + decoder.objects, encoder.features.width
        self.noise = {"code": (codes,), "ask": (len(PROPERTIES) + codes,)}
        self.property_head, self.object_head = (
            TokensToVector(encoder.tokens, encoder.width, context + len(PROPERTIES), 2 * size, hidden, seed + k)
            for k, size in enumerate((decoder.latents, decoder.objects)))
        self.scatter = PhotonScatter(self.detector.name, seed=seed)
        self.built = True

    @classmethod
    def fit_scales(cls, showers: Showers, channels: Sequence[int] = (64, 32, 16, 8), width: int = 8, latents: int = 8,
                   objects: int = 16, hidden: int = 128, seed: int = 0, **settings) -> "CorrVAE":
        """A fresh model with convolutional bodies for the one detector of training `Showers`.

        Arguments:
            showers: training `Showers` of one detector; energies are taken for whole photons.
            channels: of the grids from coarse to fine, see `CnnEncoder`.
            width: of a token.
            latents, objects, hidden: as of `CorrDecoder`.
            seed: of all weights.
            settings: as of the class.
        """
        detector, scaler = showers.detector(), Scaler.fit(showers.particles).get_config()
        body = dict(width=width, context=ParticleFeatures(detector.name, **scaler).width, channels=channels, seed=seed)
        light = PhotonDecoder(detector.name, scaler, CnnDecoder(detector.shape, **body), seed=seed)
        found = properties_of(showers.response)
        return cls(PhotonEncoder(detector.name, scaler, CnnEncoder(detector.shape, **body)),
                   CorrDecoder(light, ResponseProperties.fit(showers), latents, objects, hidden, seed),
                   showers.particles.min(axis=0), showers.particles.max(axis=0), found.min(axis=0), found.max(axis=0),
                   hidden=hidden, seed=seed, **settings)

    def encode(self, photons: Tensor, conditions: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Means and ln of deviations of w and z: two pairs (B, latents) and (B, objects)."""
        tokens = self.encoder(photons, conditions)
        known = ops.concatenate([self.encoder.features(ops.cast(conditions, "float32")),
                                 self.decoder.properties(photons, conditions)], axis=-1)
        return [normal_of(head(tokens, known)) for head in (self.property_head, self.object_head)]

    def terms(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms of the loss by name, without their weights: (B,) each, or scalars."""
        photons, conditions = (ops.cast(inputs[name], "float32") for name in ("responses", "conditions"))
        decoder, latents, number = self.decoder, self.decoder.latents, len(PROPERTIES)
        true, (w, z) = decoder.properties(photons, conditions), self.encode(photons, conditions)
        code, ask = inputs["code"], inputs["ask"]
        latent, kind = reparametrise(*w, code[:, :latents]), reparametrise(*z, code[:, latents:])
        stated = decoder.maps(decoder.pool(latent), conditions)
        wish, particles = ask[::2], conditions[::2]
        blank = ops.zeros_like(wish[:, :number])
        bounds = (decoder.properties.standard(ops.add(blank, np.float32(self.ranges[side])), particles)
                  for side in ("smallest", "largest"))
        asked = ops.clip(true[::2] + self.asking * wish[:, :number], *bounds)
        steered = ops.stop_gradient(decoder.steer(wish[:, number : number + latents], asked, particles))
        pairs = ((stated, asked), (latent, steered), (kind, wish[:, number + latents :]), (conditions, particles))
        every = [ops.concatenate(pair, axis=0) for pair in pairs]
        light, rows = decoder.decode(*every), ops.shape(photons)[0]
        missed = _missed(decoder.properties(light, every[-1]), every[0], self.deviation)
        pooled, log_slope = decoder.maps.inverse(true, conditions)
        covariance = ops.matmul(ops.transpose(w[0] - ops.mean(w[0], axis=0)), z[0] - ops.mean(z[0], axis=0))
        return {
            "reconstruction": deviance(photons, light[:rows]),
            "divergence": kl_of_normal(*w) + kl_of_normal(*z),
            "prediction": _missed(stated, true, self.deviation),
            "likelihood": -decoder.pool.log_prior(pooled) - ops.sum(log_slope, axis=-1),
            "consistency": missed[:rows] + ops.mean(missed[rows:]),
            "sparsity": decoder.pool.sparsity(),
            "independence": ops.sum(ops.square(covariance / ops.cast(rows, "float32"))),
            "total": total_correlation((latent, *w), (kind, *z)) if self.scale["total"] else ops.zeros_like(missed[0]),
        }

    def fit_scatter(self, showers: Showers, batch_size: int = 250) -> float:
        """Set how much more than Poisson's the photons of a cell scatter, by reconstructed `Showers`.

        Returns:
            d of `PhotonScatter`.
        """
        parts = []
        for start in range(0, len(showers), batch_size):
            photons, conditions = (a[start : start + batch_size].astype("float32") for a in
                                   (showers.response, showers.particles))
            (w, _), (z, _) = self.encode(photons, conditions)
            parts.append(ops.convert_to_numpy(self.decoder(w, z, conditions)[1]))
        return self.scatter.fit(np.concatenate(parts), showers.response)

    def get_config(self):
        return {**self.parts_config(), **self.ranges, **self.settings, "name": self.name}

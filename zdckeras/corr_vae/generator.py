"""Generator of responses whose properties can be asked for: the decoding half of a CorrVAE, and how it is steered."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import ArrayLike

from zdckeras import backend
from zdckeras.backend import Tensor
from zdckeras.corr_vae.properties import PROPERTIES, MaskPooling, PropertyDecoders, ResponseProperties
from zdckeras.generators import RangedSampler, WithParts, one_detector
from zdckeras.layers.photon_coding import PhotonScatter
from zdckeras.layers.tokens import VectorToTokens
from zdckeras.metrics.shapes import SHAPE_OBSERVABLES, shapes

LATENT_REACH = 4.0  # latents of properties look ever more alike to the decoder from here on


@keras.saving.register_keras_serializable("zdckeras")
class CorrDecoder(WithParts, layers.Layer):
    """Latents of properties w and of the object z, and the particle, to properties and light.

    w' = A w (`MaskPooling`),  y = f(w'; c) (`PropertyDecoders`),  l = light(tokens([y, w, z], c), c) (`PhotonDecoder`)

    Arguments:
        light: `PhotonDecoder`.
        standard: {"mean": (4,), "scale": (4,)} of the properties, from `ResponseProperties.fit`.
        latents: numbers w.
        objects: numbers z.
        hidden: width of the dense layers.
        seed: of the weights.

    Returns:
        call((B, latents) w, (B, objects) z, (B, 9) conditions) gives standardised properties (B, 4) that w states, and
        light (B, nx, ny) [photons].
    """

    PARTS = ("light",)

    def __init__(self, light, standard, latents=8, objects=16, hidden=128, seed=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings = dict(standard=standard, latents=latents, objects=objects, hidden=hidden, seed=seed)
        self.light, self.detector, self.latents, self.objects = light, light.detector, latents, objects
        self.names = tuple(PROPERTIES)
        number, detector, scaler = len(PROPERTIES), light.detector.name, light.settings["scaler"]
        self.properties, self.pool = ResponseProperties(detector, **standard), MaskPooling(number, latents, seed)
        self.maps = PropertyDecoders(detector, scaler, number, hidden, seed=seed)
        self.spread = VectorToTokens(light.tokens, light.width, light.features.width, number + latents + objects,
                                     hidden, seed)
        self.built = True

    def call(self, latents, objects, conditions):
        stated = self.maps(self.pool(latents), conditions)
        return stated, self.decode(stated, latents, objects, conditions)

    def decode(self, properties: Tensor, latents: Tensor, objects: Tensor, conditions: Tensor) -> Tensor:
        """Light (B, nx, ny) of standardised properties (B, 4), w (B, latents) and z (B, objects)."""
        code = ops.concatenate([properties, LATENT_REACH * ops.tanh(latents / LATENT_REACH), objects], axis=-1)
        return self.light(self.spread(code, self.light.features(ops.cast(conditions, "float32"))), conditions)

    def operations(self) -> int:
        """Multiplications with a weight for one response's light, without the small layers of its properties."""
        return self.spread.operations() + self.light.operations()

    def mask(self) -> Tensor:
        """How far each property (rows) sees each latent number w, (4, latents), 0 to 1."""
        return self.pool.mask()

    def steer(self, latents: Tensor, asked: Tensor, conditions: Tensor) -> Tensor:
        """w (B, latents) with the properties asked for: the nearest to w with A w = f^-1(y; c).

        Arguments:
            latents: (B, latents) w, which decides the properties that are not asked for.
            asked: (B, 4) standardised properties y, NaN where not asked for.
            conditions: (B, 9).
        """
        free = ops.isnan(asked)
        wanted, _ = self.maps.inverse(ops.where(free, 0.0, asked), conditions)
        return self.pool.correct(latents, ops.where(free, self.pool(latents), wanted))

    def get_config(self):
        return {**super().get_config(), **self.settings, **self.parts_config()}


def properties_of(responses: np.ndarray) -> np.ndarray:
    """Photon sum, centre x and y and rms width [cells], (N, 4), of responses (N, nx, ny)."""
    return shapes(responses)[:, [list(SHAPE_OBSERVABLES).index(name) for name in PROPERTIES]]


@keras.saving.register_keras_serializable("zdckeras")
class CorrGenerator(WithParts, RangedSampler):
    """The shipped generator of a `CorrVAE`: particles, and properties if they are asked for, to photon counts.

    The noise of a shower is w, z and what `PhotonScatter` takes. Properties that are asked for replace what w states of
    them; the others stay what w states, the same for the same seed whatever else is asked for.

    The photon sum is imposed: photons are drawn from the light once, then the sum that w states is split among the five
    channels as that draw was, and drawn again with the same noise. Centre and width are what the light gives.

    Arguments:
        decoder: trained `CorrDecoder`.
        scatter: fitted `PhotonScatter`.
        low, high: (9,) range of the training conditions, see `RangedSampler`.
        smallest, largest: (4,) range of the training properties, physical.

    Raises:
        ValueError: for parts of different detectors, or ranges that are none.
    """

    PARTS = ("decoder", "scatter")
    BESIDE = ("asked",)

    def __init__(self, decoder: CorrDecoder, scatter: PhotonScatter, low: ArrayLike, high: ArrayLike,
                 smallest: ArrayLike, largest: ArrayLike, **kwargs):
        super().__init__(low, high, **kwargs)
        self.decoder, self.scatter = decoder, scatter
        self.detectors = [one_detector(decoder=decoder.detector, scatter=scatter.detector)]
        self.smallest, self.largest = np.asarray(smallest, "float64"), np.asarray(largest, "float64")
        if {self.smallest.shape, self.largest.shape} != {(len(PROPERTIES),)}:
            raise ValueError(f"Expected a smallest and a largest value of {', '.join(PROPERTIES)}; received {smallest} "
                             f"and {largest}.")
        self.split = (decoder.latents, decoder.latents + decoder.objects)
        self.noise_width = self.split[1] + scatter.latent
        self.jit_compile = backend.jit_compile()
        self.built = True

    def generate(self, noise: Tensor, conditions: Tensor, asked: Tensor | None = None) -> Tensor:
        """Photon counts from noise (B, noise_width), conditions (B, 9) and, if any, physical properties (B, 4)."""
        conditions = ops.cast(conditions, "float32")
        latents, objects, cells = ops.split(noise, self.split, axis=-1)
        if asked is not None:
            wanted = self.decoder.properties.standard(asked, conditions)
            latents = self.decoder.steer(latents, wanted, conditions)
        stated, light = self.decoder(latents, objects, conditions)
        photons = self.decoder.properties.physical(stated, conditions)[:, :1]
        total = ops.round(ops.clip(photons, 0.0, float(self.largest[0])))
        split = ops.reshape(self.scatter(light, cells) + 1e-6 * light, (-1, self.decoder.detector.cells))
        reached = ops.cumsum(backend.exact_matmul(split, ops.transpose(self.scatter.draw.masks)), axis=-1)
        reached = ops.round(total * reached / reached[:, -1:])
        before = ops.concatenate([ops.zeros_like(total), reached[:, :-1]], axis=-1)
        return self.scatter(light, cells, reached - before)

    def call(self, inputs):
        return self.generate(inputs["noise"], inputs["conditions"], inputs.get("asked"))

    def sample(self, conditions: ArrayLike, seed: int | Sequence[int] = 0, batch_size: int = 256,
               properties: Mapping[str, ArrayLike] | None = None, beside: Mapping[str, np.ndarray] | None = None,
               at_least: float | Mapping[str, float] = 0) -> np.ndarray:
        """As `RangedSampler.sample`, with the properties asked for.

        Arguments:
            conditions, seed, batch_size, beside, at_least: as there.
            properties: name of `PROPERTIES` -> (N,) values [photons, cells] or one number, for any of them. Each value
                has to be in the range of the training data; whether a particle can do it is not checked.

        Raises:
            ValueError: as there, and for unknown names, other shapes, and values out of range or not finite.
        """
        asked = {"asked": self._checked(properties, len(conditions))} if properties else {}
        return super().sample(conditions, seed, batch_size, {**(beside or {}), **asked}, at_least)

    def operations(self) -> int:
        """Multiplications with a weight for one response."""
        return self.decoder.operations()

    def _checked(self, properties, rows):
        """What is asked for as an array (N, 4), NaN where it is left open."""
        if unknown := set(properties) - set(self.decoder.names):
            raise ValueError(f"Expected properties of {', '.join(self.decoder.names)}; received "
                             f"{', '.join(sorted(unknown))}.")
        asked = np.full((rows, len(PROPERTIES)), np.nan, "float32")
        for column, ((name, unit), low, high) in enumerate(zip(PROPERTIES.items(), self.smallest, self.largest,
                                                               strict=True)):
            if name not in properties:
                continue
            values = np.asarray(properties[name], "float64")
            if values.shape not in ((), (rows,)):
                raise ValueError(f"{name}: expected one number or shape ({rows},), received shape {values.shape}.")
            if not np.isfinite(values).all():
                raise ValueError(f"{name}: expected finite values, received {(~np.isfinite(values)).sum()} that are "
                                 f"not.")
            if values.size and (values.min() < low or values.max() > high):
                raise ValueError(f"{name}: asked for {values.min():.4g} to {values.max():.4g} {unit}, but the training "
                                 f"data range from {low:.4g} to {high:.4g} {unit}.")
            asked[:, column] = values
        return asked

    def get_config(self):
        return {**super().get_config(), **self.parts_config(), "smallest": self.smallest.tolist(),
                "largest": self.largest.tolist()}

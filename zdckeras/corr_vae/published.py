"""The CorrVAE of the ZDC study as published: plain networks over images ln(1 + n), a stochastic mask, nothing imposed.

The poster says what it is; sizes, losses, weights and schedule are of its authors' code,
karolrogozinski/cern_alice_fast_sim_corrvae, "modified CorrVAE": of the properties of Wang et al. two, the centre of
gravity, are read from w through the mask; sum and largest of ln(1 + n) are read from a code c of the particle. The
networks have 32 channels: the 64 of its training notebook reach none.

What differs from that code: what the particle lets expect comes of dense layers, not of trees; conditions are
standardised (what was done to them before is not told); encoders give ln of a deviation, within -6 and 2, and not of a
variance; the mask is learnt as its log-odds, and not as two numbers whose exponentials are subtracted; its temperature
ends at a millionth of the first; total correlations weigh all rows of a batch alike, where the code all but leaves the
first out; biases begin at 0; an epoch leaves out the rows that fill no batch. The light of four quarters, which the
notebook compares and hands on, is no argument of the loss in that code, and no term here.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Self

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import ArrayLike

from zdckeras import backend
from zdckeras.arguments import divided, plain, whole_number
from zdckeras.backend import Tensor
from zdckeras.corr_vae.generator import CorrGenerator, properties_of
from zdckeras.corr_vae.masked import MaskedProperties
from zdckeras.corr_vae.model import ControlledVAE, total_correlation
from zdckeras.corr_vae.schedule import STEPS, shares_at
from zdckeras.corr_vae.spectral import SpectralDense
from zdckeras.data.detectors import get_detector
from zdckeras.data.moments import Moments, moment_weights
from zdckeras.data.particles import CONDITION_COUNT, Scaler
from zdckeras.data.showers import Showers
from zdckeras.generators import WithParts
from zdckeras.layers.cnn import Cropping
from zdckeras.layers.dense import dense_layers, linear, seeds_of
from zdckeras.layers.log_images import WholePhotons
from zdckeras.policy import made_in
from zdckeras.training.adversarial import check_network
from zdckeras.training.cost import Counts, Passes
from zdckeras.vae.variational import kl_of_normal, normal_of, reparametrise

CHANNELS, HIDDEN, KERNEL = 32, 512, 4
STRIDES = (2, 2, 3)  # of the encoder's convolutions; the decoder has them the other way round
SLOPE = 0.1  # of LeakyReLU below 0
CENTRE = {"centre_x": 1, "centre_y": 2}  # what w states: columns of the properties


@made_in("float32")
def published_encoder(detector: str, codes: int = 16, divide: int = 1, seed: int = 0) -> keras.Model:
    """Three convolutions 4 x 4 with strides 2, 2, 3 and two dense layers: image to mean and ln deviation of [w, z].

    Arguments:
        detector: name.
        codes: numbers w and z.
        divide: channels and hidden units are divided by this; 1 as published.
        seed: of the weights.

    Returns:
        `keras.Model`: (B, nx, ny) images ln(1 + n) to (B, 2 codes).

    Example:
        >>> published_encoder("zn").count_params()
        575104
    """
    seeds, shape = seeds_of([seed, 45]), get_detector(detector).shape
    image = keras.Input(shape, name="image")
    x = layers.Reshape((*shape, 1))(image)
    for stride in STRIDES:
        x = _leaky(layers.Conv2D(divided(CHANNELS, divide), KERNEL, stride, "same", kernel_initializer=_he(seeds))(x))
    return keras.Model(image, _read(layers.Flatten()(x), 2 * codes, divide, seeds), name="encoder")


@made_in("float32")
def published_particle(context: int = 8, divide: int = 1, seed: int = 0) -> keras.Model:
    """Three `SpectralDense` layers: scaled conditions (B, 9) to mean and ln deviation of c, (B, 2 context)."""
    conditions = keras.Input((CONDITION_COUNT,), name="conditions")
    read = _read(conditions, 2 * context, divide, seeds_of([seed, 46]), SpectralDense)
    return keras.Model(conditions, read, name="particle")


@made_in("float32")
def published_decoder(detector: str, codes: int = 24, divide: int = 1, seed: int = 0) -> keras.Model:
    """The encoder the other way round: three dense layers, three transposed convolutions, LeakyReLU behind each.

    Arguments:
        detector: name.
        codes: numbers w, z and c.
        divide, seed: as in `published_encoder`.

    Returns:
        `keras.Model`: (B, codes) to images (B, nx, ny).

    Example:
        >>> d = published_decoder("zn")
        >>> d.output.shape, d.count_params()
        ((None, 44, 44), 571457)
    """
    seeds, grids, channels = seeds_of([seed, 47]), [get_detector(detector).shape], divided(CHANNELS, divide)
    for stride in STRIDES:
        grids.append(tuple(-(-n // stride) for n in grids[-1]))
    code = keras.Input((codes,), name="code")
    x = _leaky(_read(code, channels * grids[-1][0] * grids[-1][1], divide, seeds))
    x = layers.Reshape((*grids[-1], channels))(x)
    for k, stride in reversed(list(enumerate(STRIDES))):
        x = layers.Conv2DTranspose(channels if k else 1, KERNEL, stride, kernel_initializer=_he(seeds))(x)
        crop = tuple((1, found - n - 1) for found, n in zip(x.shape[1:3], grids[k], strict=True))
        x = _leaky(Cropping(crop)(x))
    return keras.Model(code, layers.Reshape(grids[0])(x), name="decoder")


def _he(seeds: Iterator[int]) -> keras.initializers.Initializer:
    return keras.initializers.HeUniform(next(seeds))


def _leaky(x):
    return layers.LeakyReLU(SLOPE)(x)


def _read(x, units, divide, seeds, kind=layers.Dense):
    """Two hidden dense layers and one out."""
    for _ in range(2):
        x = _leaky(kind(divided(HIDDEN, divide), kernel_initializer=_he(seeds))(x))
    return kind(units, kernel_initializer=_he(seeds))(x)


@keras.saving.register_keras_serializable("zdckeras")
class ImageCorrDecoder(WithParts, layers.Layer):
    """What the published CorrVAE generates with: c ~ N(m(p), s(p)) of the particle p, image x = network([w, z, c]).

    w states the centre of gravity of x through `MaskedProperties`, from 0 to 1 over the detector; a centre of photons
    that is asked for is taken for that one. What is not asked for is what dense layers expect of the particle (the
    study: trees, trained apart).

    Arguments:
        network, particle: `keras.Model`, as `published_decoder` and `published_particle`, or your own.
        detector: name.
        scaler: {"mean": (9,), "scale": (9,)} of the conditions.
        latents, objects, context: numbers w, z and c.
        hidden: width of the dense layers beside the networks.
        temperature: of the mask, at first.
        seed: of all weights but those of the networks.

    Returns:
        call((B, latents) w, (B, objects) z, (B, context) c) gives images (B, nx, ny).

    Raises:
        ValueError: for networks of other shapes, or no latents, objects or context.
    """

    PARTS = ("network", "particle")

    def __init__(self, network: keras.Model, particle: keras.Model, detector: str, scaler: dict[str, Any],
                 latents: int = 8, objects: int = 8, context: int = 8, hidden: int = HIDDEN, temperature: float = 0.2,
                 seed: int = 0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.names, self.detector = tuple(CENTRE), get_detector(detector)
        check_network("decoder", network, [(None, latents + objects + context)], [(None, *self.detector.shape)])
        check_network("particle", particle, [(None, CONDITION_COUNT)], [(None, 2 * context)])
        for name, size in dict(latents=latents, objects=objects, context=context).items():
            whole_number(size, name)
        self.settings = dict(detector=detector, scaler=plain(scaler), latents=latents, objects=objects, context=context,
                             hidden=hidden, temperature=temperature, seed=seed)
        self.network, self.particle, seeds = network, particle, seeds_of([seed, 48])
        self.latents, self.objects, self.context = latents, objects, context
        self.mean, self.scale = (np.asarray(scaler[key], "float32") for key in ("mean", "scale"))
        self.cells, self.moments = np.asarray(self.detector.shape, "float32"), moment_weights(
            self.detector.shape, dtype="float32")
        self.masked = MaskedProperties(len(CENTRE), latents, temperature=temperature, seed=seed)
        with made_in("float32"):
            self.brightness = keras.Sequential([layer for units in (hidden, 2) for layer in (
                SpectralDense(units, kernel_initializer=_he(seeds)), layers.LeakyReLU(SLOPE))])
            self.brightness.build((None, context))
            self.guess = keras.Sequential([*dense_layers((hidden,), CONDITION_COUNT, seeds).layers,
                                           linear(hidden, len(CENTRE), seeds)])
            self.guess.build((None, CONDITION_COUNT))
        self.built = True

    def scaled(self, conditions: Tensor) -> Tensor:
        """Conditions (B, 9) as the networks take them."""
        return ops.divide(ops.subtract(ops.cast(conditions, "float32"), self.mean), self.scale)

    def operations(self) -> int:
        """Multiplications with a weight for one response's image."""
        rows = {self.network: self.latents + self.objects + self.context, self.particle: CONDITION_COUNT}
        return sum(Counts.of_call(one, np.zeros((1, width), "float32")).products for one, width in rows.items())

    def mask(self) -> Tensor:
        """How often each property (rows) sees each latent number w, (P, latents)."""
        return self.masked.probabilities()

    def shares(self, centres: Tensor) -> Tensor:
        """Places in cells from the detector's centre (B, 2), as columns of n cells: from 0 to (n - 1) / n."""
        return ops.divide(ops.add(centres, (self.cells - 1.0) / 2.0), self.cells)

    def centres(self, image: Tensor) -> Tensor:
        """Where the centre of gravity of images (B, nx, ny) is, as `shares`, (B, 2)."""
        flat = ops.reshape(image, (-1, self.detector.cells))
        return self.shares(Moments(flat, self.moments, least=1e-6, xp=ops, matmul=backend.exact_matmul).centre)

    def call(self, latents, objects, context):
        return self.network(ops.concatenate([latents, objects, context], axis=-1))

    def get_config(self):
        return {**super().get_config(), **self.settings, **self.parts_config()}


@keras.saving.register_keras_serializable("zdckeras")
class ImageCorrGenerator(CorrGenerator):
    """The shipped generator of an `ImageCorrVAE`: as `CorrGenerator`, of an `ImageCorrDecoder` and `WholePhotons`.

    The noise of a shower is w, z and that of c. w is steered to the properties asked for, or expected of the particle
    where they are not; nothing is imposed.
    """

    def generate(self, noise: Tensor, conditions: Tensor, asked: Tensor | None = None) -> Tensor:
        latents, objects, of_particle = ops.split(noise, self.split, axis=-1)
        known = self.decoder.scaled(conditions)
        wanted = self.decoder.guess(known)
        if asked is not None:
            shares = self.decoder.shares(ops.take(asked, list(CENTRE.values()), axis=1))
            wanted = ops.where(ops.isnan(shares), wanted, shares)
        latents = self.decoder.masked.steer(latents, wanted)
        context = reparametrise(*normal_of(self.decoder.particle(known)), of_particle)
        return self.scatter(self.decoder(latents, objects, context))


@keras.saving.register_keras_serializable("zdckeras")
class ImageCorrVAE(ControlledVAE):
    """CorrVAE over images x = ln(1 + n), L = sum of the terms below, each times its weight.

    - pixels: sum_ij (x - x')^2;
    - properties: sum_j (y_j - y'_j)^2 of the centre of gravity of x, from 0 to 1 over the detector, as w states it
      through one mask a batch; expected: squared errors of what the particle alone lets expect of y;
    - brightness: (s - s')^2 + (m - m')^2, s the sum of x over the largest photon sum in training, m its largest pixel
      over the most photons of a cell, read from c;
    - sparsity: open entries of the mask;
    - total: `total_correlation` of the numbers w, of w and z, of w and c, and of z and c;
    - divergence: of q(w, z | n) and q(c | p) from N(0, 1).

    Weights are in units of that of the pixels. In the first 100,000 of 924,750 steps there is no divergence, later no
    sparsity (`shares_at`). Steps are counted in training, and the count is saved.

    Arguments:
        encoder: `keras.Model`, as `published_encoder`, or your own.
        decoder: `ImageCorrDecoder`.
        low, high: (9,) range of the training conditions.
        smallest, largest: (4,) range of the training properties, physical.
        brightest: (2,) most photons of a response, and of a cell, in training.
        weights: of the terms, where they differ from the study's.
        steps: of the whole training.

    Returns:
        call({"conditions": (B, 9), "responses": (B, nx, ny), "code": (B, d), "mask": (B, P, latents)}) gives the
        per-sample loss (B,), from normal noise as `noise` says and uniform noise as `uniform` does.

    Raises:
        ValueError: for an unknown or negative weight, an encoder of other shapes, or steps that are none.

    Source:
        Wang et al., arXiv:2210.01796; poster, "Manipulating ZDC response parameters through the modified
        CorrVAE model"; the code named above.
    """

    GENERATOR = ImageCorrGenerator
    WEIGHTS = {"pixels": 1.0, "properties": 4096.0, "brightness": 4096.0, "expected": 1.0, "sparsity": 6.4,
               "total": 6.4e-5, "divergence": 6.4}

    def __init__(self, encoder: keras.Model, decoder: ImageCorrDecoder, low: ArrayLike, high: ArrayLike,
                 smallest: ArrayLike, largest: ArrayLike, brightest: ArrayLike,
                 weights: Mapping[str, float] | None = None, steps: int = STEPS, **kwargs):
        super().__init__(encoder, decoder, low, high, smallest, largest, weights, **kwargs)
        codes = decoder.latents + decoder.objects
        check_network("encoder", encoder, [(None, *self.detector.shape)], [(None, 2 * codes)])
        self.settings = dict(brightest=np.asarray(brightest, "float32").tolist(), weights=weights or {},
                             steps=whole_number(steps, "steps"))
        self.brightest = np.asarray(brightest, "float32")
        self.sizes = (decoder.latents, codes)
        self.noise = {"code": (codes + decoder.context,)}
        self.uniform = {"mask": (len(decoder.names), decoder.latents)}  # of a batch, that of its first row counts
        self.step = self.add_weight(shape=(), initializer="zeros", trainable=False, name="step", dtype="float32",
                                    aggregation="only_first_replica")
        self.scatter = WholePhotons(self.detector.name, decoder.context)
        self.built = True

    @classmethod
    def published(cls, showers: Showers, divide: int = 1, latents: int = 8, objects: int = 8, context: int = 8,
                  seed: int = 0, weights: Mapping[str, float] | None = None, steps: int = STEPS,
                  temperature: float = 0.2) -> Self:
        """A fresh model with the study's networks for the one detector of training `Showers`.

        Arguments:
            showers: training `Showers` of one detector; energies are taken for whole photons.
            divide: channels and hidden units are divided by this; 1 as published.
            latents, objects, context: numbers w, z and c.
            seed: of all weights.
            weights, steps: as of the class.
            temperature: as of `ImageCorrDecoder`.
        """
        name, found = showers.detector().name, properties_of(showers.response)
        decoder = ImageCorrDecoder(
            published_decoder(name, latents + objects + context, divide, seed),
            published_particle(context, divide, seed), name, Scaler.fit(showers.particles).get_config(),
            latents, objects, context, divided(HIDDEN, divide), temperature, seed)
        return cls(published_encoder(name, latents + objects, divide, seed), decoder, showers.particles.min(axis=0),
                   showers.particles.max(axis=0), found.min(axis=0), found.max(axis=0),
                   (found[:, 0].max(), showers.response.max()), weights, steps)

    def call(self, inputs, training=False):
        if training:
            self.step.assign_add(1.0)
        return super().call(inputs, training)

    def shares(self) -> dict[str, Tensor]:
        """Where the schedule is, see `shares_at`."""
        return shares_at(self.step, self.settings["steps"])

    def terms(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        decoder, sizes, cooled = self.decoder, self.sizes, self.shares()["temperature"]
        image, known = ops.log1p(ops.cast(inputs["responses"], "float32")), decoder.scaled(inputs["conditions"])
        of_particle = normal_of(decoder.particle(known))
        normals = zip(normal_of(self.encoder(image)), of_particle, strict=True)
        mean, log_deviation = (ops.concatenate(pair, axis=-1) for pair in normals)
        code = reparametrise(mean, log_deviation, inputs["code"])
        w, z, c = zip(*(ops.split(part, sizes, axis=-1) for part in (code, mean, log_deviation)), strict=True)
        single = zip(*(ops.split(part, sizes[0], axis=-1) for part in w), strict=True)
        true, drawn = decoder.centres(image), inputs["mask"][:1]
        bright = ops.stack([ops.sum(image, axis=(1, 2)), ops.max(image, axis=(1, 2))], axis=-1)
        bright = ops.divide(bright, self.brightest)
        return {
            "pixels": ops.sum(ops.square(image - decoder(w[0], z[0], c[0])), axis=(1, 2)),
            "properties": ops.sum(ops.square(true - decoder.masked(w[0], drawn, cooled)), axis=-1),
            "brightness": ops.sum(ops.square(bright - decoder.brightness(c[0])), axis=-1),
            "expected": ops.sum(ops.square(true - decoder.guess(known)), axis=-1),
            "sparsity": ops.sum(decoder.masked.open(drawn, cooled)),
            "total": total_correlation(*single) + sum(total_correlation(*pair) for pair in ((w, z), (w, c), (z, c))),
            "divergence": kl_of_normal(mean, log_deviation),
        }

    def passes(self) -> dict[str, Passes]:
        """How often a step runs each network, for `zdckeras.training.cost`."""
        return {"encoder": Passes(self.encoder, 0.0, 1.0), "particle": Passes(self.decoder.particle, 0.0, 1.0),
                "decoder": Passes(self.decoder.network, 0.0, 1.0)}

    def get_config(self):
        return {**self.parts_config(), **self.ranges, **self.settings, "name": self.name}

"""Conditional GANs over images ln(1 + n), any generator against any critic, with the losses of the papers alone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from zdckeras import backend
from zdckeras.arguments import plain
from zdckeras.backend import Tensor
from zdckeras.data.detectors import get_detector
from zdckeras.data.particles import CONDITION_COUNT
from zdckeras.gan import losses
from zdckeras.gan.generator import checked_factors
from zdckeras.gan.model import columns_of, responses_of
from zdckeras.gan.published import plan_of, published_critic, published_generator, published_regressor
from zdckeras.generators import Sampler, WithParts
from zdckeras.training.adversarial import AdversarialModel, check_network, term_weights
from zdckeras.training.cost import Counts, Passes
from zdckeras.training.phases import Phase

IMAGE_TERMS = ("diversity", "intensity", "auxiliary", "l2")
ADDED = 1e-5  # to the ratio of distances in eq. 3, as in the code of the proton study
LARGEST_PHOTONS = 60_000.0  # of a cell


def as_list(images: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """One image or several as a list."""
    return list(images) if isinstance(images, (list, tuple)) else [images]


def photons_of(image: Tensor) -> Tensor:
    """n = exp(x) - 1 of images x, at least 0 and at most 60,000, not whole."""
    return ops.expm1(ops.clip(ops.cast(image, "float32"), 0.0, math.log1p(LARGEST_PHOTONS)))


def check_networks(names: Sequence[str], latent: int, generator: keras.Model,
                   critic: keras.Model | None = None) -> int:
    """ValueError, in one line, unless a generator gives the detectors' images and a critic a logit for each.

    Arguments:
        names: of the detectors.
        latent: numbers of noise.
        generator, critic: `keras.Model`; built if they are not.

    Returns:
        How many embeddings the critic gives beside the logits: one for each detector, or 0.
    """
    shapes, conditions = [(None, *get_detector(name).shape) for name in names], (None, CONDITION_COUNT)
    check_network("generator", generator, [(None, latent), conditions], shapes)
    if critic is None:
        return 0
    return check_network("critic", critic, [*shapes, conditions], [(None, len(names))], more=len(names))


@keras.saving.register_keras_serializable("zdckeras")
class ImageGAN(WithParts, AdversarialModel):
    """Generator against critic over images x = ln(1 + n), conditions concatenated: the GANs as published.

    L = L_adv + lambda_div L_div + lambda_in L_in + lambda_aux L_aux + lambda_l2 L_l2        (eq. 5, and L2)

    with L_adv of eq. 1 (the generator's half in the form that does not saturate), L_div of eq. 3 (d_I between the
    images, or between the critic's embeddings of them where it gives any, as the neutron study has it), L_in of eq. 4
    (photons of a response), L_aux of eq. 2 (cells), L_l2 the mean squared difference of images. Every term compares a
    generated response with the real one to the same particle; with several detectors terms are averaged. Phases of a
    step: critic, regressor (where lambda_aux > 0; it learns from real responses), generator.
    Nothing is averaged over steps, nothing imposed.

    Arguments:
        generator: `keras.Model` of [(B, latent) noise, (B, 9) scaled conditions] that gives (B, nx, ny), of several
            detectors a list: `zdckeras.gan.published.published_generator`, `zdckeras.gan.published_vit`'s, or your own.
        critic: `keras.Model` of [images..., scaled conditions] that gives (B, detectors) logits, or a list of these and
            an embedding (B, ...) for each detector.
        detector: name, or several.
        scaler: {"mean": (9,), "scale": (9,)} of the conditions.
        weights: lambda of "diversity", "intensity" (per photon), "auxiliary" (per squared cell) and "l2".
        regressors: `keras.Model` of (B, nx, ny) that gives (B, 2), one for each detector, for the auxiliary term.
        latent: numbers of noise.

    Returns:
        call({"conditions": (B, 9), "z": (B, latent)}) gives the images, as the generator does.

    Raises:
        ValueError: for an unknown or negative weight, networks of other shapes, or no regressors for the term.

    Source:
        proton ZDC study, eq. 1 to 5; L2: neutron ZDC study; joint model: ZDC poster.

    Example:
        >>> from keras import layers
        >>> z, c = keras.Input((4,)), keras.Input((9,))
        >>> light = layers.Dense(900, "relu")(layers.Concatenate()([z, c]))
        >>> mine = keras.Model([z, c], layers.Reshape((30, 30))(light))
        >>> x = keras.Input((30, 30))
        >>> critic = keras.Model([x, c], layers.Dense(1)(layers.Concatenate()([layers.Flatten()(x), c])))
        >>> gan = ImageGAN(mine, critic, "ecal", {"mean": [0.0] * 9, "scale": [1.0] * 9}, latent=4)
        >>> list(gan.phases())
        ['critic', 'generator']
    """

    PARTS = ("generator", "critic", "regressors")

    def __init__(self, generator: keras.Model, critic: keras.Model, detector: str | Sequence[str],
                 scaler: dict[str, Any], weights: Mapping[str, float] | None = None,
                 regressors: Sequence[keras.Model] = (), latent: int = 10, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        names = (detector,) if isinstance(detector, str) else tuple(detector)
        self.detectors = [get_detector(name) for name in names]
        self.weights_of = term_weights(weights, dict.fromkeys(IMAGE_TERMS, 0.0))
        self.embeddings = check_networks(names, latent, generator, critic)
        regressors = list(regressors) if self.weights_of["auxiliary"] else []
        if self.weights_of["auxiliary"] and len(regressors) != len(names):
            raise ValueError(f"auxiliary: expected a regressor for each of {', '.join(names)}, received "
                             f"{len(regressors)}.")
        self.settings = dict(detector=names, scaler=plain(scaler), weights=self.weights_of, latent=latent)
        self.names, self.latent = names, latent
        self.mean, self.scale = (np.asarray(scaler[key], "float32") for key in ("mean", "scale"))
        self.generator, self.critic, self.regressors = generator, critic, regressors
        self.built = True

    @classmethod
    def published(cls, detector: str | Sequence[str], scaler: dict[str, Any], divide: int = 1,
                  divide_critic: int | None = None, dropout: float = 0.2, seed: int = 0,
                  **settings: Any) -> "ImageGAN":
        """The DCGANs as published, of zp, of zn and zp, and of zn beside these two.

        Arguments:
            detector, scaler: as above.
            divide: channels and hidden units of the generator are divided by this; 1 as published.
            divide_critic: the same for critic and regressors, as the generator's by default.
            dropout, seed: as in `published_generator`.
            settings: `weights`.
        """
        names = (detector,) if isinstance(detector, str) else tuple(detector)
        sizes = dict(divide=divide if divide_critic is None else divide_critic, dropout=dropout, seed=seed)
        wanted = names if (settings.get("weights") or {}).get("auxiliary") else ()
        return cls(published_generator(names, divide, dropout, seed), published_critic(names, **sizes), names, scaler,
                   latent=plan_of(names).noise, regressors=[published_regressor(name, **sizes) for name in wanted],
                   **settings)

    def passes(self) -> dict[str, Passes]:
        """How often a step runs each network, for `zdckeras.training.cost`."""
        noise, known, *images = (np.ones((1, *shape), "float32") for shape in (
            (self.latent,), (CONDITION_COUNT,), *(detector.shape for detector in self.detectors)))
        generator = Counts.of_call(self.generator, [noise, known])
        critic = Counts.of_call(self.critic, [*images, known])
        twice = 1.0 if self.weights_of["diversity"] else 0.0
        found = {"generator": Passes(generator, 1.0, 1.0 + twice),
                 "critic": Passes(critic, 0.0, 3.0 + (twice if self.embeddings else 0.0))}
        return found | {f"regressor {name}": Passes(Counts.of_call(regressor, image), 0.0, 2.0) for name, image,
                        regressor in zip(self.names, images, self.regressors, strict=False)}

    def averages(self) -> tuple:
        return ()

    def scaled(self, conditions: Tensor) -> Tensor:
        """Conditions (B, 9) as the networks take them."""
        return ops.divide(ops.subtract(ops.cast(conditions, "float32"), self.mean), self.scale)

    def call(self, inputs):
        return self.generator([inputs["z"], self.scaled(inputs["conditions"])], training=False)

    def phases(self) -> dict[str, Phase]:
        found = {"critic": Phase(self._critic_loss, (self.critic,), ("adversarial",), watched=("accuracy",))}
        if self.regressors:
            found["regressor"] = Phase(self._regressor_loss, tuple(self.regressors), ("auxiliary",))
        terms = ("adversarial", *(name for name in IMAGE_TERMS if self.weights_of[name]))
        return {**found, "generator": Phase(self._generator_loss, (self.generator,), terms)}

    def _real(self, batch):
        """The real responses in network space."""
        return [ops.log1p(ops.cast(photons, "float32")) for photons in responses_of(self.detectors, batch)]

    def _made(self, noise, known, training):
        """Generated images, float32 under any policy."""
        return [ops.cast(image, "float32") for image in as_list(self.generator([noise, known], training=training))]

    def _judged(self, images, known, training):
        """Logits, float32 under any policy, and what embeddings the critic gives."""
        found = as_list(self.critic([*images, known], training=training))
        logits, *embeddings = (ops.cast(one, "float32") for one in found)
        return logits, embeddings

    def _critic_loss(self, batch, training):
        known, real = self.scaled(batch["conditions"]), self._real(batch)
        made = map(ops.stop_gradient, self._made(batch["z"], known, training))
        logits = [self._judged(images, known, training)[0] for images in (real, made)]
        return {"adversarial": losses.critic_loss(*logits), "accuracy": losses.accuracy(*logits)}

    def _regressor_loss(self, batch, training):
        return {"auxiliary": self._auxiliary(self._real(batch), batch, training)}

    def _auxiliary(self, images, batch, training):
        """Eq. 2 of images of all detectors."""
        return _mean(losses.auxiliary_loss(ops.cast(regressor(image, training=training), "float32"), peak)
                     for regressor, image, peak in
                     zip(self.regressors, images, columns_of(self.names, batch, "peak"), strict=True))

    def _generator_loss(self, batch, training):
        weights, known, real = self.weights_of, self.scaled(batch["conditions"]), self._real(batch)
        made = self._made(batch["z"], known, training)
        logits, embedded = self._judged(made, known, training)
        found = {"adversarial": losses.generator_loss(logits)}
        if weights["diversity"]:
            other = self._made(batch["z2"], known, training)
            pairs = (embedded, self._judged(other, known, training)[1]) if embedded else (made, other)
            found["diversity"] = _mean(losses.diversity_loss(x, y, batch["z"], batch["z2"], d, ADDED) for x, y, d in
                                       zip(*pairs, columns_of(self.names, batch, "diversity"), strict=True))
        if weights["intensity"]:
            found["intensity"] = _mean(losses.intensity_loss(n, photons_of(x)) for n, x in
                                       zip(columns_of(self.names, batch, "responses"), made, strict=True))
        if weights["auxiliary"]:
            found["auxiliary"] = self._auxiliary(made, batch, training)
        if weights["l2"]:
            found["l2"] = _mean(losses.l2_loss(x, y) for x, y in zip(real, made, strict=True))
        return {name: weights.get(name, 1.0) * value for name, value in found.items()}

    def get_config(self):
        return {**super().get_config(), **self.parts_config()}


@keras.saving.register_keras_serializable("zdckeras")
class ImageGanGenerator(WithParts, Sampler):
    """The shipped generator of an `ImageGAN`: noise and a particle to whole photon counts.

    n = floor(f (e^x - 1) + 1/2), x the network's image, f the light yield of the detector (the neutron study's
    postprocessing, fitted by `zdckeras.gan.generator.fit_factor`).

    Arguments:
        network: trained generator of an `ImageGAN`.
        detector: name, or several.
        scaler: {"mean", "scale"} of the conditions and, where it is known, {"low", "high"}, the range of the training.
        latent: numbers of noise.
        factors: f of each detector, 1 by default.

    Raises:
        ValueError: for a network of other shapes, or unless there is one positive factor for each detector.

    Source:
        neutron ZDC study, "GAN + postprocessing".
    """

    PARTS = ("network",)

    def __init__(self, network: keras.Model, detector: str | Sequence[str], scaler: dict[str, Any], latent: int = 10,
                 factors: ArrayLike | None = None, **kwargs):
        super().__init__(scaler.get("low"), scaler.get("high"), **kwargs)
        names = (detector,) if isinstance(detector, str) else tuple(detector)
        check_networks(names, latent, network)
        self.settings = dict(detector=names, scaler=plain(scaler), latent=latent)
        self.network, self.detectors = network, [get_detector(name) for name in names]
        self.noise_width, self.scaler = latent, {key: np.asarray(scaler[key], "float32") for key in ("mean", "scale")}
        self.light = self.add_weight(shape=(len(names),), initializer="ones", trainable=False, name="factors")
        self.jit_compile = backend.jit_compile()
        self.built = True
        if factors is not None:
            self.factors = factors

    @classmethod
    def of(cls, gan: ImageGAN) -> "ImageGanGenerator":
        """The generator of a trained `ImageGAN`, which shares its weights."""
        return cls(gan.generator, gan.names, gan.settings["scaler"], gan.latent)

    @property
    def factors(self) -> list[float]:
        """Light yield of each detector; setting it needs no new compilation."""
        return ops.convert_to_numpy(self.light).tolist()

    @factors.setter
    def factors(self, values):
        self.light.assign(checked_factors(values, len(self.detectors)))

    def generate(self, noise: Tensor, conditions: Tensor) -> Tensor | tuple[Tensor, ...]:
        known = ops.divide(ops.subtract(ops.cast(conditions, "float32"), self.scaler["mean"]), self.scaler["scale"])
        images = as_list(self.network([ops.cast(noise, "float32"), known], training=False))
        photons = tuple(ops.floor(ops.minimum(self.light[k] * photons_of(image), LARGEST_PHOTONS) + 0.5)
                        for k, image in enumerate(images))
        return photons if len(photons) > 1 else photons[0]

    def get_config(self):
        return {**self.settings, **self.parts_config(), "name": self.name}


def _mean(values):
    """Mean of some scalars, one for each detector."""
    values = list(values)
    return sum(values) / len(values)

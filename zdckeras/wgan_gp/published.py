"""The WGAN-GP of the LHCb study as published, for 30 x 30 cells: networks, and the model around these or yours.

Grids have the published sizes, 256 x 4 x 4, 128 x 8 x 8, 64 x 15 x 16, 32 x 32 x 32 (channels first), and the image is
the last grid, cropped; one convolution to a single channel stands between, which the paper implies. It says
"deconvolutions (in fact an upsampling procedure and convolutions)" without kernels: here a grid is doubled by
repetition and padded as the size of the next one asks for, kernels are 3 x 3, and 4 x 3 where 16 rows become 15.
"""

from collections.abc import Iterator
from typing import Any, Self

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import ArrayLike

from zdckeras.arguments import divided, non_negative, of_kind, whole_number
from zdckeras.backend import Tensor
from zdckeras.data.detectors import get_detector
from zdckeras.data.showers import Showers
from zdckeras.data.transforms import BoxCox
from zdckeras.generators import WithParts, one_detector
from zdckeras.layers.cnn import Cropping
from zdckeras.layers.dense import seeds_of
from zdckeras.policy import made_in
from zdckeras.training.adversarial import AdversarialModel, check_network
from zdckeras.training.cost import Counts, Passes
from zdckeras.training.phases import Phase
from zdckeras.wgan_gp import losses

PARAMETERS = ("px", "py", "pz", "x", "y")
COLUMNS = (4, 5, 6, 1, 2)  # of the conditions: px, py, pz, x, y
LATENT, CELLS, COARSE = 512, 30, 4
CHANNELS = (256, 128, 64, 32)  # of the grids from coarse to fine
UP = (((1, 1), (3, 3)), ((1, 1), (4, 3)), ((2, 1), (3, 3)))  # padding and kernel after each doubling
DOWN = (((0, 1), (4, 4)), ((1, 1), (3, 3)), ((1, 1), (3, 3)))  # padding and kernel of each halving
SLOPE = 0.2  # of LeakyReLU below 0


@made_in("float32")
def published_generator(divide: int = 1, latent: int = LATENT, seed: int = 0) -> keras.Model:
    """Noise and the five parameters, concatenated, to a Box-Cox image.

    Arguments:
        divide: channels are divided by this; 1 as published.
        latent: numbers of noise.
        seed: of the weights.

    Returns:
        `keras.Model`: [(B, latent) noise, (B, 5) scaled parameters] to (B, 30, 30), of either sign.

    Raises:
        ValueError: unless `divide` and `latent` are whole numbers of at least 1.

    Source:
        LHCb study, arXiv:1812.01319, section 3.2.

    Example:
        >>> g = published_generator()
        >>> g.output.shape, g.count_params()
        ((None, 30, 30), 2533889)
    """
    seeds, (coarsest, *finer) = seeds_of([seed, 33]), (divided(size, divide) for size in CHANNELS)
    whole_number(latent, "latent")
    inputs = [keras.Input((latent,), name="noise"), keras.Input((len(PARAMETERS),), name="parameters")]
    x = layers.Dense(COARSE * COARSE * coarsest, "relu", kernel_initializer=_he(seeds))(layers.Concatenate()(inputs))
    x = layers.Reshape((COARSE, COARSE, coarsest))(x)
    for size, (padding, kernel) in zip(finer, UP, strict=True):
        x = layers.ZeroPadding2D(padding)(layers.UpSampling2D()(x))
        x = layers.Conv2D(size, kernel, activation="relu", kernel_initializer=_he(seeds))(x)
    x = layers.Conv2D(1, 3, padding="same", kernel_initializer=_he(seeds))(x)
    return keras.Model(inputs, layers.Reshape((CELLS, CELLS))(Cropping(1)(x)), name="generator")


@made_in("float32")
def published_critic(divide: int = 1, seed: int = 0) -> keras.Model:
    """The generator's grids the other way round, to a score; the regressor's errors join as five even maps of 8 x 8.

    The paper builds "the information from the pretrained regressor into the discriminator gradient" and does not say
    where: what the regressor reads from the image minus the truth stands beside the grid of 128 x 8 x 8, so that the
    last convolution and its LeakyReLU see both.

    Arguments:
        divide, seed: as in `published_generator`.

    Returns:
        `keras.Model`: [(B, 30, 30) Box-Cox image, (B, 5) what the regressor is wrong by] to (B, 1) scores.

    Source:
        LHCb study, arXiv:1812.01319, sections 3.2 and 3.3.

    Example:
        >>> published_critic().count_params()
        417793
    """
    seeds = seeds_of([seed, 34])
    image, wrong = keras.Input((CELLS, CELLS), name="image"), keras.Input((len(PARAMETERS),), name="wrong")
    code = _read(image, divide, seeds, wrong)
    return keras.Model([image, wrong], layers.Dense(1, kernel_initializer=_he(seeds))(code), name="critic")


@made_in("float32")
def published_reader(divide: int = 1, seed: int = 0) -> keras.Model:
    """The critic's grids without the regressor, to the five parameters: the network of an `ImageRegressor`.

    Arguments:
        divide, seed: as in `published_generator`.

    Returns:
        `keras.Model`: (B, 30, 30) Box-Cox image to (B, 5).

    Source:
        LHCb study, arXiv:1812.01319, section 3.3: "the same architecture as the discriminator".

    Example:
        >>> published_reader().count_params()
        422661
    """
    seeds = seeds_of([seed, 35])
    image = keras.Input((CELLS, CELLS), name="image")
    read = layers.Dense(len(PARAMETERS), kernel_initializer=_he(seeds))(_read(image, divide, seeds))
    return keras.Model(image, read, name="reader")


def _he(seeds: Iterator[int]) -> keras.initializers.Initializer:
    return keras.initializers.HeNormal(next(seeds))


def _read(image, divide, seeds, wrong=None):
    """Grids from fine to coarse, flattened; five numbers, if there are any, beside the last but one."""
    *coarser, finest = (divided(size, divide) for size in CHANNELS)
    x = layers.ZeroPadding2D(2)(layers.Reshape((CELLS, CELLS, 1))(image))
    x = layers.LeakyReLU(SLOPE)(layers.Conv2D(finest, 3, kernel_initializer=_he(seeds))(x))
    for step, (size, (padding, kernel)) in enumerate(zip(reversed(coarser), DOWN, strict=True)):
        if wrong is not None and step == len(DOWN) - 1:
            maps = layers.Reshape((*x.shape[1:3], len(PARAMETERS)))(layers.RepeatVector(x.shape[1] * x.shape[2])(wrong))
            x = layers.Concatenate()([x, maps])
        x = layers.ZeroPadding2D(padding)(x)
        x = layers.LeakyReLU(SLOPE)(layers.Conv2D(size, kernel, 2, kernel_initializer=_he(seeds))(x))
    return layers.Flatten()(x)


def momenta(conditions: Tensor) -> Tensor:
    """The five parameters (px, py, pz [GeV], x, y [cm]) of conditions (B, 9), as the LHCb study has them: (B, 5)."""
    return ops.take(ops.cast(conditions, "float32"), COLUMNS, axis=1)


@keras.saving.register_keras_serializable("zdckeras")
class ImageRegressor(WithParts, layers.Layer):
    """The particle's parameters read from a Box-Cox image of its response, standardised: (t - mean) / scale.

    Trained by `zdckeras.wgan_gp.regression.RegressorFit`, as the `ParameterRegressor` is.

    Arguments:
        network: `keras.Model` of (B, nx, ny) that gives (B, 5), `published_reader` or your own.
        detector: name.
        mean, scale: (5,) of `momenta` over the training part.

    Returns:
        call((B, nx, ny) in network space) gives (B, 5).
    """

    PARTS = ("network",)

    def __init__(self, network: keras.Model, detector: str, mean: ArrayLike, scale: ArrayLike, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.network, self.detector = network, get_detector(detector)
        self.mean, self.scale = np.asarray(mean, "float32"), np.asarray(scale, "float32")
        check_network("regressor", network, [(None, *self.detector.shape)], [(None, len(PARAMETERS))])
        self.built = True

    @classmethod
    def fit_scales(cls, network: keras.Model, showers: Showers) -> Self:
        """A regressor around a network, its parameters standardised over training `Showers` of one detector."""
        table = np.asarray(showers.particles, "float64")[:, COLUMNS]
        return cls(network, showers.detector().name, table.mean(axis=0), table.std(axis=0) + 1e-6)

    def truth(self, conditions: Tensor) -> Tensor:
        """The standardised parameters of conditions (B, 9)."""
        return ops.divide(ops.subtract(momenta(conditions), self.mean), self.scale)

    def call(self, image):
        return self.network(image)

    def get_config(self):
        return {**super().get_config(), "detector": self.detector.name, "mean": self.mean.tolist(),
                "scale": self.scale.tolist(), **self.parts_config()}


@keras.saving.register_keras_serializable("zdckeras")
class ImageNetwork(WithParts, layers.Layer):
    """A generator of Box-Cox images as one of energies: e = BoxCox^-1(G(z, t)), at least 0.

    Arguments:
        network: `keras.Model` of [(B, latent) noise, (B, 5) standardised parameters] that gives (B, nx, ny).
        detector: name.
        mean, scale: (5,) of `momenta`.
        boxcox: {"power", "shift"} of the network space.
        latent: numbers of noise.

    Returns:
        call((B, latent) noise, (B, 9) conditions) gives (B, nx, ny) [MeV]: what an `EnergyGenerator` ships.
    """

    PARTS = ("network",)

    def __init__(self, network: keras.Model, detector: str, mean: ArrayLike, scale: ArrayLike,
                 boxcox: dict[str, Any], latent: int = LATENT, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.network, self.detector = network, get_detector(detector)
        self.boxcox, self.latent = BoxCox(**boxcox), latent
        self.mean, self.scale = np.asarray(mean, "float32"), np.asarray(scale, "float32")
        check_network("generator", network, [(None, latent), (None, len(PARAMETERS))],
                      [(None, *self.detector.shape)])
        self.built = True

    def image(self, noise: Tensor, conditions: Tensor, training: bool = False) -> Tensor:
        """The image in network space, (B, nx, ny)."""
        known = ops.divide(ops.subtract(momenta(conditions), self.mean), self.scale)
        return self.network([ops.cast(noise, "float32"), known], training=training)

    def call(self, noise, conditions):
        return self.boxcox.inverse(self.image(noise, conditions))

    def operations(self) -> int:
        """Multiplications with a weight for one response."""
        inputs = (np.zeros((1, width), "float32") for width in (self.latent, len(PARAMETERS)))
        return Counts.of_call(self.network, list(inputs)).products

    def get_config(self):
        return {**super().get_config(), "detector": self.detector.name, "mean": self.mean.tolist(),
                "scale": self.scale.tolist(), "boxcox": self.boxcox.get_config(), "latent": self.latent,
                **self.parts_config()}


@keras.saving.register_keras_serializable("zdckeras")
class ImageWGAN(WithParts, AdversarialModel):
    """L_D = E D(x') - E D(x) + 10 E (|grad D| - 1)^2, L_G = -E D(x') over Box-Cox images: the LHCb study, as published.

    D(y, c) = f(y, R(y) - t(c)) with R the pretrained, frozen regressor and t the true parameters: all that tells the
    generator which particle is asked for comes through the regressor's gradient. Five critic steps go with one of the
    generator: a batch is cut into five parts. Nothing is averaged over steps.

    Arguments:
        generator: `ImageNetwork`.
        critic: `keras.Model` of [(B, nx, ny), (B, 5)] that gives (B, 1): `published_critic`, or your own.
        regressor: trained `ImageRegressor`.
        penalty: weight of the gradient penalty.
        critic_steps: critic steps for one of the generator.

    Returns:
        call({"conditions": (B, 9), "z": (B, latent)}) gives responses (B, nx, ny) [MeV].

    Raises:
        ValueError: for networks of other shapes, kinds or detectors, a negative penalty, or critic steps below 1.

    Source:
        LHCb study, arXiv:1812.01319, eq. 5 and section 3.3; what it leaves open as in arXiv:1704.00028.
    """

    PARTS = ("generator", "critic", "regressor")

    def __init__(self, generator: ImageNetwork, critic: keras.Model, regressor: ImageRegressor, penalty: float = 10.0,
                 critic_steps: int = 5, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        of_kind(generator, ImageNetwork, "generator")
        of_kind(regressor, ImageRegressor, "regressor")
        self.detector = one_detector(generator=generator.detector, regressor=regressor.detector)
        self.latent = generator.latent
        check_network("critic", critic, [(None, *self.detector.shape), (None, len(PARAMETERS))], [(None, 1)])
        whole_number(critic_steps, "critic_steps")
        non_negative(penalty, "penalty")
        self.settings = dict(penalty=penalty, critic_steps=critic_steps)
        self.generator, self.critic, self.regressor = generator, critic, regressor
        self.penalty, self.critic_steps = penalty, critic_steps
        self.built = True

    @classmethod
    def published(cls, regressor: ImageRegressor, boxcox: dict[str, Any], divide: int = 1, latent: int = LATENT,
                  seed: int = 0, **settings: Any) -> "ImageWGAN":
        """The networks as published around a trained regressor, channels divided by `divide`."""
        of_kind(regressor, ImageRegressor, "regressor")
        network = ImageNetwork(published_generator(divide, latent, seed), regressor.detector.name, regressor.mean,
                               regressor.scale, boxcox, latent)
        return cls(network, published_critic(divide, seed), regressor, **settings)

    def averages(self) -> tuple:
        return ()

    def call(self, inputs):
        return self.generator(inputs["z"], inputs["conditions"])

    def phases(self) -> dict[str, Phase]:
        return {"critic": Phase(self._critic_loss, (self.critic,), ("distance", "penalty"), self.critic_steps,
                                ("accuracy",)),
                "generator": Phase(self._generator_loss, (self.generator,), ("adversarial",))}

    def passes(self) -> dict[str, Passes]:
        """How often a step runs each network over its batch, of which the generator has one part, for
        `zdckeras.training.cost`."""
        share = 1.0 / self.critic_steps
        return {"generator": Passes(self.generator.network, 1.0, share),
                "critic": Passes(self.critic, 0.0, 4.0 + share),  # two responses, the penalty and its gradient
                "regressor": Passes(self.regressor.network, 2.0, 2.0 + share, trained=False)}

    def scores(self, image: Tensor, conditions: Tensor, training: bool = False) -> Tensor:
        """D of images in network space, (B, 1)."""
        wrong = self.regressor(image) - self.regressor.truth(conditions)
        return self.critic([image, wrong], training=training)

    def _critic_loss(self, batch, training):
        if tuple(batch["responses"].shape[1:]) != self.detector.shape:
            raise ValueError(f"responses: expected shape (B, {self.detector.shape[0]}, {self.detector.shape[1]}), "
                             f"received {tuple(batch['responses'].shape)}.")
        conditions = batch["conditions"]
        real = self.generator.boxcox.forward(ops.cast(batch["responses"], "float32"))
        made = ops.stop_gradient(self.generator.image(batch["z"], conditions, training))
        scores = [self.scores(image, conditions, training) for image in (real, made)]
        penalty = losses.gradient_penalty(lambda y: self.scores(y, conditions, training), real, made, batch["share"])
        return {"distance": losses.wasserstein_loss(*scores), "penalty": self.penalty * penalty,
                "accuracy": losses.ranking(*scores)}

    def _generator_loss(self, batch, training):
        made = self.generator.image(batch["z"], batch["conditions"], training)
        return {"adversarial": -ops.mean(self.scores(made, batch["conditions"], training))}

    def get_config(self):
        return {**super().get_config(), **self.parts_config()}

"""DCGANs over images ln(1 + n) as published, for one calorimeter or both.

Every layer but the last is followed by batch normalisation, dropout and LeakyReLU; convolutions are not padded, so that
their kernels bring the grid to the size of the detector. The papers give neither channels nor kernels: those of ZP are
of patrick-bedkowski/Generative-Models-for-CERN-Fast-Simulations (`notebooks/best_models_py`, proton study), those of
both calorimeters of the same repository (`sdi_gan_proton_neutron_2_outputs.py`, the poster's joint model), and those of
ZN, which stand beside the joint model, of an early state of m-wojnar/zdc (`zdc/models/gan/gan.py`). The neutron study
itself came to vision transformers, see `zdckeras.gan.published_vit`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras
from keras import layers

from zdckeras.arguments import divided
from zdckeras.data.detectors import get_detector
from zdckeras.data.particles import CONDITION_COUNT
from zdckeras.layers.dense import seeds_of

SLOPE = 0.1  # of LeakyReLU below 0
HIDDEN = 256  # units of the generator's first dense layer
CRITIC_CHANNELS, CRITIC_WIDTHS = (32, 16), (128, 64)
REGRESSOR_CHANNELS = (32, 64, 128, 256)


@dataclass(frozen=True)
class Plan:
    """Sizes of the networks of one detector, or of both together.

    Arguments:
        noise: numbers of latent noise.
        grid: (rows, columns) of the first grid, which has 128 channels.
        heads: detector name -> steps of the generator, each (upsampling, channels, kernel).
        pool: second pooling of the critic; the first is 2 x 2.
    """

    noise: int
    grid: tuple[int, int]
    heads: dict
    pool: tuple[int, int]


FIRST_CHANNELS = 128
PLANS = {
    ("zn",): Plan(10, (13, 13), {"zn": (((2, 2), 128, (3, 3)), ((2, 2), 64, (3, 3)), ((1, 1), 1, (3, 3)))}, (2, 2)),
    ("zp",): Plan(10, (20, 10), {"zp": (((3, 2), 256, (2, 2)), ((1, 2), 128, (2, 2)), ((1, 1), 64, (2, 2)),
                                        ((1, 1), 1, (2, 7)))}, (2, 1)),
    ("zn", "zp"): Plan(8, (20, 12), {
        "zn": (((3, 2), 256, (6, 2)), ((1, 2), 128, (6, 2)), ((1, 1), 64, (6, 2)), ((1, 1), 1, (2, 1))),
        "zp": (((3, 2), 256, (2, 6)), ((1, 2), 128, (2, 6)), ((1, 1), 64, (2, 4)), ((1, 1), 1, (2, 1)))}, (2, 1)),
}


def plan_of(detector: str | Sequence[str]) -> Plan:
    """The published sizes for a detector's name, or for ("zn", "zp").

    Raises:
        ValueError: for detectors that no study has a GAN for.

    Example:
        >>> plan_of("zp").grid, plan_of(["zn", "zp"]).noise
        ((20, 10), 8)
    """
    names = (detector,) if isinstance(detector, str) else tuple(detector)
    if names not in PLANS:
        raise ValueError(f"Expected zn, zp, or zn and zp, for which GANs are published; received {', '.join(names)}.")
    return PLANS[names]


def published_generator(detector: str | Sequence[str], divide: int = 1, dropout: float = 0.2,
                        seed: int = 0) -> keras.Model:
    """DCGAN generator: noise and scaled conditions, concatenated, to images ln(1 + n) of one detector or both.

    h = dense 256, dense to the first grid; then steps of upsampling (by repetition) and convolution; ReLU at the end.

    Arguments:
        detector: name, or ("zn", "zp") for two outputs from one grid.
        divide: channels and hidden units are divided by this; 1 as published.
        dropout: share of what every layer but the last drops.
        seed: of weights and dropout.

    Returns:
        `keras.Model`: [(B, d) noise, (B, 9) scaled conditions] to (B, nx, ny), a list of them for both detectors.

    Raises:
        ValueError: as `plan_of`, or unless `divide` is a whole number of at least 1.

    Source:
        DCGAN, arXiv:1511.06434; proton study, figure 1; poster, "two separate outputs for the generator". Sizes: see
        above.

    Example:
        >>> g = published_generator("zn")
        >>> g.output.shape, g.count_params()
        ((None, 44, 44), 5874817)
    """
    plan, seeds = plan_of(detector), seeds_of([seed, 30])
    inputs = [keras.Input((plan.noise,), name="noise"), keras.Input((CONDITION_COUNT,), name="conditions")]
    x = layers.Concatenate()(inputs)
    first = divided(FIRST_CHANNELS, divide)
    for units in (divided(HIDDEN, divide), first * plan.grid[0] * plan.grid[1]):
        x = _activated(layers.Dense(units, kernel_initializer=_glorot(seeds))(x), dropout, seeds)
    grid = layers.Reshape((*plan.grid, first))(x)
    images = []
    for name, steps in plan.heads.items():
        x = grid
        for upsampling, channels, kernel in steps:
            x = layers.UpSampling2D(upsampling)(x) if upsampling != (1, 1) else x
            last = channels == 1
            convolution = layers.Conv2D(1 if last else divided(channels, divide), kernel,
                                        activation="relu" if last else None, kernel_initializer=_glorot(seeds))
            x = convolution(x) if last else _activated(convolution(x), dropout, seeds)
        images.append(layers.Reshape(get_detector(name).shape, name=f"image_{name}")(x))
    return keras.Model(inputs, images if len(images) > 1 else images[0], name="generator")


def published_critic(detector: str | Sequence[str], divide: int = 1, dropout: float = 0.2,
                     seed: int = 0) -> keras.Model:
    """DCGAN discriminator: images ln(1 + n) and scaled conditions to a logit for each detector.

    Two convolutions 3 x 3 with pooling for each image; what is left is concatenated with the conditions for two dense
    layers. The sigmoid behind the logit is in the loss.

    Arguments:
        detector: name, or ("zn", "zp") for two inputs and two outputs.
        divide, dropout, seed: as in `published_generator`.

    Returns:
        `keras.Model`: [(B, nx, ny) for each detector, (B, 9) scaled conditions] to (B, detectors).

    Raises:
        ValueError: as `published_generator`.

    Source:
        as `published_generator`; poster, "two separate inputs and outputs of the discriminator".

    Example:
        >>> [(d, published_critic(d).count_params()) for d in ("zn", "zp")]
        [('zn', 181393), ('zp', 310417)]
    """
    plan, seeds = plan_of(detector), seeds_of([seed, 31])
    images = [keras.Input(get_detector(name).shape, name=f"image_{name}") for name in plan.heads]
    conditions = keras.Input((CONDITION_COUNT,), name="conditions")
    codes = [_pooled(image, CRITIC_CHANNELS, ((2, 2), plan.pool), divide, dropout, seeds) for image in images]
    x = layers.Concatenate()([*codes, conditions])
    for units in CRITIC_WIDTHS:
        x = _activated(layers.Dense(divided(units, divide), kernel_initializer=_glorot(seeds))(x), dropout, seeds)
    logits = layers.Dense(len(images), kernel_initializer=_glorot(seeds))(x)
    return keras.Model([*images, conditions], logits, name="critic")


def published_regressor(detector: str, divide: int = 1, dropout: float = 0.2, seed: int = 0) -> keras.Model:
    """Auxiliary regressor: the image ln(1 + n) of one detector to (row, column) of its brightest cell, in cells.

    Arguments:
        detector: name.
        divide, dropout, seed: as in `published_generator`.

    Returns:
        `keras.Model`: (B, nx, ny) to (B, 2).

    Raises:
        ValueError: for an unknown detector, or unless `divide` is a whole number of at least 1.

    Source:
        proton study, section 3.1; sizes of `sin-gan-proton-aux-reg-1.py` in the repository named above.

    Example:
        >>> published_regressor("zp").count_params()
        402050
    """
    seeds = seeds_of([seed, 32])
    image = keras.Input(get_detector(detector).shape, name="image")
    code = _pooled(image, REGRESSOR_CHANNELS, ((2, 2), (2, 1), (2, 1), (1, 1)), divide, dropout, seeds)
    return keras.Model(image, layers.Dense(2, kernel_initializer=_glorot(seeds))(code), name="regressor")


def _glorot(seeds: Iterator[int]) -> keras.initializers.Initializer:
    return keras.initializers.GlorotUniform(next(seeds))


def _activated(x, dropout, seeds):
    """Batch normalisation, dropout and LeakyReLU."""
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(dropout, seed=next(seeds))(x) if dropout else x
    return layers.LeakyReLU(SLOPE)(x)


def _pooled(image, channels, pools, divide, dropout, seeds):
    """Convolutions 3 x 3, each with its pooling, flattened at the end."""
    x = layers.Reshape((*image.shape[1:], 1))(image)
    for size, pool in zip(channels, pools, strict=True):
        x = layers.Conv2D(divided(size, divide), 3, kernel_initializer=_glorot(seeds))(x)
        x = _activated(x, dropout, seeds)
        x = layers.MaxPooling2D(pool)(x) if pool != (1, 1) else x
    return layers.Flatten()(x)

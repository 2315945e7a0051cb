"""The networks of the LHCb study as published, for 30 x 30 cells: generator, critic, and the regressor's reader.

Grids have the published sizes, 256 x 4 x 4, 128 x 8 x 8, 64 x 15 x 16, 32 x 32 x 32 (channels first), and the image is
the last grid, cropped; one convolution to a single channel stands between, which the paper implies. It says
"deconvolutions (in fact an upsampling procedure and convolutions)" without kernels: here a grid is doubled by
repetition and padded as the size of the next one asks for, kernels are 3 x 3, and 4 x 3 where 16 rows become 15.
"""

from collections.abc import Iterator

import keras
from keras import layers

from zdckeras.layers.dense import seeds_of

PARAMETERS = ("px", "py", "pz", "x", "y")
LATENT, CELLS, COARSE = 512, 30, 4
CHANNELS = (256, 128, 64, 32)  # of the grids from coarse to fine
UP = (((1, 1), (3, 3)), ((1, 1), (4, 3)), ((2, 1), (3, 3)))  # padding and kernel after each doubling
DOWN = (((0, 1), (4, 4)), ((1, 1), (3, 3)), ((1, 1), (3, 3)))  # padding and kernel of each halving
SLOPE = 0.2  # of LeakyReLU below 0


def published_generator(divide: int = 1, latent: int = LATENT, seed: int = 0) -> keras.Model:
    """Noise and the five parameters, concatenated, to a Box-Cox image.

    Arguments:
        divide: channels are divided by this; 1 as published.
        latent: numbers of noise.
        seed: of the weights.

    Returns:
        `keras.Model`: [(B, latent) noise, (B, 5) scaled parameters] to (B, 30, 30), of either sign.

    Source:
        LHCb study, arXiv:1812.01319, section 3.2.

    Example:
        >>> g = published_generator()
        >>> g.output.shape, g.count_params()
        ((None, 30, 30), 2533889)
    """
    seeds, (coarsest, *finer) = seeds_of([seed, 33]), _divided(divide)
    inputs = [keras.Input((latent,), name="noise"), keras.Input((len(PARAMETERS),), name="parameters")]
    x = layers.Dense(COARSE * COARSE * coarsest, "relu", kernel_initializer=_he(seeds))(layers.Concatenate()(inputs))
    x = layers.Reshape((COARSE, COARSE, coarsest))(x)
    for size, (padding, kernel) in zip(finer, UP, strict=True):
        x = layers.ZeroPadding2D(padding)(layers.UpSampling2D()(x))
        x = layers.Conv2D(size, kernel, activation="relu", kernel_initializer=_he(seeds))(x)
    x = layers.Conv2D(1, 3, padding="same", kernel_initializer=_he(seeds))(x)
    return keras.Model(inputs, layers.Reshape((CELLS, CELLS))(layers.Cropping2D(1)(x)), name="generator")


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


def _divided(divide: int) -> list[int]:
    return [max(size // divide, 1) for size in CHANNELS]


def _he(seeds: Iterator[int]) -> keras.initializers.Initializer:
    return keras.initializers.HeNormal(next(seeds))


def _read(image, divide, seeds, wrong=None):
    """Grids from fine to coarse, flattened; five numbers, if there are any, beside the last but one."""
    *coarser, finest = _divided(divide)
    x = layers.ZeroPadding2D(2)(layers.Reshape((CELLS, CELLS, 1))(image))
    x = layers.LeakyReLU(SLOPE)(layers.Conv2D(finest, 3, kernel_initializer=_he(seeds))(x))
    for step, (size, (padding, kernel)) in enumerate(zip(reversed(coarser), DOWN, strict=True)):
        if wrong is not None and step == len(DOWN) - 1:
            maps = layers.Reshape((*x.shape[1:3], len(PARAMETERS)))(layers.RepeatVector(x.shape[1] * x.shape[2])(wrong))
            x = layers.Concatenate()([x, maps])
        x = layers.ZeroPadding2D(padding)(x)
        x = layers.LeakyReLU(SLOPE)(layers.Conv2D(size, kernel, 2, kernel_initializer=_he(seeds))(x))
    return layers.Flatten()(x)

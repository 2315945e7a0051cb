"""Small models of diffusion, and codes for them."""

import numpy as np
import pytest

from tests.modular.conftest import SMALL
from zdckeras.diffusion.latent import DiffusionPrior, code_posteriors
from zdckeras.modular.model import ArrivalVAE

SIZES = dict(hidden=16, depth=2, context=8)


def randomise(model, seed=0, size=0.5):
    """Give every trainable weight a value from a seeded NumPy generator: answers begin at 0 otherwise."""
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        weight.assign((size * rng.normal(size=weight.shape) / np.sqrt(max(weight.shape[0], 4))).astype("float32"))
    return model


@pytest.fixture(scope="session")
def vae():
    """Not trained; shared, so leave its weights alone."""
    return ArrivalVAE("zn", **SMALL)


@pytest.fixture(scope="session")
def codes(vae):
    return code_posteriors(vae, 96, seed=3)


@pytest.fixture
def prior(vae, codes):
    """Of random weights, sampled by Heun's method in 3 steps."""
    made = randomise(DiffusionPrior(vae.features.width, vae.latent, steps=3, **SIZES))
    return made.fit_scales(codes["code_mean"], codes["code_deviation"])


@pytest.fixture
def batch(vae, codes):
    """32 rows of all that trainings of codes take."""
    rng, rows = np.random.default_rng(7), slice(0, 32)
    noise = {name: rng.standard_normal((32, vae.latent), "float32") for name in ("z", "noise")}
    uniform = {name: rng.random(32, "float32") for name in ("t", "s", "same")}
    return {**{name: values[rows] for name, values in codes.items()}, **noise, **uniform}

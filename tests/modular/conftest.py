"""A small modular model of ZN and single arrivals for it."""

import numpy as np
import pytest

from zdckeras.modular.arrivals import ArrivalBatches
from zdckeras.modular.generator import ModularGenerator
from zdckeras.modular.model import ArrivalVAE
from zdckeras.modular.transport import Transport

LATENT = 4
SMALL = dict(latent=LATENT, encoder=dict(hidden=(16, 8)), decoder=dict(hidden=(8, 8), known=8, rim=4),
             prior=dict(steps=2, hidden=(8,), context=8))


@pytest.fixture(scope="session")
def batches():
    return ArrivalBatches("zn", 96, epochs=4, batch_size=32, seed=3, latent=LATENT)


@pytest.fixture(scope="session")
def vae(batches):
    """Not trained; shared, so leave its weights alone."""
    arrivals = {name: batches.arrays[name] for name in ("kind", "energy", "x", "y")}
    return ArrivalVAE("zn", **SMALL).fit_scales(arrivals, batches.arrays["responses"])


@pytest.fixture(scope="session")
def modular(vae):
    """A generator of the teacher; shared."""
    return ModularGenerator(Transport("zn"), vae.prior, vae.decoder, np.full(9, -1e5), np.full(9, 1e5))

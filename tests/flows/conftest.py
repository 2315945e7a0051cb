import numpy as np
import pytest


@pytest.fixture
def scramble():
    """Give every weight of a layer a random value, of the same size for the same seed on every backend."""

    def apply(layer, seed=0, size=0.7):
        rng = np.random.default_rng(seed)
        for weight in layer.weights:
            weight.assign(size * rng.normal(size=weight.shape) / np.sqrt(max(weight.shape[0], 4)))
        return layer

    return apply

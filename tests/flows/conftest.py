import keras
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


@pytest.fixture(autouse=True)
def quick_compilation():
    """These tests compile much and run little, so JAX is told not to optimise."""
    if keras.config.backend() != "jax":
        yield
        return
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def op_by_op():
    """An eager call under JAX compiles its loops anew each time; operation by operation is quicker."""
    if keras.config.backend() != "jax":
        yield
        return
    import jax

    with jax.disable_jit():
        yield

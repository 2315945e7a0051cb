"""Built and seeded dense layers, and what they cost."""

from collections.abc import Iterator, Sequence

import keras
import numpy as np
from keras import layers

from zdckeras.policy import made_in


def seeds_of(seed: int | Sequence[int]) -> Iterator[int]:
    """Endless seeds for the layers of one network."""
    rng = np.random.default_rng(seed)
    while True:
        yield int(rng.integers(2**31))


def dense_layers(widths: Sequence[int], width: int, seeds: Iterator[int], slope: float = 0.1,
                 policy: str | keras.DTypePolicy = "float32") -> keras.Sequential:
    """Dense layers with LeakyReLU of a slope below 0, built for inputs of one width, in a dtype policy."""
    with made_in(policy):
        body = keras.Sequential([layer for size in widths for layer in (
            layers.Dense(size, kernel_initializer=keras.initializers.HeNormal(next(seeds))), layers.LeakyReLU(slope))])
        body.build((None, width))
    return body


def silu_layers(widths: Sequence[int], width: int, seeds: Iterator[int],
                initializer: type = keras.initializers.HeNormal) -> keras.Sequential:
    """Dense layers with SiLU, built for inputs of one width; in float32 whatever the policy, as flows stand behind."""
    with made_in("float32"):
        body = keras.Sequential([layers.Dense(size, "silu", kernel_initializer=initializer(next(seeds)))
                                 for size in widths])
        body.build((None, width))
    return body


def linear(inputs: int, units: int, seeds: Iterator[int], bias: bool = True) -> keras.layers.Layer:
    """A seeded dense layer, built."""
    layer = layers.Dense(units, use_bias=bias, dtype="float32",
                         kernel_initializer=keras.initializers.GlorotUniform(next(seeds)))
    layer.build((None, inputs))
    return layer


def multiplications(model: keras.layers.Layer) -> int:
    """Multiplications with every weight of a model that is used once for a row: those with more than one dimension."""
    return sum(int(np.prod(weight.shape)) for weight in model.weights if len(weight.shape) > 1)


def products(*parts: keras.layers.Layer | None) -> int:
    """Multiplications with the kernels of dense layers or convolutions, once each."""
    return sum(int(np.prod(layer.kernel.shape)) for part in parts if part is not None
               for layer in getattr(part, "layers", [part]) if hasattr(layer, "kernel"))

import keras
import numpy as np
import pytest
from keras import ops

from zdckeras.layers.dense import dense_layers, seeds_of

# What these layers give is compared with that of JAX in test_backends.py.
pytestmark = pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX compiles every shape of weights")
numpy = ops.convert_to_numpy


def test_seeds_repeat_and_differ():
    first, again, other = ([next(seeds) for _ in range(5)] for seeds in map(seeds_of, ([1, 2], [1, 2], [2, 2])))
    assert first == again != other and len(set(first)) == 5 and all(0 <= seed < 2**31 for seed in first)


def test_dense_layers_are_leaky():
    body = dense_layers((1, 1), 1, seeds_of(0), slope=0.25)
    for layer in body.layers[::2]:
        layer.kernel.assign([[2.0]])
    assert numpy(body(np.array([[3.0], [-8.0]], "float32"))).tolist() == [[12.0], [-2.0]]

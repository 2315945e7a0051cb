import keras
import numpy as np
import pytest
from keras import ops

from zdckeras.layers.dense import dense_layers, products, seeds_of, silu_layers

# What these layers give is compared with that of JAX in test_backends.py.
pytestmark = pytest.mark.compiles_long
numpy = ops.convert_to_numpy


def test_seeds_repeat_and_differ():
    first, again, other = ([next(seeds) for _ in range(5)] for seeds in map(seeds_of, ([1, 2], [1, 2], [2, 2])))
    assert first == again != other and len(set(first)) == 5 and all(0 <= seed < 2**31 for seed in first)


def test_dense_layers_are_leaky():
    body = dense_layers((1, 1), 1, seeds_of(0), slope=0.25)
    for layer in body.layers[::2]:
        layer.kernel.assign([[2.0]])
    assert numpy(body(np.array([[3.0], [-8.0]], "float32"))).tolist() == [[12.0], [-2.0]]


def test_silu_layers_by_hand():
    """x / (1 + e^-x) after every layer; their weights are those of the seeds."""
    body = silu_layers((1, 1), 1, iter([5, 6]))
    again = silu_layers((1, 1), 1, iter([5, 6]))
    assert all(np.array_equal(a, b) for a, b in zip(body.get_weights(), again.get_weights(), strict=True))
    for layer in body.layers:
        layer.kernel.assign([[2.0]])
    silu = lambda x: x / (1.0 + np.exp(-x))  # noqa: E731
    x = np.array([[3.0], [-0.5]], "float32")
    np.testing.assert_allclose(numpy(body(x)), silu(2.0 * silu(2.0 * x)), rtol=1e-5)


def test_products_count_kernels_once_and_skip_what_has_none():
    body, alone = dense_layers((3, 5), 2, seeds_of(0)), keras.layers.Dense(4)
    alone.build((None, 7))
    assert products(body, None, alone) == 2 * 3 + 3 * 5 + 7 * 4 and products() == 0

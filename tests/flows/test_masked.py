import keras
import numpy as np
import pytest
from keras import ops

from zdckeras.flows.masked import MaskedDense, MaskedNetwork, degrees


@pytest.mark.parametrize(
    ("units", "variables", "levels"), [(256, 1936, 256), (12, 5, 5), (5, 5, 5), (9, 7, 4), (3, 1, 1)]
)
def test_degrees_are_sorted_even_and_complete(units, variables, levels):
    found = degrees(units, variables, levels)
    values, counts = np.unique(found, return_counts=True)
    assert found.shape == (units,) and (np.diff(found) >= 0).all()
    assert values[0] == 0 and values[-1] < variables and len(values) == levels
    assert np.ptp(counts) <= 1 and np.ptp(np.diff([*values, variables])) <= 1


def test_degrees_need_room():
    with pytest.raises(ValueError, match="5 levels, 4 units, 9 variables"):
        degrees(4, 9, 5)


def test_masked_dense_is_the_masked_product_and_saves_no_mask():
    layer = MaskedDense([1, 2, 3], [0, 1, 1, 2, 3])
    kernel, bias = np.random.default_rng(0).normal(size=(3, 5)).astype("float32"), np.arange(5.0)
    layer.set_weights([kernel, bias])
    x = np.random.default_rng(1).normal(size=(4, 3)).astype("float32")
    mask = np.array([[0, 1, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1]])
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), x @ (mask * kernel) + bias, atol=1e-6)
    assert len(layer.variables) == 2
    again = MaskedDense.from_config(layer.get_config())
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(ops.convert_to_numpy(again(x)), ops.convert_to_numpy(layer(x)))


def test_masked_dense_wants_vectors_of_degrees():
    with pytest.raises(ValueError, match=r"one-dimensional degrees, received \(1, 2\) and \(1,\)"):
        MaskedDense([[1, 2]], [1])


def test_network_config_rebuilds_it():
    network = MaskedNetwork(5, 2, context=3, hidden=(7, 12), activation="gelu", seed=1)
    again = MaskedNetwork.from_config(network.get_config())
    again.set_weights(network.get_weights())
    x, context = np.ones((30, 5), "float32"), np.ones((30, 3), "float32")
    np.testing.assert_array_equal(*(ops.convert_to_numpy(n(x, context)) for n in (network, again)))
    assert again.get_config() == network.get_config()


def test_layers_that_see_the_context():
    """The first alone: fewer weights, and the context still moves every output."""
    network = MaskedNetwork(5, 2, context=3, hidden=(7, 12), seed=1, context_layers=1)
    assert network.count_params() == MaskedNetwork(5, 2, hidden=(7, 12)).count_params() + 3 * 7
    network.masked[-1].kernel.assign(np.random.default_rng(0).normal(size=(12, 10)))
    x, context = np.zeros((1, 5), "float32"), np.eye(3, dtype="float32")
    first, second = (ops.convert_to_numpy(network(x, context[k : k + 1])) for k in range(2))
    assert (first != second).all() and MaskedNetwork.from_config(network.get_config()).context_layers == 1
    for wrong, message in ((4, "at most 3, as many as there are, received 4"), (0, "least 1"), (1.5, "whole number")):
        with pytest.raises(ValueError, match=message):
            MaskedNetwork(5, 2, context=3, hidden=(7, 12), context_layers=wrong)


def test_functional_model_knows_the_shape():
    inputs = keras.Input((5,))
    assert MaskedNetwork(5, 3, hidden=(6,))(inputs).shape == (None, 5, 3)


def test_the_sweep_never_calls_the_network():
    """Work about one pass: as many univariate inversions as there are distinct degrees, not variables."""
    network, groups = MaskedNetwork(24, 2, hidden=(6, 8)), []

    def update(y, theta):
        groups.append(tuple(theta.shape))
        return y, ops.zeros_like(y)

    y = np.zeros((3, 24), "float32")
    x, _ = network.solve(update, ops.convert_to_tensor(y))
    np.testing.assert_array_equal(ops.convert_to_numpy(x), y)
    assert len(groups) in (1, 6) and set(groups) == {(4, 3, 2)}  # traced once, or run eagerly for each degree

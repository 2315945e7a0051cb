import keras
import numpy as np
import pytest
from keras import ops

from zdckeras import backend
from zdckeras.layers.transformer import Transformer

numpy = ops.convert_to_numpy


def body(causal, seed=0, **settings):
    return Transformer(**{"length": 5, "width": 8, "heads": 2, "depth": 2, "causal": causal, "seed": seed, **settings})


def vectors(seed=0):
    return np.random.default_rng(seed).normal(size=(3, 5, 8)).astype("float32")


def dense(layer, x):
    return x @ numpy(layer.kernel) + numpy(layer.bias)


def normalised(x):
    return (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)


def reference(model, x):
    """The same in NumPy, one head and one position at a time."""
    x = x + numpy(model.positions)
    for block in model.blocks:
        query, keys, values = np.split(dense(block.look, normalised(x)), 3, axis=-1)
        found = np.zeros_like(x)
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            for t in range(5):
                seen = slice(0, t + 1 if model.causal else 5)
                scores = np.einsum("bd,bsd->bs", query[:, t, part], keys[:, seen, part]) / 2.0
                share = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
                found[:, t, part] = np.einsum("bs,bsd->bd", share, values[:, seen, part])
        x = x + dense(block.mix, found)
        hidden = dense(block.widen, normalised(x))
        x = x + dense(block.narrow, hidden / (1.0 + np.exp(-hidden)))
    return normalised(x)


@pytest.mark.parametrize("causal", [False, True])
def test_equals_numpy(evaluate, causal):
    model, x = body(causal), vectors()
    np.testing.assert_allclose(evaluate(model, x), reference(model, x), atol=1e-4)


def test_steps_from_a_cache_equal_the_whole(evaluate):
    model, x = body(True), vectors()

    def steps(x):
        cache, found = model.empty(3), []
        for t in range(5):
            y, cache = model.step(x[:, t], t, cache)
            found.append(y)
        return ops.stack(found, axis=1)

    np.testing.assert_allclose(evaluate(steps, x), evaluate(model, x), atol=1e-5)


def test_only_a_causal_body_ignores_what_comes_later(evaluate):
    x, changed = vectors(), vectors()
    changed[:, 3, :4] += 1.0
    for causal in (True, False):
        model = body(causal)
        difference = np.abs(evaluate(model, changed) - evaluate(model, x)).max(axis=(0, 2))
        assert (difference[3:] > 1e-3).all()
        assert (difference[:3] < 1e-6).all() == causal


def test_config_and_seed_make_the_weights():
    model = body(True, seed=3)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert again.get_config() == model.get_config()
    pairs = list(zip(model.get_weights(), again.get_weights(), strict=True))
    assert all(np.array_equal(a, b) for a, b in pairs)
    kernels = [(a, b) for a, b in zip(model.get_weights(), body(True, seed=4).get_weights(), strict=True)
               if a.std() > 0]
    assert len(kernels) == 9 and not any(np.allclose(a, b) for a, b in kernels)


@pytest.mark.parametrize("place", [0, 4])
def test_a_cache_takes_vectors_at_the_place_that_a_tensor_says(evaluate, place):
    rng = np.random.default_rng(3)
    cache, new = rng.normal(size=(3, 2, 5, 4)).astype("float32"), rng.normal(size=(3, 2, 1, 4)).astype("float32")
    found = evaluate(lambda c, n, k: backend.put_at(c, ops.cast(k, "int32"), n), cache, new, np.float32(place))
    cache[:, :, place] = new[:, :, 0]
    assert np.array_equal(found, cache)


def test_multiplications_are_counted():
    """A block of width w: 3 w^2 + w^2 + 8 w^2 for each position, and 2 T^2 w for scores and sums."""
    assert body(True).operations() == 2 * (5 * 12 * 64 + 2 * 25 * 8)


@pytest.mark.parametrize("wrong", [dict(heads=3), dict(depth=0), dict(length=0)])
def test_settings_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match="a width that heads divide; received"):
        body(True, **wrong)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match=r"Expected shape \(B, 5, 8\), received \(3, 4, 8\)"):
        body(True)(vectors()[:, :4])
    with pytest.raises(ValueError, match="Expected a causal body"):
        body(False).step(vectors()[:, 0], 0, ())

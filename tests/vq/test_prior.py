import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from zdckeras.vq.prior import TokenPrior, draw

numpy = ops.convert_to_numpy
SCALER = {"mean": [0.0] * 9, "scale": [1000.0, 1, 1, 1, 1, 1, 1000.0, 1000.0, 1]}


def small(seed=0, **settings):
    return TokenPrior("zn", SCALER, **{"codes": 6, "tokens": 5, "width": 8, "heads": 2, "depth": 2, "seed": seed,
                                       **settings})


def particles(rows=4, seed=0):
    rng = np.random.default_rng(seed)
    conditions = np.zeros((rows, 9), "float32")
    conditions[:, 0] = conditions[:, 6] = rng.uniform(100, 2000, rows)
    conditions[:, 7] = rng.choice([0.0, 939.6], rows)
    return conditions


def drawn(probabilities, uniform, temperature=1.0, top_k=None, top_p=1.0):
    """By sorting (where some are left out), cutting and searching, one row at a time in float64."""
    found, whole = [], top_k is None and top_p == 1.0
    for row, u in zip(np.asarray(probabilities, float), uniform, strict=True):
        order = np.arange(len(row)) if whole else np.argsort(-row, kind="stable")[:top_k]
        p = row[order] ** (1.0 / temperature)
        p = p / p.sum()
        kept = np.searchsorted(np.cumsum(p), top_p - 1e-9) + 1
        total = np.cumsum(p[:kept])
        found.append(order[min(np.searchsorted(total, u * total[-1], side="right"), len(total) - 1)])
    return np.array(found)


FILTERS = [{}, dict(temperature=1.4), dict(top_k=3), dict(top_p=0.6), dict(temperature=0.7, top_k=4, top_p=0.9)]


@pytest.mark.parametrize("settings", FILTERS)
def test_drawn_codes_are_those_of_numpy(settings):
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet(0.7 * np.ones(6), 200)
    uniform = rng.random(200, "float32")
    found = numpy(draw(ops.convert_to_tensor(np.log(probabilities).astype("float32")), ops.convert_to_tensor(uniform),
                       **settings))
    assert found.dtype == np.int32
    assert (found == drawn(probabilities, uniform, **settings)).mean() >= 0.99  # a draw at the edge may round away


def test_drawn_codes_are_distributed_as_asked():
    p = np.array([0.05, 0.5, 0.0, 0.3, 0.15])
    logits = np.log(np.maximum(p, 1e-20)).astype("float32")
    rows = 4000
    uniform = np.random.default_rng(2).random(rows, "float32")
    found = numpy(draw(ops.convert_to_tensor(np.tile(logits, (rows, 1))), ops.convert_to_tensor(uniform)))
    counts = np.bincount(found, minlength=5)
    assert counts[2] == 0
    assert stats.chisquare(counts[p > 0], rows * p[p > 0]).pvalue > 1e-3
    only = numpy(draw(ops.convert_to_tensor(np.tile(logits, (rows, 1))), ops.convert_to_tensor(uniform), top_k=1))
    assert set(only.tolist()) == {1}


def test_numbers_next_to_one_stay_within_what_is_kept():
    edge = np.array([1.0 - 2.0**-24] * 3, "float32")
    logits = ops.convert_to_tensor(np.random.default_rng(3).normal(size=(3, 6)).astype("float32"))
    lowest = numpy(logits).argsort(axis=-1)
    assert np.array_equal(numpy(draw(logits, ops.convert_to_tensor(edge), top_k=2)), lowest[:, -2])
    assert numpy(draw(logits, ops.convert_to_tensor(edge))).tolist() == [5, 5, 5]
    never = ops.where(ops.arange(6) > 3, -1e9, logits)
    assert numpy(draw(never, ops.convert_to_tensor(edge))).tolist() == [3, 3, 3]


def test_cached_logits_equal_uncached_ones(evaluate):
    prior, tokens = small(), np.random.default_rng(4).integers(0, 6, (4, 5))

    def both(conditions, tokens):
        before = ops.transpose(ops.cast(tokens, "int32"))

        def grow(t, state):
            vector, found, cache = state
            logits, cache = prior.step(vector, t, cache)
            found = ops.where(ops.reshape(ops.arange(5) == t, (5, 1)), logits[:, None], found)
            return ops.take(prior.vectors, ops.take(before, t, axis=0), axis=0), found, cache

        state = (prior._first(conditions, None), ops.zeros((4, 5, 6)), prior.body.empty(4))
        return ops.fori_loop(0, 5, grow, state)[1], prior.logits(tokens, conditions)

    cached, whole = evaluate(both, particles(), tokens)
    np.testing.assert_allclose(cached, whole, atol=1e-4)
    assert whole.shape == (4, 5, 6) and np.ptp(whole, axis=(0, 1)).min() > 0.1


@pytest.mark.parametrize("settings", FILTERS[::4])
def test_sampling_equals_one_pass_for_each_token(evaluate, settings):
    prior, uniform = small(seed=1), np.random.default_rng(5).random((4, 5), "float32")

    def both(conditions, uniform):
        tokens = prior.sample(conditions, uniform, **settings)
        return tokens, prior.logits(tokens, conditions)

    found, logits = evaluate(both, particles(), uniform)
    p = np.exp(logits.astype(float))
    p /= p.sum(axis=-1, keepdims=True)
    expected = np.stack([drawn(p[:, t], uniform[:, t], **settings) for t in range(5)], axis=1)
    assert np.array_equal(found, expected) and len(np.unique(found)) > 2


def test_loss_is_the_cross_entropy(evaluate):
    prior, tokens = small(depth=1), np.random.default_rng(6).integers(0, 6, (4, 5))
    logits, loss = evaluate(lambda c, k: (prior.logits(k, c), prior({"conditions": c, "tokens": k})), particles(),
                            tokens)
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    expected = -np.log(np.take_along_axis(p, tokens[..., None], axis=-1))[..., 0].mean(axis=-1)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


@pytest.mark.compiles_long
def test_tokens_depend_on_the_channel_sums_that_are_known(evaluate):
    """All of them, on every sum, and so does the loss; whose sums they are does not matter to other rows."""
    prior, tokens = small(depth=1, sums=5), np.random.default_rng(7).integers(0, 6, (6, 5))
    tokens[1:] = tokens[0]
    conditions, sums = np.repeat(particles(1), 6, axis=0), np.full((6, 5), 40.0, "float32")
    sums[1:] += 60.0 * np.eye(5, dtype="float32")

    def everything(conditions, tokens, sums):
        batch = {"conditions": conditions, "tokens": tokens, "sums": sums}
        return prior.logits(tokens, conditions, sums), prior(batch)

    logits, loss = evaluate(everything, conditions, tokens, sums)
    assert (np.abs(logits[1:] - logits[0]).max(axis=-1) > 1e-4).all() and len(set(loss.tolist())) == 6
    turned, _ = evaluate(everything, conditions, tokens, sums[::-1])
    np.testing.assert_allclose(turned[::-1], logits, atol=1e-5)


@pytest.mark.parametrize(("known", "given", "message"), [
    (5, None, "Expected 5 channel sums of every response, received none"),
    (0, 5, "Expected 0 channel sums of every response, received 5")])
def test_sums_that_are_missing_or_too_many_are_refused(known, given, message):
    prior, sums = small(depth=1, sums=known), None if given is None else np.ones((4, given), "float32")
    with pytest.raises(ValueError, match=message):
        prior.logits(np.zeros((4, 5), "int32"), particles(), sums)
    with pytest.raises(ValueError, match=message):
        prior.sample(particles(), np.zeros((4, 5), "float32"), sums=sums)


def test_learns_tokens_that_depend_on_the_particle(eager):
    """Neutrons leave 0, 1, 2, ... and photons 5, 4, 3, ...; every weight moves on the way."""
    conditions = particles(32)
    tokens = np.where(conditions[:, 7:8] > 0, np.arange(5), 5 - np.arange(5)).astype("float32")
    prior, batch = small(depth=1), {"conditions": conditions, "tokens": tokens}
    prior.compile(keras.optimizers.Adam(0.05), run_eagerly=eager)
    before = prior.get_weights()
    losses = [float(np.ravel(prior.train_on_batch(batch))[0]) for _ in range(15)]
    assert losses[0] > 1.0 and losses[-1] < 0.2
    assert all(np.abs(a - b).max() > 1e-5 for a, b in zip(before, prior.get_weights(), strict=True))


def test_survives_its_config_bit_by_bit():
    prior = small(seed=2, depth=1)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(prior))
    assert again.get_config() == prior.get_config()
    assert all(np.array_equal(a, b) for a, b in zip(prior.get_weights(), again.get_weights(), strict=True))


@pytest.mark.parametrize("wrong", [dict(temperature=0.0), dict(top_k=0), dict(top_k=7), dict(top_p=0.0)])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="Expected a temperature above 0, top_k of 1 to 6 and top_p.*received"):
        draw(ops.zeros((2, 6)), ops.zeros((2,)), **wrong)


def test_wrong_shapes_and_an_empty_codebook_are_refused():
    with pytest.raises(ValueError, match=r"uniform numbers of shape \(B, 5\), received \(4, 6\)"):
        small().sample(particles(), np.zeros((4, 6), "float32"))
    with pytest.raises(ValueError, match=r"tokens of shape \(B, 5\), received \(4, 4\)"):
        small().logits(np.zeros((4, 4), "int32"), particles())
    with pytest.raises(ValueError, match="at least one code, received 0"):
        small(codes=0)

"""Densities against tensorflow-probability, on copied weights, and a flow handed out as its distribution."""

import keras
import numpy as np
import pytest
from keras import ops

from zdckeras.backend.tfp import as_distribution
from zdckeras.flows.autoregressive import Autoregressive
from zdckeras.flows.flow import Flow
from zdckeras.flows.univariate import RationalQuadraticSpline

BATCH, D, C = 12, 5, 3


@pytest.fixture
def tfp():
    if keras.config.backend() != "tensorflow":
        pytest.skip("tensorflow-probability is compared on the TensorFlow backend")
    return pytest.importorskip("tensorflow_probability")


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(BATCH, D)).astype("float32"), rng.normal(size=(BATCH, C)).astype("float32")


def shift_and_log_scale(step, context):
    """The network of a step once more, in plain NumPy weights and TensorFlow matrix products."""
    import tensorflow as tf

    groups = [np.arange(1, D + 1)] + [np.sort(np.arange(width) * D // width) for width in step.network.hidden]
    groups.append(np.repeat(np.arange(D), 2))
    layers = []
    for ours, side, low, high in zip(step.network.masked, step.network.conditioned, groups, groups[1:], strict=False):
        kernel, bias = (ops.convert_to_numpy(weight) for weight in ours.weights)
        kernel = kernel * (high[None, :] >= low[:, None])
        layers.append((kernel, bias + context @ ops.convert_to_numpy(side.kernel)))

    def function(x):
        for index, (kernel, offset) in enumerate(layers):
            x = (x * tf.sigmoid(x) if index else x) @ kernel + offset
        shift, raw = x[:, 0::2], x[:, 1::2]
        return shift, raw / (1 + tf.abs(raw) / step.univariate.bound)

    return function


@pytest.mark.parametrize("kind", ["maf", "iaf"])
def test_flow_equals_masked_autoregressive_flow(kind, tfp, data, scramble):
    import tensorflow as tf

    tfb, tfd = tfp.bijectors, tfp.distributions
    flow = scramble(getattr(Flow, kind)(D, C, steps=2, hidden=(5, 10), permutation_seed=2), seed=1)
    x, context = data
    parts = []
    for part in flow.bijection.bijections:
        if not isinstance(part, Autoregressive):
            parts.append(tfb.Permute(part.order))
            continue
        function = shift_and_log_scale(part, context)
        if kind == "iaf":  # z exp(s) + t = (z - t') exp(-s'), with t' = -t exp(-s) and s' = -s

            def inverted(values, function=function):
                shift, log_scale = function(values)
                return -shift * tf.exp(-log_scale), -log_scale

            parts.append(tfb.Invert(tfb.MaskedAutoregressiveFlow(inverted)))
        else:
            parts.append(tfb.MaskedAutoregressiveFlow(function))
    theirs = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros((BATCH, D))), tfb.Chain(parts[::-1]))
    np.testing.assert_allclose(flow(x, context).numpy(), theirs.log_prob(x).numpy(), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(flow.generate(x, context).numpy(), theirs.bijector.forward(x).numpy(), atol=2e-5)


def test_spline_equals_rational_quadratic_spline(tfp):
    rng = np.random.default_rng(1)
    spline = RationalQuadraticSpline(bins=6, bound=3.0)
    x = ops.convert_to_tensor(2.0 * rng.normal(size=(50, 4)).astype("float32"))
    params = ops.convert_to_tensor(0.5 * rng.normal(size=(50, 4, spline.parameters)).astype("float32"))
    widths, heights, slopes = spline.knots(params)
    theirs = tfp.bijectors.RationalQuadraticSpline(widths, heights, slopes[..., 1:-1], range_min=-3.0)
    y, log_slope = spline.transform_and_log_det(x, params)
    np.testing.assert_allclose(y.numpy(), theirs.forward(x).numpy(), atol=1e-5)
    np.testing.assert_allclose(log_slope.numpy(), theirs.forward_log_det_jacobian(x, 0).numpy(), atol=2e-5)
    back, opposite = spline.inverse_and_log_det(x, params)
    np.testing.assert_allclose(back.numpy(), theirs.inverse(x).numpy(), atol=1e-5)
    np.testing.assert_allclose(opposite.numpy(), theirs.inverse_log_det_jacobian(x, 0).numpy(), atol=2e-5)


def test_distribution_of_a_flow(tfp, data, scramble):
    import tensorflow as tf

    flow = scramble(Flow.maf(D, C, steps=2, hidden=(5, 10)), seed=2)
    x, context = data
    batch = as_distribution(flow, context)
    assert (batch.batch_shape.as_list(), batch.event_shape.as_list()) == ([BATCH], [D])
    np.testing.assert_allclose(batch.log_prob(x).numpy(), flow(x, context).numpy(), rtol=1e-5)
    one = as_distribution(flow, context[0])
    assert one.batch_shape.as_list() == []
    first = np.repeat(context[:1], BATCH, axis=0)
    np.testing.assert_allclose(tf.function(one.log_prob)(x).numpy(), flow(x, first).numpy(), rtol=1e-5)
    draws = batch.sample(3, seed=[1, 2])
    assert draws.shape == (3, BATCH, D)
    np.testing.assert_array_equal(draws.numpy(), batch.sample(3, seed=[1, 2]).numpy())
    # What is drawn comes from the flow: back in latent space it is the base's own draw for that seed.
    latent = flow.encode(tf.reshape(draws, (-1, D)), np.tile(context, (3, 1)))[0]
    np.testing.assert_allclose(
        latent.numpy(), batch.distribution.sample(3, seed=[1, 2]).numpy().reshape(-1, D), atol=1e-4
    )
    expected = flow(tf.reshape(draws, (-1, D)), np.tile(context, (3, 1))).numpy()
    np.testing.assert_allclose(batch.log_prob(draws).numpy().ravel(), expected, rtol=1e-4)


def test_densities_run_one_direction(tfp, data, scramble, monkeypatch):
    """That of training; sampling takes a pass for every variable."""
    flow = scramble(Flow.maf(D, C, steps=2, hidden=(5, 10)), seed=2)
    x, context = data
    called, real = [], {name: getattr(flow.bijection, name) for name in
                        ("transform_and_log_det", "inverse_and_log_det")}
    for name, function in real.items():
        counted = lambda *a, name=name, function=function: called.append(name) or function(*a)  # noqa: E731
        monkeypatch.setattr(flow.bijection, name, counted)
    batch = as_distribution(flow, context)
    batch.log_prob(x)
    assert set(called) == {"inverse_and_log_det"}
    called.clear()
    z = batch.bijector.inverse(x)
    np.testing.assert_allclose(batch.bijector.forward_log_det_jacobian(z).numpy(),
                               real["transform_and_log_det"](z, context)[1].numpy(), atol=1e-4)


@pytest.mark.parametrize("within", [False, True])
def test_a_distribution_follows_further_training(tfp, data, scramble, within):
    """Of the same tensor, too, by which results would be kept; also as a part of another distribution."""
    import tensorflow as tf

    flow = scramble(Flow.maf(D, C, steps=1, hidden=(5,)), seed=2)
    x, context = map(tf.constant, data)
    batch = as_distribution(flow, context)
    bijector, whole = batch.bijector, batch
    if within:
        whole = tfp.distributions.TransformedDistribution(batch, tfp.bijectors.Shift(tf.zeros(D)))
    drawn = whole.sample(seed=[1, 2])
    calls = (whole.log_prob, bijector.forward, bijector.inverse, bijector.forward_log_det_jacobian,
             bijector.inverse_log_det_jacobian)
    kept = [call(x) for call in calls]
    scramble(flow, seed=3)
    for call, before in zip(calls, kept, strict=True):
        np.testing.assert_array_equal(call(x), call(tf.identity(x)))
        assert np.abs(call(x) - before).max() > 1e-3
    np.testing.assert_allclose(whole.log_prob(x), flow(x, context), rtol=1e-5)
    np.testing.assert_allclose(whole.log_prob(drawn), flow(drawn, context), rtol=1e-5)
    drawn, density = whole.experimental_sample_and_log_prob(seed=[1, 2])
    np.testing.assert_allclose(density, flow(drawn, context), rtol=1e-4)


def test_distribution_without_context(tfp, scramble):
    flow = scramble(Flow.iaf(D, steps=1, hidden=(5,)), seed=3)
    x = np.random.default_rng(2).normal(size=(4, D)).astype("float32")
    np.testing.assert_allclose(as_distribution(flow).log_prob(x).numpy(), flow(x).numpy(), rtol=1e-5)


def test_distribution_refuses_a_context_that_does_not_fit(tfp):
    with pytest.raises(ValueError, match=r"\(3,\) or \(N, 3\), received none"):
        as_distribution(Flow.maf(D, 3, steps=1, hidden=(5,)))
    with pytest.raises(ValueError, match=r"\(3,\) or \(N, 3\), received \(4,\)"):
        as_distribution(Flow.maf(D, 3, steps=1, hidden=(5,)), np.zeros(4))
    with pytest.raises(ValueError, match=r"shape none, received \(3,\)"):
        as_distribution(Flow.maf(D, steps=1, hidden=(5,)), np.zeros(3))


@pytest.mark.skipif(keras.config.backend() == "tensorflow", reason="what other backends are told")
def test_other_backends_are_told():
    with pytest.raises(RuntimeError, match="KERAS_BACKEND=tensorflow"):
        as_distribution(Flow.maf(D, steps=1, hidden=(5,)))

import numpy as np
import pytest
from keras import ops

from zdckeras import backend
from zdckeras.flows.bijections import Permutation
from zdckeras.flows.flow import Flow
from zdckeras.flows.iteration import can_iterate, generate_at_once
from zdckeras.flows.univariate import RationalQuadraticSpline


def shaken(flow, scale):
    """The flow with random weights, as far from the identity as the scale says."""
    rng = np.random.default_rng(1)
    flow.set_weights([scale * rng.normal(size=w.shape) / np.sqrt(max(w.shape[0], 1)) for w in flow.get_weights()])
    return flow


def inputs(flow, rows=64):
    rng = np.random.default_rng(2)
    context = rng.standard_normal((rows, flow.context), "float32") if flow.context else None
    return rng.standard_normal((rows, flow.variables_count), "float32"), context


@pytest.mark.parametrize(("variables", "context", "settings"), [
    (16, 5, {"permutation_seed": 7}), (5, 0, {}), (7, 3, {"univariate": RationalQuadraticSpline(bins=4)}), (3, 2, {})])
def test_all_steps_at_once_are_the_steps_one_after_another(variables, context, settings):
    flow = shaken(Flow.maf(variables, context, steps=3, hidden=(24, 20), seed=1, **settings), 1.0)
    z, c = inputs(flow)
    true, made = flow.generate(z, c), generate_at_once(flow.bijection.bijections, z, c)
    true, made = ops.convert_to_numpy(true), ops.convert_to_numpy(made)
    assert np.abs(true - z).max() > 0.3
    np.testing.assert_allclose(made, true, rtol=1e-4, atol=1e-4)


def test_strong_couplings_settle_too():
    """Where a change moves what comes after it by more than itself, there are still no more than D S iterations."""
    flow = shaken(Flow.maf(6, 2, steps=2, hidden=(16, 16), seed=1), 3.0)
    z, c = inputs(flow)
    true = ops.convert_to_numpy(flow.generate(z, c))
    made = ops.convert_to_numpy(generate_at_once(flow.bijection.bijections, z, c))
    np.testing.assert_allclose(made, true, rtol=1e-3, atol=1e-3)


def test_the_order_behind_the_last_step_is_kept():
    flow = shaken(Flow.maf(4, steps=1, hidden=(8,), seed=1), 1.0)
    parts = [Permutation(4, order=[2, 0, 3, 1]), flow.bijection.bijections[0], Permutation(4, order=[3, 2, 0, 1])]
    z, _ = inputs(flow)
    true = z
    for part in parts:
        true = part.transform_and_log_det(true, None)[0]
    np.testing.assert_allclose(ops.convert_to_numpy(generate_at_once(parts, z, None)), ops.convert_to_numpy(true),
                               rtol=1e-5, atol=1e-5)


def test_what_can_be_iterated():
    student = Flow.iaf(4, steps=2, hidden=(8,))
    mixed = [part for width in (8, 6) for part in Flow.maf(4, steps=1, hidden=(width,)).bijection.bijections]
    assert can_iterate(Flow.maf(4, steps=2, hidden=(8,)).bijection.bijections)
    assert not can_iterate(student.bijection.bijections) and not can_iterate(mixed)


@pytest.mark.skipif(backend.name() != "tensorflow", reason="compact graphs are TensorFlow's")
def test_compact_graphs_iterate_small_flows():
    flow = shaken(Flow.maf(4, 2, steps=2, hidden=(8,), seed=1), 1.0)
    z, c = inputs(flow)
    true = ops.convert_to_numpy(flow.generate(z, c))
    with backend.compact_graphs():
        made = ops.convert_to_numpy(flow.generate(z, c))
        none = ops.convert_to_numpy(flow.generate(z[:0], c[:0]))
    assert not backend.is_compact() and none.shape == (0, 4)
    assert 0 < np.abs(made - true).max() < 1e-5


def test_rows_do_not_depend_on_each_other():
    """Not on one with NaN, at which all iterations ended once, nor on what settles later."""
    flow = shaken(Flow.maf(6, 2, steps=2, hidden=(16, 16), seed=1), 1.0)
    parts, (z, c) = flow.bijection.bijections, inputs(flow)
    alone = ops.convert_to_numpy(generate_at_once(parts, z, c))
    z[3] = np.nan
    z[7] *= 50.0
    made = ops.convert_to_numpy(generate_at_once(parts, z, c))
    others = np.delete(np.arange(len(z)), [3, 7])
    np.testing.assert_array_equal(made[others], alone[others])
    assert np.isnan(made[3]).any()
    half = ops.convert_to_numpy(generate_at_once(parts, z[others[:5]], c[others[:5]]))
    np.testing.assert_allclose(half, alone[others[:5]], rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(backend.name() == "jax", reason="JAX has float64 only where it is switched on")
def test_in_float64_it_is_exact_to_that():
    flow = shaken(Flow.maf(6, 2, steps=2, hidden=(16, 16), seed=1, dtype="float64"), 1.0)
    z, c = (values.astype("float64") for values in inputs(flow))
    made = ops.convert_to_numpy(generate_at_once(flow.bijection.bijections, *map(ops.convert_to_tensor, (z, c))))
    assert np.abs(made - ops.convert_to_numpy(flow.generate(z, c))).max() < 1e-12

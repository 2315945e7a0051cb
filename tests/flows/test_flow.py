import keras
import numpy as np
import pytest
from keras import ops
from scipy.stats import norm

from zdckeras.flows.autoregressive import Autoregressive
from zdckeras.flows.bijections import Permutation
from zdckeras.flows.flow import Flow, Generator
from zdckeras.flows.univariate import RationalQuadraticSpline


def host(values):
    return ops.convert_to_numpy(values)


def draw(flow, batch=30, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(batch, size)).astype("float32") for size in (flow.variables_count, flow.context))


@pytest.mark.usefixtures("op_by_op")
def test_a_fresh_flow_is_a_standard_normal():
    flow = Flow.maf(5, 3, steps=3, hidden=(7, 12), univariate=RationalQuadraticSpline())
    x, context = draw(flow)
    np.testing.assert_allclose(host(flow(x, context)), norm.logpdf(x).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(host(flow.generate(x, context)), host(ops.flip(ops.flip(x))), atol=1e-6)


@pytest.mark.usefixtures("op_by_op")
def test_density_integrates_to_one(scramble):
    spline = RationalQuadraticSpline(bins=5)
    flow = scramble(Flow.maf(2, 1, steps=2, hidden=(8, 8), univariate=spline), seed=3, size=1.0)
    axis = np.linspace(-9.0, 9.0, 181, dtype="float32")
    x = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    density = np.exp(host(flow(x, np.full((len(x), 1), 0.5, "float32"))))
    assert abs(density.sum() * (axis[1] - axis[0]) ** 2 - 1.0) < 1e-3
    assert density.max() > 1.2 * norm.pdf(0.0) ** 2  # it is not the base density


@pytest.mark.usefixtures("op_by_op")
@pytest.mark.parametrize("permutation_seed", [None, 4])
def test_paths_of_maf_and_iaf_correspond(permutation_seed, scramble):
    layout = {"steps": 3, "hidden": (7, 12), "permutation_seed": permutation_seed}
    teacher, student = scramble(Flow.maf(5, 3, **layout), seed=1), Flow.iaf(5, 3, **layout)
    orders = [
        [part.order.tolist() for part in flow.bijection.bijections if isinstance(part, Permutation)]
        for flow in (teacher, student)
    ]
    assert orders[0] == orders[1] and len(orders[0]) == 2
    x, context = draw(teacher)
    states, parameters = teacher.inverse_path(x, context)
    assert [tuple(theta.shape) for theta in parameters] == [(30, 5, 2)] * 3
    np.testing.assert_array_equal(host(states[0]), host(teacher.encode(x, context)[0]))
    np.testing.assert_array_equal(host(states[3]), x)
    # One univariate map per step leads from state to state with the parameters of the path, past the permutation.
    steps = [part for part in teacher.bijection.bijections if isinstance(part, Autoregressive)]
    for k, (step, theta) in enumerate(zip(steps, parameters, strict=True)):
        source = host(states[k]) if k == 0 else host(states[k])[:, orders[0][k - 1]]
        mapped = step.univariate.transform_and_log_det(ops.convert_to_tensor(source), theta)[0]
        np.testing.assert_allclose(host(mapped), host(states[k + 1]), atol=1e-5)
    # A student whose networks ignore their input and give constant parameters equals such a teacher everywhere.
    for flow in (teacher, student):
        for step in (part for part in flow.bijection.bijections if isinstance(part, Autoregressive)):
            for weight in step.network.weights:
                weight.assign(np.zeros(weight.shape))
            step.network.masked[-1].bias.assign(np.linspace(-1.0, 1.0, 10))
    states, parameters = teacher.inverse_path(x, context)
    same_states, same_parameters = student.transform_path(states[0], context)
    for ours, theirs in zip(states + parameters, same_states + same_parameters, strict=True):
        np.testing.assert_allclose(host(ours), host(theirs), atol=1e-5)


@pytest.mark.usefixtures("op_by_op")
def test_alternating_orders_want_a_seed():
    with pytest.raises(ValueError, match="permutation_seed, of the random orders, with alternating=True, received"):
        Flow.maf(4, steps=3, hidden=(8,), alternating=True)


def test_student_path_ends_in_what_it_generates(scramble):
    student = scramble(Flow.iaf(5, 3, steps=3, hidden=(7, 12)), seed=2)
    z, context = draw(student)
    states, parameters = student.transform_path(z, context)
    assert len(states) == 4 and len(parameters) == 3
    np.testing.assert_array_equal(host(states[0]), z)
    np.testing.assert_array_equal(host(states[3]), host(student.generate(z, context)))


def test_paths_only_run_in_one_pass():
    z = np.zeros((1, 3), "float32")
    with pytest.raises(TypeError, match="received MaskedAutoregressive"):
        Flow.maf(3, hidden=(4,)).transform_path(z)
    with pytest.raises(TypeError, match="received InverseAutoregressive"):
        Flow.iaf(3, hidden=(4,)).inverse_path(z)


def test_fit_finds_a_conditional_normal():
    rng = np.random.default_rng(0)
    context = np.repeat([-1.0, 1.0], 1000)[:, None].astype("float32")

    def normal():
        """Draws whose mean and covariance are those of a normal, exactly, for either context."""
        parts = [part - part.mean(axis=0) for part in rng.normal(size=(2, 1000, 2))]
        return np.concatenate([part @ np.linalg.inv(np.linalg.cholesky(np.cov(part.T))).T for part in parts])

    x = (2.0 * context + 0.5 * normal()).astype("float32")
    x[:, 1] += x[:, 0]
    flow = Flow.maf(2, 1, steps=1, hidden=(16,), seed=1)
    flow.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.02, 240)))
    flow.fit([x, context], batch_size=250, epochs=30, verbose=0)
    assert flow.evaluate([x, context], verbose=0) == pytest.approx(1.4516, abs=0.02)  # 1 + log(2 pi) + 2 log(1/2)
    sample = Generator(flow).predict([normal().astype("float32"), context], verbose=0)
    for sign in (-1.0, 1.0):
        chosen = context[:, 0] == sign
        np.testing.assert_allclose(sample[chosen].mean(axis=0), [2.0 * sign, 4.0 * sign], atol=0.05)
        np.testing.assert_allclose(np.cov(sample[chosen].T), [[0.25, 0.25], [0.25, 0.5]], atol=0.05)


def test_sample_weights_count_without_targets(scramble):
    """In the training, in its validation and in an evaluation; as (N,) and as (N, 1)."""
    flow = scramble(Flow.maf(variables=2, steps=1, hidden=(8,), seed=0))
    x, weight = np.random.default_rng(0).normal(size=(64, 2)).astype("float32"), np.zeros(64, "float32")
    weight[:4] = 16.0
    expected, plain = -host(flow.log_prob(x))[:4].mean(), -host(flow.log_prob(x)).mean()
    assert abs(expected - plain) > 0.1
    flow.compile(keras.optimizers.SGD(0.0))
    for w in (weight, weight[:, None]):
        history = flow.fit(x, sample_weight=w, batch_size=64, verbose=0, validation_data=(x, None, w)).history
        assert [*history["loss"], *history["val_loss"]] == pytest.approx([expected] * 2, rel=1e-4)
        assert flow.evaluate(x, sample_weight=w, batch_size=64, verbose=0) == pytest.approx(expected, rel=1e-4)
    assert flow.train_on_batch(x, sample_weight=weight) == pytest.approx(expected, rel=1e-4)
    history = flow.fit(x, batch_size=64, verbose=0, validation_data=(x, None)).history
    assert [*history["loss"], *history["val_loss"]] == pytest.approx([plain] * 2, rel=1e-4)


def test_fit_and_evaluate_take_what_keras_takes_by_place():
    x, seen = np.zeros((8, 2), "float32"), []
    flow = Flow.maf(variables=2, steps=1, hidden=(8,))
    flow.compile(keras.optimizers.SGD(0.0))
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    flow.fit(x, None, 4, 2, 0, [count])
    assert seen == [0, 1, 0, 1]
    assert flow.evaluate(x, None, 4, 0) == pytest.approx(np.log(2.0 * np.pi), rel=1e-5)
    with pytest.raises(TypeError, match="multiple values for argument 'batch_size'"):
        flow.fit(x, None, 4, batch_size=4)


def test_sample_weights_and_a_compiled_loss(scramble):
    flow = scramble(Flow.maf(5, 3, steps=1, hidden=(7, 12)), seed=4)
    x, context = draw(flow)
    weight = np.arange(30.0, dtype="float32")
    log_p = host(flow(x, context))
    flow.compile("sgd")
    weighted = flow.evaluate([x, context], np.zeros(30), sample_weight=weight, verbose=0)
    np.testing.assert_allclose(weighted, -(weight * log_p).mean(), rtol=1e-5)
    flow.compile("sgd", loss=lambda y, y_pred: ops.square(y_pred - y))
    squared = flow.evaluate([x, context], np.ones(30), verbose=0)
    np.testing.assert_allclose(squared, np.mean((log_p - 1.0) ** 2), rtol=1e-5)


@pytest.mark.usefixtures("op_by_op")
def test_seed_repeats_the_weights():
    first, second, other = (Flow.maf(5, 3, steps=2, hidden=(7, 12), seed=seed) for seed in (5, 5, 6))
    for a, b in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(host(a), host(b))
    kernels = [host(flow.weights[0]) for flow in (first, other)]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01


@pytest.mark.skipif(keras.config.backend() == "jax", reason="JAX has float64 only where it is switched on")
@pytest.mark.parametrize("kind", [Flow.maf, Flow.iaf])
@pytest.mark.parametrize("univariate", [None, RationalQuadraticSpline(4)], ids=["affine", "spline"])
def test_flows_of_float64_are_exact_to_it(scramble, kind, univariate):
    flow = scramble(kind(5, 3, steps=2, hidden=(8,), seed=1, univariate=univariate, dtype="float64"))
    rng = np.random.default_rng(3)
    z, context = rng.normal(size=(20, 5)), rng.normal(size=(20, 3))
    x = host(flow.generate(z, context))
    assert x.dtype == host(flow([x, context])).dtype == "float64"
    assert np.abs(host(flow.encode(x, context)[0]) - z).max() < 1e-11
    np.testing.assert_allclose(host(flow([x, context])), host(flow.log_prob(x, context)), rtol=1e-13)
    again = Flow.from_config(flow.get_config())
    again.set_weights(flow.get_weights())
    assert again.compute_dtype == "float64" and np.array_equal(host(Generator(again)([z, context])), x)


@pytest.mark.parametrize("kind", [Flow.maf, Flow.iaf])
def test_no_rows_give_no_rows(kind):
    flow, none = kind(5, 3, steps=2, hidden=(8,)), np.zeros((0, 5), "float32")
    context = np.zeros((0, 3), "float32")
    assert host(flow.generate(none, context)).shape == host(flow.encode(none, context)[0]).shape == (0, 5)
    assert host(flow([none, context])).shape == (0,)


def test_configurations_of_flows_stay_as_they_are():
    """One configuration makes as many flows as one likes: none takes its parts out."""
    config = Flow.maf(variables=3, steps=2, hidden=(4,)).get_config()
    made = [Flow.from_config(config) for _ in range(2)]
    assert len({len(one.weights) for one in made}) == 1 and "bijection" in config

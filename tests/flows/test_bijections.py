"""One body over all bijections: what is true of every invertible map, with and without context."""

import keras
import numpy as np
import pytest
from keras import ops

from zdckeras.flows.autoregressive import Autoregressive, InverseAutoregressive, MaskedAutoregressive
from zdckeras.flows.bijections import Chain, Permutation
from zdckeras.flows.flow import Flow, Generator
from zdckeras.flows.univariate import Affine, RationalQuadraticSpline

# keras.ops.jvp on torch
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

# One set of sizes throughout, so that eager JAX compiles every operation once.
D, BATCH, WIDE, NARROW = 5, 30, (7, 12), (3, 4)
KINDS = {
    "reverse": lambda u, c: Permutation(D, context=c),
    "shuffle": lambda u, c: Permutation(D, seed=3, context=c),
    "maf step": lambda u, c: MaskedAutoregressive(D, c, hidden=WIDE, univariate=u),
    "narrow maf step": lambda u, c: MaskedAutoregressive(D, c, hidden=NARROW, univariate=u, activation="gelu"),
    "narrow iaf step": lambda u, c: InverseAutoregressive(D, c, hidden=NARROW, univariate=u, activation="relu"),
    "maf": lambda u, c: Flow.maf(D, c, steps=2, hidden=WIDE, univariate=u, permutation_seed=1, alternating=True,
                                context_layers=1).bijection,
    "iaf": lambda u, c: Flow.iaf(D, c, steps=2, hidden=WIDE, univariate=u).bijection,
}
AUTOREGRESSIVE = [kind for kind in KINDS if "step" in kind]
UNIVARIATE = {"affine": Affine, "spline": lambda: RationalQuadraticSpline(bins=4, bound=3.0)}


@pytest.fixture(params=[0, 3], ids=["free", "context"])
def context_columns(request):
    return request.param


@pytest.fixture(params=UNIVARIATE)
def univariate(request):
    return UNIVARIATE[request.param]()


@pytest.fixture(params=KINDS)
def bijection(request, univariate, context_columns, scramble):
    return scramble(KINDS[request.param](univariate, context_columns), seed=1, size=0.5)


@pytest.fixture(params=AUTOREGRESSIVE)
def step(request, univariate, context_columns, scramble):
    return scramble(KINDS[request.param](univariate, context_columns), seed=2)


def inputs(bijection, seed=0):
    rng = np.random.default_rng(seed)
    context = rng.normal(size=(BATCH, bijection.context)).astype("float32") if bijection.context else None
    return rng.normal(size=(BATCH, D)).astype("float32"), context


def host(values):
    return ops.convert_to_numpy(values)


def jacobian(mapping, values, context):
    """(B / D, D, D) matrix d out_i / d in_j at the first rows: each row once for every j, one forward-mode product."""
    values, context = (None if rows is None else np.repeat(rows[: BATCH // D], D, axis=0) for rows in (values, context))
    tangents = np.tile(np.eye(D, dtype="float32"), (BATCH // D, 1))
    tensors = (ops.convert_to_tensor(values),), (ops.convert_to_tensor(tangents),)
    product = ops.jvp(lambda v: mapping(v, context)[0], *tensors)[1]
    return host(product).reshape(-1, D, D).swapaxes(1, 2)


@pytest.mark.usefixtures("op_by_op")
def test_round_trip(bijection):
    z, context = inputs(bijection)
    x, log_det = bijection.transform_and_log_det(z, context)
    z_again, opposite = bijection.inverse_and_log_det(x, context)
    x_again, log_det_again = bijection.transform_and_log_det(z_again, context)
    np.testing.assert_allclose(host(z_again), z, atol=1e-4)
    np.testing.assert_allclose(host(x_again), host(x), atol=1e-4)
    np.testing.assert_allclose(host(opposite), -host(log_det), atol=1e-4)
    np.testing.assert_allclose(host(opposite), -host(log_det_again), atol=1e-4)


def check_jacobian(step, mapping, values, context):
    """log |det| is that of the Jacobian, which for an autoregressive step is triangular."""
    matrix, log_det = jacobian(mapping, values, context), host(mapping(values, context)[1])
    assert log_det.shape == (BATCH,)
    np.testing.assert_allclose(log_det[: len(matrix)], np.linalg.slogdet(matrix.astype("float64"))[1], atol=2e-4)
    if isinstance(step, Autoregressive):
        degrees = np.unique(step.network.masked[0].out_degrees)
        group = np.searchsorted(degrees, np.arange(D), side="right")  # between two degrees
        sees = group[:, None] > group[None, :]
        assert np.abs(matrix[:, ~sees & ~np.eye(len(sees), dtype=bool)]).max() == 0.0
        assert (np.diagonal(matrix, axis1=1, axis2=2) > 0).all()
        assert (np.abs(matrix[:, sees]).max(axis=0) > 0).mean() > 0.7


@pytest.mark.usefixtures("op_by_op")
def test_log_det_is_that_of_the_jacobian(bijection):
    masked = any(isinstance(part, MaskedAutoregressive) for part in getattr(bijection, "bijections", [bijection]))
    mapping = bijection.inverse_and_log_det if masked else bijection.transform_and_log_det
    check_jacobian(bijection, mapping, *inputs(bijection, seed=1))


@pytest.mark.usefixtures("op_by_op")
@pytest.mark.parametrize(("kind", "name"), [("maf step", "spline"), ("narrow iaf step", "affine")])
def test_log_det_of_the_sweep_is_that_of_the_jacobian(kind, name, scramble):
    step = scramble(KINDS[kind](UNIVARIATE[name](), 3), seed=1)
    sweep = step.transform_and_log_det if kind == "maf step" else step.inverse_and_log_det
    check_jacobian(step, sweep, *inputs(step, seed=1))


@pytest.mark.usefixtures("op_by_op")
def test_one_sweep_equals_one_pass_per_variable(step):
    values, context = (None if rows is None else ops.convert_to_tensor(rows) for rows in inputs(step, seed=2))
    masked = isinstance(step, MaskedAutoregressive)
    update = step.univariate.transform_and_log_det if masked else step.univariate.inverse_and_log_det
    naive = values
    for _ in range(D):
        naive, log_det = update(values, step.network(naive, context))
    fast, fast_log_det = (step.transform_and_log_det if masked else step.inverse_and_log_det)(values, context)
    np.testing.assert_allclose(host(fast), host(naive), atol=2e-5)
    np.testing.assert_allclose(host(fast_log_det), host(log_det).sum(axis=1), atol=5e-5)


@pytest.mark.usefixtures("op_by_op")
def test_every_output_depends_on_every_context_column(univariate, scramble):
    step = scramble(MaskedAutoregressive(D, 3, hidden=WIDE, univariate=univariate), seed=4)
    values, context = inputs(step, seed=4)
    base = host(step.network(values, context))
    for column in range(3):
        moved = context.copy()
        moved[:, column] += 1.0
        assert (np.abs(host(step.network(values, moved)) - base).max(axis=(0, 2)) > 1e-4).all()


@pytest.mark.parametrize("kind", ["maf", "narrow iaf step"])
@pytest.mark.parametrize(("name", "columns"), [("affine", 0), ("spline", 3)])
def test_fit_moves_every_weight(kind, name, columns, scramble):
    flow = scramble(Flow(KINDS[kind](UNIVARIATE[name](), columns)), seed=5)
    values, context = inputs(flow, seed=5)
    before = [host(weight) for weight in flow.weights]
    expected = -host(flow.log_prob(values, context)).mean()
    flow.compile(keras.optimizers.SGD(0.1))
    history = flow.fit(values if context is None else [values, context], batch_size=BATCH, verbose=0).history
    np.testing.assert_allclose(history["loss"][0], expected, rtol=1e-5)
    for weight, old in zip(flow.weights, before, strict=True):
        assert np.isfinite(host(weight)).all() and np.abs(host(weight) - old).max() > 0.0, weight.path


@pytest.mark.parametrize(("kind", "name", "columns"), [("maf", "spline", 3), ("narrow iaf step", "affine", 0)])
def test_save_and_load_inside_another_model(kind, name, columns, scramble, tmp_path):
    flow = scramble(Flow(KINDS[kind](UNIVARIATE[name](), columns)), seed=6)
    values, context = inputs(flow, seed=6)
    tensors = [keras.Input((D,))] + ([keras.Input((flow.context,))] if flow.context else [])
    model = keras.Model(tensors, -flow(*tensors))
    model.save(tmp_path / "outer.keras")
    again = keras.saving.load_model(tmp_path / "outer.keras")
    arguments = [values] if context is None else [values, context]
    np.testing.assert_array_equal(host(again(arguments)), -host(flow.log_prob(values, context)))


@pytest.mark.parametrize(("kind", "name", "columns"), [("maf", "spline", 0), ("iaf", "affine", 3)])
def test_generator_compiles_saves_and_loads(kind, name, columns, scramble, tmp_path):
    generator = Generator(scramble(Flow(KINDS[kind](UNIVARIATE[name](), columns)), seed=7))
    noise, context = inputs(generator.flow, seed=7)
    arguments = noise if context is None else [noise, context]
    generator.save(tmp_path / "generator.keras")
    expected = host(generator.flow.generate(noise, context))
    again = keras.saving.load_model(tmp_path / "generator.keras")
    np.testing.assert_allclose(again.predict(arguments, verbose=0), expected, atol=2e-5)


@pytest.mark.usefixtures("op_by_op")
def test_one_row_of_one_variable(univariate):
    step = MaskedAutoregressive(1, 1, hidden=(4,), univariate=univariate)
    x, log_det = step.transform_and_log_det([[0.5]], [[1.0]])
    np.testing.assert_allclose([host(x)[0, 0], host(log_det)[0]], [0.5, 0.0], atol=1e-6)


def test_chain_runs_from_latent_to_data():
    chain = Chain([Permutation(3, [1, 2, 0]), Permutation(3)])
    z = np.array([[1.0, 2.0, 3.0]], "float32")
    assert host(chain.transform_and_log_det(z)[0]).tolist() == [[1.0, 3.0, 2.0]]
    assert host(chain.inverse_and_log_det(chain.transform_and_log_det(z)[0])[0]).tolist() == z.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((2, 4)), np.zeros((2, 3))), r"shape \(batch, 5\), received \(2, 4\)"),
        ((np.zeros(5), np.zeros((2, 3))), r"shape \(batch, 5\), received \(5,\)"),
        ((np.zeros((2, 5)), None), r"context of shape \(batch, 3\), received none"),
        ((np.zeros((2, 5)), np.zeros((2, 4))), r"context of shape \(batch, 3\), received \(2, 4\)"),
        ((np.zeros((2, 5)), np.zeros((1, 3))), "received 1 and 2"),
    ],
)
def test_inputs_that_do_not_fit(arguments, message):
    step = MaskedAutoregressive(5, 3, hidden=(7,))
    for mapping in (step.transform_and_log_det, step.inverse_and_log_det, step.inverse_and_parameters):
        with pytest.raises(ValueError, match=message):
            mapping(*arguments)


def test_context_without_use_is_refused():
    with pytest.raises(ValueError, match="expected no context"):
        Permutation(3).transform_and_log_det(np.zeros((2, 3)), np.zeros((2, 1)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Permutation(0), "variables >= 1"),
        (lambda: Permutation(3, [0, 0, 1]), r"permutation of 0..2, received \[0, 0, 1\]"),
        (lambda: Permutation(3, [0, 1]), r"permutation of 0..2, received \[0, 1\]"),
        (lambda: Permutation(3, [0, 1, 2], seed=1), "received both"),
        (lambda: Chain([]), r"received \[\]"),
        (lambda: Chain([Permutation(3), Permutation(4)]), r"received \[\(3, 0\), \(4, 0\)\]"),
        (lambda: MaskedAutoregressive(3, hidden=()), "hidden widths"),
        (lambda: MaskedAutoregressive(3, hidden=(0,)), "hidden widths"),
        (lambda: Flow.maf(3, steps=0), "at least one step, received 0"),
    ],
)
def test_bad_settings(build, message):
    with pytest.raises(ValueError, match=message):
        build()

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from tests.conftest import randomise
from zdckeras import backend
from zdckeras.data.showers import Showers
from zdckeras.gan.losses import SMALLEST, auxiliary_loss
from zdckeras.gan.model import ResponseGAN, critic_terms, training_arrays
from zdckeras.gan.scores import shape_score, sums_score
from zdckeras.training.batches import Batches
from zdckeras.training.checkpoint import DivergedError
from zdckeras.training.loop import train

WEIGHTS = {"diversity": 0.01, "intensity": 1e-3, "auxiliary": 1e-3, "l2": 0.1, "energy": 0.1}
SIZES = {"generator": {"latent": 4, "hidden": 8, "widths": (8,), "channels": (4, 4, 2), "spots": 2},
         "critic": {"hidden": (8,), "channels": (2, 2, 4), "code": 4}}
WATCHED = "critic_accuracy"
TERMS = {"critic_adversarial", "critic_penalty", "regressor_auxiliary", "generator_adversarial",
         *(f"generator_{name}" for name in WEIGHTS)}
PHASES = ("critic", "regressor", "generator")
numpy = ops.convert_to_numpy


@pytest.fixture(scope="module")
def repeated(showers):
    """Each particle twice, with responses of its own."""
    rows = np.repeat(np.arange(8), 2)
    particles = showers.particles[rows]
    return type(showers)(particles, showers.pdg[rows], {"ecal": showers.response[:16]})


def batches(showers, kind=Batches, **settings):
    return kind(training_arrays(showers), 8, seed=1, normal={"z": (4,), "z2": (4,)}, **settings)


def adams(gan):
    return {name: keras.optimizers.Adam(1e-3) for name in gan.phases()}


def fresh(showers, eager, **settings):
    gan = ResponseGAN.fit_scales(showers, **{"weights": WEIGHTS, "penalty": 0.1, "momentum": 0.15, **SIZES, **settings})
    gan.compile(adams(gan), run_eagerly=eager, jit_compile=not eager)
    return gan


@pytest.fixture(scope="module")
def model(repeated, eager_module):
    """One compiled model for all tests here that give it back as it was."""
    return fresh(repeated, eager_module)


@pytest.fixture(scope="module")
def eager_module():
    return backend.name() != "jax"


@pytest.fixture
def gan(model):
    """The compiled model with its first weights, optimizers included."""
    variables = [*model.variables, *model.optimizer.variables]
    before = [np.array(keras.ops.convert_to_numpy(v.value)) for v in variables]
    yield model
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)
    model.reset_metrics()


def everything(gan):
    return [np.array(keras.ops.convert_to_numpy(v.value)) for v in [*gan.variables, *gan.optimizer.variables]]


def weights(layers):
    return [w for layer in layers for w in layer.get_weights()]


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_training_arrays(repeated):
    arrays = training_arrays(repeated)
    assert set(arrays) == {"conditions", "responses_ecal", "peak_ecal", "diversity_ecal"}
    assert np.array_equal(arrays["responses_ecal"], repeated.response)
    row, column = arrays["peak_ecal"].astype(int).T
    assert np.array_equal(repeated.response[np.arange(16), row, column], repeated.response.max(axis=(1, 2)))
    diversity = arrays["diversity_ecal"]
    assert np.array_equal(diversity[::2], diversity[1::2]) and diversity.max() == 1.0 and diversity.min() > 0.0
    assert set(training_arrays(repeated, diversity=False)) == set(arrays) - {"diversity_ecal"}


def test_empty_responses_have_no_brightest_cell(repeated):
    """They are left out of the auxiliary loss and of its gradient."""
    response = repeated.response.copy()
    response[::2] = 0.0
    dark = Showers(repeated.particles, repeated.pdg, {"ecal": response})
    peak = training_arrays(dark, diversity=False)["peak_ecal"]
    assert (peak[::2] == -1.0).all() and np.array_equal(peak[1::2], training_arrays(repeated)["peak_ecal"][1::2])
    read = np.random.default_rng(0).normal(size=peak.shape).astype("float32")
    expected = np.square(read - peak)[1::2].sum(axis=1).mean()
    assert float(auxiliary_loss(*map(keras.ops.convert_to_tensor, (read, peak)))) == pytest.approx(expected, rel=1e-5)
    assert float(auxiliary_loss(*map(keras.ops.convert_to_tensor, (read[::2], peak[::2])))) == 0.0


def test_no_diversity_without_repeated_conditions(showers):
    with pytest.raises(ValueError, match="twice"):
        training_arrays(showers)


@pytest.mark.parametrize(("wrong", "message"), [
    ({"diversity": -0.1}, "weights of at least 0 .* received {'diversity': -0.1}"),
    ({"l2": np.nan}, "received {'l2': nan}"),
    ({"peak": 1.0}, "for diversity, intensity, auxiliary, l2, .* received {'peak': 1.0}"),
])
def test_weights_are_checked(wrong, message):
    with pytest.raises(ValueError, match=message):
        ResponseGAN("ecal", {"mean": [0.0] * 9, "scale": [1.0] * 9}, weights=wrong)


@pytest.mark.compiles_long
def test_terms_are_the_equations_of_their_responses(gan, repeated):
    """Every term of the generator from the responses that it gives; with an energy score, the sums learn nothing of
    diversity and L2."""
    network, (summary,) = gan.generator, gan.critic.summaries
    randomise(gan, seed=2, size=1.0)
    batch = {name: ops.convert_to_tensor(values, "float32") for name, values in batches(repeated)[0][0].items()}

    def shape_alone():
        terms = gan._generator_loss(batch, False)
        return terms["diversity"] + terms["l2"], terms

    _, terms, slopes = backend.steps().value_and_grad(shape_alone, network.sums.trainable_variables)
    pairs = ops.concatenate([batch["conditions"]] * 2)
    (made,) = network(ops.concatenate([batch["z"], batch["z2"]]), pairs)
    true, *draws = (summary.sums(n) for n in (batch["responses_ecal"], *ops.split(made, 2)))
    score = sums_score([summary], [true], *([s] for s in draws)) + shape_score(
        [summary], batch["conditions"], [batch["responses_ecal"]], [made])
    (first, second), logits = np.split(numpy(made), 2), numpy(gan.critic([made], pairs))
    peaks = numpy(gan.regressors[0](ops.convert_to_tensor(first)))
    known = {name: numpy(values).astype("float64") for name, values in batch.items()}
    real, lit = known["responses_ecal"], known["peak_ecal"][:, 0] >= 0
    ratio = np.abs(np.log1p(first) - np.log1p(second)).mean(axis=(1, 2))
    ratio /= np.abs(known["z"] - known["z2"]).mean(axis=1)
    expected = {
        "adversarial": np.log1p(np.exp(-logits)).mean(),
        "diversity": 0.01 * (known["diversity_ecal"] / (ratio + SMALLEST)).mean(),
        "intensity": 1e-3 * np.abs((real - first).sum(axis=(1, 2))).mean(),
        "auxiliary": 1e-3 * ((peaks - known["peak_ecal"]) ** 2).sum(axis=1)[lit].mean(),
        "l2": 0.1 * ((np.log1p(real) - np.log1p(first)) ** 2).mean(),
        "energy": 0.1 * numpy(score).mean()}
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(expected, rel=1e-3)
    assert not any(numpy(slope).any() for slope in slopes)


@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_what_the_critic_minimises_by_hand(penalty):
    """Logits D = w(c) |e|^2 / 2 - 3 of embeddings e that are the photons: |grad_e D| = w |e|, of both halves."""
    photons = np.array([[2.0, 1.0, 0.0, 3.0], [0.0, 1.0, 0.0, 0.0], [4.0, 0.0, 1.0, 2.0],  # real
                        [1.0, 0.0, 0.0, 0.0], [5.0, 1.0, 2.0, 0.0], [1.0, 1.0, 0.0, 0.0]], "float32")
    weight = np.array([0.5, 2.0, 1.0] * 2)
    conditions = np.zeros((3, 9), "float32")
    conditions[:, 0] = weight[:3]
    critic = SimpleNamespace(
        embed=lambda pairs, both: ops.reshape(pairs[0], (-1, 4)),
        logits=lambda e, both: 0.5 * both[:, :1] * ops.sum(ops.square(e), axis=-1, keepdims=True) - 3.0)
    real, made = (ops.convert_to_tensor(half.reshape(3, 2, 2)) for half in np.split(photons, 2))
    found = critic_terms(critic, [real], [made], ops.convert_to_tensor(conditions), penalty)
    squares = (photons.astype("float64") ** 2).sum(axis=1)
    logits = 0.5 * weight * squares - 3.0
    expected = {"adversarial": np.log1p(np.exp(-logits[:3])).mean() + np.log1p(np.exp(logits[3:])).mean(),
                "accuracy": 2 / 3}  # two of three real ones are above 0, two of three generated ones below
    expected |= {"penalty": penalty * (weight**2 * squares).mean()} if penalty else {}
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-5)
    slope = backend.steps().grad(
        lambda made: critic_terms(critic, [real], [made], ops.convert_to_tensor(conditions))["adversarial"], made)
    assert not numpy(slope).any()  # what is generated is given


@pytest.mark.parametrize("moving", PHASES)
def test_a_phase_moves_all_its_weights_and_no_others(gan, repeated, moving):
    for name, optimizer in gan.optimizer.by_phase.items():
        optimizer.learning_rate = 1e-2 if name == moving else 0.0
    layers = {"critic": [gan.critic], "regressor": gan.regressors, "generator": [gan.generator]}
    before = {name: weights(layers[name]) for name in PHASES}
    gan.train_on_batch(batches(repeated)[0][0])
    trained = [v for layer in layers[moving] for v in layer.trainable_variables]
    changed = [(a != b).any() for a, b in zip(before.pop(moving), weights(layers[moving]), strict=True)]
    assert sum(changed) == len(trained) > 5
    assert all(same(values, weights(layers[name])) for name, values in before.items())
    assert same(gan.average.get_weights(), gan.generator.get_weights()) == (moving != "generator")


def test_average_follows_the_generator(gan, repeated):
    """w' <- m w' + (1 - m) w with m = min(0.15, (1 + t) / (10 + t)) = 0.15 in step 1 (2 / 11) and later."""
    for _ in range(2):
        before = gan.average.get_weights()
        gan.train_on_batch(batches(repeated)[0][0])
        for old, new, trained in zip(before, gan.average.get_weights(), gan.generator.get_weights(), strict=True):
            np.testing.assert_allclose(new, 0.15 * old + 0.85 * trained, rtol=1e-4, atol=1e-6)


def test_evaluate_gives_the_losses_and_changes_nothing(gan, repeated):
    """The same numbers as a training step at learning rate zero."""
    data = batches(repeated, shuffle=False)
    for optimizer in gan.optimizer.by_phase.values():
        optimizer.learning_rate = 0.0
    before = everything(gan)
    logs = gan.evaluate(data, verbose=0, return_dict=True)
    counters = [v.path for v in gan.metrics_variables]
    changed = [v.path for v, old in zip([*gan.variables, *gan.optimizer.variables], before, strict=True)
               if not np.array_equal(old, keras.ops.convert_to_numpy(v.value))]
    assert set(changed) <= set(counters)
    assert set(logs) == {"loss", WATCHED, *TERMS} and 0.0 <= logs[WATCHED] <= 1.0
    trained = gan.fit(data, epochs=1, verbose=0, shuffle=False).history
    assert {k: float(v) for k, v in logs.items()} == pytest.approx({k: v[0] for k, v in trained.items()}, rel=1e-4)
    assert float(logs["loss"]) == pytest.approx(sum(float(logs[term]) for term in TERMS), rel=1e-5)


def test_training_learns_and_goes_on_after_saving(gan, repeated, tmp_path):
    def go_on(gan, epoch):
        data = batches(repeated)
        data.start_epoch(epoch)
        return gan.fit(data, epochs=1, verbose=0, shuffle=False).history["regressor_auxiliary"][0]

    first = go_on(gan, 0)
    gan.save(tmp_path / "gan.keras")
    second = go_on(gan, 1)
    assert second < first
    loaded = keras.saving.load_model(tmp_path / "gan.keras")
    assert loaded.compiled and loaded.weights_of == gan.weights_of and loaded.penalty == 0.1
    assert go_on(loaded, 1) == pytest.approx(second, rel=1e-6)
    assert same(everything(loaded), everything(gan))


class Interrupted(Batches):
    """Ctrl-C as the second epoch begins."""

    def start_epoch(self, epoch):
        if epoch == 1:
            raise KeyboardInterrupt
        super().start_epoch(epoch)


def test_resumed_training_equals_an_uninterrupted_one(gan, repeated, tmp_path, eager):
    other = fresh(repeated, eager)
    history = train(other, batches(repeated), 2, tmp_path / "whole.npz", verbose=0)
    with pytest.raises(KeyboardInterrupt):
        train(gan, batches(repeated, Interrupted), 2, tmp_path / "state.npz", verbose=0)
    for variable in gan.trainable_variables:  # what a new process would not have
        variable.assign(0.5 * variable)
    again = train(gan, batches(repeated), 2, tmp_path / "state.npz", verbose=0)
    assert same(gan.get_weights(), other.get_weights())
    assert same(*([keras.ops.convert_to_numpy(v.value) for v in m.optimizer.variables] for m in (gan, other)))
    assert again == {name: pytest.approx(values, rel=1e-6) for name, values in history.items()}


class Spoiled(Batches):
    """Responses are NaN from the second epoch on."""

    def __getitem__(self, index):
        (batch,) = super().__getitem__(index)
        return ({**batch, "responses_ecal": batch["responses_ecal"] * (np.nan if self.epoch else 1.0)},)


def test_diverged_training_stops(gan, repeated, tmp_path):
    data = batches(repeated, Spoiled)
    train(gan, data, 1, tmp_path / "state.npz", verbose=0)
    good = gan.generator.get_weights()
    with pytest.raises(DivergedError, match="loss is nan after epoch 2; epoch 1 is saved in .*state.npz"):
        train(gan, data, 2, tmp_path / "state.npz", verbose=0)
    assert np.isnan(gan.critic.get_weights()[0]).any()
    assert train(gan, data, 1, tmp_path / "state.npz", verbose=0)["loss"][0] > 0.0
    assert same(good, gan.generator.get_weights())


@pytest.mark.parametrize(("change", "message"), [
    (lambda b: {**b, "responses_ecal": b["responses_ecal"][:, :20]},
     r"responses_ecal: expected shape \(B, 30, 30\), received \(8, 20, 30\)"),
    (lambda b: {k.replace("ecal", "zn"): v for k, v in b.items()},
     r"Expected the columns responses_ecal in a batch .*; received .*responses_zn"),
    (lambda b: {k: v for k, v in b.items() if not k.startswith("diversity")},
     "Expected the columns diversity_ecal in a batch"),
], ids=["shape", "detector", "diversity"])
def test_data_of_another_detector_or_without_diversity_are_refused(gan, repeated, change, message):
    with pytest.raises(ValueError, match=message):
        gan.train_on_batch(change(batches(repeated)[0][0]))


@pytest.mark.parametrize(("settings", "phases"), [
    ({}, {"critic": ("adversarial",), "generator": ("adversarial",)}),
    ({"weights": {"auxiliary": 1e-3}, "penalty": 1.0},
     {"critic": ("adversarial", "penalty"), "regressor": ("auxiliary",), "generator": ("adversarial", "auxiliary")}),
    ({"weights": {"l2": 1.0, "diversity": 0.5}},
     {"critic": ("adversarial",), "generator": ("adversarial", "diversity", "l2")}),
], ids=["plain", "auxiliary", "two"])
def test_terms_without_weight_are_left_out(showers, settings, phases):
    gan = ResponseGAN("ecal", {"mean": [0.0] * 9, "scale": [1.0] * 9}, **SIZES, **settings)
    assert {name: phase.terms for name, phase in gan.phases().items()} == phases
    if not settings:  # the plain GAN needs one code and no statistics
        gan.compile(adams(gan), run_eagerly=True)
        (batch,) = Batches(training_arrays(showers, diversity=False), 4, normal={"z": (4,)})[0]
        if backend.name() != "jax":
            assert set(gan.train_on_batch(batch, return_dict=True)) == {"loss", "critic_adversarial", WATCHED,
                                                                        "generator_adversarial"}


@pytest.fixture
def half_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(before)


def test_half_precision(repeated, eager, half_precision):
    gan = ResponseGAN.fit_scales(repeated, weights=WEIGHTS, penalty=0.1, **SIZES)
    assert gan.generator.shape.dense.layers[0].compute_dtype == "float16"
    scaled = {name: keras.optimizers.LossScaleOptimizer(adam, initial_scale=16.0) for name, adam in adams(gan).items()}
    gan.compile(scaled, run_eagerly=eager, jit_compile=not eager)
    history = gan.fit(batches(repeated), epochs=3, verbose=0, shuffle=False).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert history["regressor_auxiliary"][-1] < history["regressor_auxiliary"][0]
    assert all(np.isfinite(w).all() for w in gan.get_weights())
    assert all(int(optimizer.iterations) >= 2 for optimizer in gan.optimizer.by_phase.values())

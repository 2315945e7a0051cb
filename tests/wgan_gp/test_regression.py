import keras
import numpy as np
import pytest
from keras import ops

from zdckeras import backend
from zdckeras.data.transforms import BoxCox
from zdckeras.training.batches import Batches
from zdckeras.wgan_gp.regression import EmulatorFit, RegressorFit, emulated_response_loss, parameter_errors
from zdckeras.wgan_gp.regressor import Emulator, ParameterRegressor

numpy = ops.convert_to_numpy
BOXCOX = {"power": 0.1, "shift": 0.1}


def tensor(values):
    return ops.convert_to_tensor(np.asarray(values, "float32"))


@pytest.fixture
def emulator():
    return Emulator("ecal", widths=(6, 8), seed=1)


@pytest.fixture
def regressor(showers):
    return ParameterRegressor.fit_scales(showers.particles, "ecal", channels=(3, 2), hidden=4)


@pytest.fixture(scope="module")
def parameters():
    return np.random.default_rng(0).normal(size=(2, 10, 5)).astype("float32")


def test_emulated_response_loss_by_formula(emulator, parameters):
    """Layer by layer the mean square difference in units of the mean square at the truth."""
    made, right = ([numpy(f) for f in emulator(p)] for p in parameters)
    expected = sum(((a - b) ** 2).mean(axis=1) / (b**2).mean() for a, b in zip(made, right, strict=True))
    found = numpy(emulated_response_loss(emulator, *map(tensor, parameters)))
    assert found.shape == (10,)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_emulated_response_loss_is_zero_at_the_truth_and_grows_from_there(emulator, parameters):
    true, away = parameters
    loss = [numpy(emulated_response_loss(emulator, tensor(true + size * away), tensor(true)))
            for size in (0.0, 0.1, 0.5, 2.0)]
    assert not loss[0].any() and (np.diff(loss, axis=0) > 0).all()


def test_emulated_response_loss_counts_what_the_response_feels(emulator, parameters):
    """Errors of parameters that the response does not depend on cost nothing."""
    kernel, bias = emulator.dense[0].get_weights()
    kernel[2:] = 0.0
    emulator.dense[0].set_weights([kernel, bias])
    true, away = parameters
    unseen, seen = away.copy(), away.copy()
    unseen[:, :2], seen[:, 2:] = 0.0, 0.0
    loss = {name: numpy(emulated_response_loss(emulator, tensor(true + error), tensor(true)))
            for name, error in {"unseen": unseen, "seen": seen, "both": away}.items()}
    assert not loss["unseen"].any() and loss["seen"].min() > 0.0
    np.testing.assert_allclose(loss["both"], loss["seen"], rtol=1e-5)


def fit(model, showers, eager, epochs=8):
    model.compile(keras.optimizers.Adam(2e-2), run_eagerly=eager)
    data = Batches({"conditions": showers.particles, "responses": showers.response}, 48, seed=1)
    return model.fit(data, epochs=epochs, verbose=0, shuffle=False).history["loss"]


@pytest.mark.compiles_long
def test_emulator_learns_the_blocks_of_real_responses(emulator, regressor, showers, eager):
    model, before = EmulatorFit(emulator, regressor, BOXCOX), regressor.get_weights()
    blocks = numpy(emulator.blocks(BoxCox(**BOXCOX).forward(tensor(showers.response))))
    made = numpy(emulator(regressor.truth(tensor(showers.particles)))[-1])
    history = fit(model, showers, eager)
    assert history[0] == pytest.approx(((blocks - made) ** 2).mean(), rel=1e-3)
    assert np.isfinite(history).all() and history[-1] < 0.9 * history[0]
    assert all(np.array_equal(a, b) for a, b in zip(before, regressor.get_weights(), strict=True))


@pytest.mark.parametrize("kind", ["squared error", "perceptual"])
def test_regressor_learns_and_the_emulator_is_frozen(kind, emulator, regressor, showers, eager):
    model = RegressorFit(regressor, BOXCOX, None if kind == "squared error" else emulator)
    image, truth = BoxCox(**BOXCOX).forward(tensor(showers.response)), regressor.truth(tensor(showers.particles))
    read = regressor(image)
    first = {"squared error": np.square(numpy(read) - numpy(truth)),
             "perceptual": numpy(emulated_response_loss(emulator, read, truth))}[kind].mean()
    before, start = emulator.get_weights(), regressor.get_weights()
    history = fit(model, showers, eager)
    assert history[0] == pytest.approx(first, rel=1e-3)
    assert np.isfinite(history).all() and history[-1] < 0.9 * history[0]
    assert all(np.array_equal(a, b) for a, b in zip(before, emulator.get_weights(), strict=True))
    assert {v.path for v in model.trainable_variables} == {v.path for v in regressor.trainable_variables}
    assert all((a != b).any() for a, b in zip(start, regressor.get_weights(), strict=True))
    assert emulator.trainable_weights  # elsewhere


def test_emulated_response_loss_has_a_gradient_by_the_parameters_only(emulator, parameters):
    emulator.trainable = False
    true = tensor(parameters[0])
    gradient = numpy(backend.steps().grad(lambda p: emulated_response_loss(emulator, p, true), tensor(parameters[1])))
    assert (np.abs(gradient).max(axis=1) > 0.0).all() and not emulator.trainable_variables


def test_parameter_errors_of_known_errors(regressor, showers):
    """A regressor that reads nothing is wrong by the parameters themselves, evenly spread here: 0.683 half widths."""
    rows = 1001
    regressor.read.set_weights([np.zeros((4, 5)), np.arange(5.0)])  # whatever it says is the same for all
    conditions = np.zeros((rows, 9))
    even = np.linspace(-1.0, 1.0, rows)
    conditions[:, 1], conditions[:, 2] = 3.0 * even, -0.5 * even[::-1]
    conditions[:, 6] = np.exp(0.2 * even + 3.0)
    order = np.random.default_rng(1).permutation(rows)
    found = parameter_errors(regressor, BOXCOX, np.zeros((rows, 30, 30)), conditions[order], batch=700)
    assert found == pytest.approx([0.683 * 0.2, 0.0, 0.0, 0.683 * 3.0, 0.683 * 0.5], rel=1e-3, abs=1e-6)


@pytest.mark.compiles_long
def test_parameter_errors_are_those_of_what_the_regressor_reads(regressor, showers):
    read = numpy(regressor(BoxCox(**BOXCOX).forward(tensor(showers.response))))
    wrong = (read - numpy(regressor.truth(tensor(showers.particles)))) * regressor.scale
    low, high = np.quantile(wrong, (0.1585, 0.8415), axis=0)
    found = parameter_errors(regressor, BOXCOX, showers.response, showers.particles)
    assert found == pytest.approx(((high - low) / 2).tolist(), rel=1e-4)

import keras
import numpy as np
import pytest

from tests.training.test_phases import Pair
from zdckeras.data.showers import concatenate
from zdckeras.gan.images import ImageGAN
from zdckeras.gan.model import ResponseGAN, score_stages, training_arrays
from zdckeras.training.adversarial import (
    check_network,
    term_weights,
    train_adversarially,
    warm_start_scores,
    with_average,
)
from zdckeras.training.checkpoint import DivergedError

# The stages themselves run under every backend in test_backends.py.
pytestmark = pytest.mark.compiles_long
SMALL = dict(hidden=8, widths=(8,), channels=(4, 4, 2), spots=2)
STAGE = dict(epochs=1, batch=16, rate=1e-3)


class Repeated(Pair):
    """`Pair`, its phases called as in adversarial training."""

    def phases(self):
        return dict(zip(("critic", "generator"), super().phases().values(), strict=True))


@pytest.fixture(scope="module")
def twice(showers):
    """Every condition two times, so that there is a diversity."""
    return concatenate([showers, showers])


def fresh(showers, **weights):
    critic = dict(hidden=(8, 8), channels=(2, 2, 4))
    return ResponseGAN.fit_scales(showers, weights=weights, generator=SMALL, critic=critic)


def warm_start(gan, showers, folder):
    return warm_start_scores(gan, score_stages(gan, showers, {**STAGE, "rows": 64}, {**STAGE, "rows": 32}), folder)


@pytest.fixture(scope="module")
def stages(twice, tmp_path_factory):
    """A trained GAN, what it weighed before, after the warm start and after the training, and where states are."""
    folder, gan = tmp_path_factory.mktemp("states"), fresh(twice, energy=1.0)
    weights = [gan.generator.get_weights()]
    histories = warm_start(gan, twice, folder)
    weights.append(gan.generator.get_weights())
    average = gan.average.get_weights()
    arrays = training_arrays(twice)
    histories["GAN"] = train_adversarially(gan, arrays, folder / "GAN.npz", 1, 16, 1e-3, 1e-3)
    weights.append(gan.generator.get_weights())
    return gan, histories, weights, average, folder


def test_every_stage_learns(stages):
    _, histories, (before, warm, trained), average, _ = stages
    assert all(np.isfinite(history["loss"]).all() and len(history["loss"]) == 1 for history in histories.values())
    assert any((a != b).any() for a, b in zip(before, warm, strict=True))
    assert any((a != b).any() for a, b in zip(warm, trained, strict=True))
    assert all((a == b).all() for a, b in zip(warm, average, strict=True))


def test_finished_stages_are_taken_up(stages, twice):
    gan, histories, (_, warm, trained), _, folder = stages
    again = fresh(twice, energy=1.0)
    assert warm_start(again, twice, folder) == {k: v for k, v in histories.items() if k != "GAN"}
    assert all((a == b).all() for a, b in zip(warm, again.generator.get_weights(), strict=True))
    found = train_adversarially(again, training_arrays(twice), folder / "GAN.npz", 1, 16, 1e-3, 1e-3)
    assert found == histories["GAN"]
    assert all((a == b).all() for a, b in zip(trained, again.generator.get_weights(), strict=True))
    assert all((a == b).all() for a, b in zip(gan.average.get_weights(), again.average.get_weights(), strict=True))


def test_divergence_is_told(stages, twice, tmp_path):
    arrays = training_arrays(twice)
    arrays["conditions"] = arrays["conditions"] * np.nan
    with pytest.raises(DivergedError, match="nothing was saved"):
        train_adversarially(fresh(twice, energy=1.0), arrays, tmp_path / "GAN.npz", 1, 16, 1e-3, 1e-3)


def test_schedules_last_as_long_as_the_training_however_often_a_phase_runs(tmp_path):
    """All rates reach their highest, and end a hundredth of it, at once."""
    model = Repeated((3, 1))
    model.latent = 2
    arrays = {name: np.ones((40, 1), "float32") for name in "xy"}
    with pytest.raises(ValueError, match="at least 3 rows, one for each repetition .* received 2"):
        train_adversarially(model, arrays, tmp_path / "few.npz", 5, 2, 1e-3, 2e-3)
    rates = []
    told = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: rates.append(
        {name: float(o.learning_rate) for name, o in model.optimizer.by_phase.items()}))
    train_adversarially(model, arrays, tmp_path / "state.npz", 5, 8, 1e-3, 2e-3, callbacks=[told])
    assert {name: int(o.iterations) for name, o in model.optimizer.by_phase.items()} == {"critic": 75, "generator": 25}
    assert rates[-1] == pytest.approx({"critic": 2e-5, "generator": 1e-5}, rel=1e-3)
    assert all(found["critic"] == pytest.approx(2 * found["generator"], rel=0.1) for found in rates)


def test_weights_of_terms_have_defaults_and_bounds():
    assert term_weights(None, {"l2": 0.5}) == {"l2": 0.5} and term_weights({"l2": 2}, {"l2": 0.5}) == {"l2": 2.0}
    for wrong in ({"l1": 1.0}, {"l2": -1.0}, {"l2": float("nan")}):
        with pytest.raises(ValueError, match="Expected weights of at least 0 for l2; received"):
            term_weights(wrong, {"l2": 0.5})


def test_average_starts_equal_and_is_not_trained():
    made = []

    def make():
        made.append(keras.layers.Dense(2))  # no seed: two of them differ
        made[-1].build((None, 3))
        return made[-1]

    layer, average = with_average(make)
    assert layer is made[0] and average is made[1] and layer.trainable and not average.trainable_variables
    assert all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), average.get_weights(), strict=True))


def test_phases_have_the_rates_asked_for(tmp_path, monkeypatch):
    """The regressor's is the critic's unless it has its own; Adam of some phases alone is refused."""
    gan = ImageGAN.published("zp", {"mean": [0.0] * 9, "scale": [1.0] * 9}, 64, 16, weights={"auxiliary": 1e-3})
    arrays, found = {"conditions": np.zeros((8, 9))}, []
    monkeypatch.setattr("zdckeras.training.adversarial.train", lambda gan, *_, **__: found.append(
        {name: round(float(one.learning_rate), 7) for name, one in gan.optimizer.by_phase.items()}))
    for own in ({}, {"regressor": 1e-4}):
        train_adversarially(gan, arrays, tmp_path / "x.npz", 1, 4, 1e-3, 1e-5, adam={}, **own)
    assert found == [{"critic": 1e-5, "regressor": rate, "generator": 1e-3} for rate in (1e-5, 1e-4)]
    with pytest.raises(ValueError, match="Adam for critic, regressor, generator, or for none of them, .* critic, gen"):
        train_adversarially(gan, arrays, tmp_path / "x.npz", 1, 4, 1e-3, 1e-5, adam={"critic": {}, "generator": {}})


def test_networks_of_named_outputs_are_refused():
    inside = keras.Input((5,))
    network = keras.Model(inside, {"score": keras.layers.Dense(1)(inside)})
    with pytest.raises(ValueError, match=r"critic: expected outputs of shapes \[\(None, 1\)\], received dict"):
        check_network("critic", network, [(None, 5)], [(None, 1)])

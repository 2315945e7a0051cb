import keras
import numpy as np
import pytest

from zdckeras.data.showers import concatenate
from zdckeras.gan.model import ResponseGAN, training_arrays
from zdckeras.gan.training import play, start
from zdckeras.training.loop import DivergedError

# The stages themselves run under every backend in test_backends.py.
pytestmark = pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX compiles four models for a minute")
SMALL = dict(hidden=8, widths=(8,), channels=(4, 4, 2), spots=2)
STAGE = dict(epochs=1, batch=16, rate=1e-3)


@pytest.fixture(scope="module")
def twice(showers):
    """Every condition two times, so that there is a diversity."""
    return concatenate([showers, showers])


def fresh(showers, **weights):
    critic = dict(hidden=(8, 8), channels=(2, 2, 4))
    return ResponseGAN.fit_scales(showers, weights=weights, generator=SMALL, critic=critic)


@pytest.fixture(scope="module")
def stages(twice, tmp_path_factory):
    """A started and played GAN, what it weighed before, after the start and after the game, and where states are."""
    folder, gan = tmp_path_factory.mktemp("states"), fresh(twice, energy=1.0)
    weights = [gan.generator.get_weights()]
    histories = start(gan, twice, folder, {**STAGE, "rows": 64}, {**STAGE, "rows": 32})
    weights.append(gan.generator.get_weights())
    average = gan.average.get_weights()
    arrays = training_arrays(twice)
    histories["play"] = play(gan, arrays, folder / "play.npz", 1, 16, 1e-3, 1e-3)
    weights.append(gan.generator.get_weights())
    return gan, histories, weights, average, folder


def test_every_stage_learns(stages):
    _, histories, (before, started, played), average, _ = stages
    assert all(np.isfinite(history["loss"]).all() and len(history["loss"]) == 1 for history in histories.values())
    assert any((a != b).any() for a, b in zip(before, started, strict=True))
    assert any((a != b).any() for a, b in zip(started, played, strict=True))
    assert all((a == b).all() for a, b in zip(started, average, strict=True))


def test_finished_stages_are_taken_up(stages, twice):
    gan, histories, (_, started, played), _, folder = stages
    again = fresh(twice, energy=1.0)
    assert start(again, twice, folder, {**STAGE, "rows": 64}, {**STAGE, "rows": 32}) == {
        k: v for k, v in histories.items() if k != "play"}
    assert all((a == b).all() for a, b in zip(started, again.generator.get_weights(), strict=True))
    assert play(again, training_arrays(twice), folder / "play.npz", 1, 16, 1e-3, 1e-3) == histories["play"]
    assert all((a == b).all() for a, b in zip(played, again.generator.get_weights(), strict=True))
    assert all((a == b).all() for a, b in zip(gan.average.get_weights(), again.average.get_weights(), strict=True))


def test_divergence_is_told(stages, twice, tmp_path):
    arrays = training_arrays(twice)
    arrays["conditions"] = arrays["conditions"] * np.nan
    with pytest.raises(DivergedError, match="nothing was saved"):
        play(fresh(twice, energy=1.0), arrays, tmp_path / "play.npz", 1, 16, 1e-3, 1e-3)

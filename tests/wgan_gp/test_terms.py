"""Terms of the Wasserstein GAN by NumPy: its proper score, and what its critic minimises."""

import numpy as np
import pytest
from keras import ops

from zdckeras.wgan_gp.model import ResponseWGAN
from zdckeras.wgan_gp.networks import EnergyNetwork

SCALER = {"mean": [0.0] * 9, "scale": [100.0, 1.0, 1.0, 1.0, 10.0, 10.0, 100.0, 1.0, 1.0]}
BOXCOX = {"power": 0.2, "shift": 0.1}
SIZES = {"generator": {"latent": 16, "hidden": 8, "channels": (3, 2), "spots": 2},
         "critic": {"channels": (3, 2), "hidden": 6}, "regressor": {"channels": (3, 2), "hidden": 6}}
ROWS = 4
numpy = ops.convert_to_numpy


@pytest.fixture(scope="module")
def gan():
    rng = np.random.default_rng(0)
    summary = {"mean": rng.normal(size=15).tolist(), "scale": rng.uniform(0.5, 2.0, 15).tolist(), "response": 0.1}
    return ResponseWGAN("ecal", SCALER, BOXCOX, summary=summary, **SIZES)


@pytest.fixture(scope="module")
def draws():
    """Energies of a real response to each particle and of two others."""
    rng = np.random.default_rng(1)
    energy = rng.exponential(20.0, (3, ROWS, 30, 30)) * (rng.random((3, ROWS, 30, 30)) < 0.2)
    return energy.astype("float32")


def boxcox(energy):
    return (((energy + 0.1) / 0.1) ** 0.2 - 1.0) / 0.2


def single(real, first, second):
    """Sum over numbers of the energy score of each."""
    score = 0.5 * (np.abs(real - first) + np.abs(real - second) - np.abs(first - second))
    return score.reshape(ROWS, -1).sum(axis=1)


def together(real, first, second):
    """Energy score of all numbers."""
    distance = [np.linalg.norm(a - b, axis=1) for a, b in ((real, first), (real, second), (first, second))]
    return 0.5 * (distance[0] + distance[1] - distance[2])


def test_proper_score_by_hand(gan, showers, draws):
    """Summaries, each of their numbers / 5, blocks of 4 x 4 cells / 4 and cells of the Box-Cox image / 50."""
    conditions, energy = showers.particles[:ROWS].astype("float32"), draws.astype("float64")
    summaries = [numpy(gan.features(n, conditions)).astype("float64") for n in draws]
    blocks = np.log1p(energy[:, :, :28, :28].reshape(3, ROWS, 7, 4, 7, 4).sum(axis=(3, 5))).reshape(3, ROWS, 49)
    parts = [together(*summaries), single(*summaries) / 5, together(*blocks) / 4, single(*boxcox(energy)) / 50]
    found = numpy(gan.proper_score(conditions, *map(ops.convert_to_tensor, draws)))
    assert found.shape == (ROWS,) and all((np.abs(part) > 0.02).all() for part in parts)
    np.testing.assert_allclose(found, sum(parts), rtol=1e-3)


def test_what_the_critic_minimises_by_hand(gan, draws, monkeypatch):
    """Scores D(y, c) = w(c) |y|^2 / 2 have |grad D| = w |y| at y = u x + (1 - u) x', with the weight of that row."""
    real, made = draws[0], 0.5 * draws[1]
    made[3:] *= 8.0  # a response that scores higher than the real one
    conditions = np.zeros((ROWS, 9), "float32")
    conditions[:, 0] = 0.01, 0.02, 0.03, 0.05
    share = np.array([0.0, 1.0, 0.25, 0.6], "float32").reshape(ROWS, 1, 1)

    def scores(self, image, conditions):
        return 0.5 * conditions[:, :1] * ops.sum(ops.square(image), axis=(1, 2))[:, None]

    monkeypatch.setattr(ResponseWGAN, "critic_scores", scores)
    monkeypatch.setattr(EnergyNetwork, "call", lambda self, noise, conditions: noise)
    batch = {"responses": real, "z": made, "conditions": conditions, "share": share}
    found = gan._critic_loss({name: ops.convert_to_tensor(values) for name, values in batch.items()}, True)
    weight, (x, other) = conditions[:, 0].astype("float64"), boxcox(np.stack([real, made]).astype("float64"))
    high, low = (0.5 * weight * (y**2).sum(axis=(1, 2)) for y in (x, other))
    norm = weight * np.sqrt(((share * x + (1.0 - share) * other) ** 2).sum(axis=(1, 2)))
    assert {name: float(value) for name, value in found.items()} == pytest.approx({
        "distance": low.mean() - high.mean(), "penalty": 10.0 * ((norm - 1.0) ** 2).mean(), "accuracy": 0.75}, rel=1e-4)
    assert (high > low).tolist() == [True, True, True, False] and np.ptp(norm) > 0.5

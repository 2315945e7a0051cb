import numpy as np
import pytest
from keras import ops
from scipy import stats

from zdckeras.modular.cells import LEAST, EnergyCells, PhotonCells

numpy, DRAWS = ops.convert_to_numpy, 100_000


def uniform(seed, *shape):
    return np.random.default_rng(seed).random(shape, "float32")


def test_loss_of_energies_is_minus_the_logarithm_of_their_density():
    """Lit cells against SciPy's density of ln e, empty ones against the probability of no hit."""
    rng = np.random.default_rng(5)
    mean, shape, hits = (np.exp(rng.uniform(*edges, 400)) for edges in ((-6, 9), (-3, 10), (-7, 4)))
    lit = 1.0 - np.exp(-hits)
    energy = mean / lit * np.maximum(rng.gamma(shape) / shape, 1e-20) * (rng.random(400) < lit)
    energy = energy.astype("float32").astype("float64")
    some = np.where(energy > 0, energy, 1.0)
    dense = stats.gamma.logpdf(some, shape, scale=mean / lit / shape) + np.log(some) + np.log(lit)
    expected = np.where(energy > 0, -dense, hits)
    found = numpy(EnergyCells.loss(*(v.astype("float32") for v in (energy, np.log(mean), np.log(shape), np.log(hits)))))
    assert 100 < (energy > 0).sum() < 350
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=5e-3)


def test_loss_far_above_the_mean_goes_on_as_a_straight_line():
    steps = np.exp(np.array([4.0, 5.0, 6.0, 7.0], "float32"))  # ln of the energy over its mean
    numbers = (np.full(4, value, "float32") for value in (0.0, 2.0, 5.0))
    found = numpy(EnergyCells.loss(steps, *numbers))
    np.testing.assert_allclose(np.diff(found), np.exp(2.0) * (np.exp(4.0) - 1.0), rtol=1e-3)


@pytest.mark.parametrize("shape", [0.1, 0.5, 2.0, 50.0, 2e4])
@pytest.mark.parametrize("hits", [0.05, 1.0, 30.0])
def test_drawn_energies_against_scipy(shape, hits):
    """How many cells are empty, the mean over all, and the distance of the cumulative distributions of lit ones."""
    full = np.ones((DRAWS // 10, 10), "float32")
    drawn = numpy(EnergyCells.draw(7.0 * full, shape * full, hits * full, uniform(3, DRAWS // 10, 30))).reshape(-1)
    lit = 1.0 - np.exp(-hits)
    assert (drawn > 0).mean() == pytest.approx(lit, abs=5 * np.sqrt(lit * (1 - lit) / DRAWS) + 1e-6)
    error = np.sqrt(((1 + 1 / shape) / lit - 1) / DRAWS)
    assert drawn.mean() == pytest.approx(7.0, rel=5 * error + 0.01)
    some, share = drawn[drawn > 0], np.linspace(0.01, 0.99, 99)
    edges = stats.gamma.ppf(share, shape, scale=7.0 / lit / shape)
    above = edges > LEAST
    distance = np.abs((some[:, None] <= edges[above]).mean(axis=0) - share[above]).max()
    assert above.sum() > 50 and distance < 0.01 + 1.7 / np.sqrt(len(some)) and some.min() >= LEAST


@pytest.mark.parametrize("cells", [PhotonCells, EnergyCells])
def test_parts_of_one_arrival_are_its_numbers(cells):
    rng = np.random.default_rng(2)
    logs = [rng.uniform(low, high, (20, 30)).astype("float32") for low, high in ((-5, 9), (-3, 8), (-6, 4))]
    logs = logs[: cells.PARTS]
    parts = cells.parts(*logs)
    assert tuple(parts.shape) == (20, 30 * cells.PARTS)
    for found, log in zip(cells.whole(parts), logs, strict=True):
        np.testing.assert_allclose(numpy(found), np.exp(log), rtol=5e-3)


def test_energies_of_two_arrivals_add_up():
    """Numbers of the sum of two arrivals in a cell against energies drawn for each: mean, variance, empty cells."""
    logs = [np.log(np.array(pair, "float32"))[:, None] for pair in ((6.0, 2.0), (3.0, 0.7), (1.2, 0.4))]
    mean, shape, hits = (float(numpy(v)[0, 0]) for v in EnergyCells.whole(
        ops.sum(EnergyCells.parts(*logs), axis=0, keepdims=True)))
    drawn = sum(numpy(EnergyCells.draw(*(np.full((DRAWS, 1), np.exp(v[k, 0]), "float32") for v in logs),
                                       uniform(k, DRAWS, 3)))[:, 0].astype("float64") for k in range(2))
    lit = 1.0 - np.exp(-hits)
    assert (drawn > 0).mean() == pytest.approx(lit, abs=0.01)
    assert drawn.mean() == pytest.approx(mean, rel=0.02)
    assert drawn.var() == pytest.approx(mean**2 * ((1 + 1 / shape) / lit - 1), rel=0.05)


def test_nothing_arrives_nothing_is_drawn():
    dark = EnergyCells.whole(np.zeros((2, 12), "float32"))
    assert (numpy(EnergyCells.draw(*dark, uniform(1, 2, 12))) == 0).all()

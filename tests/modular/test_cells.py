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
    one = np.zeros((400, 1))
    found = numpy(EnergyCells.loss(*(v.reshape(400, 1).astype("float32") for v in (
        energy, np.log(mean), np.log(shape), np.log(hits), one, one))))[:, 0]
    assert 100 < (energy > 0).sum() < 350
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=5e-3)


def test_loss_far_above_the_mean_goes_on_as_a_straight_line():
    steps = np.exp(np.array([4.0, 5.0, 6.0, 7.0], "float32"))  # ln of the energy over its mean
    numbers = (np.full((4, 1), value, "float32") for value in (0.0, 2.0, 5.0, 0.0, 0.0))
    found = numpy(EnergyCells.loss(steps[:, None], *numbers))[:, 0]
    np.testing.assert_allclose(np.diff(found), np.exp(2.0) * (np.exp(4.0) - 1.0), rtol=1e-3)


def test_sum_of_a_response_has_a_density_of_its_own():
    """Its term is that of a log-normal variable, without ln S sqrt(2 pi); an empty response has none."""
    rng = np.random.default_rng(8)
    energy, log_mean, none = rng.gamma(2.0, 3.0, (50, 12)), rng.normal(0.0, 1.0, (50, 12)), np.zeros((50, 12))
    energy[0] = 0.0
    shift, log_spread = rng.normal(0.0, 0.3, (50, 1)), rng.uniform(-0.5, 0.5, (50, 1))
    found = numpy(EnergyCells.loss(*(v.astype("float32") for v in (energy, log_mean, none, none, shift, log_spread))))
    total, middle = energy.sum(axis=1), np.exp(log_mean).sum(axis=1) * np.exp(shift[:, 0])
    total[0] = 1.0
    dense = stats.lognorm.logpdf(total, np.exp(log_spread[:, 0]), scale=middle) + np.log(total * np.sqrt(2.0 * np.pi))
    np.testing.assert_allclose(found[1:, -1], -dense[1:], rtol=1e-4, atol=1e-5)
    assert found.shape == (50, 13) and found[0, -1] == 0.0


def test_drawn_energies_have_the_sum_that_was_drawn():
    rng, rows = np.random.default_rng(4), 20_000
    numbers = [np.tile(rng.uniform(low, high, 9), (rows, 1)) for low, high in ((1.0, 9.0), (0.5, 5.0), (0.1, 4.0))]
    numbers += [np.full((rows, 1), 40.0), np.full((rows, 1), 0.03)]
    numbers, given = [v.astype("float32") for v in numbers], uniform(6, rows, 28)
    drawn, alone = numpy(EnergyCells.draw(*numbers, given)), numpy(EnergyCells.alone(*numbers[:3], given[:, :-1]))
    lit = drawn.any(axis=1)
    assert stats.kstest(drawn.sum(axis=1)[lit], stats.lognorm(0.03, scale=40.0).cdf).pvalue > 0.01
    shares = (cells[lit] / cells[lit].sum(axis=1, keepdims=True) for cells in (drawn, alone))
    np.testing.assert_allclose(*shares, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [0.1, 0.5, 2.0, 50.0, 2e4])
@pytest.mark.parametrize("hits", [0.05, 1.0, 30.0])
def test_drawn_energies_against_scipy(shape, hits):
    """How many cells are empty, the mean over all, and the distance of the cumulative distributions of lit ones."""
    full = np.ones((DRAWS // 10, 10), "float32")
    drawn = numpy(EnergyCells.alone(7.0 * full, shape * full, hits * full, uniform(3, DRAWS // 10, 30))).reshape(-1)
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
    shared = [rng.uniform(-1, 1, (20, 1)).astype("float32") for _ in range(cells.SHARED)]
    logs = logs[: cells.PARTS] + shared
    parts = cells.parts(*logs)
    assert tuple(parts.shape) == (20, 30 * cells.PARTS + cells.SHARED)
    expected = [np.exp(log) for log in logs]
    if shared:  # the sum of the means, moved by the factor exp(d)
        expected[3] = expected[0].sum(axis=1, keepdims=True) * expected[3]
    for found, value in zip(cells.whole(parts), expected, strict=True):
        np.testing.assert_allclose(numpy(found), value, rtol=5e-3)


def test_energies_of_two_arrivals_add_up():
    """Numbers of the sum of two arrivals in a cell against energies drawn for each: mean, variance, empty cells; and
    the sums of two responses have the sum of their medians and of their variances."""
    logs = [np.log(np.array(pair, "float32"))[:, None] for pair in ((6.0, 2.0), (3.0, 0.7), (1.2, 0.4))]
    whole = [np.zeros((2, 1), "float32"), np.log(np.array([[0.03], [0.04]], "float32"))]
    mean, shape, hits, total, spread = (float(numpy(v)[0, 0]) for v in EnergyCells.whole(
        ops.sum(EnergyCells.parts(*logs, *whole), axis=0, keepdims=True)))
    drawn = sum(numpy(EnergyCells.alone(*(np.full((DRAWS, 1), np.exp(v[k, 0]), "float32") for v in logs),
                                        uniform(k, DRAWS, 3)))[:, 0].astype("float64") for k in range(2))
    lit = 1.0 - np.exp(-hits)
    assert (drawn > 0).mean() == pytest.approx(lit, abs=0.01)
    assert drawn.mean() == pytest.approx(mean, rel=0.02)
    assert drawn.var() == pytest.approx(mean**2 * ((1 + 1 / shape) / lit - 1), rel=0.05)
    assert total == pytest.approx(8.0) and spread == pytest.approx(np.hypot(6.0 * 0.03, 2.0 * 0.04) / 8.0)


def test_nothing_arrives_nothing_is_drawn():
    dark = EnergyCells.whole(np.zeros((2, 14), "float32"))
    assert (numpy(EnergyCells.draw(*dark, uniform(1, 2, 13))) == 0).all()

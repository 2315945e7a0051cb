import numpy as np
import pytest
from keras import ops

from zdckeras import backend
from zdckeras.gan.scores import block_features, cell_score, energy_score, ranked_probability, shape_score
from zdckeras.layers.response_features import SummaryFeatures

numpy = ops.convert_to_numpy


def test_energy_score_by_hand():
    """|x - x'| = 5, |x - x''| = 0, |x' - x''| = 5: (5 + 0) / 2 - 5 / 2 = 0."""
    x = np.zeros((1, 2), "float32")
    assert numpy(energy_score(x, x + np.array([3.0, 4.0], "float32"), x)).item() == pytest.approx(0.0, abs=1e-3)
    away = x + np.array([[3.0, 4.0]], "float32")
    assert numpy(energy_score(x, away, away)).item() == pytest.approx(5.0, abs=1e-3)


@pytest.mark.parametrize("width", [1, 5])
def test_energy_score_is_least_for_the_right_distribution(width):
    """Normal data against normal draws of other widths and centres, 40,000 samples each."""
    rng = np.random.default_rng(0)
    x, first, second = rng.normal(size=(3, 40_000, width)).astype("float32")

    def score(size, centre):
        return float(ops.mean(energy_score(x, size * first + centre, size * second + centre)))

    right = score(1.0, 0.0)
    assert all(score(*wrong) > right + 0.005 for wrong in ((0.6, 0.0), (1.6, 0.0), (0.0, 0.0), (1.0, 0.5)))
    pairs = np.linalg.norm(first - second, axis=1)  # of the right distribution: E |x' - x''| / 2
    assert right == pytest.approx(pairs.mean() / 2, rel=0.02)


def test_ranked_probability_is_a_sum_of_scores_in_one_dimension():
    draws = np.random.default_rng(1).normal(size=(3, 4, 5, 6)).astype("float32")
    found = numpy(ranked_probability(*map(ops.convert_to_tensor, draws)))
    single = numpy(energy_score(*(d.reshape(-1, 1) for d in draws))).reshape(4, 30)
    assert found.shape == (4,)
    np.testing.assert_allclose(found, single.sum(axis=1), atol=30 * 2e-3)
    x, a, b = draws.astype("float64")
    expected = (np.abs(x - a) + np.abs(x - b) - np.abs(a - b)).sum(axis=(1, 2)) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_cell_score_is_the_ranked_probability_of_square_roots():
    n, a, b = np.random.default_rng(2).poisson(3.0, (3, 4, 5, 6)).astype("float32")
    n, a, b = map(ops.convert_to_tensor, (n, a, b))
    expected = ranked_probability(*(ops.sqrt(k + 0.375) for k in (n, a, b)))
    np.testing.assert_allclose(numpy(cell_score(n, a, b)), numpy(expected), rtol=1e-5)
    assert numpy(cell_score(n, n, n)).tolist() == [0.0] * 4
    assert numpy(cell_score(n, a, a)).min() > 0.0


def test_cell_score_is_least_for_the_right_distribution():
    """Poisson photons against other means, cells without noise, and cells that all fluctuate more than they should."""
    rng, rows = np.random.default_rng(3), 20_000
    mean = np.array([[0.3, 2.0], [5.0, 20.0]])

    def score(draw):
        made = rng.poisson(mean, (rows, 2, 2)), draw(), draw()
        return float(ops.mean(cell_score(*(ops.convert_to_tensor(np.asarray(n, "float32")) for n in made))))

    right = score(lambda: rng.poisson(mean, (rows, 2, 2)))
    wrong = {"bright": lambda: rng.poisson(1.3 * mean, (rows, 2, 2)),
             "dim": lambda: rng.poisson(0.7 * mean, (rows, 2, 2)),
             "still": lambda: np.broadcast_to(mean, (rows, 2, 2)),
             "noisy": lambda: rng.poisson(mean * rng.gamma(3.0, 1 / 3.0, (rows, 2, 2)))}
    assert {name: score(draw) > right + 0.02 for name, draw in wrong.items()} == dict.fromkeys(wrong, True)


def test_cell_score_of_equal_photons_has_no_gradient():
    n = np.random.default_rng(4).poisson(2.0, (2, 3, 3)).astype("float32")
    gradient = numpy(backend.steps().grad(lambda x: cell_score(n, x, n), ops.convert_to_tensor(n)))
    assert not gradient.any()


def test_shape_score_is_a_weighted_sum_of_three(showers):
    """1 of the summaries, 1/4 of the blocks and 1/10 of the cells, averaged over detectors."""
    summary = SummaryFeatures("ecal", **SummaryFeatures.fit(showers, "ecal"))
    c, n = showers.particles[:6].astype("float32"), showers.response.astype("float32")
    x, a, b = n[:6], n[6:12], n[12:18]
    expected = (numpy(energy_score(*(summary(k, c) for k in (x, a, b))))
                + 0.25 * numpy(energy_score(*map(block_features, map(ops.convert_to_tensor, (x, a, b)))))
                + 0.1 * numpy(cell_score(*map(ops.convert_to_tensor, (x, a, b)))))
    one = [ops.convert_to_tensor(x)], [ops.convert_to_tensor(n[6:18])]
    np.testing.assert_allclose(numpy(shape_score([summary], c, *one)), expected, rtol=1e-4)
    swapped = [ops.convert_to_tensor(np.concatenate([b, a]))]
    both = one[0] * 2, one[1] + swapped  # the order of the two draws does not matter
    np.testing.assert_allclose(numpy(shape_score([summary] * 2, c, *both)), expected, rtol=1e-4)


def test_blocks():
    photons = np.zeros((2, 30, 30), "float32")
    photons[0, :4, 4:8] = 2.0
    photons[1, 28:, 28:] = 9.0  # beyond the last whole block
    found = numpy(block_features(photons))
    expected = np.zeros((2, 49))
    expected[0, 1] = np.log1p(32.0)
    assert found.shape == (2, 49)
    np.testing.assert_allclose(found, expected, rtol=1e-6)

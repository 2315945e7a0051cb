import numpy as np
import pytest
from scipy.stats import kstest

from zdckeras.metrics.ranks import rank_pulls, ranks


def test_ranks_of_counts_of_one_distribution_are_uniform_whatever_the_particle():
    """Poisson counts of very different means, with many ties."""
    rng = np.random.default_rng(1)
    mean = rng.uniform(0.1, 50.0, 2000)
    values = ranks(rng.poisson(mean)[:, None], rng.poisson(mean[:, None], (2000, 40))[..., None], 2)
    assert kstest(values[:, 0], "uniform").pvalue > 0.01
    assert np.abs(rank_pulls(values)[:2]).max() < 3


@pytest.mark.parametrize(("shift", "scale", "row", "sign"), [(0.5, 1.0, 0, -1), (0.0, 2.0, 1, -1), (0.0, 0.5, 1, 1)])
def test_shift_and_spread_have_their_own_pulls(shift, scale, row, sign):
    """Generated values too high: low ranks; too broad: ranks in the middle; too narrow: ranks at the ends."""
    rng = np.random.default_rng(3)
    values = ranks(rng.normal(size=(500, 1)), shift + scale * rng.normal(size=(500, 40, 1)), 4)
    pulls = rank_pulls(values)[:, 0]
    assert sign * pulls[row] > 5 > abs(pulls[1 - row]) * (1.0 if row else 0.0) and pulls[2] < 1e-4


def test_pulls_of_uniform_ranks_have_mean_zero_and_deviation_one():
    pulls = np.stack([rank_pulls(np.random.default_rng([5, k]).random((50, 4)))[:2] for k in range(100)])
    assert np.abs(pulls.mean(axis=(0, 2))).max() < 0.2 and pulls.std(axis=(0, 2)) == pytest.approx([1, 1], abs=0.12)


def test_shapes_that_do_not_belong_together():
    with pytest.raises(ValueError, match=r"\(N, K\) and generated ones \(N, M, K\), received \(3, 2\) and \(4, 5, 2\)"):
        ranks(np.zeros((3, 2)), np.zeros((4, 5, 2)), 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_have_no_rank(value):
    fine = np.zeros((3, 5, 2))
    broken = np.where(np.arange(2) == 1, value, fine)
    for pair in ((fine[:, 0], broken), (broken[:, 0], fine)):
        with pytest.raises(ValueError, match="Expected finite values"):
            ranks(*pair, 0)
    with pytest.raises(ValueError, match="Expected ranks .* with 3 values outside"):
        rank_pulls(broken[:, 0])
    with pytest.raises(ValueError, match=r"Expected ranks .* shape \(0, 2\)"):
        rank_pulls(np.zeros((0, 2)))


def test_a_rank_by_hand():
    """(generated below + u (equal + 1)) / (M + 1) of four generated values, u uniform from the seed."""
    generated = np.array([[0.0, 1.0, 1.0, 5.0]] * 3)[..., None]
    u = np.random.default_rng(7).random((3, 1))[:, 0]
    found = ranks(np.array([[1.0], [3.0], [9.0]]), generated, 7)[:, 0]
    np.testing.assert_allclose(found, [(1 + 3 * u[0]) / 5, (3 + u[1]) / 5, (4 + u[2]) / 5], rtol=1e-12)

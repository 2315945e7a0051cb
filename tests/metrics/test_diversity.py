import numpy as np
import pytest

from zdckeras.data.particles import conditions_of
from zdckeras.data.repeats import condition_statistics
from zdckeras.data.showers import Showers
from zdckeras.metrics.diversity import diversity_ratios, draw_diversity


def test_known_deviation():
    draws = np.random.default_rng(0).poisson(9.0, (400, 3, 5, 4))
    np.testing.assert_allclose(draw_diversity(list(draws)), 20 * 3.0, rtol=0.05)
    assert draw_diversity([draws[0], draws[0]]).tolist() == [0.0, 0.0, 0.0]


def test_draws_and_repeated_rows_are_two_ways_to_one_number():
    draws = np.random.default_rng(3).poisson(0.4, (4, 6, 44, 44))
    particles = conditions_of(np.full(6, 22), np.array([[0.0, 0.0, 90.0 + k] for k in range(6)]))
    rows = Showers(np.tile(particles, (4, 1)), np.full(24, 22), {"zn": draws.reshape(24, 44, 44)})
    found = condition_statistics(rows)
    np.testing.assert_allclose(draw_diversity(list(draws)), found.spread * found.diversity[:6], rtol=1e-12)
    np.testing.assert_allclose(draw_diversity(list(draws)), draws.std(axis=0).sum(axis=(1, 2)), rtol=1e-12)


def test_blocks_do_not_matter(monkeypatch):
    draws = list(np.random.default_rng(1).poisson(2.0, (3, 7, 4, 4)))
    whole = draw_diversity(draws)
    monkeypatch.setattr("zdckeras.mapped.ROWS", 3)
    assert np.array_equal(draw_diversity(draws), whole)


def test_ratio_by_species():
    rng = np.random.default_rng(2)
    real, pdg = rng.poisson(4.0, (5, 60, 4, 4)), np.repeat([22, 310, 2112], 20)
    generated = np.where((pdg == 310)[:, None, None], real.mean(axis=0), 2 * real)
    ratios = diversity_ratios(list(real), list(generated), pdg, {"gamma": 22, "K0S": 310, "Lambda": 3122})
    assert ratios["gamma"] == pytest.approx(2.0) and ratios["K0S"] == 0.0 and np.isnan(ratios["Lambda"])


def test_no_ratio_to_draws_that_are_all_alike():
    one, other = np.ones((2, 3, 3)), np.arange(18.0).reshape(2, 3, 3)
    ratios = diversity_ratios([one, one], [one, other], [22, 2112], {"gamma": 22, "n": 2112})
    assert np.isnan([ratios["gamma"], ratios["n"]]).all()


def test_refuses_what_cannot_be_compared():
    one = np.zeros((2, 3, 3))
    with pytest.raises(ValueError, match="at least two draws"):
        draw_diversity([one])
    with pytest.raises(ValueError, match="shapes"):
        draw_diversity([one, one[:1]])
    with pytest.raises(ValueError, match="received 2 and 3"):
        diversity_ratios([one] * 2, [one] * 3, [22, 22], {"gamma": 22})


def test_draws_are_not_compared_with_themselves():
    draws = list(np.random.default_rng(0).poisson(3.0, (2, 5, 4, 4)))
    copies = [draw.copy() for draw in draws]
    assert diversity_ratios(draws, copies, np.full(5, 22), {"gamma": 22}) == {"gamma": 1.0}
    assert np.isnan(diversity_ratios(draws, list(draws), np.full(5, 22), {"gamma": 22})["gamma"])


def test_ratio_is_that_of_the_sums_not_the_mean_of_ratios():
    """Deviations 1 and 9 of the real draws, 2 and 9 of the generated ones: 11 / 10, where single ratios mean 1.5."""
    real, generated = (np.array([[0, 0], [2 * a, 2 * b]])[..., None, None] for a, b in ((1, 9), (2, 9)))
    assert draw_diversity(list(real)).tolist() == [1.0, 9.0]
    assert diversity_ratios(list(real), list(generated), [22, 310], {"all": None}) == {"all": pytest.approx(1.1)}

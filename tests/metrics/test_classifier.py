import numpy as np
import pytest

from zdckeras.metrics.classifier import classifier_auc

ROWS = 500


def draw(seed, factor=1.0):
    """Spots whose brightness and place depend on the first two conditions."""
    conditions = np.random.default_rng(0).uniform(size=(ROWS, 9))
    x, y = np.indices((8, 8))
    place = 2 + 4 * conditions[:, 1, None, None]
    light = np.exp(-((x - place) ** 2) - (y - 4) ** 2) * 40 * (1 + conditions[:, 0, None, None])
    return np.random.default_rng(seed).poisson(factor * light), conditions


def test_same_distribution_is_a_coin_toss():
    (real, conditions), (second, _) = draw(1), draw(2)
    assert abs(classifier_auc(real, second, conditions) - 0.5) < 0.05


def test_shifted_distribution_is_seen():
    (real, conditions), (bright, _) = draw(1), draw(2, 1.5)
    assert classifier_auc(real, bright, conditions) > 0.9


def test_wrong_dependence_on_the_condition_is_seen():
    """The same showers, handed to other particles: every marginal distribution is right."""
    (real, conditions), (second, _) = draw(1), draw(2)
    shuffled = second[np.random.default_rng(0).permutation(ROWS)]
    assert classifier_auc(real, shuffled, conditions) > 0.9


def test_seed_repeats_and_subsample_is_used():
    (real, conditions), (bright, _) = draw(1), draw(2, 1.1)
    first = classifier_auc(real, bright, conditions, seed=3, pairs=200)
    assert first == classifier_auc(real, bright, conditions, seed=3, pairs=200)
    assert first != classifier_auc(real, bright, conditions, seed=4, pairs=200)
    assert classifier_auc(real, bright, conditions, pairs=ROWS) == classifier_auc(real, bright, conditions)


def test_identical_showers_are_exactly_even():
    real, conditions = draw(1)
    assert classifier_auc(real, real, conditions) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize(
    "rows, conditions, message",
    [
        (5, 5, "at least 6 pairs, received 5"),
        (20, 19, r"\(20, 8, 8\), \(20, 8, 8\) and \(19, 9\)"),
    ],
)
def test_bad_input(rows, conditions, message):
    real, given = draw(1)
    with pytest.raises(ValueError, match=message):
        classifier_auc(real[:rows], real[:rows], given[:conditions])

import keras
import numpy as np
import pytest

from zdckeras.metrics import classifier
from zdckeras.metrics.classifier import classifier_auc, pixel_auc, shape_importance, species_auc
from zdckeras.simulation.reference import load, resimulate

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


@pytest.mark.parametrize(("change", "telling"), [
    (lambda images: np.roll(images, 1, axis=2), {"centre_y", "asymmetry_y", "parity"}),
    (lambda images: 2 * images, {"photons", "brightest", "lit"}),
])
def test_what_was_changed_gives_it_away(change, telling):
    (real, conditions), (second, _) = draw(1), draw(2)
    falls = shape_importance(real, change(second), conditions)
    first, *_, last = falls.items()
    assert first[0] in telling and first[1] > 0.02 and abs(last[1]) < 0.02
    assert list(falls.values()) == sorted(falls.values(), reverse=True)


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


def spots(rows, seed, width=2.0):
    rng = np.random.default_rng(seed)
    x, y = np.indices((12, 10))[:, None] - rng.uniform(3, 8, (2, rows, 1, 1))
    return rng.poisson(9.0 * np.exp(-(x**2 + y**2) / width))


@pytest.mark.compiles_long
@pytest.mark.parametrize("pairs", [6, 10, 20, 29])
def test_few_showers_are_told_from_empty_ones(pairs):
    """They were not: no tree has leaves of twenty rows where there are fewer than forty."""
    real = np.random.default_rng(0).poisson(3.0, (pairs, 6, 6))
    assert classifier_auc(real, np.zeros_like(real), np.zeros((pairs, 9))) > 0.9


def test_pixels_of_equal_and_of_mixed_up_responses():
    """Two draws of one process cannot be told apart; cells in another order can, though every shape sum is the same."""
    real, again = spots(600, 0), spots(600, 1)
    mixed = np.random.default_rng(2).permuted(again.reshape(600, -1), axis=1).reshape(again.shape)
    assert abs(pixel_auc(real, again, epochs=3) - 0.5) < 0.08 and pixel_auc(real, mixed, epochs=3) > 0.95
    assert pixel_auc(real, again, seed=5, pairs=40, epochs=1) == pixel_auc(real, again, seed=5, pairs=40, epochs=1)
    with pytest.raises(ValueError, match="at least 8 rows"):
        pixel_auc(real[:4], again[:4])
    with pytest.raises(ValueError, match="at most 1 are used"):
        pixel_auc(real, again, pairs=1)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0])
def test_one_cell_that_is_no_count_is_told(wrong):
    """A network of NaN would answer 0.5 on TensorFlow, as if it could not tell them."""
    real = spots(20, 0).astype("float32")
    broken = real.copy()
    broken[7, 3, 3] = wrong
    for name, pair in (("generated", (real, broken)), ("real", (broken, real))):
        with pytest.raises(ValueError, match=f"Expected finite, non-negative photon counts, received others in {name}"):
            pixel_auc(*pair, epochs=1)


def test_judge_computes_in_float32_under_any_policy():
    real, generated = spots(24, 0), spots(24, 1, width=5.0)
    plain, before = pixel_auc(real, generated, seed=11, epochs=1), keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        classifier._network.cache_clear()
        assert pixel_auc(real, generated, seed=11, epochs=1) == plain
    finally:
        keras.config.set_dtype_policy(before)


def test_species_are_told_apart_one_by_one():
    """One species is generated right and the other is not; a third is too rare."""
    real, made = spots(300, 3), spots(300, 4)
    pdg = np.repeat([22, 2112, 130], [140, 140, 20])
    made[pdg == 2112] *= 2
    areas = species_auc(real, made, np.zeros((300, 9)), pdg, {"gamma": 22, "n": 2112, "K0L": 130})
    assert abs(areas["gamma"] - 0.5) < 0.15 and areas["n"] > 0.85 and np.isnan(areas["K0L"])


@pytest.fixture(scope="module")
def halves():
    """Two simulations of the same particles, and the particles."""
    real = load("zn", "test", size=500)
    return real.response, resimulate(real, 1).response, real.particles


def test_two_halves_of_real_showers_are_a_coin_toss(halves):
    real, again, conditions = halves
    assert abs(classifier_auc(real, again, conditions) - 0.5) < 0.07
    assert abs(pixel_auc(real, again, epochs=3) - 0.5) < 0.1


def test_shuffled_cells_are_always_seen(halves):
    """Every shower keeps its photons, in other cells."""
    real, again, conditions = halves
    mixed = np.random.default_rng(0).permuted(again.reshape(len(again), -1), axis=1).reshape(again.shape)
    assert classifier_auc(real, mixed, conditions) > 0.98 and pixel_auc(real, mixed, epochs=3) > 0.95

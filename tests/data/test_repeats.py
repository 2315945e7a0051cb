import numpy as np
import pytest

from zdckeras.data.particles import conditions_of
from zdckeras.data.repeats import condition_statistics, log_diversity, repeated, repeated_pairs, with_floor
from zdckeras.data.showers import Showers
from zdckeras.metrics.channels import Residuals, ws


def make(repeats, seed=0, pdg=None, energies=None, mean=None):
    """Showers in which condition c occurs repeats[c] times, rows shuffled; and the condition of each row."""
    rng = np.random.default_rng(seed)
    number = len(repeats)
    pdg = rng.choice([22, 2112], number) if pdg is None else np.asarray(pdg)
    energies = rng.uniform(100, 2500, number) if energies is None else np.asarray(energies)
    particles = conditions_of(pdg, np.column_stack([np.zeros((number, 2)), energies]))
    condition = rng.permutation(np.repeat(np.arange(number), repeats))
    mean = rng.uniform(0, 2, number) if mean is None else np.asarray(mean, "float64")
    response = rng.poisson(mean[condition, None, None] * rng.uniform(size=(1, 44, 44)), (len(condition), 44, 44))
    return Showers(particles[condition], pdg[condition], {"zn": response}), condition


def test_equal_to_a_slow_loop():
    repeats = np.array([1, 2, 3, 7, 20, 1, 5])
    showers, condition = make(repeats)
    found = condition_statistics(showers)
    spread = np.array([showers.response[condition == c].std(axis=0).sum() for c in range(len(repeats))])
    for c, n in enumerate(repeats):
        rows, mean = condition == c, showers.response[condition == c].mean(axis=0)
        if n > 1:
            np.testing.assert_allclose(found.diversity[rows], spread[c] / spread.max(), rtol=1e-12)
        np.testing.assert_allclose(found.photon_sum[rows], mean.sum(), rtol=1e-12)
        np.testing.assert_array_equal(found.peak[rows], [np.unravel_index(mean.argmax(), mean.shape)] * n)
        np.testing.assert_array_equal(found.repeats[rows], n)
    np.testing.assert_allclose(found.spread, spread.max(), rtol=1e-12)
    assert found.diversity.max() == 1.0


def test_diversity_of_logarithms_equal_to_a_slow_loop():
    """The least, of a condition that occurs once, is 0, the greatest 1."""
    showers, condition = make([1, 2, 3, 7, 20, 1, 5])
    spread = np.array([np.log1p(showers.response[condition == c], dtype="float64").std(axis=0).sum() for c in range(7)])
    found = log_diversity(showers)
    np.testing.assert_allclose(found, (spread / spread.max())[condition], rtol=1e-12)
    assert set(found[condition == 0]) == {0.0} and found.max() == 1.0


def test_diversity_of_logarithms_begins_at_the_least_of_the_data():
    showers, condition = make([2, 3, 7, 5])
    spread = np.array([np.log1p(showers.response[condition == c], dtype="float64").std(axis=0).sum() for c in range(4)])
    found = log_diversity(showers)
    assert spread.min() > 0.05 * spread.max() and (found.min(), found.max()) == (0.0, 1.0)
    np.testing.assert_allclose(found, ((spread - spread.min()) / np.ptp(spread))[condition], rtol=1e-9, atol=1e-12)


def test_equal_responses_have_no_diversity():
    showers, condition = make([3, 4])
    response = np.array(showers.response)
    response[condition == 0] = response[condition == 0][:1]
    found = condition_statistics(Showers(showers.particles, showers.pdg, {"zn": response}))
    assert set(found.diversity[condition == 0]) == {0.0}
    assert set(found.diversity[condition == 1]) == {1.0}


def test_all_equal_is_zero_not_nan():
    showers, _ = make([3, 1])
    constant = Showers(showers.particles, showers.pdg, {"zn": np.full((4, 44, 44), 3, "uint16")})
    found = condition_statistics(constant)
    assert found.diversity.tolist() == [0.0] * 4
    assert found.spread == 0.0
    assert found.peak.tolist() == [[0, 0]] * 4


def test_singles_take_the_mean_of_near_conditions_of_their_species():
    """Photons vary little at low and much at high energy, neutrons the other way round."""
    number = 40
    energies = np.tile(np.concatenate([np.linspace(100, 110, 20), np.linspace(2000, 2100, 20)]), 2)
    pdg = np.repeat([22, 2112], number)
    mean = np.where((energies > 1000) == (pdg == 22), 9.0, 0.05)
    repeats = np.full(2 * number, 4)
    repeats[[5, 25, 45, 65]] = 1
    showers, condition = make(repeats, 1, pdg, energies, mean)
    found = condition_statistics(showers)
    low, high = found.diversity[np.isin(condition, [5, 65])], found.diversity[np.isin(condition, [25, 45])]
    assert low.max() < 0.2 < 0.8 < high.min()
    near = np.isin(condition, [1, 2, 3, 4, 6, 7, 8, 9])
    per_condition = [found.diversity[condition == c][0] for c in np.unique(condition[near])]
    np.testing.assert_allclose(found.diversity[condition == 5], np.mean(per_condition), rtol=1e-12)


def test_rare_species_borrows_from_all():
    showers, condition = make([5] * 9 + [1], pdg=[22] * 9 + [310], energies=[100] * 4 + [110] * 5 + [105.0])
    found = condition_statistics(showers)
    repeated = [found.diversity[condition == c][0] for c in range(9)]
    assert min(repeated) <= found.diversity[condition == 9][0] <= max(repeated)


def test_nothing_repeated_is_an_error():
    with pytest.raises(ValueError, match="none of the 4 conditions occurs twice"):
        condition_statistics(make([1, 1, 1, 1])[0])


def test_two_detectors_need_a_name():
    showers, _ = make([2, 2])
    response = {"zn": showers.response, "zp": np.ones((4, 56, 30), "uint16")}
    both = Showers(showers.particles, showers.pdg, response)
    with pytest.raises(ValueError, match="several detectors"):
        condition_statistics(both)
    np.testing.assert_array_equal(condition_statistics(both, "zp").photon_sum, [1680.0] * 4)
    np.testing.assert_array_equal(
        condition_statistics(both, "zn").diversity, condition_statistics(showers).diversity
    )


def test_pairs_are_other_rows_of_the_same_condition():
    showers, condition = make(np.array([1, 2, 3, 7, 1, 20]))
    first, second = repeated_pairs(showers, seed=4)
    assert len(first) == 1 + 1 + 3 + 10
    np.testing.assert_array_equal(first.particles, second.particles)
    key = {row.tobytes(): number for number, row in enumerate(showers.response)}
    used = [[key[row.tobytes()] for row in part.response] for part in (first, second)]
    assert len({*used[0], *used[1]}) == 2 * len(first) and used[0] == sorted(used[0])
    assert (condition[used[0]] == condition[used[1]]).all()
    np.testing.assert_array_equal(repeated_pairs(showers, seed=4)[1].response, second.response)
    assert repeated(showers).sum() == 2 + 3 + 7 + 20 and not repeated(showers)[np.isin(condition, [0, 4])].any()


def test_floor_of_pairs_is_that_of_a_second_simulation():
    """The same rows on both sides, in another order, would have the distance 0."""
    showers, _ = make(np.full(40, 20), mean=np.full(40, 1.0))
    first, second = repeated_pairs(showers)
    found, expected = (ws(Residuals.between(*pair)) for pair in
                       ((first.response, second.response), (showers.response[::2], showers.response[1::2])))
    assert 0.3 * expected < found < 3.0 * expected


def test_no_pairs_without_repeats():
    with pytest.raises(ValueError, match="none of the 3 conditions occurs twice"):
        repeated_pairs(make(np.ones(3, int))[0])


def test_few_repeated_conditions_do_not_stand_for_all():
    """Of 20 rows 4 share their conditions: all are judged, without a floor; of 12 rows 4: those that do."""
    many, _ = make(np.array([2, 2] + [1] * 16))
    found, none = with_floor(many)
    assert found is many and none == []
    few, _ = make(np.array([2, 2] + [1] * 8))
    first, (second,) = with_floor(few, 3)
    assert len(first) == 2 and (first.particles == second.particles).all()

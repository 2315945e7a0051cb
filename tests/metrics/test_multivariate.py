import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial import cKDTree

from zdckeras.metrics.multivariate import (
    frechet_distance,
    gaussian_distance,
    kernel_distance,
    neighbourhoods,
    standardised,
)
from zdckeras.metrics.shapes import separation_power


def normal(rows, columns=4, seed=0, shift=0.0, factor=1.0):
    return shift + factor * np.random.default_rng(seed).normal(size=(rows, columns))


def test_standardised_by_the_real_side_without_constant_columns():
    real = np.column_stack([normal(50, 2, factor=7.0), np.full(50, 3.0)])
    x, y = standardised(real, real + 7.0)
    assert x.shape == (50, 2) and np.allclose(x.mean(axis=0), 0) and np.allclose(x.std(axis=0), 1)
    assert np.allclose(y - x, 7.0 / real[:, :2].std(axis=0))


def test_density_and_coverage_of_equal_distributions_are_those_expected():
    """E[density] = 1; E[coverage] = 1 - prod_{i<k} (N - 1 - i) / (2 N - 1 - i), arXiv:2002.09797, section 3.3."""
    rows, k = 400, 5
    found = [neighbourhoods(normal(rows, seed=s), normal(rows, seed=s + 100), k=k) for s in range(12)]
    density, coverage = (np.mean([f[name] for f in found]) for name in ("density", "coverage"))
    expected = 1 - np.prod([(rows - 1 - i) / (2 * rows - 1 - i) for i in range(k)])
    assert abs(density - 1) < 0.03 and abs(coverage - expected) < 0.006


def test_neighbourhoods_by_their_definition():
    real, made = normal(60, 3), normal(40, 3, seed=1, shift=0.5)
    x, y = standardised(real, made)
    reach = cKDTree(x).query(x, 4)[0][:, 3]
    within = np.linalg.norm(x[:, None] - y, axis=2) <= reach[:, None]
    found = neighbourhoods(real, made, k=3)
    assert found["density"] == pytest.approx(within.sum() / (3 * 40)) and found["coverage"] == within.any(axis=1).mean()
    assert found["precision"] == within.any(axis=0).mean()


def test_pairs_stay_pairs_where_only_some_rows_are_taken(monkeypatch):
    monkeypatch.setattr("zdckeras.metrics.multivariate.ROWS", 50)
    real = normal(300)
    assert neighbourhoods(real, real + 1e-9, k=1)["coverage"] == 1.0  # each next to its own
    assert neighbourhoods(real, (real + 1e-9)[:299], k=1)["coverage"] < 0.8


def test_a_mean_is_precise_but_covers_little():
    made = neighbourhoods(normal(500), normal(500, seed=1, factor=0.2))
    assert made["density"] > 1.2 and made["precision"] > 0.95 and made["coverage"] < 0.5 and made["recall"] < 0.5


def test_gaussian_distance_against_the_matrix_root():
    first, second = normal(300, 3) @ [[2, 1, 0], [0, 1, 0], [0, 3, 1]], normal(300, 3, seed=1, shift=0.3)
    a, b = np.cov(first.T), np.cov(second.T)
    apart = np.sum((first.mean(axis=0) - second.mean(axis=0)) ** 2)
    assert gaussian_distance(first, second) == pytest.approx(apart + np.trace(a + b - 2 * np.real(sqrtm(a @ b))))


def test_frechet_distance_of_normal_samples_is_the_closed_form():
    """A shift of s and a factor f in K columns: K (s^2 + (f - 1)^2); equal ones: 0, where the plain distance is not."""
    real, equal = normal(4000, seed=1), normal(4000, seed=2)
    assert abs(frechet_distance(real, equal)) < 0.004 < gaussian_distance(real[:1000], equal[:1000])
    moved = frechet_distance(real, normal(4000, seed=3, shift=0.5, factor=2.0))
    assert moved == pytest.approx(4 * (0.25 + 1.0), rel=0.05)


def test_kernel_distance_is_unbiased_and_its_expectation_that_of_the_moments():
    """In one dimension (x y + 1)^4 = sum_n C(4, n) x^n y^n, so MMD^2 = sum_n C(4, n) (E x^n - E y^n)^2."""
    equal = [kernel_distance(normal(800, 1, seed=s), normal(800, 1, seed=s + 50)) for s in range(8)]
    assert abs(np.mean(equal)) < 4 * np.std(equal) / np.sqrt(8) and min(equal) < 0
    shift = 0.5  # E (x + s)^n - E x^n of the normal distribution, n = 1 to 4
    moments = [shift, shift**2, 3 * shift + shift**3, 6 * shift**2 + shift**4]
    expected = sum(c * m**2 for c, m in zip((4, 6, 4, 1), moments, strict=True))
    found = np.mean([kernel_distance(normal(4000, 1, seed=s), normal(4000, 1, seed=s + 70, shift=shift))
                     for s in range(4)])
    assert found == pytest.approx(expected, rel=0.15)


def test_kernel_distance_of_few_rows_is_that_of_all(monkeypatch):
    """One batch, whatever the seed; ten where one side has more."""
    found, median = [], np.median
    monkeypatch.setattr(np, "median", lambda values: found.append(values) or median(values))
    real, made, more = normal(60), normal(50, seed=1, shift=0.5), normal(1001, seed=2)
    first, second = (kernel_distance(real, made, seed) for seed in (0, 1))
    kernel_distance(real, more)
    assert first == pytest.approx(second, rel=1e-9) and [len(values) for values in found] == [1, 1, 10]


def test_separation_power_of_histograms():
    """p = (1/2, 1/2) against q = (1/4, 3/4): (1/16 / (3/4) + 1/16 / (5/4)) / 2 = 1/15."""
    real = np.repeat([0.0, 1.0], 2)[:, None]
    assert separation_power(real, np.array([[0.0], [1.0], [1.0], [1.0]]), 2)[0] == pytest.approx(1 / 15)
    assert separation_power(real, real + 5) == 1.0 and separation_power(real, real) == 0.0
    apart = separation_power(np.zeros((3, 1)), np.ones((9, 1)))
    assert apart == 1.0


def test_pairs_are_no_nearer_than_they_should_be():
    """Two responses to each particle, which share most of their variance: both distances are 0 on average."""
    frechet, kernel = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        particle = 2.0 * rng.normal(size=(600, 4))
        real, made = (particle + rng.normal(size=(600, 4)) for _ in range(2))
        frechet.append(frechet_distance(real, made, seed))
        kernel.append(kernel_distance(real, made, seed))
    for values in (frechet, kernel):
        assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(12) + 1e-4


@pytest.mark.parametrize(("real", "made", "message"), [
    (np.zeros((20, 2)), np.zeros((20, 3)), "received \\(20, 2\\) and \\(20, 3\\)"),
    (np.zeros((5, 2)), np.zeros((20, 2)), "at least 10 rows"),
    (np.zeros((20, 2)), np.ones((20, 2)), "values that vary"),
    (np.full((20, 2), np.nan), np.ones((20, 2)), "NaN"),
])
def test_wrong_tables(real, made, message):
    for distance in (neighbourhoods, frechet_distance, kernel_distance):
        with pytest.raises(ValueError, match=message):
            distance(real, made)

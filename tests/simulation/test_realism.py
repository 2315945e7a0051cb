from pathlib import Path

import numpy as np
import pytest

from zdckeras.metrics.classifier import classifier_auc
from zdckeras.simulation.frozen import FrozenShowers
from zdckeras.simulation.library import load_library, packaged_library
from zdckeras.simulation.realism import (
    LIGHT_OBSERVABLES,
    _parts,
    bootstrap,
    compare_by_kind,
    compare_unseen,
    imitate,
    imitate_left_out,
    in_detector,
    light_observables,
    respond_left_out,
)

FINITE = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module", params=["zn", "zp"])
def left_out(request):
    library = packaged_library(request.param)
    return library, *imitate_left_out(library, draws=6, folds=5, rng=0)


def pulls(lines, observable=None):
    return np.array([line.pull for line in lines if observable in (None, line.observable)])


@pytest.mark.parametrize("observable", LIGHT_OBSERVABLES)
def test_left_out_showers_are_imitated(left_out, observable):
    values = pulls(compare_by_kind(*left_out), observable)
    assert len(values) >= 20
    assert np.mean(values**2) < 1.8
    assert np.mean(np.abs(values) > 2) <= 0.15


@pytest.mark.parametrize("name, code", [("zn", 2112), ("zp", 2212)])
def test_a_classifier_does_not_tell_left_out_showers_from_imitations(name, code):
    library = packaged_library(name)
    some = (library.pdg == code) & (library.energy > 300)
    showers, imitations = (responses[some] for responses in respond_left_out(library, folds=5, rng=0))
    conditions = np.column_stack([library.energy, library.impact, np.zeros((len(library), 6))])[some]
    assert abs(classifier_auc(showers, imitations, conditions) - 0.5) < 0.06
    smeared = imitations.copy()
    smeared[:, 1:] = (imitations[:, 1:] + imitations[:, :-1]) // 2
    assert classifier_auc(showers, smeared, conditions) > 0.8


@pytest.mark.parametrize("k, factor", [(0, 1.15), (1, 1.12), (2, 1.3), (3, 0.7)])
def test_a_wrong_imitation_is_noticed(left_out, k, factor):
    library, imitated, source = left_out
    wrong = imitated.copy()
    wrong[:, :, k] *= factor
    assert np.mean(pulls(compare_by_kind(library, wrong, source), LIGHT_OBSERVABLES[k]) ** 2) > 2.5


@pytest.mark.parametrize("name", ["zn", "zp"])
def test_finite_block_is_imitated(name):
    showers = load_library(FINITE / f"finite_{name}.npz")
    _, lines = compare_unseen(showers, FrozenShowers(name), draws=30, rng=0)
    assert {line.label.split()[0] for line in lines} >= {"edge", {"zn": "neutron", "zp": "proton"}[name]}
    light = pulls([line for line in lines if line.statistic == "mean"], "light/GeV")
    assert len(light) and np.abs(light).max() < 2.5
    values = pulls(lines)
    assert np.mean(np.abs(values) > 2) <= 0.15 and np.mean(values**2) < 2


@pytest.mark.parametrize("name", ["zn", "zp"])
def test_light_at_the_edge(name):
    """Light of finite-block showers over the mean of their imitations, all kinds, near the edge and inside."""
    showers = load_library(FINITE / f"finite_{name}.npz")
    imitated, _ = imitate(showers, FrozenShowers(name), draws=60, rng=0)
    mean, spread = imitated[:, :, 0].mean(axis=1), imitated[:, :, 0].std(axis=1)
    ratio = light_observables(showers.light, showers.energy, name)[:, 0] / mean
    distance = (np.array(FrozenShowers(name).detector.half_size) - np.abs(showers.impact)).min(axis=1)
    for which in (distance < 1.5, distance >= 1.5):
        error = np.sqrt(((spread / mean)[which] ** 2).sum()) / which.sum()
        assert abs(ratio[which].mean() - 1) < 2.5 * error


def test_a_shower_without_light_has_no_outer_share():
    light = np.zeros((2, 44, 44))
    light[1, 0, 0] = 4.0
    assert light_observables(light, np.array([10.0, 10.0]), "zn")[:, 3].tolist() == [0.0, 1.0]


def test_brightest_cell_of_photons_follows_the_impact(left_out):
    """Most of the variation of a photon's brightest cell is known from where it hits the cell."""
    library, imitated, _ = left_out
    photon = library.pdg == 22
    real = light_observables(in_detector(library), library.energy, library.detector)[photon, 2]
    residual = real - imitated[photon, :, 2].mean(axis=1)
    assert residual.std() < 0.6 * real.std()
    assert abs(residual.mean()) < 3 * residual.std() / np.sqrt(photon.sum())


def test_errors_of_a_comparison_cover(seed=0):
    """Pulls of two samples of one distribution have a standard deviation near 1."""
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(60):
        real, library = rng.normal(1, 0.2, (30, 4)), rng.normal(1, 0.2, (30, 4))
        source = rng.integers(0, 30, (30, 10))
        values += [line.pull for line in bootstrap("x", real, library[source], source, rng) if line.statistic == "mean"]
    assert np.std(values) == pytest.approx(1, abs=0.2)
    assert abs(np.mean(values)) < 0.35


def test_observables_of_known_light():
    light = np.zeros((2, 56, 30))
    light[0, 10, 5], light[0, 14, 5] = 3, 1
    light[1, 0, 0] = 8
    values = light_observables(light, np.array([2.0, 4.0]), "zp")
    np.testing.assert_allclose(values[0], [2, 0.4 * np.sqrt(3), 0.75, 0], atol=1e-12)
    np.testing.assert_allclose(values[1], [2, 0, 1, 1], atol=1e-12)


@pytest.mark.parametrize("folds", [2, 4])
def test_parts_are_drawn_by_lot_and_every_shower_is_in_one(folds):
    library = packaged_library("zn").select(np.arange(800))
    parts = [list(_parts(library, folds, np.random.default_rng(seed))) for seed in (0, 1, 0)]
    for part, known, frozen in parts[0]:
        assert sorted([*part, *known]) == list(range(800)) and len(part) == 800 // folds
        assert len(np.unique(np.diff(part))) > 3 and len(frozen._frozen.total) == len(known)
    assert sorted(np.concatenate([part for part, *_ in parts[0]])) == list(range(800))
    same = [[np.array_equal(a[0], b[0]) for a, b in zip(parts[0], other, strict=True)] for other in parts[1:]]
    assert same == [[False] * folds, [True] * folds]

import numpy as np
import pytest

from zdckeras.simulation.response_fit import CELL_MEAN, FITTED_KINDS, PHOTON, PROFILES, ResponseFit, shower_kind


@pytest.mark.parametrize("pdg, kind, extra", [
    (22, 22, 0), (11, 22, 0), (-11, 22, 0), (111, 22, 0),
    (2112, 2112, -0.93957), (-2112, 2112, 0.93957), (3122, 2112, -1.11568), (2212, 2212, -0.93827),
    (-2212, 2212, 0.93827), (3222, 2212, -1.18937), (3112, 2212, -1.19745),
    (130, 130, 0), (310, 130, 0), (311, 130, 0), (211, 211, 0), (321, 211, 0), (-211, -211, 0), (-321, -211, 0),
    (13, 0, 0), (-14, 0, 0), (15, 0, 0),
])
def test_kind_and_shower_energy(pdg, kind, extra):
    kinds, energy = shower_kind(np.array([pdg]), np.array([100.0]))
    assert kinds.tolist() == [kind]
    assert energy[0] == pytest.approx(100 + extra, abs=1e-4)


def test_slow_baryon_has_no_shower_energy():
    assert shower_kind(np.array([2112]), np.array([0.5]))[1].tolist() == [0.0]


@pytest.mark.parametrize("pdg, message", [(1000822080, "No showers"), (99, "Unknown PDG"), (6, "No showers")])
def test_others_are_refused(pdg, message):
    with pytest.raises(ValueError, match=message):
        shower_kind(np.array([pdg]), np.array([10.0]))


def truth(kind, t, offset):
    """Mean and relative spread of an invented calorimeter."""
    profile = np.exp(-(offset**2).sum(axis=1)[:, None] / (2 * np.square(PROFILES))) - CELL_MEAN
    meson = np.isin(kind, (130, 211, -211))
    mean = np.where(kind == PHOTON, 0.8 + 0.01 * t + profile @ [0.05, 0.2],
                    0.5 + 0.04 * t - 0.003 * t**2 + meson * (0.03 - 0.01 * t))
    return mean, np.exp(np.where(kind == PHOTON, -6.5 - t, -3.7 - 0.4 * t) / 2)


def invented(count, seed=0):
    rng = np.random.default_rng(seed)
    kind, t = rng.choice(FITTED_KINDS, count), rng.uniform(-2.3, 2.6, count)
    offset, energy = rng.uniform(-0.5, 0.5, (count, 2)), 200 * np.exp(t)
    mean, spread = truth(kind, t, offset)
    return kind, energy, offset, mean * energy * (1 + spread * rng.normal(size=count))


def test_fit_finds_mean_and_spread():
    fit = ResponseFit.fit(*invented(6000))
    kind, energy, offset, _ = invented(500, seed=1)
    mean, spread = fit(kind, energy, offset)
    expected, width = truth(kind, np.log(energy / 200), offset)
    np.testing.assert_allclose(mean, expected, rtol=0.025)
    np.testing.assert_allclose(spread, width, rtol=0.15)


def test_pulls_of_the_fit_are_normal():
    kind, energy, offset, light = invented(1500, seed=2)
    mean, spread = ResponseFit.fit(kind, energy, offset, light)(kind, energy, offset)
    pull = (light / (mean * energy) - 1) / spread
    assert abs(pull.mean()) < 0.08 and pull.std() == pytest.approx(1, abs=0.08)


def test_rare_kinds_borrow_from_the_others():
    kind, energy, offset, light = invented(1000, seed=3)
    rare = (kind != 2212) | (np.cumsum(kind == 2212) <= 3)
    fit = ResponseFit.fit(kind[rare], energy[rare], offset[rare], light[rare])
    t = np.array([0.0])
    mean, _ = fit(np.array([2212]), 200 * np.exp(t), np.zeros((1, 2)))
    assert mean[0] == pytest.approx(0.5, rel=0.04)


def test_flat_beyond_the_library():
    kind, energy, offset, light = invented(600, seed=4)
    fit = ResponseFit.fit(kind, energy, offset, light)
    for k in (PHOTON, 2112, 211):
        group = (kind == PHOTON) == (k == PHOTON)
        ends = np.array([energy[group].min(), energy[group].max()])
        inside, outside = (fit(np.full(2, k), e, np.zeros((2, 2))) for e in (ends, ends * [0.01, 100]))
        np.testing.assert_allclose(inside, outside, rtol=1e-12)


def test_offsets_average_out_over_the_cell():
    fit = ResponseFit.fit(*invented(2000, seed=5))
    u = (np.arange(40) + 0.5) / 40 - 0.5
    offset = np.stack(np.meshgrid(u, u), axis=-1).reshape(-1, 2)
    mean, _ = fit(np.full(len(offset), PHOTON), np.full(len(offset), 200.0), offset)
    assert mean.mean() == pytest.approx(0.8, rel=0.01)
    assert mean.max() > 1.2 * mean.min()

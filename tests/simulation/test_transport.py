from dataclasses import replace

import numpy as np
import pytest

from zdckeras.data.detectors import DETECTORS
from zdckeras.data.impact import expected_impact
from zdckeras.data.particles import conditions_of
from zdckeras.simulation.decays import properties
from zdckeras.simulation.transport import FIELD, _arrive, _Flight, dipole_kick, propagate, transport


def shoot(pdg, momentum, size=1, vertex=None, seed=0):
    """Transport `size` copies of one particle."""
    pdg = np.full(size, pdg)
    conditions = conditions_of(pdg, np.tile(np.asarray(momentum, "float64"), (size, 1)), vertex)
    return transport(conditions, pdg, seed)


@pytest.mark.parametrize("pdg", [22, 2112, 130])
def test_neutral_particles_fly_straight(pdg):
    rng = np.random.default_rng(1)
    momentum = np.column_stack([rng.uniform(-0.25, 0.25, (300, 2)), rng.uniform(1000, 2600, 300)])
    momentum[::2, 2] *= -1
    codes = np.full(300, pdg)
    conditions = conditions_of(codes, momentum, rng.normal(0, 0.01, (300, 3)))
    arrivals = transport(conditions, codes, 0)
    zn, impact = arrivals["zn"], expected_impact(conditions, "zn")
    np.testing.assert_array_equal(zn.primary, np.flatnonzero((np.abs(impact) < 3.52).all(axis=1)))
    np.testing.assert_allclose(np.column_stack([zn.x, zn.y]), impact[zn.primary].astype("float64"), atol=1e-9)
    np.testing.assert_allclose(zn.tx, momentum[zn.primary, 0] / np.abs(momentum[zn.primary, 2]), rtol=1e-12)
    np.testing.assert_allclose(zn.energy, conditions[zn.primary, 0].astype("float64"), rtol=1e-12)
    assert len(arrivals["zp"]) == 0


@pytest.mark.parametrize("sign", [-1, 1])
def test_beam_energy_proton_hits_the_centre_of_zp(sign):
    pz = np.sqrt(2680**2 - properties([2212])[0][0] ** 2)
    arrivals = shoot(2212, [0, 0, sign * pz])
    assert len(arrivals["zn"]) == 0
    assert len(arrivals["zp"]) == 1
    assert arrivals["zp"].x[0] == pytest.approx(0, abs=1e-9)
    assert arrivals["zp"].y[0] == 0
    assert arrivals["zp"].tx[0] == pytest.approx(dipole_kick() / pz, rel=1e-4)
    assert arrivals["zp"].energy[0] == pytest.approx(2680, rel=1e-9)


@pytest.mark.parametrize(("pdg", "pz"), [(2212, 1340.0), (-2212, 2680.0), (211, 500.0), (11, 900.0)])
def test_other_charged_particles_are_swept_away(pdg, pz):
    arrivals = shoot(pdg, [0, 0, pz])
    assert [len(arrivals[name]) for name in ("zn", "zp")] == [0, 0]


@pytest.mark.parametrize(
    ("start", "end"), [(0.0, 11252.6), (0.0, 6200.0), (6100.0, 11252.6), (6100.0, 6500.0), (7000.0, 9000.0)]
)
def test_dipole_agrees_with_stepwise_integration(start, end):
    momentum = np.array([[0.3, -0.2, 2000.0]])
    position, p = propagate(np.array([[0.1, 0.2, start]]), momentum, np.array([-1.0]), end)
    z = np.linspace(start, end, 200_001)
    middle = (z[1:] + z[:-1]) / 2
    field = -dipole_kick() / (FIELD[1] - FIELD[0]) * ((middle > FIELD[0]) & (middle < FIELD[1]))
    px = 0.3 + np.concatenate([[0], np.cumsum(field * np.diff(z))])
    x = 0.1 + ((px[1:] + px[:-1]) / 2 * np.diff(z)).sum() / 2000
    assert position[0].tolist() == pytest.approx([x, 0.2 - 1e-4 * (end - start), end], abs=1e-3)
    assert p[0, :2].tolist() == pytest.approx([px[-1], -0.2], abs=1e-3)
    assert np.linalg.norm(p) == pytest.approx(np.linalg.norm(momentum), rel=1e-12)


@pytest.mark.parametrize(("pdg", "pz"), [(3122, 1500.0), (3122, 600.0), (310, 2400.0), (3322, 1000.0)])
def test_survivors_follow_the_decay_law(pdg, pz):
    size = 4000
    zn = shoot(pdg, [0, 0, pz], size)["zn"]
    mass, _, length = (column[0] for column in properties([pdg]))
    expected = np.exp(-DETECTORS["zn"].distance / (length * pz / mass))
    assert (zn.pdg == pdg).sum() / size == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / size))
    assert len(set(zn.pdg.tolist())) > 1


def test_cascades_end_in_what_flies_on():
    arrivals = shoot(3322, [0, 0, 400.0], 3000)
    seen = set(arrivals["zn"].pdg.tolist())
    assert {22, 2112, 3122} <= seen <= {22, 2112, 3122, 3322, 2212, -211}
    lone = shoot(111, [0, 0, 2000.0], 500)["zn"]
    assert set(lone.pdg.tolist()) == {22}
    both = np.bincount(lone.primary, minlength=500) == 2  # the rest: a soft photon at a wide angle misses
    assert both.mean() > 0.85
    energy = np.bincount(lone.primary, lone.energy, minlength=500)
    np.testing.assert_allclose(energy[both], np.sqrt(2000**2 + 0.1349768**2), rtol=1e-9)
    assert (energy[~both] > 1900).all()


def test_arriving_energy_never_exceeds_the_primary():
    rng = np.random.default_rng(2)
    pdg = rng.choice([22, 2112, 3122, -3122, 310, 3222, 3112, 3312, 3322, 3334, 321, 2212, 111], 20_000)
    momentum = np.column_stack([rng.normal(0, 0.2, (len(pdg), 2)), rng.uniform(20, 2700, len(pdg))])
    conditions = conditions_of(pdg, momentum)
    arrivals = transport(conditions, pdg, 3)
    total = sum(np.bincount(a.primary, a.energy, minlength=len(pdg)) for a in arrivals.values())
    assert (total <= conditions[:, 0] * (1 + 1e-9)).all()
    assert (total > 0).mean() > 0.3
    for name, a in arrivals.items():
        half = DETECTORS[name].half_size
        assert (np.abs(a.x) < half[0]).all() and (np.abs(a.y) < half[1]).all()
        assert (np.diff(a.primary) >= 0).all()
        assert not np.isin(np.abs(a.pdg), (12, 13, 14, 16)).any()


def test_sides_are_alike():
    a, b = (shoot(3122, [0.1, 0.05, pz], 2000, seed=5) for pz in (1200.0, -1200.0))
    for name in ("zn", "zp"):
        assert len(a[name]) > 20
        for column in ("primary", "pdg", "energy", "x", "y", "tx", "ty"):
            np.testing.assert_array_equal(getattr(a[name], column), getattr(b[name], column))


def test_vertex_and_flight_direction():
    vertex = np.array([[0.5, -0.25, 100.0]])
    ahead = shoot(22, [0.1, 0, 1000.0], vertex=vertex)["zn"]
    back = shoot(22, [0.1, 0, -1000.0], vertex=vertex)["zn"]
    assert ahead.x[0] == pytest.approx(0.5 + 1e-4 * (11260.6 - 100), rel=1e-12)
    assert back.x[0] == pytest.approx(0.5 + 1e-4 * (11260.6 + 100), rel=1e-12)
    assert back.y[0] == -0.25


def test_muons_neutrinos_and_resting_particles_are_not_seen():
    for pdg in (13, -14):
        assert len(shoot(pdg, [0, 0, 2000.0])["zn"]) == 0
    assert len(shoot(22, [1.0, 0, 0])["zn"]) == 0
    empty = transport(np.zeros((0, 9)), np.zeros(0, int), 0)
    assert [len(empty[name]) for name in ("zn", "zp")] == [0, 0]


def test_seeds_repeat():
    first, again, other = (shoot(3122, [0.05, 0, 900.0], 500, seed=seed)["zn"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.x, again.x)
    assert not np.array_equal(first.x, other.x)


NEUTRON = conditions_of(np.array([2112]), np.array([[0, 0, 2680.0]])).astype("float64")


@pytest.mark.parametrize(
    ("conditions", "pdg", "message"),
    [
        (NEUTRON[:, :8], [2112], r"\(N, 9\), received \(1, 8\)"),
        (NEUTRON[0], [2112], r"\(N, 9\), received \(9,\)"),
        (NEUTRON, [2112, 22], r"received \(2,\)"),
        (NEUTRON * np.where(np.arange(9) == 5, np.nan, 1), [2112], "row 0"),
        (NEUTRON, [5554], "Unknown PDG id"),
        (NEUTRON, [221], "No decay modes for eta"),
    ],
)
def test_bad_input(conditions, pdg, message):
    with pytest.raises(ValueError, match=message):
        transport(conditions, pdg, 0)


def test_particles_that_the_dipole_turns_around_arrive_nowhere():
    """Their pz is 0, wherever the parabola would have brought them."""
    zp = DETECTORS["zp"]
    start = np.array([[0.0, 0.0, FIELD[0] - 1.0]] * 2)
    momentum = np.array([[0.0, 0.0, 0.5 * dipole_kick()], [0.0, 0.0, 2680.0]])
    flight = _Flight(np.arange(2), np.full(2, 2212), start, momentum)
    position, after = propagate(start, momentum, np.ones(2), zp.distance)
    assert after[0, 2] == 0.0 < after[1, 2]
    wide = replace(zp, shape=(10**6, 10**6))  # or the place alone would leave it out
    assert abs(position[0, 0]) < wide.half_size[0]
    primary, _, energy, *_ = _arrive(flight, np.zeros(2), np.ones(2), wide)
    assert primary.tolist() == [1] and energy == pytest.approx([2680.0])

from dataclasses import replace

import numpy as np
import pytest

from zdckeras.data.detectors import get_detector
from zdckeras.data.particles import COLUMN, conditions_of
from zdckeras.simulation import gun
from zdckeras.simulation.gun import GUNS, PointShowers, draw_gun
from zdckeras.simulation.points import PointLibrary

ECAL = get_detector("ecal")
FINE = replace(ECAL, shape=(400, 400), pitch=0.2)  # cells of 2 mm, 80 cm wide
LARGE = replace(ECAL, shape=(100, 100), length=400.0)


def library(showers, energy=10.0, pdg=11):
    """Lists of points (x, y, z, MeV), one for each shower."""
    count = len(showers)
    return PointLibrary("ecal", np.broadcast_to(pdg, count), np.broadcast_to(energy, count),
                        np.concatenate([np.reshape(s, (-1, 4)) for s in showers]),
                        np.array([np.size(s) // 4 for s in showers]), {})


def shoot(energy, x=0.0, y=0.0, tx=0.0, ty=0.0, pdg=22, detector=ECAL):
    """Conditions of massless particles that meet the front face in (x, y) with these slopes, and their PDG ids."""
    energy, x, y, tx, ty, pdg = np.broadcast_arrays(np.atleast_1d(energy), x, y, tx, ty, pdg)
    direction = np.column_stack([tx, ty, np.ones(len(tx))])
    momentum = energy[:, None] * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    return conditions_of(pdg, momentum, np.column_stack([x, y, np.full(len(x), detector.distance)])), pdg


def centres(response, detector):
    """Centre of gravity (N, 2) [cm]."""
    x, y = ((np.arange(n) - (n - 1) / 2) * detector.pitch for n in detector.shape)
    total = response.sum(axis=(1, 2))
    return np.column_stack([response.sum(axis=2) @ x / total, response.sum(axis=1) @ y / total])


def blob(size=300, seed=0, depth=15.0):
    """Points of a shower of 2 cm width and some depth."""
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.normal(0, 2.0, (size, 2)), rng.normal(depth, 3.0, size).clip(1, 2 * depth - 1),
                            rng.exponential(3.0, size)])


PHOTONS = library([blob(seed=k) for k in range(5)], pdg=22)


@pytest.mark.parametrize("x, y, cell", [(0.1, 0.1, (15, 15)), (-0.1, 1.9, (14, 15)), (7.0, -13.0, (18, 8)),
                                        (29.9, -29.9, (29, 0))])
def test_a_point_on_the_axis_lights_the_cell_that_was_hit(x, y, cell):
    response = PointShowers(ECAL, library([[0, 0, 10, 6.0]], pdg=22)).respond(*shoot(10.0, x, y), 0)
    assert response.dtype == np.float32 and response.shape == (1, 30, 30)
    assert np.argwhere(response[0]).tolist() == [list(cell)]
    assert response[0][cell] == pytest.approx(6.0)


def test_energy_scales_every_cell():
    """One library shower, no two ways to turn it: responses to E are E / E_i times the shower."""
    shower = library([[[0, 0, 2, 1.0], [0, 0, 9, 2.0], [0, 0, 34, 4.0]]], pdg=22)
    energy = np.array([5.0, 8.0, 10.0, 20.0])
    response = PointShowers(ECAL, shower).respond(*shoot(energy, 1.0, 1.0, 0.25, -0.2), 0)
    np.testing.assert_allclose(response, response[2] * (energy / 10)[:, None, None], rtol=1e-6)
    np.testing.assert_allclose(response.sum(axis=(1, 2)), 7 * energy / 10, rtol=1e-6)


@pytest.mark.parametrize("tx, ty", [(0.0, 0.0), (0.25, -0.1), (-0.6, 0.4)])
def test_nothing_is_lost_inside_a_large_detector(tx, ty):
    conditions, pdg = shoot(np.linspace(5, 20, 40), 20.0, -30.0, tx, ty)
    deep = library([s + (0, 0, 50, 0) for s in (blob(seed=k) for k in range(3))], pdg=22)
    showers = PointShowers(LARGE, deep)
    per_gev = showers.respond(conditions, pdg, 1).sum(axis=(1, 2)) / conditions[:, 0]
    known = deep.deposited / deep.energy
    assert abs(per_gev[:, None] / known - 1).min(axis=1).max() < 1e-5
    assert len(np.unique(abs(per_gev[:, None] / known - 1).argmin(axis=1))) == 3


@pytest.mark.parametrize("x, y, tx, ty", [(0, 0, 0, 0), (5.3, -7.1, 0, 0), (0, 0, 0.25, 0), (-4.2, 3.0, -0.2, 0.15)])
def test_centre_of_gravity_follows_impact_and_direction(x, y, tx, ty):
    """c = (x, y) + d (tx, ty) / sqrt(1 + tx^2 + ty^2), with d the depth along the flight, on average over turns."""
    conditions, pdg = shoot(np.full(400, 10.0), x, y, tx, ty)
    centre = centres(PointShowers(FINE, PHOTONS).respond(conditions, pdg, 2), FINE)
    weight = PHOTONS.points[:, 3]
    owner = np.repeat(np.arange(5), PHOTONS.counts)
    depth = (np.bincount(owner, weight * PHOTONS.points[:, 2]) / PHOTONS.deposited).mean()
    expected = np.array([x, y]) + depth * np.array([tx, ty]) / np.sqrt(1 + tx**2 + ty**2)
    error = centre.std(axis=0) / np.sqrt(len(centre))
    assert (abs(centre.mean(axis=0) - expected) < 4 * error + 0.01).all() and error.max() < 0.03


def test_depth_shifts_a_point_by_the_slope():
    """A single point at depth d along the flight: no turning moves it."""
    showers = PointShowers(FINE, library([[0, 0, 12.0, 1.0], [0, 0, 24.0, 1.0]], pdg=22))
    conditions, pdg = shoot(np.full(200, 10.0), 1.0, -2.0, 0.3, -0.4)
    x, y = (centres(showers.respond(conditions, pdg, 3), FINE) - (1.0, -2.0)).T
    ratio = np.array([0.3, -0.4]) / np.sqrt(1.25)
    near, far = (abs(x - d * ratio[0]) < 0.8 for d in (12, 24))
    assert (near ^ far).all() and near.any() and far.any()
    np.testing.assert_allclose(y, np.where(near, 12, 24) * ratio[1], atol=0.9)


def test_showers_are_turned_around_their_axis():
    """One point 6 cm from the axis: always at that distance, at all azimuths alike."""
    conditions, pdg = shoot(np.full(1500, 10.0), 0.1, -0.3)
    response = PointShowers(FINE, library([[6.0, 0, 10, 1.0]], pdg=22)).respond(conditions, pdg, 4)
    x, y = (centres(response, FINE) - (0.1, -0.3)).T
    np.testing.assert_allclose(np.hypot(x, y), 6.0, atol=0.15)
    azimuth = np.arctan2(y, x)
    for harmonic in (1, 2, 4):
        assert abs(np.exp(1j * harmonic * azimuth).mean()) < 4 / np.sqrt(1500)


def test_turning_mirrors_nothing():
    """Three points of unequal energy keep their sense of rotation, also in flight at an angle."""
    turn = np.array([0.0, 2.0, 4.0])
    triple = np.column_stack([10 * np.cos(turn), 10 * np.sin(turn), np.full(3, 10.0), [1.0, 2.0, 4.0]])
    conditions, pdg = shoot(np.full(100, 10.0), 0.0, 0.0, 0.2, 0.1)
    response = PointShowers(FINE, library([triple], pdg=22)).respond(conditions, pdg, 5)
    for image in response:
        order = np.argsort(image.ravel())[-3:]
        assert image.ravel()[order].tolist() == [1, 2, 4]
        a, b, c = np.stack(np.unravel_index(order, image.shape), axis=1).astype(float)
        (ux, uy), (vx, vy) = b - a, c - b
        assert ux * vy - uy * vx > 0


def test_x_and_y_are_alike():
    """A shower without width along (tx, 0) and along (0, tx): one response is the other's transpose."""
    line = PointShowers(ECAL, library([[[0, 0, d, 1.0] for d in (1.0, 13.0, 28.0)]], pdg=22))
    one, other = (line.respond(*shoot(10.0, 1.0, 1.0, *slopes), 0)[0] for slopes in ((0.3, 0.0), (0.0, 0.3)))
    assert np.array_equal(one, other.T) and np.count_nonzero(one) > 1


@pytest.mark.parametrize("point, x", [
    ([0, 0, 39.7, 1.0], 1.0),  # beyond the last layer
    ([0, 0, -0.1, 1.0], 1.0),  # before the front face
    ([0, 0, 10, 1.0], 30.1),
    ([0, 0, 10, 1.0], -30.1),
    ([31.0, 0, 10, 1.0], 0.0),
])
def test_points_outside_are_lost(point, x):
    showers = PointShowers(ECAL, library([[point, [0, 0, 1, 5.0]]], pdg=22))
    both = [showers.respond(*shoot(10.0, *place), 1).sum() for place in ((x, 0.0), (0.0, x))]
    np.testing.assert_allclose(both, [5.0, 5.0] if abs(x) < 30 and abs(point[0]) < 32 else [0.0, 0.0], rtol=1e-6)


def test_particles_from_afar_fly_straight_to_the_face():
    """From the interaction point and a displaced vertex, and into a detector off the axis."""
    point = library([[0, 0, 0.5, 1.0]], pdg=22)
    conditions = conditions_of([22] * 3, [[0.06, -0.08, 10.0]] * 3, [[0, 0, 0], [3.0, 1.0, 0], [0, 0, -250.0]])
    for detector in (FINE, replace(FINE, centre_x=5.0)):
        centre = centres(PointShowers(detector, point).respond(conditions, np.full(3, 22), 0), detector)
        expected = np.array([[7.5, -10.0], [10.5, -9.0], [9.0, -12.0]]) - (detector.centre_x, 0)
        np.testing.assert_allclose(centre, expected, atol=0.11)


@pytest.mark.parametrize("pz", [0.0, -10.0, -5000.0])  # whatever their energy
def test_particles_that_fly_away_leave_nothing(pz):
    forward, pdg = shoot([10.0, 10.0])
    back = conditions_of([22], [[0.0 if pz else 10.0, 0.0, pz]])
    response = PointShowers(ECAL, PHOTONS).respond(np.concatenate([forward, back]), np.append(pdg, 22), 0)
    assert response[:2].sum(axis=(1, 2)).min() > 0 and not response[2].any()
    assert not PointShowers(ECAL, PHOTONS).respond(back, [22], 0).any()


def test_seeds_repeat():
    showers, particles = PointShowers(ECAL, PHOTONS), shoot(np.full(8, 10.0), 1.0, 2.0, 0.1, 0.2)
    first = showers.respond(*particles, 7)
    assert np.array_equal(first, showers.respond(*particles, np.random.default_rng(7)))
    assert not np.array_equal(first, showers.respond(*particles, 8))
    assert len(np.unique(first, axis=0)) == 8


def test_chunks_keep_particles_apart(monkeypatch):
    """A shower that cannot be turned: the same answers whatever the chunk, each in its own row."""
    showers = PointShowers(ECAL, library([[0, 0, 10, 6.0]], pdg=22))
    particles = shoot(np.linspace(6, 19, 11), np.linspace(-29, 29, 11), np.linspace(11, -11, 11))
    whole = showers.respond(*particles, 0)
    monkeypatch.setattr(gun, "PARTICLES_AT_ONCE", 3)
    assert np.array_equal(showers.respond(*particles, 0), whole)
    one_by_one = [showers.respond(particles[0][k : k + 1], particles[1][k : k + 1], 0)[0] for k in range(11)]
    assert np.array_equal(one_by_one, whole) and (np.count_nonzero(whole, axis=(1, 2)) == 1).all()


def test_no_particles_no_responses():
    assert PointShowers(ECAL, PHOTONS).respond(np.empty((0, 9)), np.empty(0, int), 0).shape == (0, 30, 30)


@pytest.mark.parametrize("energy, nearest", [(15.0, slice(46, 54)), (10.1, slice(0, 8)), (25.0, slice(92, 100))])
def test_the_neighbours_in_energy_share_the_work(energy, nearest):
    """Shower k of 100 leaves 1 + k / 1000 MeV per GeV, in random order of energy: exactly the 8 nearest are seen."""
    energies = np.linspace(10, 20, 101)[:100] + 0.05
    order = np.random.default_rng(0).permutation(100)
    signature = (1 + np.arange(100) / 1000) * energies
    many = library([[0, 0, 10, signature[k]] for k in order], energy=energies[order], pdg=22)
    conditions, pdg = shoot(np.full(4000, energy))
    total = PointShowers(ECAL, many).respond(conditions, pdg, 1).sum(axis=(1, 2)) / energy
    times = np.bincount(np.rint((total - 1) * 1000).astype(int), minlength=100)
    assert np.flatnonzero(times).tolist() == list(range(100))[nearest]
    assert ((times[nearest] - 500) ** 2 / 500).sum() < 7 + 4 * np.sqrt(2 * 7)  # chi2


def test_kinds_are_kept_apart():
    kinds = np.array([22, 11, 22, 2212])
    mixed = library([[0, 0, 10, value] for value in (1.0, 2.0, 3.0, 4.0)], energy=[10, 11, 12, 10], pdg=kinds)
    conditions, pdg = shoot(np.full(300, 10.0))
    pdg = np.resize([11, 2212, 22], 300)
    seen = PointShowers(ECAL, mixed).respond(conditions, pdg, 1).sum(axis=(1, 2))
    expected = {11: [20 / 11], 2212: [4.0], 22: [1.0, 30 / 12]}
    for kind, values in expected.items():
        np.testing.assert_allclose(np.unique(seen[pdg == kind].round(5)), values, rtol=1e-5)


CONDITIONS, PDG = shoot(np.full(3, 10.0))


@pytest.mark.parametrize("conditions, pdg, message", [
    (CONDITIONS[:, :8], PDG, r"Expected conditions \(N, 9\) and pdg \(N,\), received \(3, 8\)"),
    (CONDITIONS[0], PDG, r"received \(9,\)"),
    (CONDITIONS, PDG[:2], r"received \(3, 9\) and \(2,\)"),
    (np.where(np.arange(9) == 5, np.nan, CONDITIONS), PDG, "received NaN or infinity"),
    (np.where(np.arange(9) == 3, np.inf, CONDITIONS), PDG, "received NaN or infinity"),
    (CONDITIONS, [22, 9999999, 22], r"Unknown PDG id\(s\) \[9999999\]"),
    (CONDITIONS, [22, 2112, 211], r"No showers of PDG id\(s\) \[211, 2112\] in the library of ecal, only of \[22\]"),
    (CONDITIONS * 0.49, PDG, "Expected energies from 5 to 20 GeV, received 4.9 to 4.9"),
    (shoot(np.array([10.0, 10.0, 21.0]))[0], PDG, "Expected energies from 5 to 20 GeV, received 10 to 21"),
])
def test_bad_particles_are_refused(conditions, pdg, message):
    with pytest.raises(ValueError, match=message):
        PointShowers(ECAL, PHOTONS).respond(conditions, pdg, 0)


def test_libraries_of_other_detectors_are_refused():
    with pytest.raises(ValueError, match="Expected a library of focalh, received one of ecal"):
        PointShowers("focalh", PHOTONS)
    with pytest.raises(ValueError, match="No library of points is shipped for 'zn'"):
        PointShowers("zn")


@pytest.mark.parametrize("name", list(GUNS))
def test_particles_of_the_gun_are_on_their_mass_shell_and_in_range(name):
    conditions, pdg = draw_gun(name, 4000, 1, repeated=0.0)
    setting, energy = GUNS[name], conditions[:, 0]
    low, high = setting.energy
    assert low <= energy.min() < 1.05 * low and 0.95 * high < energy.max() <= high
    rest = conditions_of(pdg, np.zeros((4000, 3)))
    np.testing.assert_allclose(energy**2, (conditions[:, 4:7] ** 2).sum(axis=1) + rest[:, 0] ** 2, rtol=1e-9)
    np.testing.assert_array_equal(conditions[:, 7:], rest[:, 7:])
    assert conditions[:, 6].min() > 0
    place = np.log(energy / low) / np.log(high / low)  # uniform in [0, 1]
    assert abs(place.mean() - 0.5) < 4 / np.sqrt(12 * 4000) and abs(place.std() - np.sqrt(1 / 12)) < 0.01
    for kind, share in setting.kinds.items():
        assert abs((pdg == kind).mean() - share) <= 4 * np.sqrt(share * (1 - share) / 4000)
    assert pdg.dtype == np.int32


def uniform(values, low, high):
    """Whether values fill [low, high] evenly, within four standard errors of mean and tenths."""
    assert low <= values.min() and values.max() <= high
    tenths = np.histogram(values, 10, (low, high))[0]
    return ((tenths - len(values) / 10) ** 2 / (len(values) / 10)).sum() < 9 + 4 * np.sqrt(18)


def test_electrons_start_on_the_face():
    conditions, _ = draw_gun("ecal", 4000, 2, repeated=0.0)
    _, x, y, z, px, py, pz = conditions.T[:7]
    assert (z == ECAL.distance).all()
    assert uniform(x, -10, 10) and uniform(y, -10, 10)
    assert uniform(px / pz, -0.25, 0.25) and uniform(py / pz, -0.25, 0.25)


def test_hadrons_come_from_the_interaction_point():
    conditions, _ = draw_gun("focalh", 4000, 3, repeated=0.0)
    px, py, pz = conditions.T[4:7]
    assert not conditions[:, 1:4].any()
    assert uniform(np.arcsinh(pz / np.hypot(px, py)), 3.8, 5.3) and uniform(np.arctan2(py, px), -np.pi, np.pi)


def test_half_of_the_rows_repeat_a_particle():
    conditions, pdg = draw_gun("ECAL", 3000, np.random.default_rng(5))
    _, copies = np.unique(np.column_stack([conditions, pdg]), axis=0, return_counts=True)
    many = np.sort(copies[copies > 1])
    assert (copies == 1).sum() == 1500 and many.sum() == 1500
    assert many[1:].min() >= 20 and many.max() <= 60
    assert len(np.unique(draw_gun("ecal", 500, 5, repeated=0.0)[0], axis=0)) == 500


def test_the_gun_repeats_by_seed():
    first, again, other = (draw_gun("focalh", 50, seed) for seed in (1, np.random.default_rng(1), 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert COLUMN["energy"] == 0 and draw_gun("ecal", 0, 1)[0].shape == (0, 9)


def test_detectors_without_a_gun():
    with pytest.raises(ValueError, match="'zn' has no gun; expected one of ecal, focalh"):
        draw_gun("zn", 10, 0)


def test_packaged_electrons_in_their_detector():
    """Real showers: a sixth to a fifth of the energy seen, around the point of impact, one cell brightest."""
    conditions, pdg = shoot(np.full(60, 30.0), 1.0, -5.0, pdg=11)
    response = PointShowers("ecal").respond(conditions, pdg, 0)
    seen = response.sum(axis=(1, 2)) / 30
    assert 160 < seen.mean() < 190 and seen.std() / seen.mean() < 0.06
    assert abs(centres(response, ECAL) - (1.0, -5.0)).max() < 1.0
    brightest = np.argwhere(response == response.max(axis=(1, 2), keepdims=True))[:, 1:]
    assert (brightest == (15, 12)).all(axis=1).mean() > 0.9


def test_a_point_is_smeared_over_the_depth_of_its_slice():
    """3.6 cm near the axis, 7.2 cm 2 cm from it; in x by the slope of 0.3 along the flight."""
    small = replace(FINE, shape=(80, 80))
    conditions, pdg = shoot(np.full(1500, 10.0), 0.1, 0.1, 0.3, 0.0)
    for radius, depth in ((0.0, 3.6), (2.0, 7.2)):
        response = PointShowers(small, library([[radius, 0, 12, 1.0]], pdg=22)).respond(conditions, pdg, 5)
        x, y = centres(response, small).T
        variance = (depth * 0.3) ** 2 / 1.09 / 12 + FINE.pitch**2 / 12 + radius**2 / 2 / 1.09
        assert x.var() == pytest.approx(variance, rel=0.1)
        assert y.var() == pytest.approx(radius**2 / 2 + (FINE.pitch**2 / 12 if radius else 0.0), rel=0.1, abs=1e-9)

import keras
import numpy as np
import pytest
from keras import ops

from zdckeras.data.detectors import DETECTORS, get_detector
from zdckeras.data.impact import expected_centre, expected_impact, impact_from_centre, slopes, within
from zdckeras.data.particles import conditions_of


def particles(rows=64, seed=0):
    """Particles from near the origin that fly to either side, some of them far aside."""
    rng = np.random.default_rng(seed)
    pdg = rng.choice([22, 2112, 2212, 3222, 310, -211], rows)
    pz = rng.choice([-1.0, 1.0], rows) * rng.uniform(50.0, 2700.0, rows)
    momentum = np.column_stack([rng.normal(0.0, 2e-4, (rows, 2)) * np.abs(pz)[:, None], pz])
    return conditions_of(pdg, momentum, rng.normal(size=(rows, 3)) * [1e-3, 1e-3, 5.0])


@pytest.mark.parametrize("detector", ["zn", "zp"])
def test_straight_lines_of_neutral_particles(detector):
    """x = v_x + (z - v_z) p_x / p_z, on either side."""
    place = get_detector(detector)
    for side in (1.0, -1.0):
        conditions = conditions_of(np.array([2112]), np.array([[0.05, -0.02, side * 1000.0]]),
                                   np.array([[0.1, 0.2, side * 30.0]]))
        flight = place.distance - 30.0
        expected = [0.1 + flight * 0.05 / 1000.0, 0.2 - flight * 0.02 / 1000.0]
        np.testing.assert_allclose(expected_impact(conditions, detector), [expected], rtol=1e-12)


def test_beam_protons_hit_the_centre_of_zp_and_charge_conjugates_the_other_side():
    forward = np.array([[0.0, 0.0, 2680.0]] * 2)
    points = expected_impact(conditions_of(np.array([2212, -2212]), forward), "zp")
    np.testing.assert_allclose(points, [[24.35, 0.0], [-24.35, 0.0]])
    slow = expected_impact(conditions_of(np.array([2212]), forward[:1] / 2), "zp")
    assert slow[0, 0] == pytest.approx(2 * 24.35)


@pytest.mark.parametrize("detector", sorted(DETECTORS))
@pytest.mark.parametrize("function", [
    lambda c, detector, xp: slopes(c, xp), impact_from_centre,
    lambda c, detector, xp: expected_centre(c, detector, 20.0, xp)], ids=["slopes", "impact", "centre"])
def test_tensors_give_what_arrays_give(function, detector):
    conditions = particles()
    known = function(conditions, detector, np)
    found = function(ops.convert_to_tensor(conditions.astype("float32")), detector, ops)
    assert keras.ops.is_tensor(found) and known.dtype == "float64" and np.ptp(known, axis=0).min() > 0
    np.testing.assert_allclose(ops.convert_to_numpy(found), known, rtol=1e-4, atol=3e-3)


def test_the_bend_is_that_of_the_whole_momentum():
    """24.35 cm times 2680 GeV over |p|, also at a slope of 1/2, where |p| is 1.118 pz."""
    conditions = conditions_of(np.array([2212, -2212]), np.array([[50.0, 0.0, 100.0]] * 2))
    bend = 24.35 * 2680.0 / np.hypot(50.0, 100.0)
    x = expected_impact(conditions, "zp")[:, 0] - get_detector("zp").distance / 2
    assert x == pytest.approx([bend, -bend], rel=1e-6)


def test_impact_from_the_centre_and_from_the_beam_axis():
    conditions = particles()
    np.testing.assert_allclose(expected_impact(conditions, "zp") - impact_from_centre(conditions, "zp"),
                               np.tile([24.35, 0.0], (len(conditions), 1)), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(expected_impact(conditions, "zn"), impact_from_centre(conditions, "zn"))


def test_points_are_cut_along_each_axis():
    points = np.array([[1.0, -2.0], [-20.0, 9.0], [18.0, 18.0]])
    np.testing.assert_allclose(within(points, get_detector("zp"), 1.5), [[1.0, -2.0], [-16.8, 9.0], [16.8, 9.0]],
                               rtol=1e-6)


def test_slopes_are_cut():
    conditions = np.zeros((3, 9), "float32")
    conditions[:, 4:7] = [[1.0, -2.0, 4.0], [1.0, -2.0, -4.0], [9.0, 0.1, 1.0]]
    for found in (slopes(conditions), ops.convert_to_numpy(slopes(ops.convert_to_tensor(conditions), ops))):
        np.testing.assert_allclose(found, [[0.25, -0.5], [0.25, -0.5], [1.0, 0.1]], rtol=1e-6)


@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize("depth", [0.0, 25.0])
@pytest.mark.parametrize("detector", ["focalh", "ecal"])
def test_expected_centre_of_particles_from_the_origin_is_the_one_of_the_study(detector, depth, side):
    """x = z tan(2 atan(e^-eta)) cos(phi) in the plane z, for a massless or massive particle alike, on either side."""
    rng, place = np.random.default_rng(3), get_detector(detector)
    eta, phi = rng.uniform(4.2, 5.8, 50), rng.uniform(-np.pi, np.pi, 50)
    pt = rng.uniform(0.5, 5.0, 50)
    momentum = np.column_stack([pt * np.cos(phi), pt * np.sin(phi), side * pt * np.sinh(eta)])
    radius = (place.distance + depth) * np.tan(2.0 * np.arctan(np.exp(-eta)))
    study = np.stack([radius * np.cos(phi), radius * np.sin(phi)], axis=-1)
    for pdg in (22, 2212):
        conditions = conditions_of(np.full(50, pdg), momentum)
        np.testing.assert_allclose(expected_centre(conditions, detector, depth) * place.pitch, study, rtol=1e-9)
        if not depth:
            np.testing.assert_allclose(expected_impact(conditions, detector), study, rtol=1e-9)


def test_expected_centre_of_impacts_far_aside_is_cut():
    pion = conditions_of(np.array([211]), np.array([[4.0, 0.0, 10.0]]))  # 280 cm from the axis
    assert expected_centre(pion, "focalh", 10.0)[0].tolist() == pytest.approx([(1.5 * 45.0 + 4.0) / 2.5, 0.0])
    assert expected_centre(pion, "focalh", 10.0, reach=1.0)[0].tolist() == pytest.approx([(45.0 + 4.0) / 2.5, 0.0])

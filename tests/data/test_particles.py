import numpy as np
import pytest
from particle import Particle

from zdckeras.data.detectors import get_detector
from zdckeras.data.particles import (
    COLUMN,
    CONDITIONS,
    SPECIES,
    UNIT_NAMES,
    UNITS,
    Scaler,
    check_pdg,
    conditions_of,
    expected_centre,
    expected_impact,
    species,
)

PDG = np.array([22, 2112, 2212, 3122, 310, 3222, -211, 130])


def momenta(seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.normal(0.0, 0.3, (len(PDG), 2)), rng.uniform(-2500.0, 2500.0, len(PDG))])


def test_columns():
    assert CONDITIONS == ("energy", "vx", "vy", "vz", "px", "py", "pz", "mass", "charge")
    assert [COLUMN[name] for name in CONDITIONS] == list(range(9))
    assert tuple(UNITS) == CONDITIONS and len(UNIT_NAMES) == 9
    assert UNITS["energy"] / UNITS["mass"] == 1000.0


@pytest.mark.parametrize("name", list(SPECIES))
def test_named_species(name):
    particle = Particle.from_pdgid(SPECIES[name])
    assert {"n": "n", "Lambda": "Lambda", "K0S": "K(S)0", "Sigma+": "Sigma+"}[name] == particle.name


def test_conditions_are_on_the_mass_shell():
    """E^2 = p^2 + m^2 with E and p in GeV and m in MeV; mass and charge are the PDG's."""
    conditions = conditions_of(PDG, momenta())
    mass = conditions[:, COLUMN["mass"]] / 1000.0
    p2 = (conditions[:, 4:7] ** 2).sum(axis=1)
    np.testing.assert_allclose(conditions[:, 0] ** 2, p2 + mass**2, rtol=1e-12)
    np.testing.assert_array_equal(conditions[:, 4:7], momenta())
    np.testing.assert_array_equal(conditions[:, 1:4], 0.0)
    assert conditions[:, COLUMN["charge"]].tolist() == [0, 0, 1, 0, 0, 1, -1, 0]
    assert mass[0] == 0.0 and mass[1] == pytest.approx(0.93957, rel=1e-5)


def test_vertex_is_kept():
    vertex = np.random.default_rng(1).normal(size=(len(PDG), 3))
    np.testing.assert_array_equal(conditions_of(PDG, momenta(), vertex)[:, 1:4], vertex)


@pytest.mark.parametrize("pdg", [0, 42, 99999999999, -22, 2.0e30])
def test_unknown_species(pdg):
    with pytest.raises(ValueError, match="Unknown PDG id"):
        species(pdg)


def test_unknown_species_in_an_array_are_listed():
    check_pdg(PDG)
    with pytest.raises(ValueError, match=r"Unknown PDG id\(s\) \[42, 777\]"):
        check_pdg(np.array([22, 777, 42, 42]))
    with pytest.raises(ValueError, match=r"\[777\]"):
        conditions_of(np.array([777]), np.array([[0.0, 0.0, 1.0]]))


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


@pytest.mark.parametrize("detector", ["focalh", "ecal"])
def test_expected_centre_is_the_impact_of_particles_from_the_origin(detector):
    """x = z tan(2 atan(e^-eta)) cos(phi): p_x / p_z of a massless or massive particle alike."""
    rng = np.random.default_rng(3)
    eta, phi = rng.uniform(3.2, 5.8, 50), rng.uniform(-np.pi, np.pi, 50)
    pt = rng.uniform(0.5, 5.0, 50)
    momentum = np.column_stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)])
    place = get_detector(detector)
    found = expected_centre(eta, phi, place.distance)
    for pdg in (22, 2212):
        impact = expected_impact(conditions_of(np.full(50, pdg), momentum), detector)
        np.testing.assert_allclose(found, impact, rtol=1e-9)


def test_expected_centre_on_either_side():
    assert expected_centre(3.4, np.pi / 2, 700.0) == pytest.approx([0.0, 700.0 / np.sinh(3.4)], abs=1e-9)
    np.testing.assert_allclose(expected_centre([3.4, 4.0], [0.3, 0.4], -700.0),
                               -expected_centre([3.4, 4.0], [0.3, 0.4], 700.0))


def test_scaler_round_trip():
    conditions = conditions_of(np.repeat(PDG, 30), np.random.default_rng(2).normal(0.0, 500.0, (240, 3)))
    scaler = Scaler.fit(conditions)
    scaled = scaler.transform(conditions)
    constant = conditions.std(axis=0) == 0
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(scaled.std(axis=0), np.where(constant, 0.0, 1.0), atol=1e-12)
    assert constant.sum() == 3 and np.array_equal(scaler.scale[constant], np.ones(3))
    np.testing.assert_allclose(scaler.inverse(scaled), conditions, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("values", [np.empty((0, 9)), np.ones(9), np.ones((2, 3, 4))])
def test_scaler_refuses(values):
    with pytest.raises(ValueError, match=r"non-empty \(N, columns\) array"):
        Scaler.fit(values)


def test_a_constant_column_has_scale_one_whatever_its_rounding():
    """The mean of 50,000 times 0.51099895 is a rounding error away from it, and so is the deviation from 0."""
    values = np.column_stack([np.full(50_000, 0.51099895), np.full(50_000, 1250.0), np.linspace(-4e-6, 4e-6, 50_000)])
    scaler = Scaler.fit(values)
    assert scaler.scale[:2].tolist() == [1.0, 1.0] and scaler.scale[2] == pytest.approx(values[:, 2].std())
    assert abs(scaler.transform(np.array([[0.511, 1250.0, 0.0]]))).max() < 2e-6

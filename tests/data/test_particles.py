import warnings

import numpy as np
import pytest
from particle import Particle

from zdckeras.data.particles import (
    COLUMN,
    CONDITIONS,
    SPECIES,
    UNIT_NAMES,
    UNITS,
    Scaler,
    check_pdg,
    conditions_of,
    species,
    warn_untold,
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
    assert {"K0S": "K(S)0", "K0L": "K(L)0"}.get(name, name) == particle.name


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


def test_ids_that_mass_and_charge_do_not_tell_are_named():
    with pytest.warns(UserWarning, match=r"^a.onnx is not told PDG ids: 3 of 5 particles \(310, -2112\) are answered"):
        warn_untold("a.onnx", np.array([22, 310, 310, -2112, 3222]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_untold("a.onnx", PDG[:4])

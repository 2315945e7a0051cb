import warnings

import numpy as np
import pytest

from zdckeras.data.kinematics import check_particles
from zdckeras.data.particles import COLUMN, conditions_of, unknown_ids

PDG = np.array([22, 2112, 310, -211, 3122, 2212, 130, 1000822080])
MOMENTA = slice(4, 7)


def good(rows=16):
    rng = np.random.default_rng(0)
    pdg = np.resize(PDG, rows)
    momentum = np.column_stack([rng.normal(0, 0.2, (rows, 2)), rng.uniform(5.0, 2600.0, rows)])
    return conditions_of(pdg, momentum, rng.normal(size=(rows, 3))), pdg


def test_good_particles_pass_also_in_single_precision():
    particles, pdg = good(400)
    check_particles(particles, pdg)
    check_particles(particles.astype("float32").astype("float64"), pdg)
    particles[:, COLUMN["pz"]] *= -1.0
    check_particles(particles, pdg)


def scaled(columns, factor):
    def change(particles, pdg):
        particles[:, columns] *= factor
        return particles, pdg
    return change


def rolled(particles, pdg):
    """The PDG id in the first column."""
    table = np.roll(np.column_stack([particles, pdg]), 1, axis=1)
    return table[:, :9], table[:, 9]


def swapped(particles, pdg):
    particles[:, [0, 6]] = particles[:, [6, 0]]
    return particles, pdg


def kinetic(particles, pdg):
    particles[:, 0] -= 1e-3 * particles[:, COLUMN["mass"]]
    particles[pdg == 22, 0] = 50.0
    particles[pdg == 22, 4:7] = 0.0, 0.0, 50.0
    return particles, pdg


def ones(column, value, row=3):
    def change(particles, pdg):
        particles[row, COLUMN[column]] = value
        return particles, pdg
    return change


def float32_lead(particles, pdg):
    """Lead-207, whose id float32 rounds to that of lead-208."""
    light = np.full(len(pdg), 1000822070)
    return conditions_of(light, particles[:, MOMENTA] * 200), light.astype("float32").astype("int64")


@pytest.mark.parametrize(("change", "message"), [
    (scaled([0], 1e3), "energies look like MeV, expected GeV"),
    (scaled([0, 4, 5, 6], 1e3), "energies and momenta in GeV, .*: energies and momenta look like MeV"),
    (scaled([4, 5, 6], 1e3), "momenta look like MeV"),
    (scaled([7], 1e-3), "expected the mass of the PDG id.*masses look like GeV, expected MeV"),
    (swapped, "energy and pz look swapped"),
    (rolled, "the PDG id looks to be the first column, expected it last"),
    (float32_lead, "mass of the PDG id.* ids of nuclei look rounded to float32"),
    (ones("energy", -1.0), r"energies above 0, received 1 of 16 otherwise \(rows 3; the first has energy -1, "),
    (ones("energy", 0.0), "energies above 0"),
    (ones("energy", 1.0), r"E\^2 = p\^2 \+ m\^2, received 1 of 16 otherwise \(rows 3;"),
    (ones("charge", 7.0), r"charge of the PDG id, received 1 of 16 otherwise \(rows 3; .*charge 7, id -211"),
    (ones("mass", -5.0), "masses of at least 0"),
    (ones("mass", 497.6), "mass of the PDG id"),
])
def test_impossible_particles_are_refused_with_rows_and_cause(change, message):
    particles, pdg = change(*good())
    with pytest.raises(ValueError, match=message) as refused:
        check_particles(particles, pdg)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


def test_kinetic_energies_are_told():
    particles, pdg = kinetic(*good(7))
    with pytest.raises(ValueError, match="energies look kinetic, expected total ones"):
        check_particles(particles, pdg)


def test_momenta_in_mev_are_noticed_at_low_energies_too():
    """10 GeV neutrons as 10,000: below any limit, but their mass tells."""
    pdg = np.array([2112, 22] * 10)
    particles = conditions_of(pdg, np.tile([0.0, 0.0, 10.0], (20, 1)))
    particles[:, [0, 6]] *= 1e3
    with pytest.raises(ValueError, match="energies and momenta look like MeV"):
        check_particles(particles, pdg)


def test_electrons_in_mev_are_noticed_though_their_mass_tells_nothing():
    pdg = np.full(20, 11)
    particles = conditions_of(pdg, np.column_stack([np.zeros((20, 2)), np.linspace(1.0, 100.0, 20)]))
    check_particles(particles, pdg)
    particles[:, [0, 4, 5, 6]] *= 1e3
    with pytest.raises(ValueError, match="momenta in GeV, received 18 of 20 .*energies and momenta look like MeV"):
        check_particles(particles, pdg)


@pytest.mark.parametrize(("away", "fine"), [(40.0, True), (-40.0, True), (50.0, False), (-50.0, False)])
def test_masses_of_resonances_may_be_ten_widths_away(away, fine):
    """phi(1020), 4.25 MeV wide: within 10 widths, 0.2 % and 0.05 MeV, which is 44.6 MeV."""
    pdg = np.full(3, 333)
    particles = conditions_of(pdg, np.tile([0.0, 0.0, 100.0], (3, 1)))
    particles[1, 7] += away
    particles[:, 0] = np.hypot(particles[:, 6], 1e-3 * particles[:, 7])
    if fine:
        assert check_particles(particles, pdg) is None
    else:
        with pytest.raises(ValueError, match=r"the mass of the PDG id \[MeV\], received 1 of 3 otherwise \(rows 1; "):
            check_particles(particles, pdg)


@pytest.mark.parametrize(("rows", "fine"), [(10, True), (18, True), (19, False)])
def test_masses_tell_mev_only_where_more_than_nine_tenths_of_the_rows_say_so(rows, fine):
    """Electrons of 20 to 100 GeV, whose mass is within the tolerance of their energies."""
    pdg = np.full(20, 11)
    particles = conditions_of(pdg, np.column_stack([np.zeros((20, 2)), np.linspace(20.0, 100.0, 20)]))
    particles[:rows, 0] = np.hypot(particles[:rows, 6], particles[:rows, 7])
    if fine:
        assert check_particles(particles, pdg) is None
    else:
        with pytest.raises(ValueError, match="energies and momenta in GeV, received 19 of 20 otherwise"):
            check_particles(particles, pdg)


def test_unknown_nuclei_are_kept_with_a_warning():
    """An excited lead nucleus and a hypertriton are in no table."""
    particles, pdg = good()
    codes = np.array([1000822081, 1010010030])
    assert unknown_ids(codes) == sorted(codes)
    mass, charge = np.array([193_700.0, 2991.0]), np.array([82.0, 1.0])
    particles[:2, 7], particles[:2, 8], pdg[:2] = mass, charge, codes
    particles[:2, 0] = np.sqrt((particles[:2, MOMENTA] ** 2).sum(axis=1) + (1e-3 * mass) ** 2)
    with pytest.warns(UserWarning, match="kept as species of their own: 1000822081, 1010010030 .2 of 16 rows"):
        check_particles(particles, pdg)
    particles[0, 8] = 80.0
    with pytest.raises(ValueError, match="charge of the PDG id"):
        check_particles(particles, pdg)


def test_other_unknown_ids_are_kept_if_they_are_few():
    particles, pdg = good(400)
    pdg[5] = 9999999
    with pytest.warns(UserWarning, match="9999999 .1 of 400 rows"):
        check_particles(particles, pdg)
    pdg[:5] = 9999999
    with pytest.raises(ValueError, match=r"Unknown PDG id\(s\) \[9999999\] in 6 of 400 rows"):
        check_particles(particles, pdg)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_particles(*good())

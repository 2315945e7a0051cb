import numpy as np
import pytest
from particle import Particle
from scipy.stats import kstest

from zdckeras.simulation.decays import BRANCHINGS, boost, branchings, draw_daughters, draw_flight, properties, two_body

PDG = {  # mode -> fraction of all decays, Review of Particle Physics
    3122: {(2212, -211): 0.641, (2112, 111): 0.359},
    310: {(211, -211): 0.6920, (111, 111): 0.3069},
    3222: {(2212, 111): 0.5147, (2112, 211): 0.4843},
    3112: {(2112, -211): 0.99848},
    3212: {(3122, 22): 1.0},
    3322: {(3122, 111): 0.99517},
    3312: {(3122, -211): 0.99887},
    3334: {(3122, -321): 0.677, (3322, -211): 0.243, (3312, 111): 0.0855},
    111: {(22, 22): 0.98823},
    211: {(-13, 14): 0.999877},
    321: {(-13, 14): 0.6356, (211, 111): 0.2067},
}
ALL = sorted(PDG) + [-code for code in PDG if code not in (111, 310)]


def modes(pdg):
    """Daughters -> share of the modes above, those of an antiparticle conjugated."""
    known = PDG[abs(pdg)]
    return {tuple(d if pdg > 0 or d in (22, 111) else -d for d in daughters): fraction / sum(known.values())
            for daughters, fraction in known.items()}


def baryon_number(pdg):
    return np.sign(pdg) if Particle.from_pdgid(pdg).pdgid.is_baryon else 0


def lepton_number(pdg):
    return np.sign(pdg) if 11 <= abs(pdg) <= 16 else 0


def parents(pdg, momentum, rng):
    """Four-momenta of one species, |p| given, direction random."""
    direction = rng.normal(size=(len(momentum), 3))
    p = direction / np.linalg.norm(direction, axis=1, keepdims=True) * momentum[:, None]
    mass = properties(pdg)[0]
    return np.column_stack([np.sqrt((p**2).sum(axis=1) + mass**2), p]), mass


def test_modes_are_those_of_the_review():
    assert {code: dict(map(reversed, found)) for code, found in BRANCHINGS.items()} == PDG
    for pdg in ALL:
        assert {pair: fraction for fraction, pair in branchings(pdg)} == pytest.approx(modes(pdg), rel=1e-12)


@pytest.mark.parametrize("pdg", ALL)
def test_modes_conserve_what_is_conserved(pdg):
    mass, charge, _ = properties([pdg])
    modes = branchings(pdg)
    assert sum(fraction for fraction, _ in modes) == pytest.approx(1, abs=1e-12)
    for _, daughters in modes:
        m, q, _ = properties(daughters)
        assert q.sum() == charge[0]
        assert sum(baryon_number(d) for d in daughters) == baryon_number(pdg)
        assert sum(lepton_number(d) for d in daughters) == 0
        assert m.sum() < mass[0]


@pytest.mark.parametrize("pdg", ALL)
def test_drawn_modes_follow_the_branchings(pdg):
    size = 20_000
    drawn = draw_daughters(np.full(size, pdg), np.random.default_rng(abs(pdg)))
    counted = 0
    for daughters, fraction in modes(pdg).items():
        seen = (drawn == daughters).all(axis=1).sum()
        counted += seen
        assert abs(seen - size * fraction) <= 4 * np.sqrt(size * fraction * (1 - fraction)) + 1e-9
    assert counted == size


def test_antiparticles_decay_into_antiparticles():
    assert branchings(-3334)[0][1] == (-3122, 321)
    assert branchings(-3222)[0] == (branchings(3222)[0][0], (-2212, 111))


def test_four_momentum_is_conserved_and_daughters_are_on_shell():
    rng = np.random.default_rng(0)
    pdg = rng.choice([c for c in ALL if abs(c) != 3212], 5000)
    parent, mass = parents(pdg, 10 ** rng.uniform(-3, 4.2, len(pdg)), rng)
    assert (parent[:, 0] / mass).max() > 1e4
    masses = [properties(column)[0] for column in draw_daughters(pdg, rng).T]
    daughters = two_body(parent, *masses, rng)
    total = daughters[0] + daughters[1]
    np.testing.assert_array_less(np.abs(total - parent).max(axis=1), 1e-12 * parent[:, 0])
    for daughter, m in zip(daughters, masses, strict=True):
        square = daughter[:, 0] ** 2 - (daughter[:, 1:] ** 2).sum(axis=1)
        np.testing.assert_array_less(np.abs(square - m**2), 1e-12 * daughter[:, 0] ** 2 + 1e-12)


@pytest.mark.parametrize("momentum", [0.0, 5.0, 1500.0])
def test_isotropy_in_the_rest_frame(momentum):
    rng = np.random.default_rng(3)
    parent, mass = parents(np.full(20_000, 111), np.full(20_000, momentum), rng)
    photon, _ = two_body(parent, 0.0, 0.0, rng)
    rest = boost(photon, parent * [1, -1, -1, -1], mass)
    np.testing.assert_allclose(rest[:, 0], mass / 2, rtol=1e-6)
    along = parent[:, 1:] / momentum if momentum else np.tile([0.0, 0, 1], (len(parent), 1))
    cosine = (rest[:, 1:] * along).sum(axis=1) / rest[:, 0]
    across = np.cross(along, [0.6, 0, 0.8])
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    assert kstest(cosine, "uniform", (-1, 2)).pvalue > 1e-4
    up = np.cross(along, across)
    azimuth = np.arctan2((rest[:, 1:] * up).sum(axis=1), (rest[:, 1:] * across).sum(axis=1))
    assert kstest(azimuth, "uniform", (-np.pi, 2 * np.pi)).pvalue > 1e-4


@pytest.mark.parametrize("pdg", [3122, 310, -3222, 3334, 321])
def test_mean_flight_is_gamma_beta_c_tau(pdg):
    size, momentum = 40_000, 1500.0
    mass, _, length = (column.repeat(size) for column in properties([pdg]))
    flight = draw_flight(np.full(size, momentum), mass, length, np.random.default_rng(7))
    particle = Particle.from_pdgid(pdg)
    expected = momentum * 1000 / particle.mass * particle.lifetime * 29.9792458  # gamma beta c tau, c in cm/ns
    assert flight.mean() == pytest.approx(expected, rel=4 / np.sqrt(size))
    assert kstest(flight / expected, "expon").pvalue > 1e-4


def test_boost_agrees_with_extended_precision():
    rng = np.random.default_rng(5)
    mass = np.full(200, 1.115683)
    rest = np.column_stack([np.full(200, 0.6), rng.normal(0, 0.1, (200, 3))])
    parent = np.column_stack([np.zeros(200), rng.normal(0, 1e-3, (200, 2)) * 1e4, rng.uniform(1e3, 1e4, 200)])
    parent[:, 0] = np.sqrt((parent[:, 1:] ** 2).sum(axis=1) + mass**2)
    wide, moving = rest.astype(np.longdouble), parent.astype(np.longdouble)
    gamma, beta = moving[:, 0] / mass, moving[:, 1:] / moving[:, :1]
    along = (beta * wide[:, 1:]).sum(axis=1)
    factor = (gamma - 1) * along / (beta**2).sum(axis=1) + gamma * wide[:, 0]
    expected = np.column_stack([gamma * (wide[:, 0] + along), wide[:, 1:] + beta * factor[:, None]])
    np.testing.assert_allclose(boost(rest, parent, mass), expected.astype("float64"), rtol=1e-12, atol=1e-12)


def test_rest_energies_follow_from_the_masses():
    mass, proton, pion = properties([3122, 2212, -211])[0]
    a, b = two_body(np.array([[mass, 0, 0, 0]]), proton, pion, np.random.default_rng(0))
    assert a[0, 0] == pytest.approx((mass**2 + proton**2 - pion**2) / (2 * mass), rel=1e-12)
    assert np.linalg.norm(b[0, 1:]) == pytest.approx(0.1006, abs=2e-4)  # PDG: p = 101 MeV/c


def test_long_lived_species_are_stable_here():
    assert [branchings(code) for code in (22, 2112, 130, -2212, 13, 1000822080)] == [()] * 6
    assert np.isinf(properties([22, 2112, 130])[2]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: branchings(221), "No decay modes for eta"),
        (lambda: branchings(5554), "Unknown PDG id"),
        (lambda: draw_daughters([22], np.random.default_rng(0)), "expected a decaying species"),
        (lambda: two_body(np.ones((2, 3)), 0.0, 0.0, np.random.default_rng(0)), r"\(N, 4\)"),
        (lambda: two_body(np.array([[1.0, 0, 0, 0]]), 0.6, 0.6, np.random.default_rng(0)), "heavier"),
        (lambda: two_body(np.array([[np.nan, 0, 0, 0]]), 0.0, 0.0, np.random.default_rng(0)), "heavier"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()

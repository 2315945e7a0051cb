import numpy as np
import pytest
from keras import ops
from scipy.stats import ks_2samp

from zdckeras.data.particles import KAONS, KNOWN, NEUTRAL_ANTI, conditions_of, warn_unknown
from zdckeras.modular.transport import Transport, _Flight, tables
from zdckeras.simulation.primaries import draw_primaries
from zdckeras.simulation.response_fit import FITTED_KINDS, SILENT, shower_kind
from zdckeras.simulation.transport import transport

ROWS = 60_000
STABLE = (22, 2112, 2212, 130)


def numpy(values):
    return [ops.convert_to_numpy(v) for v in values]


@pytest.fixture(scope="module")
def particles():
    conditions, pdg = draw_primaries(ROWS, 3, repeated=0.0)
    return conditions.astype("float32"), pdg


@pytest.fixture(scope="module", params=["zn", "zp"])
def both(request, particles):
    """(layer's arrivals, simulation's arrivals as kind, energy, x, y, row of the primary)."""
    conditions, pdg = particles
    layer = Transport(request.param)
    uniform = np.random.default_rng(0).random((len(pdg), layer.numbers), "float32")
    found = numpy(layer(conditions, uniform, pdg))
    a = transport(conditions, pdg, 1, (request.param,))[request.param]
    kind, energy = shower_kind(a.pdg, a.energy)
    seen = (kind != SILENT) & (energy > 0)
    return found, (kind[seen], energy[seen], a.x[seen], a.y[seen], a.primary[seen])


def test_stable_particles_arrive_where_the_simulation_says(both, particles):
    _, pdg = particles
    (kind, energy, x, y), (true_kind, true_energy, true_x, true_y, row) = both
    rows = np.isin(pdg[row], STABLE)
    assert rows.sum() > 1000
    row = row[rows]
    assert (np.array(FITTED_KINDS)[kind[row, 0]] == true_kind[rows]).all() and (kind[row, 1:] == -1).all()
    np.testing.assert_allclose(energy[row, 0], true_energy[rows], rtol=1e-4)
    np.testing.assert_allclose(x[row, 0], true_x[rows], atol=2e-3)  # float32 over 112 m
    np.testing.assert_allclose(y[row, 0], true_y[rows], atol=2e-3)
    assert (kind[np.isin(pdg, STABLE), 0] >= 0).sum() == pytest.approx(len(row), abs=3)  # at the very edge


def test_what_starts_behind_the_face_leaves_nothing():
    """As in the simulation; on the other side of the interaction point, too."""
    layer, codes = Transport("zn"), np.repeat([22, 2112, 310], 4)
    momentum = np.tile([[0.0, 0.0, 900.0], [0.0, 0.0, 900.0], [0.0, 0.0, -900.0], [0.0, 0.0, -900.0]], (3, 1))
    vertex = np.zeros((12, 3))
    vertex[:, 2] = np.tile([11_200.0, 11_300.0, -11_200.0, -11_300.0], 3)
    conditions = conditions_of(codes, momentum, vertex)
    uniform = np.full((12, layer.numbers), 0.5, "float32")
    found = numpy(layer(conditions.astype("float32"), uniform, codes))[0][:, 0] >= 0
    true = np.isin(np.arange(12), transport(conditions, codes, 1, ("zn",))["zn"].primary)
    assert found.tolist() == true.tolist() == [True, False] * 6


@pytest.mark.parametrize("code", [3122, 310, 3222])
def test_decays_are_those_of_the_simulation(both, particles, code):
    """Kinds, how many arrive, energies and places: the distributions of the two are alike."""
    _, pdg = particles
    (kind, energy, x, y), (true_kind, true_energy, true_x, true_y, row) = both
    mine, theirs = (kind >= 0) & (pdg == code)[:, None], pdg[row] == code
    if theirs.sum() < 200:
        pytest.skip("too few of them in this detector")
    assert mine.sum() == pytest.approx(theirs.sum(), abs=6 * np.sqrt(theirs.sum()))
    for k, name in enumerate(FITTED_KINDS):
        share, true = (kind[mine] == k).mean(), (true_kind[theirs] == name).mean()
        assert share == pytest.approx(true, abs=6 * np.sqrt(true * (1 - true) / theirs.sum()) + 1e-3)
    for found, true in ((energy, true_energy), (x, true_x), (y, true_y)):
        assert ks_2samp(found[mine], true[theirs]).pvalue > 1e-3
    number = np.bincount(np.bincount(row[theirs], minlength=len(pdg)), minlength=5)[1:5]
    found = np.bincount(mine.sum(axis=1), minlength=5)[1:5]
    assert (np.abs(found - number) <= 6 * np.sqrt(number + found + 1)).all()


def test_decays_keep_energy_and_momentum():
    layer, rng, rows = Transport("zn"), np.random.default_rng(4), 500
    codes = list(KNOWN)
    species = np.array([codes.index(code) for code in (3122, 310, 111, 3222)])[rng.integers(0, 4, rows)]
    momentum = np.stack([*rng.normal(0, 0.3, (2, rows)), rng.uniform(5.0, 400.0, rows)]).astype("float32")
    flight = _Flight(species[:, None].astype("int32"), np.zeros((rows, 3, 1), "float32"), momentum.T[:, :, None])
    uniform = rng.random((rows, 4, 1), "float32")
    uniform[:, 0] = 1e-4  # decays at once
    after, decays = layer._decay(flight, uniform)
    after = _Flight(*numpy(after))
    assert ops.convert_to_numpy(decays).all()
    mass, charge = tables().basic[:, 0], tables().basic[:, 1]
    energy = np.sqrt((after.momentum**2).sum(axis=1) + mass[after.species] ** 2)
    assert (after.species != species[:, None]).all()
    assert np.array_equal(charge[after.species].sum(axis=1), charge[species])
    before = np.sqrt((momentum**2).sum(axis=0) + mass[species] ** 2)
    np.testing.assert_allclose(energy.sum(axis=1), before, rtol=2e-5, atol=2e-4)
    np.testing.assert_allclose(after.momentum.sum(axis=2), momentum.T, rtol=2e-5, atol=2e-4)


def test_species_are_told_by_mass_and_charge_and_kaons_by_chance_or_id():
    pdg = np.array([22, 2112, 2212, -2212, 3122, 3222, 211, -321, 130, 310, 3322])
    conditions = conditions_of(pdg, np.tile([0.0, 0.0, 500.0], (len(pdg), 1))).astype("float32")
    layer, codes = Transport("zn", short=0.3), np.array(KNOWN)
    low, high = (codes[ops.convert_to_numpy(layer.identify(conditions, np.full(len(pdg), u, "float32")))]
                 for u in (0.2, 0.4))
    others = ~np.isin(pdg, [130, 310])
    assert (low[others] == pdg[others]).all() and (high[others] == pdg[others]).all()
    assert set(low[~others]) == {310} and set(high[~others]) == {130}
    told = layer.identify(conditions, np.full(len(pdg), 0.2, "float32"), pdg.astype("float32"))
    assert (codes[ops.convert_to_numpy(told)] == pdg).all()


def test_ids_that_are_not_known_leave_nothing_and_users_are_warned():
    """Nuclei, a tau and a rho are of no species here, neutrinos are not seen; what is left open is told by the mass."""
    strange, unseen, left_open = [1000010020, 1000020040, 15, 113, 221], [12, -14, 16], [0, 311, -311]
    codes, open_codes = np.array(strange + unseen + left_open), np.isin(strange + unseen + left_open, left_open)
    conditions = conditions_of(np.full(len(codes), 130), np.tile([0.0, 0.0, 900.0], (len(codes), 1))).astype("float32")
    layer = Transport("zn", levels=1, short=0.0)
    kind = numpy(layer(conditions, np.full((len(codes), layer.numbers), 0.01, "float32"), codes.astype("float32")))[0]
    assert (kind[~open_codes] == -1).all() and (kind[open_codes, 0] >= 0).all()
    with pytest.warns(UserWarning, match=r"zn does not know 5 of 11 particles by their PDG ids \(15, 113, 221, 1000"):
        warn_unknown("zn", codes)


def test_ids_that_conditions_do_not_tell_are_those_that_users_are_warned_of():
    layer, codes = Transport("zn"), np.array(KNOWN)
    conditions = conditions_of(codes, np.tile([0.0, 0.0, 500.0], (len(codes), 1))).astype("float32")
    found = [codes[ops.convert_to_numpy(layer.identify(conditions, np.full(len(codes), u, "float32")))]
             for u in (0.2, 0.8)]
    assert set(codes[(found != codes).any(axis=0)]) == {*KAONS, *NEUTRAL_ANTI}


def test_wrong_optics_and_survey_move_what_arrives(particles):
    proton = conditions_of(np.array([2212]), np.array([[0.0, 0.0, 2680.0]])).astype("float32")
    uniform = np.full((1, Transport("zp").numbers), 0.5, "float32")
    right, bent, moved = (float(Transport("zp", **s)(proton, uniform).x[0, 0])
                          for s in ({}, {"kick": 1.02}, {"shift": (0.05, 0.0)}))
    assert right == pytest.approx(0.0, abs=1e-3)
    assert bent == pytest.approx(0.02 * 24.35, abs=1e-2) and moved == pytest.approx(-0.05, abs=1e-3)


@pytest.mark.compiles_long
def test_layer_comes_back_from_its_configuration(particles):
    layer = Transport("zp", levels=2, short=0.25, kick=1.01, shift=(0.1, 0.2))
    again = Transport.from_config(layer.get_config())
    conditions, _ = particles
    uniform = np.random.default_rng(1).random((50, layer.numbers), "float32")
    for a, b in zip(numpy(layer(conditions[:50], uniform)), numpy(again(conditions[:50], uniform)), strict=True):
        assert np.array_equal(a, b)

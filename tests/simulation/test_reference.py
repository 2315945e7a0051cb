import time
from itertools import islice

import numpy as np
import pytest

from zdckeras.data.particles import conditions_of
from zdckeras.data.showers import PAPER_PHOTONS, Showers, concatenate
from zdckeras.simulation import reference
from zdckeras.simulation.primaries import draw_primaries
from zdckeras.simulation.reference import DATA_PARTS, draws, load, resimulate, respond, stream


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of fewer primaries; another, as good, meaning of a seed."""
    monkeypatch.setattr(reference, "PRIMARIES_AT_ONCE", 800)


def same(a, b):
    return (np.array_equal(a.particles, b.particles) and np.array_equal(a.pdg, b.pdg)
            and all(np.array_equal(r, b.responses[name]) for name, r in a.responses.items()))


@pytest.mark.parametrize("name", ["zn", "zp", "zn+zp"])
def test_load_gives_what_was_asked_for(name):
    showers = load(name, "test", size=300)
    detectors = name.split("+")
    assert len(showers) == 300 and list(showers.responses) == detectors
    assert "Geant4" in showers.metadata["source"] and "light scale arbitrary" in showers.metadata["source"]
    lit = [showers.photon_sums(one) >= PAPER_PHOTONS[one] for one in detectors]
    assert np.any(lit, axis=0).all()
    assert all(one.any() for one in lit)


def test_seeds_repeat_and_a_longer_draw_begins_with_the_shorter():
    showers = load("zn", size=400, seed=5)
    assert same(showers, load("zn", size=400, seed=5))
    assert same(showers[:90], load("zn", size=90, seed=5))
    assert same(concatenate(draws("zn", size=400, seed=5)), showers)


def test_parts_and_seeds_are_independent_draws():
    parts = [load("zn", part, size=150, seed=seed) for part in DATA_PARTS for seed in (0, 1)]
    conditions = np.concatenate([np.unique(part.particles, axis=0) for part in parts])
    assert len(np.unique(conditions, axis=0)) == len(conditions)


def test_conditions_are_shared_by_many_showers():
    showers = load("zn", size=1000)
    _, first, copies = np.unique(showers.particles, axis=0, return_index=True, return_counts=True)
    assert copies.max() >= 10 and (copies == 1).any()
    group = showers[(showers.particles == showers.particles[first[copies.argmax()]]).all(axis=1)]
    assert len(np.unique(group.response, axis=0)) == len(group)


def test_the_cut_takes_nothing_else_away():
    """Keeping all: the same blocks, before the cut."""
    cut, every = next(stream(["zn"], 7)), next(stream(["zn"], 7, keep_all=True))
    assert len(every) == 800 and same(every.at_least(10), cut)
    assert (every.photon_sums() == 0).mean() > 0.3
    assert cut.metadata["photons"] == "at least 10 in zn" and every.metadata["photons"] == "any"


def test_blocks_are_fixed_by_their_number():
    first = list(islice(stream(["zp"], [3, 1]), 2))
    again = list(islice(stream(["zp"], [3, 1]), 2))
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0].particles[:5], first[1].particles[:5])
    longer, wide = next(stream(["zp"], [3, 1, 0])), next(stream(["zp"], [3 + 2**32, 0]))
    assert not any(np.array_equal(first[0].particles[:5], other.particles[:5]) for other in (longer, wide))


@pytest.mark.parametrize("seed", [-1, 1.5, "1", None, True])
def test_seeds_of_a_second_response_are_whole_numbers(seed):
    with pytest.raises(ValueError, match="^seed: expected a whole number of at least 0"):
        resimulate(load("zp", "test", size=3), seed)


@pytest.mark.parametrize("name", ["zn", "zn+zp"])
def test_resimulated_showers_are_a_second_draw_for_the_same_particles(name):
    first = load(name, "test", size=120)
    second = resimulate(first, seed=1)
    assert np.array_equal(first.particles, second.particles) and np.array_equal(first.pdg, second.pdg)
    detectors = list(first.responses)
    assert np.any([second.photon_sums(one) >= PAPER_PHOTONS[one] for one in detectors], axis=0).all()
    differ = np.any([(first.responses[one] != second.responses[one]).any(axis=(1, 2)) for one in detectors], axis=0)
    assert differ.mean() > 0.95
    assert same(second, resimulate(first, seed=1)) and not same(second, resimulate(first, seed=2))


def test_resimulated_showers_come_from_the_same_distribution():
    """Mean photon sums of two draws agree within four standard errors of their difference."""
    first = load("zn", "test", size=600)
    a, b = first.photon_sums(), resimulate(first, seed=1).photon_sums()
    assert abs((a - b).mean()) < 4 * (a - b).std() / np.sqrt(len(a))
    assert np.corrcoef(a, b)[0, 1] > 0.5


def test_showers_below_the_cut_are_refused_at_once(monkeypatch):
    (everything,) = reference.draws("zn", size=50, keep_all=True)
    monkeypatch.setattr(reference, "respond", None)
    below = int((everything.photon_sums() < 10).sum())
    with pytest.raises(ValueError, match=f"received {below} of 50 below it"):
        resimulate(everything, 1)


def test_particles_that_never_pass_are_named(monkeypatch):
    monkeypatch.setattr(reference, "ROUNDS", 2)
    lit = load("zn", "test", size=3)
    sideways = conditions_of(lit.pdg, lit.particles[:, 4:7] + [5e3, 0.0, 0.0])  # GeV
    with pytest.raises(ValueError, match=r"3 particles never pass"):
        resimulate(Showers(sideways, lit.pdg, lit.responses), seed=0)


def test_responses_know_their_particle():
    """Beam neutrons light ZN up, beam protons ZP, and neither the other one."""
    pdg = np.repeat([2112, 2212], 20)
    conditions, _ = draw_primaries(40, 0)
    conditions[:] = 0.0
    conditions[:, [0, 6]], conditions[:, 8] = 2680.0, np.where(pdg == 2212, 1.0, 0.0)
    light = {name: r.sum(axis=(1, 2)) for name, r in respond(conditions, pdg, ["zn", "zp"],
                                                               np.random.default_rng(0)).items()}
    assert light["zn"][:20].min() > 100 and light["zn"][20:].max() == 0
    assert light["zp"][20:].min() > 100 and light["zp"][:20].max() == 0


def test_electrons_in_the_shashlik():
    """Energies of electrons of the gun: nothing is cut, a sixth or so is seen, around the point of impact."""
    showers = load("ecal", "test", size=300)
    assert showers.response.shape == (300, 30, 30) and showers.response.dtype == np.float32
    assert set(showers.pdg.tolist()) == {11} and list(showers.responses) == ["ecal"]
    assert "Geant4" in showers.metadata["source"] and showers.metadata["photons"] == "any"
    energy, x, y = showers.particles[:, :3].T
    seen = showers.photon_sums() / energy
    assert 150 < np.median(seen) < 200 and np.corrcoef(energy, showers.photon_sums())[0, 1] > 0.99
    peak = np.stack(np.divmod(showers.response.reshape(300, -1).argmax(axis=1), 30), axis=1)
    away = (peak - 14.5) * 2.0 - np.column_stack([x, y])
    assert np.median(abs(away)) < 3 and abs(away.mean()) < 1  # cells of 2 cm, slopes up to 0.25, maximum 10 cm deep


def test_electrons_repeat_by_seed_part_and_size():
    showers = load("ecal", size=400, seed=5)
    assert same(showers, load("ecal", size=400, seed=5)) and same(showers[:90], load("ecal", size=90, seed=5))
    assert same(concatenate(draws("ecal", size=900, seed=5)), load("ecal", size=900, seed=5))
    for other in (load("ecal", "test", size=400, seed=5), load("ecal", size=400, seed=6)):
        assert not len(set(showers.particles[:, 0]) & set(other.particles[:, 0]))


def test_electrons_are_simulated_again_from_the_same_distribution():
    first = load("ecal", "test", size=600)
    second = resimulate(first, seed=1)
    assert np.array_equal(first.particles, second.particles) and second.response.dtype == np.float32
    assert (first.response != second.response).any(axis=(1, 2)).all()
    ratio = first.photon_sums() / second.photon_sums() - 1
    assert abs(np.median(ratio)) < 4 * 1.2533 * ratio.std() / np.sqrt(600) and ratio.std() < 0.3
    assert same(second, resimulate(first, seed=1)) and not same(second, resimulate(first, seed=2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "zdc"}, "Unknown detector 'zdc'; expected one of zn, zp"),
        ({"name": "zn+"}, "Unknown detector ''"),
        ({"name": "zn+ecal"}, "'zn.ecal': expected one detector, or zn.zp; ecal, focalh have guns of their own"),
        ({"name": "ecal+focalh"}, "expected one detector, or zn.zp"),
        ({"part": "valid"}, "Unknown part 'valid'; expected one of train, validation, test"),
        ({"size": 0}, "at least 1 as size, received 0"),
        ({"size": 2.5}, "at least 1 as size, received 2.5"),
        ({"seed": -1}, "at least 0 as seed, received -1"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        load(**{"name": "zn", **arguments})


def test_thousands_of_primaries_a_second(monkeypatch):
    """The aim is 5,000 a second on one core; 1,000 of CPU time pass on a slow and busy one."""
    monkeypatch.setattr(reference, "PRIMARIES_AT_ONCE", 4000)
    next(stream(["zn"], 0))
    start = time.process_time()
    next(stream(["zn"], 1))
    assert 4000 / (time.process_time() - start) > 1000

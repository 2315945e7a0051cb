import numpy as np
import pytest

from zdckeras.data.showers import Showers
from zdckeras.judging import answer, photon_cut
from zdckeras.modular.judging import judge_single_arrivals
from zdckeras.simulation import reference
from zdckeras.simulation.reference import load

pytestmark = pytest.mark.filterwarnings("ignore:.* stay below")


class Echo:
    """Says what it is asked."""

    def __init__(self, told):
        self.TAKES_IDS = told

    def beside(self, pdg):
        return {"pdg": pdg}

    def sample(self, conditions, seed, **rest):
        return len(conditions), seed, rest


def test_generators_that_take_ids_are_told_ids_and_cut_of_the_showers():
    showers = load("zn", "test", 20)
    assert answer(Echo(False), showers, showers.particles[:3], [4, 1]) == (3, [4, 1], {})
    rows, _, rest = answer(Echo(True), showers, showers.particles[:3], 4)
    assert rows == 3 and rest["at_least"] == 10 <= showers.photon_sums().min()
    assert np.array_equal(rest["beside"]["pdg"], showers.pdg[:3])


def test_energies_are_not_cut(monkeypatch):
    monkeypatch.setattr(reference, "PRIMARIES_AT_ONCE", 500)
    photons, energies = load("zn", "test", 20), load("ecal", "test", 6)
    assert photon_cut(photons) == 10 < photons.photon_sums().min()
    assert photon_cut(energies) == 0 < energies.photon_sums().min()
    fainter = Showers(photons.particles, photons.pdg, {"zn": photons.response * (np.arange(20) > 0)[:, None, None]})
    assert photon_cut(fainter) == 0 and fainter.photon_cut() == {}
    *_, rest = answer(Echo(True), energies, energies.particles, 4)
    assert rest["at_least"] == 0 and np.array_equal(rest["beside"]["pdg"], energies.pdg)


def test_single_arrivals_are_judged_beside_a_floor(modular):
    header, floor, row = judge_single_arrivals({"untrained, seed 0": modular}, 120, seed=2, pairs=32).splitlines()
    assert header.split()[:3] == ["runs", "WS", "AUC"]
    assert floor.startswith("floor ") and row.startswith("untrained ")
    assert float(row.split()[2]) > 5 * float(floor.split()[2])

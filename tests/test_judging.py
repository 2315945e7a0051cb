import numpy as np
import pytest
from keras import ops

from zdckeras.data.detectors import channel_sums, get_detector
from zdckeras.data.showers import Showers
from zdckeras.generators import Sampler
from zdckeras.judging import Trained, answer, judge_generators, photon_cut
from zdckeras.simulation import reference
from zdckeras.simulation.reference import load, resimulate

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


class Flat(Sampler):
    """As many photons in every cell as its weight says, 1 at first."""

    noise_width, detectors = 1, [get_detector("zn")]

    def __init__(self):
        super().__init__()
        self.level = self.add_weight(shape=(), initializer="ones", name="level")
        self.built = True

    def generate(self, noise, conditions):
        return self.level * ops.ones((44, 44)) + 0.0 * conditions[:, :1, None]

    def operations(self):
        return 1_000_000


def test_functions_are_judged_like_generators_and_only_these_are_timed():
    test, flat = load("zn", "test", 120), Flat()
    judged = {"flat, seed 0": flat, "flat, seed 1": flat, "the same": lambda *_: test.response}
    table, times, text = judge_generators(judged, test, [resimulate(test, 1).response], 1, pairs=32, batches=(2,))
    header, *rows = (line.split("  ") for line in text.splitlines())
    found = {row[0]: [word.strip() for word in row[1:] if word.strip()] for row in rows}
    assert [word.strip() for word in header if word.strip()][-4:] == ["AUC pixels", "ms, batch 2", "weights", "MFLOP"]
    assert list(times) == ["flat, seed 0"] and times["flat, seed 0"][0] > 0.0
    assert found["the same"][1] == "0.000" and found["the same"][-3:] == found["floor"][-3:] == ["-"] * 3
    assert found["flat"][0] == "2" and found["flat"][-2:] == ["1", "2.0"]
    assert table.scores["flat, seed 0"]["pixels"] > 0.9 > table.scores["floor"]["pixels"]


def test_trainings_that_share_a_generator_are_judged_with_their_own_weights():
    test, flat = load("zn", "test", 60), Flat()
    trained = {f"flat, seed {k}": Trained(flat, flat, [np.float32(k)]) for k in (2, 5)}
    table, times, _ = judge_generators(trained, test, [], 1, pairs=32, batches=(2,))
    for k in (2, 5):
        expected = np.abs(channel_sums(test.response) - channel_sums(np.full((1, 44, 44), k))).mean()
        assert table.scores[f"flat, seed {k}"]["metrics"]["all"]["MAE"][0] == pytest.approx(expected)
    assert list(times) == ["flat, seed 2"]

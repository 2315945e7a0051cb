import time
from pathlib import Path

import numpy as np
import pytest

import zdckeras as zdc
from zdckeras import backend
from zdckeras.comparison import costs
from zdckeras.comparison.costs import costs_of, peak_memory, responder, simulation_costs, timed
from zdckeras.generators import Sampler

SMALL = Path(__file__).parents[1] / "data" / "old" / "gan.keras"


class Lazy:
    """What a device that works on in the background gives: there at once, its values 30 ms later."""

    def __init__(self, values):
        self.values, self.ready = values, time.perf_counter() + 0.03

    def __array__(self, dtype=None, copy=None):
        time.sleep(max(0.0, self.ready - time.perf_counter()))
        return self.values


class Asynchronous(Sampler):
    """The first condition and the PDG id in two cells of each response."""

    noise_width, TAKES_IDS = 4, True

    def __init__(self):
        super().__init__(name="asynchronous")
        self.detectors = [zdc.detector("zn")]
        self.built = True

    def predict_on_batch(self, x):
        made = np.zeros((len(x["noise"]), 44, 44))
        made[:, 0, 0], made[:, 0, 1] = x["conditions"][:, 0], x["pdg"]
        return Lazy(made)


def test_each_reading_is_that_of_the_call(monkeypatch):
    monkeypatch.setattr(costs, "READINGS", {1: 5, 256: 3})
    seen = []

    def call(rows):
        seen.append(len(rows))
        time.sleep(0.02)

    found = timed(call, np.zeros((40, 9)))
    assert seen == [1] * 7 + [256] * 5
    assert 19 < found["wall_1"] < 60 and found["wall_256"] == pytest.approx(found["wall_1"] / 256, rel=0.9)
    assert found["ms_1"] == found["cpu_1"] < 5 and found["first_s"] >= 0.02  # sleep is no work
    assert (found := timed(call, np.zeros((40, 9)), accelerator=True))["ms_1"] == found["wall_1"]


def test_the_device_is_waited_for(monkeypatch):
    monkeypatch.setattr(costs, "READINGS", {1: 3, 256: 3})
    showers = zdc.load("zn", "test", size=8)
    call = responder(Asynchronous(), showers.particles, showers.pdg)
    found = timed(call, showers.particles)
    assert 29 < found["wall_1"] < 90 and 29 < 256 * found["wall_256"] < 90
    (made,) = call(np.array([5, 2]))
    assert made[:, 0, 0].tolist() == showers.particles[[5, 2], 0].tolist()
    assert made[:, 0, 1].tolist() == showers.pdg[[5, 2]].tolist()


def test_memory_is_that_of_this_process():
    before = peak_memory()
    held = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line)
    block = np.ones(int(before - held / 1024 + 60) * 2**17)  # 60 MiB more than there have been
    assert 40 < peak_memory() - before < 90 and block[-1] == 1.0


@pytest.mark.neutral
def test_a_saved_model_and_the_simulation_in_processes_of_their_own():
    showers = zdc.load("zn", "test", size=16)
    model, simulation = costs_of(SMALL, showers), simulation_costs("zn", showers)
    assert model["device"] == f"{backend.name()}, cpu" and simulation["device"] == "NumPy, cpu"
    for found in (model, simulation):
        assert found["MiB"] > 50 and 0 < found["ms_256"] < found["ms_1"] < 2000
    with pytest.raises(RuntimeError, match="zdc: KeyError"):
        simulation_costs("zdc", showers)

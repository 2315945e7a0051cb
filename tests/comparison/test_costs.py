import time
from pathlib import Path

import numpy as np
import pytest

import zdckeras as zdc
from zdckeras import backend
from zdckeras.comparison import costs
from zdckeras.comparison.costs import costs_of, peak_memory, simulation_costs, timed
from zdckeras.generators import Sampler

SMALL = Path(__file__).parents[1] / "data" / "old" / "gan.keras"


class Heavy(Sampler):
    """A product of large matrices for every batch."""

    noise_width = 4

    def __init__(self):
        super().__init__(name="heavy")
        self.detectors = [zdc.detector("zn")]
        self.built = True

    def generate(self, noise, conditions):
        from keras import ops

        large = ops.ones((700, 700)) * ops.mean(noise)
        for _ in range(12):
            large = large @ large / 700.0
        return ops.zeros((ops.shape(noise)[0], 44, 44)) + 0.0 * ops.mean(large)


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
    """The sum of the readings is the time until all work is done: nothing is left to a device that goes on."""
    monkeypatch.setattr(costs, "READINGS", {1: 5, 256: 3})
    generator, particles = Heavy(), zdc.load("zn", "test", size=4).particles.astype("float32")
    noise, taken = np.ones((256, 4), "float32"), []

    def call(rows):
        begin = time.perf_counter()
        generator.predict_on_batch({"noise": noise[: len(rows)], "conditions": particles[rows]})
        taken.append(time.perf_counter() - begin)

    timed(call, particles)
    begin = time.perf_counter()
    made = [generator.predict_on_batch({"noise": noise, "conditions": particles[np.zeros(256, int)]}) for _ in range(4)]
    assert all(isinstance(one, np.ndarray) for one in made)
    alone = (time.perf_counter() - begin) / 4
    assert np.median(taken[-3:]) == pytest.approx(alone, rel=0.7)


def test_memory_is_that_of_this_process():
    before = peak_memory()
    held = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line)
    block = np.ones(int(before - held / 1024 + 60) * 2**17)  # 60 MiB more than there have been
    assert 40 < peak_memory() - before < 90 and block[-1] == 1.0


def test_a_saved_model_and_the_simulation_in_processes_of_their_own():
    showers = zdc.load("zn", "test", size=16)
    model, simulation = costs_of(SMALL, showers), simulation_costs("zn", showers)
    assert model["device"] == f"{backend.name()}, cpu" and simulation["device"] == "NumPy, cpu"
    for found in (model, simulation):
        assert found["MiB"] > 50 and 0 < found["ms_256"] < found["ms_1"] < 2000
    with pytest.raises(RuntimeError, match="zdc: KeyError"):
        simulation_costs("zdc", showers)

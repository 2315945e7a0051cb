"""How long generators take: whose calls are counted, and how many of them."""

import time

import numpy as np
from keras import ops

from zdckeras.data.detectors import get_detector
from zdckeras.generators import Sampler
from zdckeras.metrics.times import milliseconds

WIDTH = 3


class Clock:
    """Takes so many milliseconds for its first call and for later ones, and keeps account of what it was asked."""

    noise_width = WIDTH

    def __init__(self, first, later, log):
        self.first, self.later, self.log = first, later, log

    def predict_on_batch(self, x):
        time.sleep(1e-3 * (self.later if (self.later,) in [call[:1] for call in self.log] else self.first))
        self.log.append((self.later, x["conditions"].shape, x["noise"].shape))


class Even(Sampler):
    """Each cell holds the particle's first condition."""

    noise_width = WIDTH

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.detectors, self.built = [get_detector("ecal")], True

    def generate(self, noise, conditions):
        return ops.ones((1, 30, 30)) * conditions[:, :1, None]


def particles(rows):
    return np.ones((rows, 9))


def test_milliseconds_are_of_groups_that_take_turns():
    log = []
    one, other = Clock(2.0, 2.0, log), Clock(30.0, 30.0, log)
    found = milliseconds({"one": [one], "both": [one, other]}, particles(5), batch=3, repeats=4)
    assert 2.0 <= found["one"] < found["both"] and found["both"] >= 32.0
    assert [later for later, *_ in log] == 5 * [2.0, 2.0, 30.0]
    assert {(rows, noise) for _, rows, noise in log} == {((3, 9), (3, WIDTH))}


def test_slow_generators_are_called_three_times(monkeypatch):
    monkeypatch.setattr("zdckeras.metrics.times.LONGEST", 1e-3)
    seen = []
    milliseconds({"slow": [Clock(1.0, 2.0, seen)]}, particles(2), batch=2, repeats=9)
    assert len(seen) == 4


def test_milliseconds_leave_out_the_first_call_which_compiles():
    assert milliseconds({"a": [Clock(300.0, 1.0, [])]}, particles(2), batch=2, repeats=1)["a"] < 100.0


def test_milliseconds_of_a_generator_that_computes():
    found = milliseconds({"even": [Even()]}, particles(2), batch=2, repeats=3)
    assert set(found) == {"even"} and 0.0 < found["even"] < 1e4

from types import SimpleNamespace

import numpy as np
import pytest
from keras import ops

from zdckeras.data.detectors import get_detector
from zdckeras.diffusion.judging import judge_dial, quality_against_time
from zdckeras.generators import Sampler
from zdckeras.simulation.reference import load, resimulate


def test_points_of_a_dial_are_the_tables_distances_at_their_times():
    distance = {"floor": (1.0, 0.1), "euler 1": (3.0, 0.2), "MAF": (1.5, 0.1),
                "euler 4, seed 0": (2.0, 0.1), "euler 4, seed 1": (2.6, 0.1)}
    table = SimpleNamespace(scores={label: {"metrics": {"all": {"WS": pair}}} for label, pair in distance.items()})
    times = {"euler 1": [0.5, 0.1], "euler 4, seed 0": [0.9, 0.2], "MAF": [2.0, 0.3]}
    groups = {"euler": ["euler 1", "euler 4"], "MAF": ["MAF"], "none": []}
    (axis,) = quality_against_time(table, times, groups).axes
    drawn = {bar.get_label(): np.array(bar[0].get_data()).T for bar in axis.containers}
    assert {name: points.tolist() for name, points in drawn.items()} == {
        "euler": [[0.5, 3.0], [0.9, pytest.approx(2.3)]], "MAF": [[2.0, 1.5]]}
    bars = {bar.get_label(): [np.ptp(segment[:, 1]) / 2 for segment in bar[2][0].get_segments()]
            for bar in axis.containers}
    assert bars["euler"] == pytest.approx([0.2, np.std([2.0, 2.6], ddof=1)])  # generations; trainings
    assert bars["MAF"] == pytest.approx([0.1])
    (floor,) = [line for line in axis.lines if line.get_label() == "floor"]
    assert list(floor.get_ydata()) == [1.0, 1.0]


class Flat(Sampler):
    """As many photons in every cell as its level says, of particles and of arrivals; `asked` for so many at a time."""

    noise_width, detectors = 1, [get_detector("zn")]

    def __init__(self, level):
        super().__init__()
        self.level, self.asked, self.built = level, [], True

    def generate(self, noise, conditions):
        return self.level * ops.ones((44, 44)) + 0.0 * conditions[:, :1, None]

    def sample(self, conditions, seed=0, **settings):
        self.asked.append(len(conditions))
        return super().sample(conditions, seed, **settings)

    def respond(self, arrivals, seed=0):
        self.asked.append(f"{len(arrivals['energy'])} arrivals")
        return np.full((len(arrivals["energy"]), 44, 44), self.level, "uint16")


def rows_of(text):
    """Words behind the names of rows of a table, by name; its header without one."""
    return {line.split("  ")[0]: line.split()[len(line.split("  ")[0].split()):] for line in text.splitlines()}


@pytest.mark.filterwarnings("ignore:.* stay below")
def test_a_dial_is_judged_on_all_showers_and_whole_responses_on_few(monkeypatch):
    monkeypatch.setattr("zdckeras.diffusion.judging.ordering", str)
    test, slow, far, near = load("zn", "test", 24), Flat(9), Flat(7), Flat(2)
    latent = {"euler 1, seed 0": far, "euler 4, seed 0": near}
    dials = {"euler": ["euler 1", "euler 4"], "heun": []}
    settings = dict(few=16, generations=2, arrivals=20, pairs=8, batches=(1, 2))
    table, figure, text = judge_dial({"U-Net": slow}, latent, dials, test, [resimulate(test, 1).response], 3,
                                     **settings)
    assert list(table.scores) == ["floor", "euler 1, seed 0", "euler 4, seed 0"]
    assert slow.asked == [16] and far.asked == near.asked == [24, 24, "20 arrivals"]
    images, codes, arrivals, verdict = text.split("\n\n")
    assert images.startswith("whole responses, the first 16 test showers\n") and verdict.count("\n") == 0
    assert codes.startswith("latent codes, 24 test showers\n") and arrivals.startswith("20 single arrivals\n")
    images, codes, arrivals = (rows_of(part.partition("\n")[2]) for part in (images, codes, arrivals))
    assert list(images)[1:] == ["floor", "U-Net"] and images["U-Net"][-1] == "0"
    for found in (codes, arrivals):
        assert list(found)[1:] == ["floor", "euler 1", "euler 4"]
        distance = [float(found[row][1]) for row in list(found)[1:]]
        assert distance[1] > 2.0 * distance[2] > 2.0 * distance[0]
    distance = [table.scores[row]["metrics"]["all"]["WS"][0] for row in latent]
    assert verdict == f"euler: {dict(zip(dials['euler'], ([value] for value in distance), strict=True))}"
    (axis,) = figure.axes
    (points,) = (np.array(bar[0].get_data()).T for bar in axis.containers)
    assert points[:, 1].tolist() == distance
    assert [f"{time:.3f}" for time in points[:, 0]] == [codes[row][-3] for row in dials["euler"]]  # of batch 1

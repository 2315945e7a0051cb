from types import SimpleNamespace

import numpy as np
import pytest

from zdckeras.diffusion.judging import quality_against_time


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

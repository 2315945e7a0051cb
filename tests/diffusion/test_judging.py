from types import SimpleNamespace

import numpy as np

from zdckeras.diffusion.judging import quality_against_time


def test_points_of_a_dial_are_the_tables_distances_at_their_times():
    distance = {"floor": (1.0, 0.1), "euler 1": (3.0, 0.2), "euler 4": (2.0, 0.1), "MAF": (1.5, 0.1)}
    table = SimpleNamespace(scores={label: {"metrics": {"all": {"WS": pair}}} for label, pair in distance.items()})
    times = {"euler 1": [0.5, 0.1], "euler 4": [0.9, 0.2], "MAF": [2.0, 0.3]}
    groups = {"euler": ["euler 1", "euler 4"], "MAF": ["MAF"], "none": []}
    (axis,) = quality_against_time(table, times, groups).axes
    drawn = {bar.get_label(): np.array(bar[0].get_data()).T.tolist() for bar in axis.containers}
    assert drawn == {"euler": [[0.5, 3.0], [0.9, 2.0]], "MAF": [[2.0, 1.5]]}
    (floor,) = [line for line in axis.lines if line.get_label() == "floor"]
    assert list(floor.get_ydata()) == [1.0, 1.0]

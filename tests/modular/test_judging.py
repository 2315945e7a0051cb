from zdckeras.modular.judging import judge_single_arrivals


def test_single_arrivals_are_judged_beside_a_floor(modular):
    header, floor, row = judge_single_arrivals({"untrained, seed 0": modular}, 120, seed=2, pairs=32).splitlines()
    assert header.split()[:3] == ["runs", "WS", "AUC"]
    assert floor.startswith("floor ") and row.startswith("untrained ")
    assert float(row.split()[2]) > 5 * float(floor.split()[2])

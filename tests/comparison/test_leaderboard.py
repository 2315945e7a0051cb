import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from zdckeras.cli import main
from zdckeras.comparison.leaderboard import QUALITY, Comparison
from zdckeras.metrics.channels import Residuals, channel_metrics, over_runs
from zdckeras.metrics.shapes import SHAPE_OBSERVABLES


def score_of(auc, runs=2):
    """A score in which all else is the same."""
    real = np.ones((6, 4, 4))
    metrics = over_runs([channel_metrics(Residuals.between(real, real * k), np.full(6, 2112), np.zeros(6))
                         for k in range(runs)])
    shapes = {name: {"distance": 0.25, "separation": 0.5} for name in SHAPE_OBSERVABLES}
    return {"metrics": metrics, "shapes": shapes, "auc": auc, "runs": runs, "density": [1.0, 0.1], "detector": "zn",
            "diversity": {"all": 0.9}, "counts": {"n": 60, "K0S": 29, "all": 6}}


@pytest.fixture
def table():
    made = Comparison()
    for name, auc in (("floor", 0.5), ("slow", 0.55), ("fast", 0.9), ("low", 0.3), ("worst", 0.95), ("unknown", 0.6)):
        made.add(name, score_of(auc))
    made.costs = {"slow": {"ms_256": 9.0, "weights": 12_345}, "fast": {"ms_256": 1.0, "kind": "GanGenerator"},
                  "low": {"ms_256": 2.0}, "worst": {"ms_256": 1.5}, "floor": {"ms_256": 3.0},
                  "Geant4": {"ms_1": 9400.0, "note": "given"}}
    made.failures = {"broken": "no archive"}
    return made


def test_sorted_by_the_distance_from_the_ideal(table):
    """An area of 0.3 is as far from 0.5 as one of 0.7."""
    assert table.models() == ["slow", "unknown", "low", "fast", "worst"]
    assert table.order() == ["floor", "slow", "unknown", "low", "fast", "worst", "Geant4"]
    assert table.loss("low", "AUC") == pytest.approx(0.2) and table.loss("low", "AUC pixels") == float("inf")


def test_costs_have_no_exponents(table):
    """Not where three digits round up to a thousand, either."""
    table.costs = {"slow": {"MiB": 999.7}, "fast": {"MiB": 999.4}, "low": {"MiB": 0.1234}}
    assert table.cost_rows() == [["", "memory [MiB]"], ["slow", "1,000"], ["low", "0.123"], ["fast", "999"]]


def test_errors_below_the_floor_are_no_merit(table):
    """A mean image has a small MAE."""
    assert table.ideal("MAE") == table.quality("floor", "MAE") == pytest.approx(1.6) and table.ideal("WS") == 0.0
    table.scores["fast"] = score_of(0.9, runs=1)
    assert table.loss("slow", "MAE") == 0.0 and table.loss("fast", "MAE") == pytest.approx(3.2 - 1.6)


def test_pairs_are_denser_than_one(table):
    """The best density is the floor's."""
    for name, density in {"floor": 1.04, "slow": 1.0, "fast": 1.03, "low": 1.2, "worst": 0.1, "unknown": 0.5}.items():
        table.scores[name] = score_of(0.5) | {"density": [density, 0.0]}
    table.sort = "density"
    assert table.models() == ["fast", "slow", "low", "unknown", "worst"] and table.ideal("density") == 1.04


def test_front_is_what_no_other_model_beats_in_both(table):
    """The floor is no model, and one without a time is not on it."""
    assert sorted(table.front()) == ["fast", "low", "slow"]
    table.costs["slow"]["ms_256"] = float("nan")
    assert sorted(table.front()) == ["fast", "low"]


def test_rows_of_words(table):
    header, floor, *rows = table.quality_rows()
    assert floor[0] == "floor" and rows[0][0] == "slow *" and rows[1][0] == "unknown"
    line = dict(zip(header, rows[0], strict=True))
    assert line["AUC"] == "0.550" and line["density"] == "1.000 ± 0.100" and line["shapes"] == "0.250"
    assert line["WS"] == "1.60 ± 2.26" and "AUC pixels" not in header  # 3.2 photons away, and 0
    costs = table.cost_rows()
    assert costs[0] == ["", "kind", "weights", "ms, batch 1", "ms, batch 256"]
    assert costs[2] == ["slow", "-", "12,345", "-", "9"] and costs[-1] == ["Geant4", "-", "-", "9,400", "-"]
    assert "broken failed: no archive" in table.text() and "Geant4: given." in table.text()


def test_one_metric_by_species(table):
    header, _, slow, *_ = table.species_rows("WS5")
    assert header == ["", "n", "all"]
    assert slow == ["slow", "4.00 ± 5.66", "4.00 ± 5.66"]  # 8 photons away, and 0
    assert table.species_rows("D")[:2] == [["", "all"], ["floor", "0.900"]]


def test_csv_has_everything(table):
    rows = {row["row"]: row for row in csv.DictReader(io.StringIO(table.csv()))}
    assert list(rows) == table.order() and rows["slow"]["front"] == "1" and rows["worst"]["front"] == "0"
    assert float(rows["slow"]["AUC"]) == 0.55 and float(rows["slow"]["WS5 all"]) == 4.0
    assert float(rows["slow"]["D all"]) == 0.9 and "WS K0S" not in rows["slow"] and rows["Geant4"]["AUC"] == ""
    assert float(rows["slow"]["density deviation"]) == 0.1 and rows["slow"]["recall"] == ""
    assert float(rows["Geant4"]["ms, batch 1"]) == 9400.0 and float(rows["slow"]["separation width"]) == 0.5


def test_written_files_say_the_same(table, tmp_path):
    folder = table.write(tmp_path / "report")
    costs, scores = (json.loads((folder / name).read_text()) for name in ("costs.json", "report.json"))
    assert costs["costs"]["Geant4"]["ms_1"] == 9400.0 and costs["failures"] == table.failures
    assert list(scores) == list(table.scores) and scores["slow"]["auc"] == 0.55
    assert (folder / "report.csv").read_text() == table.csv()
    assert (folder / "overview.txt").read_text() == f"{table.overview()}\n"
    assert "both better in AUC and faster" in (folder / "report.md").read_text()


def test_only_columns_that_are_there():
    with pytest.raises(ValueError, match=f"one of {', '.join(QUALITY)}; received 'speed'"):
        Comparison("speed")


@pytest.mark.parametrize("lost", ["text", "report"])
def test_of_a_comparison_one_of_text_and_report_is_left(monkeypatch, tmp_path, capsys, lost):
    """Text into a pipe that is closed, or a report on a disk that is full: hours of work are not gone with it."""
    def fail(*_):
        raise OSError(28, "No space left on device")

    table = Comparison("AUC")
    table.provenance = {"judged": 1, "showers": 1}
    monkeypatch.setattr(table, "text", fail if lost == "text" else lambda: "the table")
    monkeypatch.setattr(table, "write", fail if lost == "report" else lambda place: Path(place).mkdir() or place)
    monkeypatch.setattr("zdckeras.comparison.compare.compare", lambda *_: table)
    with pytest.raises(SystemExit, match="1"):
        main(["compare", "zn", "--out", str(tmp_path / "report")])
    assert (tmp_path / "report").exists() == (lost == "text")
    assert capsys.readouterr().out == ("the table\n" if lost == "report" else "")

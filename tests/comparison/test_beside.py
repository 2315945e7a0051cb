"""Models of an earlier report beside those of a new one, as if they had been judged together."""

import json
import shutil

import numpy as np
import pytest

import zdckeras as zdc
from tests.comparison.conftest import Rolled
from zdckeras.cli import main
from zdckeras.comparison.beside import read_report

OLD = "tests/data/old/gan.keras"
SIZE = 80


def shifted(showers, shift):
    return Rolled(showers, shift, f"shifted {shift}")


@pytest.fixture(scope="module")
def test_set():
    return zdc.load("zn", "test", SIZE)


@pytest.fixture(scope="module")
def report(test_set, tmp_path_factory):
    table = zdc.compare([shifted(test_set, 1), shifted(test_set, 2)], test_set, runs=2)
    table.costs["shifted 1"] |= {"ms_256": 0.5, "wall_1": 77.0, "first_s": 3.0, "weights": 7}
    table.host = "another machine"
    return table.write(tmp_path_factory.mktemp("first") / "report")


def test_as_if_judged_together(test_set, report):
    joined = zdc.compare(shifted(test_set, 3), test_set, runs=2, beside=report)
    alone = zdc.compare([shifted(test_set, k) for k in (1, 2, 3)], test_set, runs=2)
    assert sorted(joined.models()) == sorted(alone.models())
    for name in alone.scores:
        for heading in ("WS", "MAE_w", "AUC", "FPD", "D"):
            found, expected = joined.quality(name, heading), alone.quality(name, heading)
            assert found == pytest.approx(expected, nan_ok=True)
    assert joined.made["shifted 2"]["report"] == report.name
    assert joined.provenance["beside"]["models"] == ["shifted 1", "shifted 2"]
    assert "weights" in joined.costs["shifted 1"]
    assert not {"ms_256", "wall_1", "first_s"} & set(joined.costs["shifted 1"])  # of another machine
    assert "shifted 2" in joined.text() and "shifted 2" not in joined.looks


def test_a_joined_report_can_be_joined_again(test_set, report, tmp_path):
    """And a row that is there already is the new one."""
    second = zdc.compare(shifted(test_set, 2), test_set, runs=1, beside=report).write(tmp_path / "second")
    scores, costs, provenance = read_report(second)
    assert list(scores)[-2:] == ["shifted 2", "shifted 1"] and scores["shifted 2"]["runs"] == 1
    assert costs["made"]["shifted 1"]["report"] == report.name and provenance["judged"] == SIZE
    assert "shifted 1" in (second / "overview.txt").read_text()
    page = (second / "page.html").read_text()
    assert '"runs":"1 to 3"' in page and '"notes":["Of an earlier report on the same showers: shifted 1."]' in page


def test_other_test_sets_are_refused_before_any_work(test_set, report, tmp_path):
    for arguments, message in (
            (dict(showers=test_set[:40]), "expected a report with judged 40, received one with 80"),
            (dict(seed=1), "expected a report with seed 1, received one with 0"),
            (dict(channels="o2"), "expected a report with channels o2, received one with papers"),
            (dict(showers=zdc.load("zn", "test", SIZE, seed=5)), "on the same showers, received one with mean")):
        with pytest.raises(ValueError, match=message):
            zdc.compare(shifted(test_set, 1), **{"showers": test_set, "beside": report, **arguments})
    with pytest.raises(FileNotFoundError, match="expected the folder of a report as compare --out writes it"):
        zdc.compare(shifted(test_set, 1), test_set, beside=tmp_path)
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(ValueError, match="expected JSON, received a damaged file"):
        zdc.compare(shifted(test_set, 1), test_set, beside=tmp_path)


def test_a_model_that_fails_is_not_replaced_by_its_old_row(test_set, report):
    broken = shifted(test_set, 1)
    broken.predict_on_batch = lambda x: -np.ones((len(x["noise"]), 44, 44), "float32")
    table = zdc.compare([broken, shifted(test_set, 3)], test_set, runs=1, beside=report)
    assert "shifted 1" in table.failures and "shifted 1" not in table.scores and "shifted 2" in table.scores
    assert "Of an earlier report on the same showers: shifted 2." in table.overview()


@pytest.mark.parametrize(("name", "text"), [("costs.json", "{}"), ("costs.json", "[]"), ("report.json", "[]"),
                                            ("report.json", '{"x": {}}'), ("provenance.json", "[]")])
def test_files_of_something_else_are_told_at_once(test_set, report, tmp_path, name, text):
    shutil.copytree(report, tmp_path / "copy")
    (tmp_path / "copy" / name).write_text(text)
    with pytest.raises(ValueError, match="expected the scores, costs and provenance of a report, received something"):
        zdc.compare("none.keras", test_set, beside=tmp_path / "copy")


def test_other_metrics_are_told_by_the_floor(test_set, report, tmp_path):
    shutil.copytree(report, tmp_path / "copy")
    scores = json.loads((report / "report.json").read_text())
    scores["floor"]["metrics"]["all"]["WS"][0] *= 1.02
    (tmp_path / "copy" / "report.json").write_text(json.dumps(scores))
    with pytest.raises(ValueError, match="expected a report by the metrics of today, with a floor of WS"):
        zdc.compare(shifted(test_set, 1), test_set, runs=1, beside=tmp_path / "copy")


def test_from_the_command_line(tmp_path, capsys):
    words = ["--data", "zn", "--size", "40", "--runs", "1", "--pixels", "0", "--no-costs"]
    assert main(["compare", f"first={OLD}", *words, "--out", str(tmp_path / "one")]) == 0
    assert main(["compare", f"second={OLD}", *words, "--beside", str(tmp_path / "one")]) == 0
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith(("first", "second"))]
    assert set(lines) == {"first", "second"}
    made = json.loads((tmp_path / "one" / "costs.json").read_text())["costs"]
    assert list(made) == ["first"]

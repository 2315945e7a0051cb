import numpy as np
import pytest

from zdckeras.metrics.channels import Residuals, ws
from zdckeras.metrics.classifier import pixel_auc
from zdckeras.metrics.directional import FLIGHT_OBSERVABLES, directional_shapes, directional_table, energy_resolution
from zdckeras.metrics.energy_report import EnergyReport
from zdckeras.simulation.reference import load, resimulate


@pytest.fixture(scope="module")
def electrons():
    return load("ecal", "test", 160, seed=3)


@pytest.fixture(scope="module")
def report(electrons):
    responses = {"floor": resimulate(electrons, 1).response, "brighter": 1.5 * electrons.response}
    return EnergyReport(electrons, responses)


def test_tables_are_those_of_the_metrics(report, electrons):
    real = directional_shapes(electrons.response, electrons.particles, "ecal")
    for name, energy in report.responses.items():
        assert report.tables[name] == directional_table(real, directional_shapes(energy, electrons.particles, "ecal"))
    separation, distance = ([row[2:] for row in report.shape_rows() if row[0] == "brighter"])
    wanted = report.tables["brighter"]
    assert separation == [f"{wanted[o]['separation']:.4f}" for o in FLIGHT_OBSERVABLES]
    assert distance == [f"{wanted[o]['distance']:.3f}" for o in FLIGHT_OBSERVABLES]
    assert {len(row) for row in report.shape_rows()} == {len(FLIGHT_OBSERVABLES) + 2}


def test_quality_is_that_of_the_metrics_over_trainings(electrons):
    responses = {f"scaled, seed {k}": (1.5 + k) * electrons.response for k in range(2)}
    found = EnergyReport(electrons, responses, pairs=32)
    errors = [Residuals.between(electrons.response, energy) for energy in responses.values()]
    assert [found.quality[name]["WS"] for name in responses] == [ws(one) for one in errors]
    area = pixel_auc(electrons.response, 2.5 * electrons.response, 0, 32)
    assert found.quality["scaled, seed 1"]["AUC pixels"] == area
    head, (name, runs, words, *_) = found.quality_rows()
    assert head[1:] == ["runs", "WS", "MAE", "RMSE", "AUC", "AUC pixels"] and (name, runs) == ("scaled", "2")
    values = [ws(one) for one in errors]
    assert words == f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def test_shapes_and_resolution_are_means_over_trainings(electrons):
    found = EnergyReport(electrons, {f"light, seed {k}": electrons.response**(1.2 + k / 5) for k in range(2)})
    powers = [found.tables[f"light, seed {k}"]["width"]["separation"] for k in range(2)]
    row = next(row for row in found.shape_rows() if row[0] == "light")
    place = 2 + list(FLIGHT_OBSERVABLES).index("width")
    assert row[1] == "2" and row[place] == f"{np.mean(powers):.4f} ± {np.std(powers, ddof=1):.4f}"
    slopes = [energy_resolution(values[:, 0], electrons.particles[:, 0])["stochastic"]
              for values in found.shapes.values()]
    assert found.resolution_rows()[2][:3] == ["light", "2", f"{np.mean(slopes):.4f} ± {np.std(slopes, ddof=1):.4f}"]


def test_a_scale_is_seen_where_it_acts_and_nowhere_else(report):
    table = report.tables["brighter"]
    assert table["response"]["separation"] > 0.9 > 0.3 > table["total"]["separation"] > 0.0
    assert all(table[name]["distance"] < 1e-5 for name in ("centre_x", "transverse", "width", "brightest"))
    assert report.auc["brighter"] > 0.85 and abs(report.auc["floor"] - 0.5) < 0.2


def test_resolution_beside_the_real_one(report, electrons):
    lines = {row[0]: row[2:] for row in report.resolution_rows()}
    found = energy_resolution(report.real[:, 0], electrons.particles[:, 0])
    assert lines["real"] == [f"{found['stochastic']:.4f}", f"{found['constant']:.4f}"]
    assert lines["brighter"] == lines["real"]  # relative to the mean


def test_few_showers_have_no_resolution(electrons):
    few = EnergyReport(electrons[:40], {"half": 0.5 * electrons.response[:40]})
    assert few.resolution_rows()[1:] == [["real", "1", "-", "-"], ["half", "1", "-", "-"]] and "half" in few.tables


def test_folders_may_be_words(report, tmp_path):
    assert report.write(str(tmp_path / "more")) == (tmp_path / "more" / "report.txt").read_text().rstrip("\n")


def test_text(report, tmp_path):
    text = report.write(tmp_path / "new", [["more", "words"], ["a", "b"]], "a sentence")
    assert (tmp_path / "new" / "report.txt").read_text(encoding="utf-8") == text + "\n"
    words = [line.split() for line in text.splitlines()]
    assert text.endswith("a sentence") and words[-4:-2] == [["more", "words"], ["a", "b"]]
    assert words[-8:-5] == report.resolution_rows()[1:]
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"report.txt"}


def test_responses_of_another_shape(electrons):
    with pytest.raises(ValueError, match=r"Expected responses \(N, 30, 30\)"):
        EnergyReport(electrons, {"floor": np.ones((160, 44, 44))})

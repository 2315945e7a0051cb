import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TOOL = Path(__file__).parents[2] / "tools" / "geant4_points.py"


@pytest.fixture(scope="module")
def tool():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOL.parent)
        spec = importlib.util.spec_from_file_location(TOOL.stem, TOOL)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def cloud(size=2000):
    rng = np.random.default_rng(0)
    return np.column_stack([rng.normal(0, 1, (size, 2)) * rng.exponential(30, (size, 1)), rng.uniform(0, 390, size),
                            rng.exponential(1.0, size)])


@pytest.mark.parametrize("slope", [0.0, 0.25, -0.6])
def test_merging_keeps_energy_and_its_centre(tool, slope):
    points = cloud()
    merged = tool.merged_along(points, slope, 36.0)
    assert len(merged) < len(points)
    assert merged[:, 3].sum() == pytest.approx(points[:, 3].sum())
    np.testing.assert_allclose(merged[:, 3] @ merged[:, :3], points[:, 3] @ points[:, :3])


def test_merging_follows_the_line_of_flight(tool):
    """A narrow shower along x = slope z is merged as the same shower along z is."""
    straight = cloud() * (0.02, 0.02, 1, 1)
    tilted = straight + straight[:, 2:3] * (0.25, 0, 0, 0)
    along = tool.merged_along(tilted, 0.25, 36.0)
    np.testing.assert_allclose(along - along[:, 2:3] * (0.25, 0, 0, 0), tool.merged(straight, 36.0), atol=1e-9)


@pytest.mark.parametrize("radius, size", [(5.0, 2.5), (40.0, 5.0), (100.0, 10.0), (400.0, 20.0)])
def test_cubes_grow_with_the_distance_from_the_axis(tool, radius, size):
    wall = np.ceil(radius / size) * size
    pair = np.array([[wall + 0.1, 0.1, 1.0, 1.0], [wall + size - 0.1, 0.1, 35.0, 3.0]])
    np.testing.assert_allclose(tool.merged(pair, 36.0), [[wall + 0.75 * size - 0.05, 0.1, 26.5, 4.0]])
    for step in ((size, 0, 0, 0), (0, 0, 36.0, 0)):
        assert len(tool.merged(pair + np.array([[0, 0, 0, 0], step]), 36.0)) == 2


@pytest.mark.parametrize("environment, message", [
    ({}, "GEANT4_DATA_DIR, received None"),
    ({"GEANT4_DATA_DIR": str(Path(__file__).parent)}, "without G4EMLOW"),
])
def test_missing_data_files_are_named(tmp_path, environment, message):
    clean = {key: value for key, value in os.environ.items() if key != "GEANT4_DATA_DIR"}
    clean["PYTHONPATH"] = str(TOOL.parents[1])
    run = subprocess.run([sys.executable, str(TOOL), "ecal", str(tmp_path / "a.npz"), "--showers", "1"],
                         env=clean | environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1 and message in run.stderr
    assert not (tmp_path / "a.npz").exists()


@pytest.mark.parametrize("arguments, message", [
    (["ecal"], "--showers N or --seconds S"),
    (["ecal", "--showers", "1", "--energy", "50", "20"], "LOW < HIGH"),
    (["ecal", "--showers", "1", "--energy", "0.1", "20"], "0.5 <= LOW"),
    (["ecal", "--showers", "1", "--kinds", "e-=0"], "share"),
    (["ecal", "--showers", "1", "--slope", "steep"], "invalid float value: 'steep'"),
    (["zn", "--showers", "1"], "invalid choice: 'zn'"),
])
def test_bad_arguments(tool, capsys, tmp_path, arguments, message):
    with pytest.raises(SystemExit):
        tool.main([arguments[0], str(tmp_path / "a.npz"), *arguments[1:]])
    assert message in capsys.readouterr().err


def test_an_earlier_run_goes_on_with_the_same_settings_only(tool, tmp_path):
    parts = [cloud(3), cloud(5)]
    tool.save(tmp_path / "a.npz", parts, [(11, 1.5), (11, 2.5)], [0.1, 0.2], "these")
    points, rows, seconds = tool.earlier(tmp_path / "a.npz", "these")
    assert [len(p) for p in points] == [3, 5] and np.array(rows).tolist() == [[11, 1.5], [11, 2.5]]
    assert all(np.array_equal(p, part.astype("float32")) for p, part in zip(points, parts, strict=True))
    assert len(seconds) == 2 and tool.earlier(tmp_path / "b.npz", "these") == ([], [], [])
    with pytest.raises(SystemExit, match="made with these"):
        tool.earlier(tmp_path / "a.npz", "those")


def test_another_slope_is_another_setting(tool, tmp_path, monkeypatch):
    """Going on with a file of another slope is refused before Geant4 is looked for."""
    monkeypatch.delenv("GEANT4_DATA_DIR", raising=False)
    shoot = ["ecal", str(tmp_path / "a.npz"), "--showers", "2", "--slope", "0.25"]
    tool.save(tmp_path / "a.npz", [cloud(3)], [(11, 1.5)], [0.1], "others")
    with pytest.raises(SystemExit) as stop:
        tool.main(shoot)
    wanted = re.search("made with the settings (.*); received", str(stop.value))[1]
    assert json.loads(wanted)["slope"] == 0.25
    tool.save(tmp_path / "a.npz", [cloud(3)], [(11, 1.5)], [0.1], wanted)
    with pytest.raises(SystemExit, match="GEANT4_DATA_DIR"):
        tool.main(shoot)
    with pytest.raises(SystemExit, match="Expected a new file"):
        tool.main(shoot[:-2])

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TOOL = Path(__file__).parents[2] / "tools" / "geant4_showers.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("geant4_showers", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_no_light_below_threshold(tool):
    assert tool.photons(np.array([0.3, 1 / tool.INDEX]), np.array([0.7, 0.7]), 1.0, 1.0).tolist() == [0, 0]


def test_light_of_a_fast_particle(tool):
    """Against the cone sampled by Monte Carlo: photons within asin(NA / n) of the fibre, forwards."""
    beta, axis = 0.99, np.cos(np.radians(40.0))
    cosine = 1 / (tool.INDEX * beta)
    phi = np.random.default_rng(0).uniform(0, 2 * np.pi, 200_000)
    along = axis * cosine + np.sqrt((1 - axis**2) * (1 - cosine**2)) * np.cos(phi)
    trapped = (along >= np.sqrt(1 - (tool.APERTURE / tool.INDEX) ** 2)).mean()
    per_mm = 36.98 * 2 * tool.EFFICIENCY * (1 - cosine**2)
    value = tool.photons(np.array([beta]), np.array([axis]), 2.0, 0.5)[0]
    assert value == pytest.approx(4 * 0.5 * per_mm * trapped, rel=0.02)


def test_light_goes_one_way_and_near_the_cone_only(tool):
    axis = np.cos(np.radians([0.0, 20.0, 47.0, 80.0, 133.0]))
    light = tool.photons(np.full(5, 0.9999), axis, 1.0, 1.0)
    assert light[2] > 0 and not light[[0, 1, 3, 4]].any()


@pytest.mark.parametrize("environment, message", [
    ({}, "GEANT4_DATA_DIR, received None"),
    ({"GEANT4_DATA_DIR": "nowhere"}, "received 'nowhere'"),
    ({"GEANT4_DATA_DIR": str(Path(__file__).parent)}, "without G4EMLOW"),
])
def test_missing_data_files_are_named(tmp_path, environment, message):
    clean = {key: value for key, value in os.environ.items() if key != "GEANT4_DATA_DIR"}
    clean["PYTHONPATH"] = str(TOOL.parents[1])
    run = subprocess.run([sys.executable, str(TOOL), "zn", str(tmp_path / "a.npz"), "--showers", "1"],
                         env=clean | environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1 and message in run.stderr
    assert not (tmp_path / "a.npz").exists()


@pytest.mark.parametrize("arguments, message", [
    ([], "--showers N or --seconds S"),
    (["--showers", "1", "--energy", "50", "20"], "LOW < HIGH"),
    (["--showers", "1", "--kinds", "gamma"], "NAME=SHARE|share"),
])
def test_bad_arguments(tool, capsys, tmp_path, arguments, message):
    with pytest.raises(SystemExit):
        tool.main(["zn", str(tmp_path / "a.npz"), *arguments])
    assert any(part in capsys.readouterr().err for part in message.split("|"))


def test_other_settings_do_not_mix(tool, tmp_path):
    tool.save(tmp_path / "a.npz", [np.ones((2, 2))], [(22, 1, 0, 0, 0, 0)], [0.1], "these")
    light, rows, seconds = tool.earlier(tmp_path / "a.npz", "these")
    assert light[0].tolist() == [[1, 1], [1, 1]] and rows[0][0] == 22 and len(seconds) == 1
    with pytest.raises(SystemExit, match="made with these"):
        tool.earlier(tmp_path / "a.npz", "those")

"""What both kinds of Geant4 showers share, seen through both tools."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TOOLS = Path(__file__).parents[2] / "tools"
DETECTORS = {"geant4_showers": "zn", "geant4_points": "ecal"}


@pytest.fixture(scope="module", params=DETECTORS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def tool(load_tool, name):
    return load_tool(name)


@pytest.mark.parametrize("environment, message", [
    ({}, "GEANT4_DATA_DIR, received None"),
    ({"GEANT4_DATA_DIR": "nowhere"}, "received 'nowhere'"),
    ({"GEANT4_DATA_DIR": str(Path(__file__).parent)}, "without G4EMLOW"),
])
def test_missing_data_files_are_named(name, tmp_path, environment, message):
    clean = {key: value for key, value in os.environ.items() if key != "GEANT4_DATA_DIR"}
    clean["PYTHONPATH"] = str(TOOLS.parent)
    command = [sys.executable, str(TOOLS / f"{name}.py"), DETECTORS[name], str(tmp_path / "a.npz"), "--showers", "1"]
    run = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1 and message in run.stderr
    assert not (tmp_path / "a.npz").exists()


def test_what_geant4_lacks_is_told(name, tmp_path):
    """Of a package that is there, but whose libraries are not, the loader's own words."""
    for folder in ("G4EMLOW8.8", "G4PARTICLEXS4.2", "G4ENSDFSTATE3.0"):
        (tmp_path / folder).mkdir()
    (tmp_path / "geant4_pybind.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    clean = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{TOOLS.parent}", "GEANT4_DATA_DIR": str(tmp_path)}
    command = [sys.executable, str(TOOLS / f"{name}.py"), DETECTORS[name], str(tmp_path / "a.npz"), "--showers", "1"]
    run = subprocess.run(command, env=clean, capture_output=True, text=True, check=False)
    assert run.returncode == 1 and run.stderr.splitlines()[-1].endswith("libGL.so.1: cannot open shared object file.")


@pytest.mark.parametrize("arguments, message", [
    ([], "--showers N or --seconds S"),
    (["--showers", "1", "--energy", "50", "20"], "LOW < HIGH"),
    (["--showers", "1", "--energy", "0.1", "20"], r"expected (2|0\.5) <= LOW"),
    (["--showers", "1", "--kinds", "gamma"], "share"),
    (["--showers", "1", "--kinds", "e-=0"], "share"),
])
def test_bad_arguments(tool, name, capsys, tmp_path, arguments, message):
    with pytest.raises(SystemExit):
        tool.main([DETECTORS[name], str(tmp_path / "a.npz"), *arguments])
    assert re.search(message, capsys.readouterr().err)


def test_other_detectors_are_refused(tool, name, capsys, tmp_path):
    other = {"zn": "ecal", "ecal": "zn"}[DETECTORS[name]]
    with pytest.raises(SystemExit):
        tool.main([other, str(tmp_path / "a.npz"), "--showers", "1"])
    assert f"invalid choice: '{other}'" in capsys.readouterr().err


def test_an_earlier_run_goes_on_with_the_same_settings_only(load_tool, tmp_path):
    """Showers of different lengths come back as they were, with their primaries."""
    def raw(settings, path=tmp_path / "a.npz"):
        return load_tool("geant4_run").RawShowers(
            path, settings, lambda parts: {"all": np.concatenate(parts), "counts": np.array(list(map(len, parts)))},
            lambda archive: np.split(archive["all"], np.cumsum(archive["counts"])[:-1]))

    first, parts = raw({"seed": 1}), [np.arange(3.0), np.arange(5.0)]
    assert len(first) == 0
    for k, part in enumerate(parts):
        first.add(part, (11, 1.5 + k), 0.25)
    first.save()
    again = raw({"seed": 1})
    assert [part.tolist() for part in again.responses] == [part.tolist() for part in parts]
    assert np.array(again.primaries).tolist() == [[11, 1.5], [11, 2.5]] and again.seconds == [0.25, 0.25]
    assert len(again) == 2 and len(raw({"seed": 1}, tmp_path / "b.npz")) == 0
    with pytest.raises(SystemExit, match=r"settings \{.seed.: 2\}; received .*a.npz, made with \{.seed.: 1\}"):
        raw({"seed": 2})


@pytest.mark.parametrize("changes", [["--seed", "2"], ["--energy", "5", "60"], ["--kinds", "gamma=1"]])
def test_other_settings_do_not_mix(tool, name, tmp_path, monkeypatch, changes):
    """Going on with a file of other settings is refused before Geant4 is looked for."""
    monkeypatch.delenv("GEANT4_DATA_DIR", raising=False)
    command = [DETECTORS[name], str(tmp_path / "a.npz"), "--showers", "2"]
    np.savez(tmp_path / "a.npz", settings=np.array("others"))
    with pytest.raises(SystemExit, match="made with others") as stop:
        tool.main(command)
    wanted = re.search("made with the settings (.*); received", str(stop.value))[1]
    assert json.loads(wanted)["seed"] == 1 and json.loads(wanted)["detector"] == DETECTORS[name]
    saved = {"expected": np.ones((1, 2, 2)), "points": np.ones((1, 4)), "counts": np.ones(1, "int64")}
    np.savez(tmp_path / "a.npz", **saved, primaries=np.ones((1, 2)), seconds=np.ones(1), settings=np.array(wanted))
    with pytest.raises(SystemExit, match="GEANT4_DATA_DIR"):
        tool.main(command)
    with pytest.raises(SystemExit, match="Expected a new file"):
        tool.main([*command, *changes])


def test_primaries_are_those_of_seed_and_number(load_tool):
    """Kinds by their shares, and the same draws whichever came before."""
    class Geant4:
        G4VUserPrimaryGeneratorAction = G4VUserActionInitialization = object

    class Options:
        seed, kinds = 7, {"gamma": 3.0, "neutron": 1.0}

    def draw(rng):
        return rng.uniform(1, 2), *rng.normal(size=4)

    primaries = load_tool("geant4_run").Primaries(Geant4, 100.0, Options, draw)
    shot = [(primaries.prepare(k), primaries.current) for k in range(200)]
    assert (primaries.prepare(3), primaries.current) == shot[3]
    assert len({seed for seed, _ in shot}) == 200 and min(seed for seed, _ in shot) >= 1
    assert 120 < sum(current[0] == "gamma" for _, current in shot) < 180
    assert all(len(current) == 6 and 1 < current[1] < 2 for _, current in shot)

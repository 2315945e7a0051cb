"""A recipe on a user's own ROOT file in which no two particles are alike: in MeV by mistake, then right."""

import json
import runpy
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import uproot

import zdckeras as zdc
from zdckeras.data.particles import CONDITIONS, VERTEX_COLUMNS
from zdckeras.provenance import provenance_of

RECIPE = Path(__file__).parents[2] / "recipes" / "sdi_gan.py"
ROWS = 110  # the least from which 70 % fill a batch of 64

pytestmark = pytest.mark.filterwarnings("ignore:Particles outside the trained range")


def write(path, showers, unit=1.0):
    """A ROOT file by plain assignment, its energies and momenta in GeV times `unit`."""
    particles = showers.particles * [unit, 1, 1, 1, unit, unit, unit, 1, 1]
    with uproot.recreate(path) as file:
        file["showers"] = {**dict(zip(CONDITIONS, particles.T, strict=True)), "pdg": showers.pdg,
                           **{f"response_{name}": counts for name, counts in showers.responses.items()}}
    return path


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["sdi_gan.py", "--preset", "smoke", *map(str, words)])
    runpy.run_path(str(RECIPE), run_name="__main__")


@pytest.mark.neutral
def test_wrong_units_are_refused_and_right_ones_judged_without_a_floor(tmp_path, monkeypatch, capsys, without_graphs):
    monkeypatch.setattr("zdckeras.simulation.reference.PRIMARIES_AT_ONCE", 500)
    showers = zdc.load("zn", "train", ROWS)
    particles = showers.particles.copy()
    particles[:, VERTEX_COLUMNS] += np.arange(ROWS)[:, None] * 1e-6  # cm
    showers = zdc.Showers(particles, showers.pdg, showers.responses)
    words = ["--detector", "zn", "--seeds", "1", "--out", tmp_path / "out", "--data"]
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, *words, write(tmp_path / "mev.root", showers, 1e3))
    assert "energies and momenta look like MeV, expected GeV" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.*"))

    monkeypatch.setenv("ZDCKERAS_TRACEBACK", "1")
    with without_graphs():
        run(monkeypatch, *words, write(tmp_path / "gev.root", showers))
    said, report = capsys.readouterr().out, (tmp_path / "out" / "ablation.txt").read_text()
    assert "77 training, 11 validation and 22 test showers" in said and "without a floor" in said
    assert "without a floor to compare with" in report and "D(" not in report
    assert not any(line.startswith("floor") for line in report.splitlines())
    told = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert told["data"] == str(tmp_path / "gev.root") and told["test"] == 22 and told["preset"] == "smoke"
    models = list((tmp_path / "out").glob("*.keras"))
    assert models and all(provenance_of(path).items() >= told.items() for path in models)
    assert all(0.0 < provenance_of(path)["recipe_s"] < time.process_time() for path in models)

"""Bad command lines: one line on what is wrong, exit status 2, and no traceback, whatever the command."""

import runpy
import sys
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import uproot

import zdckeras as zdc
from zdckeras.cli import main
from zdckeras.command import plain_warnings, run
from zdckeras.data.particles import CONDITIONS, conditions_of

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.py"))
TOOLS = {
    "bench_backends": ["--steps 0", "--batch -1", "--batches 0", "--rows none", "--threads 0", "--seed -1",
                       "--only nothing"],
    "bench_prior": ["--width 0", "--temperature 0", "--repeats -1", "--batch 1.5", "--temperature nan"],
    "bench_sampling": ["--variables 0", "--depth 0", "--batches", "--only nothing", "--seed -2", "--width x"],
    "check_showers": ["--draws 0", "--folds -1", "--halves 0", "--halves 9 --sets 0", "--classifier 0", "zdc",
                      "--seed -1", "zn --unseen NO"],
    "check_points": ["", "ecal", "zdc NO", "ecal NO", "ecal NOTES", "ecal NO --draws 0"],
    "geant4_edges": ["", "zdc", "zn --energy -1", "zn --seconds 0"],
    "make_pretrained": ["", "NO", "NO a-b --data d --command c", "NO zn --data d --command c",
                        "NOTES zn --data d --command c", "NO zn --data d --command c --size 0"],
    "make_primaries": ["--events 0", "--seed 0", "--beam-energy -1", "--min-energy nan", "--output NO/NO/a.npz"],
    "pack_showers": ["", "zn", "zn NO --output NO", "zn NOTES --output OUT", "zdc NO --output OUT"],
    "pack_points": ["", "ecal", "ecal NO --output OUT", "ecal NOTES --output OUT"],
    "sweep": ["--seeds 0", "--workers 0", "--rows 0", "--epochs -1", "--diversity -1", "--auxiliary nan",
              "--preset huge"],
}
COMMANDS = [
    "merge", "merge NO OUT", "merge NOTES OUT", "check-o2", "check-o2 NO", "check-o2 NOTES", "check-o2 OUT --size 0",
    "generate OLD GOOD OUT --workers 0", "generate OLD GOOD OUT --shards 3", "generate OLD NO OUT --workers 1",
    "export OLD OUT --to onnx", "export NO.keras OUT.onnx --to onnx", "export OLD OLD OUT --to o2",
    "export OLD OUT --to x",
    "", "nonsense", "simulate", "simulate OUT --size 0", "simulate OUT --size 1e3", "simulate OUT --seed -1",
    "simulate OUT --detector zdc", "simulate OUT --detector zn+zn", "simulate OUT --part all",
    "simulate NOTES --size 2", "simulate OUT --detector zn+ecal", "simulate NOTES/a.root --size 2",
    "simulate /proc/no/a.root --size 2", "generate", "generate zn", "generate cpv MEV OUT",
    "generate NO.keras MEV OUT", "generate NOTES MEV OUT", "generate OLD MEV OUT", "generate OLD NO OUT",
    "generate OLD NOTES OUT", "generate OLD EMPTY OUT", "generate OLD BAD OUT", "generate OLD GOOD OUT --seed -1",
    "generate OLD GOOD GOOD", "generate BROKEN GOOD OUT", "compare", "compare NO.keras", "compare cpv",
    "compare OLD --size 0", "compare OLD --runs 0", "compare OLD --seed x", "compare OLD --data NO",
    "compare OLD --data MEV", "compare OLD --data zdc", "compare OLD --data ecal",
    "compare OLD --data GOOD --detector ecal", "compare BROKEN --data GOOD", "compare NOTES --size 5", "export",
    "export NO.keras OUT", "export NOTES OUT", "export OLD OUT --version 0", "export BROKEN OUT",
    "export OLD OUT --version x", "export OLD OUT --to onnx --version 1", "export OLD OUT --precision float32",
    "export zn --to o2", "export zn zp", "generate OLD GOOD OUT --workers 1 --scheduler tcp://127.0.0.1:1",
    "compare OLD --data GOOD --size 30", "compare OLD --part test", "compare OLD --data zn --part test",
    "compare OLD --overwrite", "simulate OUT --detector ecal --keep-all", "simulate OUT --detector zdc --keep-all",
]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Names in command lines -> files of this test."""
    folder = tmp_path_factory.mktemp("commands")
    rng = np.random.default_rng(0)
    pdg = np.resize([22, 2112], 40)
    particles = conditions_of(pdg, np.column_stack([rng.normal(0, 0.1, (40, 2)), rng.uniform(50, 2000, 40)]))
    showers = zdc.Showers(particles, pdg, {"zn": rng.poisson(0.3, (40, 44, 44))})
    files = {"GOOD": zdc.write_root(showers, folder / "good.root"), "NOTES": folder / "notes.txt",
             "OUT": folder / "out", "NO": folder / "no.root", "MEV": folder / "mev.root", "BAD": folder / "bad.root",
             "EMPTY": folder / "empty.npz", "OLD": ROOT / "tests" / "data" / "old" / "gan.keras",
             "BROKEN": folder / "broken.keras"}
    files["NOTES"].write_text("notes")
    files["BAD"].write_bytes(files["GOOD"].read_bytes()[:2000])
    files["BROKEN"].write_bytes(files["OLD"].read_bytes()[:20_000])
    np.savez(files["EMPTY"], np.zeros((0, 9)))
    scaled = dict(zip(CONDITIONS, (particles * [1e3, 1, 1, 1, 1e3, 1e3, 1e3, 1, 1]).T, strict=True))
    with uproot.recreate(files["MEV"]) as file:
        file["showers"] = scaled | {"pdg": pdg, "response_zn": showers.response}
    return {name: str(path) for name, path in files.items()}


def filled(line, words):
    """The words of a command line with the names of files."""
    for name in sorted(words, key=len, reverse=True):
        line = line.replace(name, words[name])
    return line.split()


def ends(call, capsys):
    """"" if a call ends with status 2 and tells why in its last line; or what it did."""
    try:
        call()
    except SystemExit as stop:
        said = capsys.readouterr().err
        good = stop.code == 2 and "Traceback" not in said and said.strip() and len(said.splitlines()[-1]) < 700
        return "" if good else f"status {stop.code}: {said[-300:]!r}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "went on"


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes(recipe, words, capsys, monkeypatch):
    lines = ["--data", "--data NO", "--data NOTES", "--data BAD", "--data MEV", "--data EMPTY", "--data GOOD NO",
             "--seed -1", "--seed 0.5", "--seed 99999999999", "--preset huge", "--out NOTES", "--out NOTES/out",
             "--out /proc/no", "--detector zdc", "--seeds 0", "--seeds -1", "--nonsense"]
    if recipe in ("wgan_gp", "focal_h", "joint_gan"):
        lines.append("--data GOOD")  # of another detector
    program = runpy.run_path(str(ROOT / "recipes" / f"{recipe}.py"), run_name="recipe")
    found = {}
    for line in [["--data", ""], *(filled(line, words) for line in lines)]:
        out = [] if "--out" in line else ["--out", words["OUT"]]
        monkeypatch.setattr(sys, "argv", [f"{recipe}.py", "--preset", "smoke", *out, *line])
        found[" ".join(line)] = ends(lambda: program["run"](program["main"]), capsys)
    assert {line: said for line, said in found.items() if said} == {}


def test_tools(words, capsys, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    found = {}
    for tool, lines in TOOLS.items():
        program = import_module(tool)
        for line in lines:
            monkeypatch.setattr(sys, "argv", [f"{tool}.py", *filled(line, words)])
            found[f"{tool} {line}"] = ends(lambda program=program: run(program.main), capsys)
    assert {line: said for line, said in found.items() if said} == {}


def test_commands(words, capsys, monkeypatch):
    monkeypatch.setattr("zdckeras.simulation.reference.PRIMARIES_AT_ONCE", 300)
    found = {line: ends(lambda line=line: main(filled(line, words)), capsys) for line in COMMANDS}
    assert {line: said for line, said in found.items() if said} == {}
    assert not Path(words["OUT"]).exists() or not list(Path(words["OUT"]).rglob("*.npz"))


def test_warnings_are_told_in_one_line_and_once():
    before = warnings.formatwarning
    with plain_warnings("zdckeras compare"):
        told = [warnings.formatwarning(UserWarning(text), UserWarning, "a.py", 1)
                for text in ("far\nout", "far\nout", "no")]
    assert told == ["\nzdckeras compare: warning: far out\n", "", "\nzdckeras compare: warning: no\n"]
    assert warnings.formatwarning is before

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from tests.simulation.test_parts import SIZES, own, same
from zdckeras.data.files import write_npz, write_root
from zdckeras.metrics.report import judge
from zdckeras.provenance import provenance_of
from zdckeras.recipe import (
    TAKEN,
    check_results,
    command_line,
    judged,
    judged_with_times,
    recipe_data,
    recipe_states,
    write_results,
)
from zdckeras.simulation import reference
from zdckeras.simulation.parts import showers_for

PRESETS, DETECTORS = {"laptop": 1, "smoke": 2}, ("zn", "zp")
OPTIONS = dict(log=None, devices=None, minutes=None, device_noise=False, mixed_precision=False)
pytestmark = pytest.mark.usefixtures("small_blocks")


def parse(*words, **settings):
    return command_line("what it does", PRESETS, "runs/x", **settings).parse_args(words)


def test_defaults():
    assert vars(parse(detectors=DETECTORS, trainings=3)) == dict(
        preset="laptop", detector="zn", data=None, out=Path("runs/x"), seeds=3, seed=0, **OPTIONS)
    assert vars(parse()) == dict(preset="laptop", data=None, out=Path("runs/x"), seed=0, **OPTIONS)


def test_arguments_and_what_recipes_add():
    words = f"--preset smoke --detector zp --data {__file__}.root --out b --seed 7 --seeds 2".split()
    with pytest.raises(SystemExit):
        parse(*words, detectors=DETECTORS, trainings=1)
    words[5] = "root://host//a.root"
    assert vars(parse(*words, detectors=DETECTORS, trainings=1)) == dict(
        preset="smoke", detector="zp", data="root://host//a.root", out=Path("b"), seed=7, seeds=2, **OPTIONS)
    assert parse("--data", "root://a//b.root", "root://a//c.root").data == ["root://a//b.root", "root://a//c.root"]
    parser = command_line("what it does", PRESETS, "runs/x")
    parser.add_argument("--sizes", nargs="+")
    assert parser.parse_args(["--sizes", "1M", "4M"]).sizes == ["1M", "4M"]


@pytest.mark.parametrize(("words", "message"), [
    (("--detector", "ecal"), "'ecal' (choose from"), (("--preset", "huge"), "'huge' (choose from"),
    (("--seed", "1.5"), "invalid int value: '1.5'"), (("--seeds", "3"), "unrecognized arguments: --seeds 3"),
    (("--seed", "-1"), "expected a whole number of at least 0, received -1"), (("--data", ""), "received ''"),
    (("--seed", "9" * 30), "expected a whole number of at most"), (("--data", "no.root"), "No such file"),
    (("--data", "no*.root"), "No file or folder matches no*.root"), (("--data",), "expected at least one argument")])
def test_wrong_arguments_are_told(capsys, words, message):
    with pytest.raises(SystemExit) as left:
        parse(*words, detectors=DETECTORS)
    assert left.value.code == 2 and message in capsys.readouterr().err


def test_help_says_what_the_recipe_does(capsys):
    about = "Vector quantisation at 100 %:\n\n    an indented line"
    with pytest.raises(SystemExit) as left:
        command_line(about, PRESETS, "runs/x", DETECTORS).parse_args(["--help"])
    told = capsys.readouterr().out
    assert left.value.code == 0 and about in told and "{laptop,smoke}" in told and "{zn,zp}" in told


def test_halves_of_own_showers_are_refused_before_these_are_read(capsys, tmp_path):
    parser = command_line("about", ["smoke"], tmp_path / "out", ("zn",), halves=True)
    args = parser.parse_args(["--halves"])
    args.data = tmp_path / "nothing.root"
    with pytest.raises(SystemExit):
        recipe_data(args, SIZES)
    assert "expected embedded data, whose Geant4 library is known, received --data" in capsys.readouterr().err


def test_results_with_halves_are_others(capsys, tmp_path):
    parser = command_line("about", ["smoke"], tmp_path, ("zn",), halves=True)
    (tmp_path / "provenance.json").write_text('{"preset": "smoke"}', encoding="utf-8")
    check_results(parser.parse_args([]))
    with pytest.raises(SystemExit):
        check_results(parser.parse_args(["--halves", "--out", str(tmp_path)]))
    assert "has results of halves False, asked for are halves True" in capsys.readouterr().err


def test_own_showers_without_repeats_have_no_floor(tmp_path):
    """All rows of the test are then judged."""
    path = write_npz(own(conditions=200, repeats=1, dim=0), tmp_path / "single")
    training, validation, test, floor = showers_for("zn", path, SIZES)
    assert [len(part) for part in (training, validation, test)] == [140, 20, 40] and floor == []
    data = recipe_data(parse("--data", str(path), "--out", str(tmp_path / "out")), SIZES, "zn")
    assert data.floor == [] and not data.repeats and "judged without a floor" in data.provenance["floor"]
    table = judged(parse("--out", str(tmp_path)), data, {"copy": lambda conditions, seed: data.test.response}, 1)
    assert list(table.scores) == ["copy"] and [row[-1] for row in table.rows()[1:]] == ["0.00", "-"]
    assert "judged without a floor" in (tmp_path / "report.md").read_text()


def test_what_was_judged_is_written_before_times_are_taken(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("the machine went down")

    monkeypatch.setattr("zdckeras.judging.milliseconds", fail)
    args = parse("--out", str(tmp_path), detectors=DETECTORS)
    data = recipe_data(args, SIZES)
    flat = SimpleNamespace(ready=lambda: SimpleNamespace(sample=lambda *_: data.test.response, TAKES_IDS=False))
    with pytest.raises(RuntimeError, match="went down"):
        judged_with_times(args, data, {"copy": flat}, dict(generations=1, pairs=8))
    scores = json.loads((tmp_path / "report.json").read_text())
    assert scores["copy"]["metrics"]["all"]["WS"][0] == 0.0 and 0.0 <= scores["copy"]["pixels"] <= 1.0
    assert json.loads((tmp_path / "provenance.json").read_text())["test"] == 9


def test_data_of_a_recipe(tmp_path):
    """A stage may want more embedded showers than the training part has; its first ones are the training part."""
    data = recipe_data(parse("--detector", "zp", "--out", str(tmp_path), detectors=DETECTORS), SIZES, more=50,
                       draws=(1, 2))
    assert [len(part) for part in (data.training, data.more, data.validation, data.test)] == [30, 50, 12, 9]
    assert same(data.more, reference.load("zp", "train", 50)) and same(data.training, data.more[:30])
    assert len(data.floor) == 2 and not np.array_equal(*data.floor)
    assert all(np.array_equal(a, b.response) for a, b in zip(data.floor, data.resimulated, strict=True))
    assert list(data.arrays) == ["conditions", "responses"]
    assert np.array_equal(data.arrays["responses"], data.training.response)
    assert np.array_equal(data.arrays["conditions"], data.training.particles)


def test_own_showers_are_used_whole(tmp_path):
    path = write_npz(own(), tmp_path / "folder")
    args = parse("--data", str(path), "--out", str(tmp_path / "out"))
    data = recipe_data(args, SIZES, "zn", more=50)
    assert len(data.training) == 126 and data.more is data.training and len(data.floor) == 1
    assert (data.provenance["training"], data.provenance["test"]) == (126, f"{len(data.test)} of 36")
    assert data.provenance["seed"] == 0 and data.provenance["data"] == str(path) and "log" not in data.provenance


def test_own_showers_are_known_by_content(tmp_path):
    """The same name with other showers is other data; the same showers under another name are not."""
    folders = []
    for name, showers in (("a.root", own()), ("b.root", own()), ("a.root", own()[30:])):
        args = parse("--data", str(write_root(showers, tmp_path / name)), "--out", str(tmp_path))
        folders.append(recipe_states(args, {"epochs": 1}, data=recipe_data(args, SIZES, "zn")))
    assert folders[0] == folders[1] != folders[2]


def test_wrong_data_and_folders_end_in_one_line(tmp_path, capsys):
    path = write_root(own(), tmp_path / "own.root")
    (tmp_path / "file").write_text("in the way")
    for words, detector, message in (
            (["--data", str(path), "--out", str(tmp_path)], "zp", "no detector 'zp', only zn"),
            (["--out", str(tmp_path / "file" / "out")], "zn", "cannot write into"),
            (["--out", "/proc/out"], "zn", "cannot write into /proc/out")):
        with pytest.raises(SystemExit) as left:
            recipe_data(parse(*words), SIZES, detector)
        said = capsys.readouterr().err
        assert left.value.code == 2 and message in said and said.count("\n") == 1


def test_states_belong_to_settings_detector_data_and_seed():
    words = [(), ("--detector", "zp"), ("--seed", "1")]
    folders = [recipe_states(parse(*one, detectors=DETECTORS), {"epochs": 1}) for one in words]
    folders += [recipe_states(parse(detectors=DETECTORS), {"epochs": 2}), recipe_states(parse(), {"epochs": 1})]
    assert len({folder.name for folder in folders}) == 5
    assert [folder.parts[1] for folder in folders] == ["x", "x_zp", "x", "x", "x"]
    assert folders[0] == recipe_states(parse(detectors=DETECTORS), {"epochs": 1})


def test_states_of_an_earlier_run_with_other_settings_are_named_and_stages_of_this_one_are_not(tmp_path, capsys):
    args = parse("--out", str(tmp_path))
    for run in range(2):  # the second finds what the first left
        for stage in ("autoencoder", "prior"):
            recipe_states(args, stage).mkdir(parents=True, exist_ok=True)
        assert capsys.readouterr().out == "", run
        TAKEN.clear()
    recipe_states(args, "autoencoder", "longer")
    assert capsys.readouterr().out == f"{tmp_path / 'states'} holds states of other settings or data; they are not " \
        "taken up\n"


def test_what_is_chosen_has_a_folder_of_its_own(tmp_path):
    parser = command_line("about", ["laptop", "smoke"], "runs/x", DETECTORS, halves=True)
    parser.add_argument("--rows", choices=("all", "ours"), default="all")
    write_root(own(conditions=4, dim=0), tmp_path / "own.root")
    given = {"": "runs/x", "--preset smoke": "runs/x_smoke", f"--detector {DETECTORS[1]} --preset smoke":
             f"runs/x_{DETECTORS[1]}_smoke", "--preset smoke --out here": "here", "--preset laptop": "runs/x",
             "--rows ours --halves": "runs/x_ours_halves", "--rows all": "runs/x",
             f"--data {tmp_path / 'own.root'}": "runs/x_own"}
    assert {words: str(parser.parse_args(words.split()).out) for words in given} == given


@pytest.mark.parametrize(("words", "message"), [
    (["--seed", "1"], "has results of seed 0, asked for are seed 1: choose another --out"),
    (["--data", "own.root"], "has results of data embedded simulation, asked for are data own.root"), ([], None)])
def test_results_of_other_data_and_seeds_are_kept(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    write_root(own(conditions=4, dim=0), tmp_path / "own.root")
    args = parse("--out", str(tmp_path), *words)
    made = {"recipe": Path(sys.argv[0]).stem, "preset": args.preset, "seed": 0, "data": "embedded simulation"}
    (tmp_path / "provenance.json").write_text(json.dumps(made))
    if message is None:
        return check_results(args)
    with pytest.raises(SystemExit, match="2"):
        recipe_data(args, {"train": 1}, "zn")
    assert message in capsys.readouterr().err


FIRST, BOTH, ALL = ["GAN"], ["GAN", "flow"], None


@pytest.mark.parametrize(("name", "made", "asked", "kept"), [
    ("seeds", 3, 1, True), ("seeds", 1, 3, False), ("seeds", 3, 3, False), ("in_order", True, False, True),
    ("rows", BOTH, FIRST, True), ("rows", FIRST, BOTH, False), ("rows", ALL, BOTH, True), ("rows", BOTH, ALL, False),
    ("rows", "all", "ours", True), ("rows", "ours", "published", True), ("rows", "ours", "all", False),
    ("rows", BOTH, [], True), ("rows", BOTH, tuple(BOTH), False), ("rows", BOTH, tuple(FIRST), True),
    ("sizes", BOTH, FIRST, True), ("sizes", ALL, FIRST, True), ("sizes", FIRST, BOTH, False),
    ("lambdas", ALL, [0.1], True), ("lambdas", [0.1], [0.1], False), ("lambdas", [0.1], ALL, True),
    ("lambdas", [0.1, 0.2], [0.2, 0.1], True), ("lambdas", [0.1, 0.1], [0.1, 0.2], True)])
def test_a_report_does_not_lose_rows_or_trainings(tmp_path, capsys, name, made, asked, kept):
    args = parse("--out", str(tmp_path))
    setattr(args, name, asked)
    told = {"recipe": Path(sys.argv[0]).stem, "seed": 0} | ({} if made is ALL else {name: made})  # None is not told
    (tmp_path / "provenance.json").write_text(json.dumps(told))
    if not kept:
        return check_results(args)
    with pytest.raises(SystemExit, match="2"):
        check_results(args)
    assert f"has results of {name} {made}, asked for are {name} {asked}: choose another --out" in capsys.readouterr(
        ).err


def test_results_are_written(tmp_path, capsys):
    test, args = own(conditions=40, dim=0), parse("--out", str(tmp_path), "--seed", "3")
    asked = []

    def sample(conditions, seed):
        asked.append((len(conditions), seed))
        return test.response[: len(conditions)]

    table = judge(test, [test.response], {"copy": sample}, 1)
    table.provenance = {"preset": "smoke", "seed": 3}
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    write_results(args, "study.txt", "what was found", table, test, {"copy": sample}, {"copy": {"loss": [2.0, 1.0]}},
                  {"generator.keras": model})
    made = "Made with: preset smoke; seed 3."
    assert (tmp_path / "study.txt").read_text() == f"what was found\n\n{made}\n" and asked[-1] == (200, 3)
    assert made in (tmp_path / "report.md").read_text()
    assert provenance_of(tmp_path / "generator.keras") == json.loads((tmp_path / "provenance.json").read_text())
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"study.txt", "report.md", "report.json", "provenance.json", "generator.keras", "responses.png",
                     "channels.png", "shapes.png", "learning.png"}
    told = capsys.readouterr().out
    assert "what was found" in told and f"tables, pictures and models are in {tmp_path}" in told
    kernel = keras.saving.load_model(tmp_path / "generator.keras").get_weights()[0]
    assert np.array_equal(kernel, model.get_weights()[0])

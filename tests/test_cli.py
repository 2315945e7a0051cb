"""The console command, run in this process through its `main`."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import zdckeras as zdc
import zdckeras.comparison.contenders  # before `round_zn` replaces what it imports
from zdckeras.cli import main
from zdckeras.data.files import open_showers
from zdckeras.metrics.report import text_table
from zdckeras.simulation import reference

OLD = str(Path(__file__).parent / "data" / "old" / "gan.keras")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(reference, "PRIMARIES_AT_ONCE", 800)


@pytest.mark.parametrize("output", ["out", "out.root"])
@pytest.mark.parametrize("name", ["zn", "zn+zp", "ecal"])
def test_file_holds_the_reference_draw(tmp_path, capsys, output, name):
    """700 showers: several blocks, the last one cut short."""
    words = ["--detector", name, "--size", "700", "--seed", "4", "--part", "test"]
    assert main(["simulate", str(tmp_path / output), *words]) == 0
    written, expected = open_showers(tmp_path / output), reference.load(name, "test", 700, 4)
    assert np.array_equal(written.particles, expected.particles) and np.array_equal(written.pdg, expected.pdg)
    assert list(written.responses) == list(expected.responses)
    assert all(np.array_equal(r, written.responses[one]) for one, r in expected.responses.items())
    assert written.metadata == expected.metadata
    assert f"simulating {name} test" in capsys.readouterr().err


def test_all_responses_can_be_kept(tmp_path):
    main(["simulate", str(tmp_path / "all.root"), "--size", "500", "--keep-all"])
    written = open_showers(tmp_path / "all.root")
    assert len(written) == 500 and (written.photon_sums() == 0).mean() > 0.3
    assert written.metadata["photons"] == "any"


@pytest.mark.parametrize("output", ["out", "out.root"])
def test_existing_output_is_kept_unless_told_otherwise(tmp_path, capsys, output):
    path = str(tmp_path / output)
    main(["simulate", path, "--size", "5"])
    before = open_showers(path)
    with pytest.raises(SystemExit) as stop:
        main(["simulate", path, "--size", "6", "--seed", "1"])
    assert stop.value.code == 2 and "exists: choose another name, or --overwrite" in capsys.readouterr().err
    assert np.array_equal(open_showers(path).particles, before.particles)
    main(["simulate", path, "--size", "6", "--seed", "1", "--overwrite"])
    assert len(open_showers(path)) == 6


def test_other_detectors_replace_the_old_ones(tmp_path):
    main(["simulate", str(tmp_path), "--size", "5", "--detector", "zn"])
    main(["simulate", str(tmp_path), "--size", "6", "--detector", "zn+zp", "--overwrite"])
    assert list(open_showers(tmp_path).responses) == ["zn", "zp"]
    main(["simulate", str(tmp_path), "--size", "7", "--detector", "zp", "--overwrite"])
    assert list(open_showers(tmp_path).responses) == ["zp"] and len(open_showers(tmp_path)) == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--detector", "zdc"], "Unknown detector 'zdc'"),
        (["--detector", "zn+ecal"], "'zn+ecal': expected one detector, or zn+zp"),
        (["--size", "0"], "number of at least 1, received 0"),
        (["--size", "many"], "invalid int value: 'many'"),
        (["--seed", "-1"], "number of at least 0, received -1"),
        (["--part", "training"], "invalid choice: 'training'"),
    ],
)
def test_wrong_arguments(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main(["simulate", str(tmp_path / "out.root"), *arguments])
    assert stop.value.code == 2 and message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_root_file_and_a_file_no_folder(tmp_path, capsys):
    (tmp_path / "a.root").mkdir()
    (tmp_path / "b").write_text("notes")
    for name, message in (("a.root", "is a folder"), ("b", "is a file")):
        with pytest.raises(SystemExit, match="2"):
            main(["simulate", str(tmp_path / name), "--size", "5"])
        assert message in capsys.readouterr().err
    assert (tmp_path / "b").read_text() == "notes"


@pytest.mark.parametrize("words", [["simulate", "PLACE"], ["simulate", "PLACE/a.root"],
                                   ["compare", OLD, "--out", "PLACE"]])
def test_outputs_are_tried_before_the_work(words, monkeypatch, capsys):
    """Where nobody can write; nothing is simulated or judged."""
    def work(*_, **__):
        raise AssertionError("begun")

    monkeypatch.setattr("zdckeras.simulation.reference.stream", work)
    monkeypatch.setattr("zdckeras.comparison.compare.compare", work)
    with pytest.raises(SystemExit, match="2"):
        main([word.replace("PLACE", "/proc/no") for word in words])
    said = capsys.readouterr().err
    assert "cannot write" in said and "/proc/no" in said and said.count("\n") == 1


def test_input_that_cannot_be_read_is_named(monkeypatch, tmp_path, capsys):
    (tmp_path / "own.root").write_text("")

    def closed(*_, **__):
        raise PermissionError(13, "Permission denied", str(tmp_path / "own.root"))

    monkeypatch.setattr("zdckeras.comparison.compare.open_showers", closed)
    with pytest.raises(SystemExit, match="1"):
        main(["compare", OLD, "--data", str(tmp_path / "own.root")])
    assert capsys.readouterr().err.endswith(f"cannot read {tmp_path / 'own.root'}: Permission denied\n")


@pytest.mark.parametrize(("words", "message"), [
    (["generate", OLD, "p.npz", "shards", "--workers", "2", "--overwrite"], "Expected --overwrite without --shards"),
    (["generate", OLD, "p.npz", "made.root", "--workers", "2"], "made.root: expected a folder for shards"),
    (["export", OLD, "a.onnx", "--to", "onnx", "--version", "3"], "Expected --version with --to saved-model only")])
def test_options_that_would_do_nothing_are_refused(words, message, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert message in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_more_than_memory_holds(tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        main(["simulate", str(tmp_path / "out"), "--size", str(10**14)])
    assert capsys.readouterr().err.endswith("do not fit into memory: write a .root file\n")


@pytest.mark.parametrize("output", ["out", "out.root"])
def test_full_disk_leaves_nothing_behind(tmp_path, capsys, output):
    """Files of this process may not grow over 20 kB for a while, which fails as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(SystemExit, match="1"):
            main(["simulate", str(tmp_path / output), "--size", "2000"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"cannot write {tmp_path / output}: File too large; nothing new was left there" in capsys.readouterr().err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_interruption_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(reference, "respond", interrupted)
    with pytest.raises(SystemExit, match="1"):
        main(["simulate", str(tmp_path / "out.root"), "--size", "5"])
    assert "interrupted; nothing new was left there" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("zdckeras.campaign.run.run_campaign", interrupted)
    with pytest.raises(SystemExit, match="1"):
        main(["generate", "zn", "particles.npz", str(tmp_path / "shards"), "--workers", "2"])
    assert "interrupted; shards that are done stay, and the same command goes on" in capsys.readouterr().err


class Round(zdc.Sampler):
    """As many photons in the first cell as the particle has GeV, and one more for noise above 0."""

    noise_width = 1

    def __init__(self, name):
        super().__init__(name="round")
        self.detectors = [zdc.detector(name)]
        self.built = True

    def predict_on_batch(self, x):
        made = np.zeros((len(x["noise"]), *self.detectors[0].shape))
        made[:, 0, 0] = np.rint(x["conditions"][:, 0]) + (x["noise"][:, 0] > 0)
        return made


@pytest.fixture
def particles(tmp_path):
    """A ROOT file of 300 showers of ZN: two blocks of a generator."""
    return zdc.write_root(zdc.load("zn", "test", size=300), tmp_path / "particles.root")


@pytest.fixture
def round_zn(monkeypatch):
    """A generator as a pretrained one called zn."""
    monkeypatch.setattr("zdckeras.packaged.model_file", lambda name: name)
    monkeypatch.setattr("zdckeras.packaged.load_model", Round)
    return Round("zn")


@pytest.mark.parametrize("output", ["made", "made.root"])
def test_generated_file_holds_what_sample_gives(particles, round_zn, tmp_path, capsys, output):
    assert main(["generate", "zn", str(particles), str(tmp_path / output), "--seed", "3"]) == 0
    made, asked = open_showers(tmp_path / output), open_showers(particles)
    assert np.array_equal(made.particles, asked.particles) and np.array_equal(made.pdg, asked.pdg)
    assert np.array_equal(made.response, round_zn.sample(asked.particles, seed=3))
    assert made.metadata == {"source": "round", "seed": 3} and "generating" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["generate", "zn", str(particles), str(tmp_path / output)])
    assert "exists: choose another name, or --overwrite" in capsys.readouterr().err
    main(["generate", "zn", str(particles), str(tmp_path / output), "--overwrite"])
    assert np.array_equal(open_showers(tmp_path / output).response, round_zn.sample(asked.particles, seed=0))


@pytest.mark.parametrize(("words", "message"), [
    (["none.keras", "PARTICLES"], "No such file: none.keras"),
    (["cpv", "PARTICLES"], "Expected the name of a pretrained generator, one of "),
    ([OLD, "none.npz"], "No such file or folder: none.npz"),
    ([OLD, "PARTICLES", "--seed", "-2"], "number of at least 0, received -2"),
])
def test_wrong_input_of_generate_is_one_line(particles, tmp_path, capsys, words, message):
    model, place, *more = [str(particles) if word == "PARTICLES" else word for word in words]
    with pytest.raises(SystemExit) as stop:
        main(["generate", model, place, str(tmp_path / "made.root"), *more])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "zdckeras generate: " in said and message in said
    assert said.splitlines()[-1].startswith("zdckeras generate: ") and not (tmp_path / "made.root").exists()


def test_comparison_is_printed_and_written(round_zn, tmp_path, capsys):
    main(["compare", "zn", "--size", "80", "--runs", "2", "--seed", "4", "--out", str(tmp_path / "report"),
          "--pixels", "0", "--no-costs"])
    table = zdc.compare({"zn": round_zn}, size=80, runs=2, seed=4)
    said = capsys.readouterr().out
    assert said.startswith(text_table(table.quality_rows()))
    assert "page.html, report.md, report.csv and report.json are in" in said
    with pytest.raises(SystemExit, match="2"):
        main(["compare", "zn", "--size", "80", "--out", str(tmp_path / "report")])
    assert "report holds a report: choose another --out, or add --overwrite" in capsys.readouterr().err
    written = json.loads((tmp_path / "report" / "report.json").read_text())
    assert list(written) == ["floor", "other library", "zn"] and written["zn"]["auc"] == table.scores["zn"]["auc"]


def test_comparison_on_a_file(round_zn, particles, capsys):
    main(["compare", "zn", "--data", str(particles), "--runs", "1", "--pixels", "0", "--no-costs"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert [row[0] for row in rows if row[0] in ("floor", "other", "zn")].count("zn") == 5  # one a table, WS and MAE_w
    with pytest.raises(SystemExit, match="2"):
        main(["compare", "zn", "--data", "zp", "--size", "20"])
    said = capsys.readouterr().err
    assert said == "zdckeras compare: Expected showers of zn to judge by, received those of zp.\n"


def test_export_asks_for_a_generator(tmp_path, capsys):
    for arguments, message in (([str(tmp_path)], "expected a .keras file, received a folder"),
                               (["no.keras"], "No such file: no.keras")):
        with pytest.raises(SystemExit, match="2"):
            main(["export", *arguments, str(tmp_path / "served")])
        assert message in capsys.readouterr().err and not (tmp_path / "served").exists()


def test_options_may_stand_between_what_is_exported(tmp_path, monkeypatch, capsys):
    told = []
    monkeypatch.setattr("zdckeras.export.onnx.export_onnx", lambda model, output, *_: told.append(output) or Path(OLD))
    main(["export", OLD, "--to", "onnx", str(tmp_path / "a.onnx")])
    main(["export", "--to", "onnx", OLD, str(tmp_path / "b.onnx")])
    assert told == [str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")]
    for words in (["export", OLD, "a", "--nonsense", "b"], ["simulate", "a", "b"]):
        with pytest.raises(SystemExit, match="2"):
            main(words)
        assert "unrecognized arguments: " in capsys.readouterr().err


def test_other_trouble_has_status_1(tmp_path, monkeypatch, capsys):
    def trouble(*_):
        raise RuntimeError("A worker died")

    monkeypatch.setattr("zdckeras.campaign.run.run_campaign", trouble)
    with pytest.raises(SystemExit, match="1"):
        main(["generate", OLD, "particles.npz", str(tmp_path / "shards"), "--workers", "2"])
    assert capsys.readouterr().err == "zdckeras generate: A worker died\n"


def test_help_is_fast_and_knows_all_six():
    """Without NumPy and Keras, that is; every command explains its arguments."""
    code = "import sys\nfrom zdckeras.cli import main\ntry: main(sys.argv[1:])\n" \
           "except SystemExit: sys.exit(bool({'numpy', 'keras'} & set(sys.modules)))"
    for words in ([], ["simulate"], ["generate"], ["merge"], ["compare"], ["check-o2"], ["export"]):
        done = subprocess.run([sys.executable, "-c", code, *words, "--help"], capture_output=True, text=True)
        assert done.returncode == 0 and f"usage: {' '.join(['zdckeras', *words])} " in done.stdout
    assert "SavedModel that TensorFlow" in done.stdout


def test_a_wrong_model_is_told_without_keras(tmp_path):
    code = "import sys\nfrom zdckeras.cli import main\ntry: main(sys.argv[1:])\n" \
           "except SystemExit as stop: sys.exit(9 if 'keras' in sys.modules else stop.code)"
    np.savez(tmp_path / "particles.npz", np.ones((1, 9)))
    for words in (["generate", "none.keras", str(tmp_path / "particles.npz"), str(tmp_path / "made.root")],
                  ["compare", "none.keras"], ["export", "none.keras", str(tmp_path)]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr == f"zdckeras {words[0]}: No such file: none.keras\n"


@pytest.mark.parametrize("words", [("simulate", ""), ("generate", "zn", "a.root", " "), ("export", "zn", "")])
def test_empty_names_of_outputs_are_refused(words, tmp_path, monkeypatch, capsys):
    """Such as of an unset variable of the shell."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(list(words))
    assert "Expected where to write, received '" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("words", "message"), [
    ("generate a b c --workers 1 --scheduler d", "Expected --workers, processes of this machine, or --scheduler"),
    ("compare OLD --data a.root --size 5", "Expected --size only with an embedded test set (own showers"),
    ("compare OLD --part test", "Expected --part test only with own showers in --data; received it without"),
    ("compare OLD --data zn+zp --part test", "Expected --part test only with own showers in --data"),
    ("compare OLD --overwrite", "Expected --overwrite only with --out; received it without"),
    ("simulate a --detector ecal --keep-all", "Expected --keep-all only with zn, zp or zn+zp, whose responses are cut"),
    ("export OLD a --precision float32", "Expected --precision with --to onnx only, received it with --to saved-model"),
    ("export zn --to o2", "Expected where to write, received zn, the name of a detector: a folder of this name"),
    ("simulate zn", "Expected where to write, received zn"), ("generate zn a.root zp", "Expected where to write, rec"),
    ("merge shards zn+zp", "Expected where to write, received zn+zp"),
    ("export OLD made.onnx", "made.onnx: expected a folder, received a name that ends in .onnx, a file that"),
    ("generate OLD none.npz made.npz --workers 1", "made.npz: expected a folder for shards"),
    ("export OLD zp", "is given as ./zp"), ("compare none.keras --out report", "No such file: none.keras")])
def test_what_has_no_effect_or_no_place_is_refused_and_nothing_is_left(tmp_path, monkeypatch, capsys, words, message):
    old = str(Path(OLD).resolve())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(words.replace("OLD", old).split())
    assert message in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_help_tells_no_defaults_that_are_none(capsys):
    said = ""
    for kind in ("simulate", "generate", "merge", "compare", "export", "check-o2"):
        with pytest.raises(SystemExit):
            main([kind, "--help"])
        said += " ".join(capsys.readouterr().out.split())
    assert not {word for word in ("None", "True", "False", "()") if f"(default: {word})" in said}
    assert "(default: 0)" in said and "10,240 rows if this is not given" in said and "by default 20,000" in said


def test_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "zdckeras.cli", "simulate"], capture_output=True, text=True)
    assert done.returncode == 2 and "zdckeras simulate: error: the following arguments are required" in done.stderr

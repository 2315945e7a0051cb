"""What recipes say before any training: the cost of a preset, and what is wrong with a command."""

import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import zdckeras as zdc
from zdckeras.data.files import write_showers
from zdckeras.recipe import EMBEDDED
from zdckeras.simulation import reference

FOLDER = Path(__file__).parents[2] / "recipes"
pytestmark = pytest.mark.neutral


@pytest.mark.parametrize(("name", "words"), [
    ("sdi_gan", ["6,985,793 weights", "published + aux. regressor, regressor zp: 402,050 weights", "644,400 steps",
                 "751,800 steps of 938.6"]),
    ("sdi_gan --detector zn", ["915,841 weights", "critic: 1,422,337 weights", "83,800 steps"]),
    ("joint_gan", ["9,764,994 weights", "665,826 weights", "429,600 steps"]),
    ("wgan_gp", ["2,533,889 weights", "417,793 weights", "468,000 steps"]),
    ("autoencoders", ["published VAE, CNN", "published AE + MSE NG, MLP-Mixer", "83,800 steps"]),
    ("flow_matching", ["published: 77,372 weights", "patches: 1,981,615 weights", "41,900 steps", "83,800 steps"]),
    ("flow_matching --detector zp", ["published: 77,372 weights", "47,050 steps", "94,100 steps"]),
    ("diffusion", ["published: 3,514,272 weights", "652.4 MFLOP", "83,800 steps"]),
    ("flow_noise", ["teacher: 286,982,960 weights", "student: 286,982,960 weights", "47,900 steps"]),
    ("vq_vae", ["published VQ-VAE", "prior: ", "83,800 steps"]),
    ("vq_gan", ["published warm start", "published critic", "prior: ", "10,056 steps", "73,744 steps"]),
    ("corr_vae", ["published encoder: 575,104 weights", "published decoder: 571,457 weights", "921,750 steps"])])
def test_dry_run_tells_the_cost_and_does_nothing(name, words, tmp_path, monkeypatch, capsys):
    name, *more = name.split()
    monkeypatch.setattr(sys, "argv", [name, *more, "--preset", "paper", "--dry-run", "--out", str(tmp_path / "out")])
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert all(word in said for word in [*words, "memory of a step: ", "hours on a GPU"]), said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("detector", "lambdas", "asked"), [
    ("zn", ["1", "2", "3"], "diversity for zn, received 3 numbers"),
    ("zp", ["0.1"], "diversity, intensity, auxiliary for zp, received 1 numbers")])
def test_weights_that_a_study_does_not_have_are_refused(detector, lambdas, asked, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["sdi_gan.py", "--detector", detector, "--out", str(out), "--lambdas", *lambdas])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(FOLDER / "sdi_gan.py"), run_name="__main__")
    assert asked in capsys.readouterr().err and not out.exists()


def test_a_classifier_wants_particles_with_and_without_light(tmp_path, monkeypatch, capsys):
    write_showers(iter([zdc.load("zn", "train", 40)]), 40, tmp_path / "lit.root")
    words = ["--preset", "smoke", "--data", str(tmp_path / "lit.root"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["classifier.py", *words])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(FOLDER / "classifier.py"), run_name="__main__")
    assert "of the training part with it; `zdckeras simulate --keep-all` keeps both" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.npz"))


def test_a_classifier_of_another_seed_stays(tmp_path, monkeypatch, capsys):
    made = {"recipe": "classifier", "preset": "smoke", "data": EMBEDDED, "seed": 0}
    (tmp_path / "provenance.json").write_text(json.dumps(made))
    monkeypatch.setattr(sys, "argv", ["classifier.py", "--preset", "smoke", "--out", str(tmp_path), "--seed", "1"])
    monkeypatch.setattr(reference, "draws", None)  # asked before anything is simulated
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(FOLDER / "classifier.py"), run_name="__main__")
    assert "has results of seed 0, asked for are seed 1: choose another --out" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["modular", "flow_distill", "flow_matching", "diffusion", "one_step"])
def test_too_few_single_arrivals_for_a_batch_are_told_before_any_training(name, tmp_path, monkeypatch, capsys):
    """In own data, 70 of which are to train on, but not all of these arrive as they started."""
    write_showers(iter([zdc.load("zn", "train", 100)]), 100, tmp_path / "few.root")
    words = ["--preset", "smoke", "--data", str(tmp_path / "few.root"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    said = capsys.readouterr().err
    assert "Expected at least 64 particles that arrive in zn as they started, received " in said, said
    assert not list((tmp_path / "out").rglob("*.npz"))


def test_arrivals_are_encoded_for_students_alone(monkeypatch, tmp_path):
    """A detector with a gun has none by default."""
    train = runpy.run_path(str(FOLDER / "modular.py"))["train_models"]
    vae, encoded = SimpleNamespace(prior=None, decoder=None), []
    fakes = {"fit_vae": lambda *_, **__: (vae, {}), "distil": lambda *_, **__: (None, {}),
             "encoded_arrivals": lambda *given: encoded.append(given), "ModularGenerator": lambda *parts: parts,
             "recipe_states": lambda *_, **__: tmp_path}
    for name, fake in fakes.items():
        monkeypatch.setitem(train.__globals__, name, fake)
    p = dict(vae={}, coded=64, student={}, wrong=(), levels=1)
    for students, expected in (((), 0), (("bs",), 1)):
        args, data = SimpleNamespace(detector="ecal", seeds=2, seed=0), SimpleNamespace(reach=())
        train(args, p | {"students": students}, data, tmp_path, None)
        assert len(encoded) == expected

"""What exported files say of themselves before they answer."""

import warnings
from pathlib import Path

import numpy as np
import pytest

import zdckeras as zdc
from zdckeras.campaign.answers import about_exported
from zdckeras.campaign.run import run_campaign
from zdckeras.cli import main
from zdckeras.comparison.contenders import open_contender
from zdckeras.data.files import open_showers
from zdckeras.data.particles import conditions_of
from zdckeras.export.session import ABOUT, about_served

HIDDEN = r"small.onnx is not told PDG ids: 2 of 3 particles \(130, -2112\) are answered by their mass and charge alone"


@pytest.fixture
def kaons(tmp_path):
    pdg = np.array([22, 130, -2112])
    np.savez(tmp_path / "p.npz", np.column_stack([conditions_of(pdg, np.tile([0.0, 0.0, 950.0], (3, 1))), pdg]))
    return tmp_path / "p.npz"


def test_ids_that_an_exported_file_is_not_told_are_named(small_onnx, kaons, tmp_path):
    """By both ways of `generate`, and by `compare`; not where the file does not say that its generator takes them."""
    path, words = small_onnx(takes_ids="true"), [str(kaons), str(tmp_path / "a.root")]
    with pytest.warns(UserWarning, match=HIDDEN):
        main(["generate", str(path), *words])
    with pytest.warns(UserWarning, match=HIDDEN):
        run_campaign(str(path), kaons, tmp_path / "shards", progress=False)
    made = open_showers(tmp_path / "a.root")
    assert made.response[:, 0, 0].tolist() == [950, 950, 950]
    with pytest.warns(UserWarning, match=HIDDEN):
        open_contender(path).generator.beside(made.pdg)
    with pytest.warns(UserWarning, match=r"small.onnx is not told PDG ids: \d+ of 40 particles"):
        main(["compare", str(path), "--size", "40", "--runs", "1", "--pixels", "0", "--no-costs"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        main(["generate", str(small_onnx()), *words, "--overwrite"])


def test_files_for_o2_are_no_generators(small_onnx, kaons, tmp_path, capsys):
    path = small_onnx(o2_slot="neutron")
    with pytest.raises(SystemExit, match="2"):
        main(["generate", str(path), str(kaons), str(tmp_path / "a.root")])
    said = capsys.readouterr().err
    assert "received O2's neutron model" in said and "check-o2" in said and said.count("\n") == 1


def test_a_saved_model_says_whether_its_generator_takes_ids(generator, monkeypatch, tmp_path):
    pytest.importorskip("tensorflow")
    def write(*arguments):
        place = next(one for one in arguments if isinstance(one, Path))
        (place / "assets.extra").mkdir(parents=True)

    for name in ("write_served", "in_tensorflow_process"):
        monkeypatch.setattr(f"zdckeras.export.saved_model.{name}", write)
    plain = zdc.export_saved_model(generator, tmp_path / "plain")
    monkeypatch.setattr(type(generator), "TAKES_IDS", True)
    told = zdc.export_saved_model(generator, tmp_path / "told", about={"seed": "4"})
    assert about_exported(plain) == {} and not (plain / ABOUT).exists()
    assert about_served(told) == {"takes_ids": "true", "seed": "4"}

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

TOOLS = Path(__file__).parents[2] / "tools"
SMALL = ["--preset", "smoke", "--epochs", "2", "--train", "64", "--size", "40"]


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    import train_published

    return train_published


@pytest.mark.compiles_long
@pytest.mark.filterwarnings("ignore:Particles outside the trained range")
def test_rows_are_trained_and_judged(tool, tmp_path, capsys, without_graphs):
    """Losses of every epoch, the weights of the network, and responses to the test's particles, in one table."""
    with without_graphs():
        assert tool.main([*SMALL, "--only", "VAE, ViT", "GAN", "VAE, CNN", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "VAE, CNN: expected one of published VAE, ViT at preset smoke, received published VAE, CNN" in said
    for folder, losses in (("VAE_ViT", "loss"), ("GAN", "generator_adversarial")):
        record = json.loads((tmp_path / folder / "record.json").read_text())
        assert record["training showers"] == 64 and np.isfinite(record["history"][losses]).all()
        assert len(record["history"][losses]) == 2
        with np.load(tmp_path / folder / "responses.npz") as file:
            assert file["responses"].shape == (40, 44, 44) and (file["responses"] >= 0).all()
    capsys.readouterr()
    assert tool.main([*SMALL, "--judge", "--out", str(tmp_path)]) is None
    said = capsys.readouterr().out
    assert said.strip() == (tmp_path / "published.txt").read_text().strip()
    rows = [line.split("  ")[0] for line in said.splitlines()]
    assert [rows.count(row) for row in ("VAE, ViT", "GAN", "floor", "diffusion")] == [2, 2, 1, 0]
    assert (tmp_path / "learning.png").stat().st_size > 1000


def test_tables_of_nothing_or_of_other_showers_are_refused(tool, tmp_path, capsys):
    for folder, expected in (("none", "expected trained rows, received none of GAN"),
                             ("some", "expected the responses to 40 test showers, received 30; give --size")):
        if folder == "some":
            (tmp_path / "some" / "GAN").mkdir(parents=True)
            (tmp_path / "some" / "GAN" / "record.json").write_text('{"test showers": 30}')
        with pytest.raises(SystemExit) as stop:
            tool.main([*SMALL, "--only", "GAN", "--judge", "--out", str(tmp_path / folder)])
        assert stop.value.code == 2 and expected in capsys.readouterr().err


def test_parts_of_a_training_share_its_epochs(tool, tmp_path):
    parser = dict(preset="paper", train=None, batch=None, out=tmp_path)
    for epochs, shares in ((None, [250, 12, 88, 60]), (50, [50, 6, 44, 60]), (1, [1, 1, 1, 60])):
        corr_vae, vq_gan, flow = (tool.Job(name, SimpleNamespace(epochs=epochs, **parser))
                                  for name in ("CorrVAE", "VQ-GAN", "flow"))
        found = [corr_vae.settings("published"),
                 vq_gan.settings("warm_start", beside="adversarial"),
                 vq_gan.settings("adversarial", beside="warm_start"), flow.settings("number", before=True)]
        assert [one["epochs"] for one in found] == shares
        assert (corr_vae.size, vq_gan.size) == (236_000, 214_746)


@pytest.mark.parametrize(("row", "epochs", "showers", "expected"), [
    ("GAN", None, 214_746, 100), ("SDI-GAN, all terms, ZP", None, 275_000, 350),
    ("SDI-GAN, all terms, ZP", 7, 275_000, 7)])
def test_gans_train_as_long_as_their_rows(tool, tmp_path, monkeypatch, row, epochs, showers, expected):
    """Of ZP, the one with the auxiliary regressor for longer than those without."""
    asked = {}
    monkeypatch.setattr(tool, "train_adversarially", lambda *model, **settings: asked.update(settings))
    monkeypatch.setattr(tool.ImageGanGenerator, "of", lambda model: model)
    parser = dict(preset="paper", epochs=epochs, batch=None, out=tmp_path)
    assert tool.Job(row, SimpleNamespace(train=None, **parser)).size == showers
    job = tool.Job(row, SimpleNamespace(train=64, **parser))
    job.told["published_gan"] = lambda *given: given
    job.make(job)
    assert asked["epochs"] == expected


def test_one_row_that_fails_does_not_end_the_others(tool, tmp_path, monkeypatch, capsys):
    """Frameworks and devices raise kinds of their own."""
    class Device(Exception):
        pass

    def train(name, args):
        if name == "GAN":
            raise Device("out of memory")
        (args.out / "done").touch()

    monkeypatch.setattr(tool, "train", train)
    assert tool.main([*SMALL, "--only", "GAN", "flow", "--out", str(tmp_path)]) == 1
    assert "GAN: Device: out of memory" in capsys.readouterr().err and (tmp_path / "done").exists()


def test_unknown_rows_are_refused(tool, capsys):
    with pytest.raises(SystemExit) as stop:
        tool.main(["--only", "flow", "flaw"])
    assert stop.value.code == 2 and "invalid choice: 'flaw'" in capsys.readouterr().err

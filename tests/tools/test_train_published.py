import json
from pathlib import Path

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
        assert tool.main([*SMALL, "--only", "VAE, ViT", "GAN", "--out", str(tmp_path)]) is None
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


def test_unknown_rows_are_refused(tool, capsys):
    with pytest.raises(SystemExit) as stop:
        tool.main(["--only", "flow", "flaw"])
    assert stop.value.code == 2 and "invalid choice: 'flaw'" in capsys.readouterr().err

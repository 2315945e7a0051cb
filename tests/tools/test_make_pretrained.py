import runpy
from pathlib import Path

import keras
import numpy as np
import pytest

import zdckeras as zdc
from zdckeras.provenance import provenance_of, save_model, training_sketch_of
from zdckeras.simulation import reference

ROOT = Path(__file__).parents[2]
OLD = ROOT / "tests" / "data" / "old" / "gan.keras"
TOLD = ["--data", "64 showers", "--command", "python recipes/sdi_gan.py"]


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(ROOT / "tools" / "make_pretrained.py"))["main"]


def test_generator_becomes_a_pretrained_one_with_a_card(main, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reference, "PRIMARIES_AT_ONCE", 800)
    main([str(OLD), "tiny", *TOLD, "--size", "60", "--runs", "1", "--folder", str(tmp_path)])
    monkeypatch.setattr("zdckeras.packaged.PLACE", tmp_path)
    generator, whole = zdc.pretrained("tiny"), zdc.load_model(OLD)
    particles = zdc.load("zn", "test", size=20).particles
    made, expected = (one.sample(particles, seed=1).sum(dtype="int64") for one in (generator, whole))
    assert abs(made - expected) < 0.01 * expected and (tmp_path / "tiny.keras").stat().st_size < 20_000
    card, said = (tmp_path / "tiny.md").read_text(), capsys.readouterr().out
    assert card.startswith("# tiny: GanGenerator\n`zdckeras.pretrained('tiny')` makes responses of zn (44 x 44, ")
    assert "- trained on: 64 showers\n- by: `python recipes/sdi_gan.py`" in card
    assert f"- size: {whole.count_params():,} weights, 0.01 MB" in card
    assert f"zdckeras {zdc.__version__}, Keras {keras.__version__} on {keras.config.backend()}" in card
    rows = [line.split("|")[1].strip() for line in card.splitlines() if line.startswith("|") and " WS " in line]
    assert [row for row in rows if row] == ["floor WS", "other library WS", "before packing WS", "tiny WS"]
    assert "tiny.keras: 0.01 MB, from 0.09 MB" in said
    before, after = (float(line.split()[-1]) for name in ("before packing WS", "tiny WS") for line in said.splitlines()
                     if line.startswith(name))
    assert np.isclose(before, after, rtol=0.02)


def test_the_folder_is_tried_first_and_the_sketch_kept(main, tmp_path, monkeypatch, capsys):
    def begun(*_, **__):
        raise AssertionError("begun")

    with monkeypatch.context() as patch:
        patch.setattr(zdc, "compare", begun)
        with pytest.raises(SystemExit, match="2"):
            main([str(OLD), "tiny", *TOLD, "--folder", "/proc/no"])
    assert "cannot write into /proc/no" in capsys.readouterr().err
    monkeypatch.setattr(reference, "PRIMARIES_AT_ONCE", 800)
    told = save_model(zdc.load_model(OLD), tmp_path / "told.keras", {"seed": 4}, {"zn": np.arange(3, dtype="uint64")})
    main([str(told), "tiny", *TOLD, "--size", "40", "--runs", "1", "--folder", str(tmp_path)])
    assert provenance_of(tmp_path / "tiny.keras") == {"seed": 4}
    assert training_sketch_of(tmp_path / "tiny.keras")["zn"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(("words", "message"), [
    (["none.keras", "zn"], "No such file: none.keras"), ([str(OLD), "../zn"], "expected a name of letters"),
    ([str(ROOT), "zn"], "expected a .keras file, received a folder")])
def test_wrong_input_writes_nothing(main, tmp_path, capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        main([*words, *TOLD, "--folder", str(tmp_path)])
    assert message in capsys.readouterr().err and list(tmp_path.iterdir()) == []

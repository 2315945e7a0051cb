import numpy as np
import pytest

import zdckeras as zdc
from zdckeras.campaign.answers import Answer
from zdckeras.comparison.contenders import Answered, named, open_contender, opened
from zdckeras.provenance import save_model, sketch_of


def answer(calls=None):
    """Noise above 0 makes a photon in the first cell."""
    def call(noise, conditions, pdg):
        made = np.zeros((len(noise), 44, 44), "float32")
        made[:, 0, 0] = noise[:, 0] > 0
        return [made]

    return Answer("v1.2/zn", ("zn",), 3, call)


@pytest.fixture(scope="module")
def test_set():
    return zdc.load("zn", "test", size=300)


def test_exported_files_answer_as_in_a_campaign(test_set):
    """Blocks of 256 rows with the noise of (seed, block)."""
    generator = Answered(answer())
    made = generator.sample(test_set.particles, seed=7)
    blocks = [answer().block(test_set.particles[part], test_set.pdg[part], 7, k)["zn"]
              for k, part in enumerate((slice(0, 256), slice(256, None)))]
    assert np.array_equal(made, np.concatenate(blocks)) and 0.3 < made[:, 0, 0].mean() < 0.7
    assert generator.sample(test_set.particles, seed=7, at_least=1)[:, 0, 0].min() == 1


def test_a_file_says_what_it_was_made_from(tmp_path, test_set):
    path = save_model(zdc.pretrained("zn"), tmp_path / "mine.keras", {"seed": 4}, sketch_of([test_set]))
    found = open_contender(path)
    assert found.provenance == {"seed": 4} and len(found.sketch["zn"]) == 300 and found.detectors == ["zn"]
    assert found.kind == "ModularGenerator" and found.megabytes == path.stat().st_size / 1e6
    assert np.isnan(open_contender(found.generator).megabytes)
    assert "card" in open_contender("zn").provenance


def test_one_that_cannot_be_opened_does_not_stop_the_others(tmp_path):
    (tmp_path / "bad.keras").write_bytes(b"PK damaged")
    (tmp_path / "folder").mkdir()
    names = {"good": "zn", "bad": tmp_path / "bad.keras", "gone": "none.keras", "folder": str(tmp_path / "folder")}
    found, failures = opened(names)
    assert list(found) == ["good"] and list(failures) == ["bad", "gone", "folder"]
    assert "expected a Keras model" in failures["bad"] and failures["gone"] == "No such file: none.keras"
    assert "saved_model.pb" in failures["folder"] and not any("\n" in why for why in failures.values())
    with pytest.raises(ValueError, match="bad.keras"):
        opened({"bad": tmp_path / "bad.keras"})


def test_a_damaged_saved_model_does_not_stop_the_others(tmp_path):
    pytest.importorskip("tensorflow")
    (tmp_path / "saved_model.pb").write_bytes(b"damaged")
    found, failures = opened({"zn": "zn", "served": tmp_path})
    assert list(found) == ["zn"] and failures["served"].startswith(f"{tmp_path}: expected a whole SavedModel, received")
    assert "\n" not in failures["served"]


def test_names():
    assert named("a.keras") == {"a.keras": "a.keras"} and named({"x": "zn"}) == {"x": "zn"}
    assert list(named(["/a/b/x.keras", "/a/c/x.keras"])) == ["b/x.keras", "c/x.keras"]
    assert list(named(["/a/b/x", "a/b/x"])) == ["/a/b/x", "a/b/x"]  # nothing in common
    assert list(named(["/a/zn", "/a/zp", "zn"])) == ["/a/zn", "/a/zp", "zn"]  # would not stay different
    with pytest.raises(ValueError, match="each with a name of its own, received \\['a', 'a'\\]"):
        named(["a", "a"])

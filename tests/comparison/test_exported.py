"""What an exported file still says: what it was made from, and which showers its generator was trained on."""

import numpy as np
import pytest

import zdckeras as zdc
from zdckeras.cli import main
from zdckeras.comparison.contenders import _read, open_contender
from zdckeras.comparison.names import labelled
from zdckeras.provenance import SKETCH, save_model, sketch_of

OLD = "tests/data/old/gan.keras"


@pytest.mark.parametrize("to", ["onnx", "saved-model"])
def test_training_rows_are_still_refused(to, tmp_path):
    pytest.importorskip("tensorflow")
    pytest.importorskip("tf2onnx")
    light, model = zdc.load("zn", "test", size=40), tmp_path / "gan.keras"
    save_model(zdc.load_model(OLD), model, {"seed": 4}, sketch_of([light[:30]]))
    target = tmp_path / ("gan.onnx" if to == "onnx" else "served")
    assert main(["export", str(model), str(target), "--to", to]) == 0
    target = target if to == "onnx" else target / "1"
    found = open_contender(target)
    assert found.provenance[f"provenance of {model}"] == {"seed": 4} and SKETCH not in found.provenance
    assert np.array_equal(found.sketch["zn"], sketch_of([light[:30]])["zn"])
    with pytest.raises(ValueError, match="not trained on, received 40 of which at least 30 are training rows"):
        zdc.compare(str(target), light, runs=1)


@pytest.mark.parametrize("card", ["[1] A generator of ZN", "{unfinished", "[" * 5000, "plain"])
def test_a_card_may_begin_as_json_does(card):
    about = {"card of a": card, "provenance of a": '{"seed": 4}', "agreement": "[1, 2]"}
    assert _read(about) == {"card of a": card, "provenance of a": {"seed": 4}, "agreement": [1, 2]}


def test_models_by_name(tmp_path):
    path = tmp_path / "lr=0.1.keras"
    path.write_bytes(b"")
    assert labelled([f"mine={path}", "zn", str(path)]) == {"mine": str(path), "zn": "zn", str(path): str(path)}
    for word in ("a=", "=zn"):
        with pytest.raises(ValueError, match=f"Expected NAME=MODEL or a model, received '{word}'"):
            labelled([word])
    for words in (["a=zn", "a=zp"], ["zn=zp", "zn"]):
        with pytest.raises(ValueError, match="each with a name of its own"):
            labelled(words)

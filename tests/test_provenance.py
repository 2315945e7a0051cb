import subprocess
import zipfile

import keras
import numpy as np
import pytest

import zdckeras
from zdckeras.provenance import SKETCH_FILE, commit, provenance_of, save_model, sketch_in, training_sketch_of, versions


def model():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


def test_a_model_keeps_what_made_it_and_the_hashes_of_its_rows(tmp_path):
    sketch = {"zn": np.array([1, 2**63 + 5], "uint64"), "zp": np.empty(0, "uint64")}
    path = save_model(model(), tmp_path / "a.keras", {"seed": 3}, sketch)
    found = training_sketch_of(path)
    assert provenance_of(path) == {"seed": 3} and list(found) == ["zn", "zp"]
    assert all(np.array_equal(found[name], hashes) and found[name].dtype == "uint64" for name, hashes in sketch.items())
    assert keras.saving.load_model(path).count_params() == 3


def test_a_model_that_does_not_say(tmp_path):
    model().save(tmp_path / "b.keras")
    assert provenance_of(tmp_path / "b.keras") == {} and training_sketch_of(tmp_path / "b.keras") is None
    with pytest.raises(FileNotFoundError, match="No such file"):
        training_sketch_of(tmp_path / "c.keras")


def test_pickles_and_damage_are_refused(tmp_path):
    path = save_model(model(), tmp_path / "a.keras", {})
    np.savez(tmp_path / "bad.npz", zn=np.array([{}], dtype=object))
    with zipfile.ZipFile(path, "a") as archive:
        archive.write(tmp_path / "bad.npz", SKETCH_FILE)
    with pytest.raises(ValueError, match="a.keras: expected a Keras model, received a damaged archive"):
        training_sketch_of(path)


def test_the_commit_is_that_of_the_checkout(tmp_path, monkeypatch):
    """With a + where files differ; nothing outside a checkout."""
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True,
                       capture_output=True)

    package = tmp_path / "zdckeras" / "__init__.py"
    package.parent.mkdir()
    package.write_text("")
    monkeypatch.setattr(zdckeras, "__file__", str(package))
    assert commit() == "" and versions()["zdckeras"] == zdckeras.__version__
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    found = commit()
    assert len(found) == 7 and versions()["zdckeras"] == f"{zdckeras.__version__} {found}"
    package.write_text("changed = True\n")
    assert commit() == f"{found}+"


def test_a_damaged_sketch_is_told():
    with pytest.raises(ValueError, match="training rows: expected a sketch as text, received 'no base64 at all'"):
        sketch_in("no base64 at all")

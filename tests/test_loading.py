"""Saved models come back whoever wrote them; what is no model is refused in one line."""

import base64
import json
import marshal
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import zdckeras
from zdckeras import load_model
from zdckeras.gan.networks import ResponseNetwork
from zdckeras.hits.classifier import HitClassifier
from zdckeras.loading import with_current_names

OLD = Path(__file__).parent / "data" / "old"  # written when a detector was called "where", in other modules


@pytest.mark.parametrize("name", sorted(path.stem for path in OLD.glob("*.keras")))
def test_models_of_earlier_versions_make_the_same_showers(name, eager):
    generator = load_model(OLD / f"{name}.keras")
    generator.compile(run_eagerly=eager)
    with np.load(OLD / f"{name}.npz") as file:
        conditions, expected = file["conditions"], file["response"]
    made = generator.sample(conditions, seed=5, batch_size=8)
    assert made.shape == expected.shape and made.dtype == expected.dtype
    if keras.backend.backend() == "tensorflow" and name == "wgan":  # energies are not rounded to whole numbers
        np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-4)
    elif keras.backend.backend() == "tensorflow":
        assert np.array_equal(made, expected)
    sums = made.sum(axis=(1, 2), dtype="float64")  # rounding moves a photon now and then on other backends
    np.testing.assert_allclose(sums, expected.sum(axis=(1, 2), dtype="float64"), rtol=0.02, atol=3.0)


@pytest.mark.neutral
def test_every_class_is_found_by_a_fresh_process():
    """Each is named by a file alone, and its module has not been imported before."""
    texts = [path.read_text() for path in Path(zdckeras.__file__).parent.rglob("*.py")]
    ours = sorted({f"zdckeras>{name}" for text in texts for name in re.findall(
        r'register_keras_serializable\("zdckeras"\)\nclass (\w+)', text)})
    code = "import json, sys, zdckeras, zdckeras.loading as l, keras\n" \
           "named = [{'class_name': n, 'registered_name': n} for n in json.loads(sys.argv[1])]\n" \
           "before = sum(keras.saving.get_registered_object(n['class_name']) is not None for n in named)\n" \
           "kinds = [type(zdckeras.load_model(path)).__name__ for path in sys.argv[2:]]\n" \
           "print(json.dumps([before, l.classes_of(named, 'a file'), kinds]))"
    files = sorted(map(str, OLD.glob("*.keras")))
    done = subprocess.run([sys.executable, "-c", code, json.dumps(ours), *files], capture_output=True, text=True)
    before, found, kinds = json.loads(done.stdout.splitlines()[-1])
    assert before == 0 and [f"zdckeras>{name}" for name in found] == ours and len(ours) > 40
    assert kinds == ["CodeGenerator", "CorrGenerator", "ShowerGenerator", "GanGenerator", "EnergyGenerator"]


def test_only_names_of_this_package_change():
    ours = {"class_name": "A", "registered_name": "zdckeras>A", "config": {"where": "zn", "parts": [{"where": "zp"}]}}
    other = {"class_name": "B", "registered_name": "other>B", "config": {"where": 1, "inner": ours}}
    assert with_current_names(other)["config"] == {
        "where": 1, "inner": {**ours, "config": {"detector": "zn", "parts": [{"detector": "zp"}]}}}
    assert with_current_names({**ours, "config": {"b": other}})["config"]["b"]["config"]["where"] == 1


def archive(path, **members):
    with zipfile.ZipFile(path, "w") as file:
        for name, text in members.items():
            file.writestr(name.replace("_", "."), text)
    return path


def changed(path, edit):
    """The old GAN with its configuration edited as text."""
    with zipfile.ZipFile(OLD / "gan.keras") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, edit(old.read(name).decode()) if name == "config.json" else old.read(name))
    return path


def refusal(path, kind=ValueError):
    with pytest.raises(kind) as caught:
        load_model(path)
    said = str(caught.value)
    assert str(path) in said and "\n" not in said and len(said) - len(str(path)) < 500
    assert caught.value.__cause__ is None and (caught.value.__suppress_context__ or caught.value.__context__ is None)
    return said.replace(str(path), "PATH")


def test_what_is_not_there_or_no_file(tmp_path):
    assert refusal(tmp_path / "none.keras", FileNotFoundError) == "No such file: PATH"
    assert refusal(tmp_path) == "PATH: expected a .keras file, received a folder."


@pytest.mark.parametrize("content", [b"", b"no model", b"PK\x03\x04 not quite", b"\x89HDF\r\n\x1a\n"])
def test_what_is_no_archive(tmp_path, content):
    (tmp_path / "a.keras").write_bytes(content)
    said = refusal(tmp_path / "a.keras")
    assert said.startswith(f"PATH: expected a Keras model, a .keras archive with config.json; received {len(content)} ")


def test_other_names_and_other_archives(tmp_path):
    assert "received a name that ends in '.npz'" in refusal(archive(tmp_path / "a.npz", config_json="{}"))
    assert "no item named 'config.json'" in refusal(archive(tmp_path / "b.keras", other="{}"))
    assert "received 120 bytes: Expecting value" in refusal(archive(tmp_path / "c.keras", config_json=""))
    for text in ("[]", "{}", '"a"'):
        said = refusal(archive(tmp_path / "d.keras", config_json=text))
        assert said.endswith("that names a class; received a config.json without.")


@pytest.mark.parametrize("depth", [400, 900, 100_000])
def test_a_configuration_that_is_nested_too_deep(tmp_path, depth):
    deep = '{"class_name": "A", "config": ' * depth + "0" + "}" * depth
    said = refusal(archive(tmp_path / "a.keras", config_json=deep))
    assert "recursion" in said or "nested too deep" in said or "Could not locate class 'A'" in said


def test_a_truncated_file_and_one_without_weights(tmp_path):
    whole = (OLD / "gan.keras").read_bytes()
    (tmp_path / "a.keras").write_bytes(whole[:50_000])
    assert "received 50000 bytes: File is not a zip file" in refusal(tmp_path / "a.keras")
    with zipfile.ZipFile(OLD / "gan.keras") as old:
        without = archive(tmp_path / "b.keras", config_json=old.read("config.json"))
    assert "expected a whole Keras model of GanGenerator, ResponseNetwork, received one that" in refusal(without)


@pytest.mark.parametrize("name", ["zdckeras>NoSuchGenerator", "elsewhere>GanGenerator"])
def test_an_unknown_class_is_named(tmp_path, name):
    said = refusal(changed(tmp_path / "a.keras", lambda text: text.replace("zdckeras>GanGenerator", name)))
    assert said == f"PATH: expected classes of zdckeras 0.1.0 or registered with Keras, received {name}."


def test_a_configuration_that_does_not_fit(tmp_path):
    assert "Unknown detector 'cpv'" in refusal(changed(tmp_path / "a.keras", lambda t: t.replace('"zn"', '"cpv"')))
    wider = refusal(changed(tmp_path / "b.keras", lambda text: text.replace('"hidden": 8', '"hidden": 9')))
    assert "GanGenerator, ResponseNetwork, received one that cannot be made again: A total of" in wider
    unknown = refusal(changed(tmp_path / "c.keras", lambda text: text.replace('"hidden": 8', '"height": 8')))
    assert "cannot be made again" in unknown and "'height'" in unknown


def test_code_in_a_file_does_not_run(tmp_path):
    trap = tmp_path / "trap"
    code = marshal.dumps(compile(f"open({str(trap)!r}, 'w')", "", "eval"))
    function = {"class_name": "__lambda__", "config": {"value": [base64.b64encode(code).decode(), None, None]}}
    layer = {"module": "keras.layers", "class_name": "Lambda", "registered_name": None,
             "config": {"name": "a", "function": function}}
    said = refusal(archive(tmp_path / "a.keras", config_json=json.dumps(layer)))
    assert "lambda" in said.lower() and not trap.exists()


def test_your_own_registered_classes_come_back(tmp_path):
    @keras.saving.register_keras_serializable("mine")
    class Steep(keras.layers.Dense):
        pass

    keras.Sequential([keras.Input((2,)), Steep(1, kernel_initializer="ones")]).save(tmp_path / "a.keras")
    (layer,) = load_model(tmp_path / "a.keras").layers
    assert type(layer) is Steep and layer.get_weights()[0].tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("make", [
    lambda scaler: HitClassifier(["zn"], scaler, hidden=(8,)),
    lambda scaler: zdckeras.GanGenerator(ResponseNetwork(("zn",), scaler, 10, 8, (8,), (4, 4, 2), 2))])
def test_scalers_of_arrays_are_loaded_again(make, tmp_path):
    model = make({"mean": np.linspace(0.0, 1.0, 9), "scale": np.ones(9)})
    model.save(tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    same = [np.array_equal(a, b) for a, b in zip(model.get_weights(), again.get_weights(), strict=True)]
    assert all(same) and type(again) is type(model)

"""Outputs that cannot be written are told before a conversion, and what a second process ends with as it is."""

import json
from contextlib import suppress

import numpy as np
import pytest

import zdckeras as zdc
from zdckeras.export import onnx as onnx_module
from zdckeras.export import process
from zdckeras.export.o2 import export_o2
from zdckeras.export.process import told_to_parent
from zdckeras.provenance import KEPT, SKETCH, sketch_text

pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")


@pytest.fixture(scope="module")
def parts(gan, showers):
    classifier = zdc.HitClassifier.fit_scales(["zn", "zp"], showers.particles, hidden=(4,))
    return {"neutron": gan(("zn",)), "proton": gan(("zp",)), "classifier": classifier}


@pytest.mark.parametrize(("name", "kind", "message"), [
    ("notes", FileExistsError, "notes is a file, expected a folder"),
    ("notes/out", ValueError, "cannot write .*notes/out"), ("/proc/no", ValueError, "cannot write /proc/no")])
def test_folders_are_tried_before_the_conversion(parts, tmp_path, monkeypatch, name, kind, message):
    def begun(*_, **__):
        raise AssertionError("begun")

    (tmp_path / "notes").write_text("notes")
    for module in ("saved_model", "o2"):
        for function in ("in_tensorflow_process", "write_served" if module == "saved_model" else "write_o2"):
            monkeypatch.setattr(f"zdckeras.export.{module}.{function}", begun)
    with pytest.raises(kind, match=message):
        zdc.export_saved_model(parts["neutron"], tmp_path / name, overwrite=True)
    with pytest.raises(kind, match=message):
        export_o2(tmp_path / name, **parts, overwrite=True)


@pytest.mark.parametrize(("name", "kind", "message"), [
    ("folder.onnx", FileExistsError, "folder.onnx is a folder, expected a file"),
    ("/proc/no/a.onnx", ValueError, "cannot write /proc/no/a.onnx")])
def test_files_are_tried_before_the_conversion(parts, tmp_path, monkeypatch, name, kind, message):
    def begun(*_, **__):
        raise AssertionError("begun")

    (tmp_path / "folder.onnx").mkdir()
    for function in ("in_tensorflow_process", "write_onnx"):
        monkeypatch.setattr(onnx_module, function, begun)
    with pytest.raises(kind, match=message):
        zdc.export_onnx(parts["neutron"], tmp_path / name, overwrite=True)


def test_a_broken_classifier_is_not_exported(parts, showers, tmp_path):
    broken = zdc.HitClassifier.fit_scales(["zn", "zp"], showers.particles, hidden=(4,))
    broken.read.bias.assign([np.inf])
    with pytest.raises(ValueError, match="expected finite weights, received 1 of"):
        export_o2(tmp_path / "o2", parts["neutron"], parts["proton"], broken)
    assert not (tmp_path / "o2").exists()


class Own(ValueError):
    """A kind of a package's own."""


@pytest.mark.parametrize(("error", "kind", "message"), [
    (ValueError("Expected operators of ONNX"), ValueError, "^Expected operators of ONNX$"),
    (FileExistsError("a.onnx exists"), FileExistsError, "^a.onnx exists$"), (Own("own"), ValueError, "^own$"),
    (KeyError("x"), RuntimeError, "TensorFlow process that writes the model failed: KeyError: 'x'$")])
def test_errors_of_a_second_process_keep_their_kind(error, kind, message, capsys):
    def work():
        raise error

    with pytest.raises(SystemExit, match="1"):
        told_to_parent(work)
    said = capsys.readouterr().err.strip()
    assert "Traceback" in said and json.loads(said.splitlines()[-1])["error"]
    with pytest.raises(kind, match=message):
        raise process._error_of(said)
    for last in ("Killed", ""):  # a process that could not tell
        with pytest.raises(RuntimeError, match=f"^The TensorFlow process that writes the model failed: {last}$"):
            raise process._error_of(last)


def test_a_second_process_tells_in_one_line(parts, tmp_path):
    """Asked for a precision that there is none of."""
    words = tmp_path / "a.onnx", {}, "int2", ""
    with pytest.raises(ValueError, match="^Expected a precision of float32, float16, int8, received 'int2'.$"):
        process.in_tensorflow_process("zdckeras.export.onnx", {"generator": parts["neutron"]}, *words)


def test_a_full_sketch_of_training_rows_reaches_a_second_process(parts, tmp_path, monkeypatch):
    """131 kB of hashes, more than a word of a command line may have."""
    told, run = {}, process.subprocess.run

    def reading(words, **settings):
        """The same words and folder, for a program that tells what it was given."""
        code = "import sys; from zdckeras.export.process import told_in; print(told_in(sys.argv[3]))"
        told["done"] = run([*words[:2], "-c", code, *words[4:]], **settings)
        return told["done"]

    about = {SKETCH: sketch_text({"zn": np.arange(KEPT, dtype="uint64")}), "source": "zn"}
    monkeypatch.setattr(process.subprocess, "run", reading)
    monkeypatch.setattr("zdckeras.backend.name", lambda: "jax")
    for export in (lambda: zdc.export_onnx(parts["neutron"], tmp_path / "a.onnx", provenance=about),
                   lambda: export_o2(tmp_path / "o2", **parts, provenance=about)):
        with suppress(FileNotFoundError):  # nothing has been written
            export()
        assert told.pop("done").stdout.strip() == str(about)


def test_versions_of_packages_of_other_names(monkeypatch):
    """As tensorflow-cpu installs TensorFlow."""
    def unknown(name):
        raise onnx_module.PackageNotFoundError(name)

    monkeypatch.setattr(onnx_module, "version", unknown)
    assert onnx_module._version("numpy") == np.__version__

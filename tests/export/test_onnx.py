import json
import subprocess
import sys
from functools import cache

import keras
import numpy as np
import pytest

import zdckeras as zdc
from zdckeras.cli import main
from zdckeras.export.onnx import (
    CHECK,
    agreement,
    all_nodes,
    compare_with_graph,
    export_onnx,
    refuse_foreign_operators,
    write_checked,
)
from zdckeras.export.session import open_session

onnx = pytest.importorskip("onnx")
pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")
ROWS = 24
FIRST = "modular teacher"  # under other backends than TensorFlow, where a family takes a process of its own
IN_PLACE = keras.backend.backend() == "tensorflow"
SKIP = pytest.mark.skipif(not IN_PLACE, reason="written in this process by TensorFlow only")

STRANGER = """
import sys
sys.modules["zdckeras"] = sys.modules["keras"] = sys.modules["tensorflow"] = None
import numpy as np
import onnxruntime

model, inputs, outputs = sys.argv[1:]
with np.load(inputs) as x:
    session = onnxruntime.InferenceSession(model)
    np.save(outputs, session.run(None, {"noise": x["noise"], "condition": x["condition"]})[0])
"""


@pytest.fixture(scope="module")
def exported(family, build, tmp_path_factory):
    """A generator, and its file."""
    if not IN_PLACE and family != FIRST:
        pytest.skip("each takes a process of its own")
    generator, path = build(family), tmp_path_factory.mktemp("onnx") / "model.onnx"
    return generator, export_onnx(generator, path, provenance={"data": "none"})


@cache
def particles_of(name):
    return zdc.load(name, "test", ROWS).particles.astype("float32")


def inputs_of(generator, rows=ROWS):
    noise = np.random.default_rng(5).standard_normal((rows, generator.noise_width), "float32")
    return {"noise": noise, "condition": particles_of(generator.detectors[0].name)[:rows].copy()}


def test_answers_are_those_of_the_generator(exported):
    generator, path = exported
    inputs, session = inputs_of(generator), open_session(path)
    made = session.run(None, inputs)
    true = generator.predict_on_batch({"noise": inputs["noise"], "conditions": inputs["condition"]})
    true = true if isinstance(true, (tuple, list)) else [true]
    assert sum(np.asarray(t).sum() for t in true) > 0
    assert agreement(list(zip(made, true, strict=True))).moved < 5e-4  # a photon in 2,000
    alone = session.run(None, {name: values[3:4] for name, values in inputs.items()})
    assert agreement([(a, m[3:4]) for a, m in zip(alone, made, strict=True)]).moved < 0.01


def test_signature_operators_and_metadata(exported):
    generator, path = exported
    session, model = open_session(path), onnx.load(path)
    assert [(entry.name, entry.shape[1], entry.type) for entry in session.get_inputs()] == [
        ("noise", generator.noise_width, "tensor(float)"), ("condition", 9, "tensor(float)")]
    names = [entry.name for entry in session.get_outputs()]
    several = len(generator.detectors) > 1
    kinds = {"photons": ("photons", "tensor(int32)"), "MeV": ("energy", "tensor(float)")}
    expected = [(kinds[d.unit][0] + several * f"_{d.name}", kinds[d.unit][1]) for d in generator.detectors]
    assert [(entry.name, entry.type) for entry in session.get_outputs()] == expected and len(names) == len(expected)
    assert {node.domain for node in all_nodes(model.graph)} <= {"", "ai.onnx"}
    assert not {node.op_type for node in all_nodes(model.graph)} & {"RandomNormal", "RandomUniform", "Multinomial"}
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert about["detector"] == ",".join(d.name for d in generator.detectors) and about["data"] == "none"
    assert about["model"] == type(generator).__name__ and len(about["weights_sha256"]) == 64
    assert about.get("takes_ids") == ("true" if generator.TAKES_IDS else None)
    assert json.loads(about["agreement_with_tensorflow"])["moved"] <= 0.01


@pytest.mark.parametrize(("which", "column", "value"), [
    ("condition", 4, np.nan), ("condition", 0, -3.0), ("condition", 6, np.inf), ("noise", 2, np.nan)])
def test_what_is_no_particle_stops_the_run(exported, which, column, value):
    generator, path = exported
    inputs = inputs_of(generator, 2)
    inputs[which][1, column] = value
    with pytest.raises(Exception, match=CHECK):
        open_session(path).run(None, inputs)


def test_a_stranger_answers_the_same(exported, family, tmp_path):
    if family != FIRST:
        pytest.skip("one of two is enough")
    generator, path = exported
    inputs = inputs_of(generator)
    np.savez(tmp_path / "in.npz", **inputs)
    done = subprocess.run([sys.executable, "-I", "-c", STRANGER, path, tmp_path / "in.npz", tmp_path / "out.npy"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert agreement([(np.load(tmp_path / "out.npy"), open_session(path).run(None, inputs)[0])]).moved < 1e-3


class Odd(zdc.Sampler):
    """A generator with an operation that ONNX does not have."""

    noise_width = 3

    def __init__(self):
        super().__init__()
        self.detectors = [zdc.detector("zn")]

    def generate(self, noise, conditions):
        strange = keras.ops.erfinv(keras.ops.tanh(noise[:, :1] + conditions[:, :1]))
        return strange[:, :, None] * keras.ops.ones((1, 44, 44))


@SKIP
def test_operators_that_onnx_lacks_are_named_and_nothing_is_left(tmp_path):
    with pytest.raises(ValueError, match=r"Expected operators of ONNX 17, received .*(Erfinv|Ndtri)"):
        export_onnx(Odd(), tmp_path / "odd.onnx")
    assert list(tmp_path.iterdir()) == []


def test_operators_within_loops_are_looked_at():
    helper = onnx.helper
    inner = helper.make_graph([helper.make_node("Log1p", ["a"], ["b"])], "inner", [], [
        helper.make_tensor_value_info("b", 1, [1])])
    branches = helper.make_node("If", ["c"], ["d"], then_branch=inner, else_branch=inner)
    outer = helper.make_graph([branches], "outer", [], [])
    model = helper.make_model(outer, opset_imports=[helper.make_opsetid("", 17)])
    assert [node.op_type for node in all_nodes(model.graph)] == ["If", "Log1p", "Log1p"]
    with pytest.raises(ValueError, match="received Log1p"):
        refuse_foreign_operators(model)
    for attribute in outer.node[0].attribute:
        attribute.g.node[0].op_type = "Log"
    refuse_foreign_operators(helper.make_model(outer, opset_imports=[helper.make_opsetid("", 17)]))


@SKIP
def test_answers_that_differ_are_seen(tmp_path):
    """The file holds a weight as it was when it was written."""
    weight, examples = keras.Variable(1.0), {"noise": np.ones((4, 2), "float32")}
    write_checked(lambda noise: {"made": noise * weight}, examples, tmp_path / "model.onnx", {})
    weight.assign(2.0)
    found = compare_with_graph(open_session(tmp_path / "model.onnx"), lambda noise: {"made": noise * weight}, examples)
    assert (found.moved, found.equal, found.largest) == (0.25, 0.0, 1.0)


@pytest.mark.parametrize(("name", "words", "error"), [
    ("model.pb", "ends in .onnx, received", ValueError), ("old.onnx", "exists: choose another name", FileExistsError)])
def test_wrong_targets(build, tmp_path, name, words, error):
    (tmp_path / "old.onnx").write_text("precious")
    with pytest.raises(error, match=words):
        export_onnx(build("gan"), tmp_path / name)
    assert (tmp_path / "old.onnx").read_text() == "precious" and len(list(tmp_path.iterdir())) == 1


def test_missing_packages_are_named(build, tmp_path, monkeypatch):
    monkeypatch.setattr("zdckeras.export.onnx.find_spec", lambda name: None if "2" in name else name)
    with pytest.raises(ImportError, match=r"ONNX needs tf2onnx: pip install 'zdckeras\[tensorflow,onnx\]'"):
        export_onnx(build("gan"), tmp_path / "model.onnx")


@SKIP
def test_command_says_where_the_model_comes_from(build, tmp_path, capsys):
    build("gan").save(tmp_path / "gan.keras")
    (tmp_path / "gan.md").write_text("trained on nothing")
    words = ["export", str(tmp_path / "gan.keras"), str(tmp_path / "gan.onnx"), "--to", "onnx"]
    assert main(words) == 0
    assert "gan.onnx" in capsys.readouterr().out
    about = {entry.key: entry.value for entry in onnx.load(tmp_path / "gan.onnx").metadata_props}
    assert about["source"].endswith("gan.keras") and "trained on nothing" in about.values()
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "exists: choose another name" in capsys.readouterr().err
    main([*words, "--overwrite"])


@SKIP
def test_a_full_disk_leaves_nothing(gan, tmp_path, capsys):
    import resource

    gan(("zn",)).save(tmp_path / "gan.keras")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, before[1]))
    try:
        with pytest.raises(SystemExit, match="1"):
            main(["export", str(tmp_path / "gan.keras"), str(tmp_path / "gan.onnx"), "--to", "onnx"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = capsys.readouterr().err
    assert f"cannot write {tmp_path / 'gan.onnx'}: File too large" in said and said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["gan.keras"]


@pytest.mark.parametrize(("words", "message"), [
    (["--precision", "int8"], "Expected --precision with --to onnx only, received it with --to saved-model"),
    (["--to", "onnx", "--compiled", "4"], "Expected --compiled with --to saved-model only"),
    (["--to", "onnx", "--classifier", "a.keras"], "Expected --classifier with --to o2 only")])
def test_options_of_other_targets_are_refused(tmp_path, capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        main(["export", "zn", str(tmp_path / "out.onnx"), *words])
    assert message in capsys.readouterr().err and list(tmp_path.iterdir()) == []

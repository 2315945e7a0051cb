import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from zdckeras.cli import main
from zdckeras.data.detectors import get_detector
from zdckeras.export.process import in_tensorflow_process
from zdckeras.export.saved_model import export_saved_model
from zdckeras.export.serving import read_fields, read_tensor
from zdckeras.export.session import ABOUT
from zdckeras.generators import Sampler

pytest.importorskip("tensorflow")
ROWS = 4

# What a user without Keras and without this package does. Both are made impossible to import.
STRANGER = """
import sys
sys.modules["zdckeras"] = sys.modules["keras"] = None
import numpy as np
import tensorflow as tf

served, inputs, outputs = sys.argv[1:]
x = np.load(inputs)
condition, noise = tf.constant(x["condition"]), tf.constant(x["noise"])
model = tf.saved_model.load(served)
generate, sample, rows = (model.signatures[name] for name in ("serving_default", "sample", "sample_rows"))
seed, seeds = tf.constant([1, 2]), tf.range(len(x["condition"])) + 5
some = tf.constant([3, 1])
graphs = [f.graph.as_graph_def() for f in model.signatures.values()]
kinds = {node.op for g in graphs for part in (g.node, *(f.node_def for f in g.library.function)) for node in part}


def refusal(signature, **inputs):
    try:
        signature(**inputs)
    except tf.errors.InvalidArgumentError as error:
        return str(error)
    return ""


refused = [refusal(generate, condition=condition * np.nan, noise=noise),
           refusal(sample, condition=condition * [0.0] + [0.0] * 9, seed=seed),
           refusal(generate, condition=condition, noise=noise * np.nan),
           refusal(generate, condition=condition, noise=noise[:1]),
           refusal(rows, condition=condition, seed=seeds[:1])]
none = condition[:0]
empty = [generate(condition=none, noise=noise[:0]), sample(condition=none, seed=seed),
         rows(condition=none, seed=seeds[:0])]
np.savez(
    outputs,
    photons=generate(condition=condition, noise=noise)["energy"],
    first=generate(condition=condition[:1], noise=noise[:1])["energy"],
    sample=sample(condition=condition, seed=seed)["energy"],
    again=sample(condition=condition, seed=seed)["energy"],
    other=sample(condition=condition, seed=tf.constant([1, 3]))["energy"],
    rows=rows(condition=condition, seed=seeds)["energy"],
    some=rows(condition=tf.gather(condition, some), seed=tf.gather(seeds, some))["energy"],
    same=rows(condition=tf.repeat(condition[:1], 3, axis=0), seed=tf.constant([8, 9, 8]))["energy"],
    names=sorted(model.signatures), kinds=sorted(kinds), refused=refused,
    empty=[made["energy"].shape.as_list() for made in empty],
    inputs=sorted(str(f.structured_input_signature[1]) for f in model.signatures.values()),
)
"""


@pytest.fixture(scope="module")
def inputs(generator, showers):
    noise = np.random.default_rng(0).standard_normal((ROWS, generator.noise_width)).astype("float32")
    return {"condition": showers.particles[:ROWS].astype("float32"), "noise": noise}


@pytest.fixture(scope="module")
def served(generator, tmp_path_factory):
    return export_saved_model(generator, tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def answers(served, inputs, tmp_path_factory):
    """The arrays that a fresh process, which knows TensorFlow only, gets out of the SavedModel."""
    folder = tmp_path_factory.mktemp("stranger")
    np.savez(folder / "in.npz", **inputs)
    done = subprocess.run([sys.executable, "-I", "-c", STRANGER, served, folder / "in.npz", folder / "out.npz"],
                          cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "out.npz", allow_pickle=False) as file:
        return dict(file)


def nearly_equal(a, b):
    """Photon counts that rounding in another order of operations may move: one cell in 300, by one photon or two."""
    difference = np.abs(a.astype("int64") - b.astype("int64"))
    return a.shape == b.shape and (difference > 0).mean() < 1 / 300 and difference.max() <= 2


def test_layout(served):
    assert served.name == "1"
    assert (served / "saved_model.pb").is_file() and (served / "variables").is_dir()
    assert [path.name for path in served.parent.iterdir()] == ["1"]


def test_photons_are_those_of_the_generator(generator, answers, inputs):
    expected = generator.predict_on_batch({"conditions": inputs["condition"], "noise": inputs["noise"]})
    assert answers["photons"].dtype == np.float32
    assert nearly_equal(answers["photons"], expected)
    assert expected.sum() > 0 and not nearly_equal(answers["photons"][::-1], expected)


def test_any_batch_size(answers):
    assert nearly_equal(answers["first"], answers["photons"][:1])


def test_sample_repeats_for_a_seed(answers):
    assert np.array_equal(answers["sample"], answers["again"])
    assert (answers["sample"] != answers["other"]).any(axis=(1, 2)).all()
    assert answers["sample"].shape == (ROWS, 30, 30) and answers["sample"].min() >= 0


def test_rows_do_not_depend_on_their_batch(answers):
    assert nearly_equal(answers["some"], answers["rows"][[3, 1]])
    assert nearly_equal(answers["same"][0], answers["same"][2])
    assert not nearly_equal(answers["same"][0], answers["same"][1])


def test_signatures_and_operations_are_plain(answers):
    assert answers["names"].tolist() == ["sample", "sample_rows", "serving_default"]
    signatures = " ".join(answers["inputs"])
    assert "shape=(None, 9), dtype=tf.float32, name='condition'" in signatures
    assert "shape=(None, 905), dtype=tf.float32, name='noise'" in signatures
    assert "shape=(2,), dtype=tf.int32, name='seed'" in signatures
    assert "shape=(None,), dtype=tf.int32, name='seed'" in signatures
    kinds = set(answers["kinds"].tolist())
    assert "MatMul" in kinds and "StatelessRandomNormalV2" in kinds
    assert not [kind for kind in kinds if "PyFunc" in kind or "Xla" in kind or kind.startswith("Random")]


class Constant(Sampler):
    """One, two, ... in every cell of its detectors."""

    noise_width = 1

    def __init__(self, names):
        super().__init__()
        self.detectors = [get_detector(name) for name in names]

    def generate(self, noise, conditions):
        return tuple((k + 1.0) * keras.ops.ones((keras.ops.shape(noise)[0], *detector.shape))
                     for k, detector in enumerate(self.detectors))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="written in this process by TensorFlow only")
def test_names_and_numbers_follow_the_units(tmp_path):
    import tensorflow as tf

    served = tf.saved_model.load(str(export_saved_model(Constant(["zn", "zp", "ecal"]), tmp_path)))
    made = served.signatures["serving_default"](condition=tf.ones((2, 9)), noise=tf.zeros((2, 1)))
    kinds = {name: (v.dtype.name, tuple(v.shape), float(tf.reduce_max(v))) for name, v in made.items()}
    assert kinds == {"photons_zn": ("int32", (2, 44, 44), 1.0), "photons_zp": ("int32", (2, 56, 30), 2.0),
                     "energy_ecal": ("float32", (2, 30, 30), 3.0)}


def test_what_is_no_particle_or_noise_is_refused(answers):
    expected = ["condition: expected finite numbers, energies above 0 GeV"] * 2 + [
        "noise: expected finite numbers", "noise: expected one row for each row of condition",
        "seed: expected one row for each row of condition"]
    for said, message in zip(answers["refused"].tolist(), expected, strict=True):
        assert message in said


def test_no_particles_no_showers(answers):
    assert answers["empty"].tolist() == [[0, 30, 30]] * 3


class Unsound(Constant):
    """A negative number, NaN or too many photons in every cell, as the noise says."""

    def generate(self, noise, conditions):
        return keras.ops.ones((1, *self.detectors[0].shape)) * noise[:, :, None]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="written in this process by TensorFlow only")
def test_a_server_gives_no_impossible_counts(tmp_path):
    import tensorflow as tf

    served = tf.saved_model.load(str(export_saved_model(Unsound(["zn"]), tmp_path))).signatures["serving_default"]
    assert int(served(condition=tf.ones((1, 9)), noise=tf.constant([[2e9]]))["photons"][0, 0, 0]) == 2 * 10**9
    for value in (-1.0, 3e9):
        with pytest.raises(tf.errors.InvalidArgumentError, match="photons: expected finite numbers of at least 0"):
            served(condition=tf.ones((1, 9)), noise=tf.constant([[value]]))


def test_broken_weights_are_not_exported(generator, tmp_path):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(generator))
    again.weights[0].assign(np.full(again.weights[0].shape, np.nan))
    with pytest.raises(ValueError, match=r"expected finite weights, received 1 of \d+ arrays with NaN or infinite"):
        export_saved_model(again, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_existing_version_is_kept_unless_told_otherwise(generator, tmp_path, monkeypatch):
    folder = tmp_path / "1"
    folder.mkdir()
    (folder / "saved_model.pb").write_text("precious")
    with pytest.raises(FileExistsError, match=r"1 exists: give another version, or allow to overwrite it"):
        export_saved_model(generator, tmp_path)
    assert (folder / "saved_model.pb").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_failed_export_leaves_the_old_version(generator, tmp_path, monkeypatch):
    """Here the weights cannot be saved; on the way, nothing half-written may stay."""
    folder = tmp_path / "1"
    folder.mkdir()
    (folder / "saved_model.pb").write_text("precious")

    def broken(*arguments, **settings):
        raise OSError("No space left on device")

    monkeypatch.setattr("zdckeras.export.saved_model.write_saved_model", broken)
    monkeypatch.setattr(type(generator), "save", broken)
    with pytest.raises(OSError, match="No space left on device"):
        export_saved_model(generator, tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert (folder / "saved_model.pb").read_text() == "precious"


def test_stopped_between_renames_an_old_version_is_still_served(generator, tmp_path, monkeypatch):
    """Where folders cannot change places in one step: the rename of the new one fails, and the old one is put back."""
    folder = tmp_path / "1"
    folder.mkdir()
    (folder / "saved_model.pb").write_text("precious")
    rename = Path.rename

    def failing(self, target):
        if target == folder and (self / "new").exists():
            raise KeyboardInterrupt
        return rename(self, target)

    def write(*arguments):
        place = next(one for one in arguments if isinstance(one, Path))
        place.mkdir()
        (place / "new").write_text("new")

    monkeypatch.setattr("zdckeras.data.atomic._exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", failing)
    for name in ("write_served", "in_tensorflow_process"):
        monkeypatch.setattr(f"zdckeras.export.saved_model.{name}", write)
    with pytest.raises(KeyboardInterrupt):
        export_saved_model(generator, tmp_path, overwrite=True)
    assert (folder / "saved_model.pb").read_text() == "precious" and len(list(tmp_path.iterdir())) == 1


def test_second_process_imports_nothing_from_the_current_folder(generator, tmp_path, monkeypatch):
    """A keras.py lying there is not run; one in a folder that PYTHONPATH names in full is, and ends it."""
    (tmp_path / "keras.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "keras.py").write_text("import sys\nsys.exit('the one that was named')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", str(tmp_path / "named")]))
    monkeypatch.setattr(type(generator), "save", lambda self, path: None)
    with pytest.raises(RuntimeError, match="the one that was named"):
        in_tensorflow_process("zdckeras.export.saved_model", {"generator": generator}, tmp_path / "1", "")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("version", [0, -1, 1.0, "1", True])
def test_wrong_version(generator, tmp_path, version):
    with pytest.raises(ValueError, match="whole number above 0 as version"):
        export_saved_model(generator, tmp_path, version)


def test_only_generators_are_exported(teacher, tmp_path):
    with pytest.raises(TypeError, match="Expected a generator .Sampler. to export, received ShapeFlow"):
        export_saved_model(teacher, tmp_path)


def test_missing_tensorflow_is_named(generator, tmp_path, monkeypatch):
    monkeypatch.setattr("zdckeras.export.saved_model.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="TensorFlow, which is not installed: pip install"):
        export_saved_model(generator, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.neutral
def test_command_puts_a_model_file_in_place_of_an_older_version(generator, served, tmp_path, capsys):
    generator.save(tmp_path / "model.keras")
    old = tmp_path / "served" / "3" / "notes"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    main(["export", str(tmp_path / "model.keras"), str(tmp_path / "served"), "--version", "3", "--overwrite"])
    assert "signatures serving_default, sample, sample_rows" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "served").iterdir()] == ["3"]
    names = {path.relative_to(served).as_posix() for path in served.rglob("*")}
    assert names | {ABOUT} == {path.relative_to(old.parent).as_posix() for path in old.parent.rglob("*")}


def test_command_names_what_is_wrong(tmp_path, capsys):
    (tmp_path / "text.keras").write_text("no model")
    keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    for name, message in (("none.keras", "No such file"), ("text.keras", "text.keras"),
                          ("other.keras", "other.keras: expected a generator (Sampler), received Sequential")):
        with pytest.raises(SystemExit) as stop:
            main(["export", str(tmp_path / name), str(tmp_path / "served")])
        assert stop.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="written in this process by TensorFlow only")
def test_compiled_signatures_and_requests_to_warm_up_with(generator, inputs, tmp_path):
    """A signature for two rows answers like the default one; every signature has its request, which it takes."""
    import tensorflow as tf

    folder = export_saved_model(generator, tmp_path, compiled=(2,))
    served = tf.saved_model.load(str(folder))
    two = {name: tf.constant(values[:2]) for name, values in inputs.items()}
    default, compiled = (served.signatures[name](**two)["energy"] for name in ("serving_default", "compiled_2"))
    assert nearly_equal(np.rint(default), np.rint(compiled))
    with pytest.raises(tf.errors.InvalidArgumentError, match="energies above 0 GeV"):
        served.signatures["compiled_2"](**{**two, "condition": -two["condition"]})
    file, asked = folder / "assets.extra" / "tf_serving_warmup_requests", set()
    for record in tf.data.TFRecordDataset(str(file)):
        request = list(read_fields(dict(read_fields(dict(read_fields(record.numpy()))[6]))[1]))
        name = dict(read_fields(dict(request)[1]))[3].decode()
        entries = [dict(read_fields(content)) for number, content in request if number == 2]
        made = served.signatures[name](**{e[1].decode(): tf.constant(read_tensor(e[2])) for e in entries})
        asked.add((name, *made["energy"].shape))
    rows = {"serving_default": 1, "sample": 1, "sample_rows": 1, "compiled_2": 2}
    assert asked == {(name, number, 30, 30) for name, number in rows.items()}
    with pytest.raises(ValueError, match="whole number above 0 as batch size, received 0"):
        export_saved_model(generator, tmp_path, 2, compiled=(4, 0))

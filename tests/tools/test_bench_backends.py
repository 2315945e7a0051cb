import json
import os
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

TOOLS = Path(__file__).parents[2] / "tools"
SMALL = ["--preset", "smoke", "--batch", "8", "--steps", "2", "--repeats", "2", "--rows", "200", "--batches", "2"]
FAMILY = "SDI-GAN"
ENGINE = {"tensorflow": "TF graph", "jax": "JAX jit", "torch": "torch eager"}[keras.config.backend()]


@pytest.fixture
def bench(monkeypatch):
    """The tool as a module, its children finding the package where this process does."""
    monkeypatch.syspath_prepend(TOOLS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    import bench_backends

    return bench_backends


@pytest.mark.compiles_long
def test_times_on_this_backend_and_by_hand(bench, tmp_path, capsys):
    """Times of the running backend; the step by hand has the same losses over three steps."""
    record = tmp_path / "bench.json"
    assert bench.main([*SMALL, "--only", FAMILY, "--engines", ENGINE, "--json", str(record)]) == 0
    found = json.loads(record.read_text())
    rows = {row["what"]: row for row in found["rows"]}
    by_hand = {"by hand"} & set(rows)
    assert set(rows) == {"training step", "sampling, batch 2"} | by_hand
    assert all(0.0 < 1e-3 * row["ms"] <= row["first_s"] for row in rows.values())
    assert bool(by_hand) == (keras.config.backend() == "tensorflow")
    for row in (rows[name] for name in by_hand):
        assert row["difference"] < 1e-4 and "failed" not in row
        assert row["ratio"] == pytest.approx(rows["training step"]["ms"] / row["ms"])
    said, step = capsys.readouterr().out, rows["training step"]
    assert found["versions"]["keras"] == keras.__version__ and found["machine"] in said
    assert f"{step['cpu_ms']:.3g} ± {step['cpu_spread']:.2g} ({step['first_s']:.1f} s)" in said.splitlines()[-len(rows)]


def test_median_and_spread_of_readings(bench):
    found = bench.reading(np.array([[1.0, 0.5], [3.0, 0.5], [2.0, 0.75]]))
    assert found == {"ms": 2000.0, "spread": 1000.0, "cpu_ms": 500.0, "cpu_spread": 125.0}


def test_missing_packages_and_failures_are_said_in_the_table(bench, monkeypatch, capsys):
    monkeypatch.setattr(bench, "version", lambda package: None if package == "tf2onnx" else "1.0")
    assert bench.main([*SMALL, "--only", "student", "--engines", "ONNX Runtime"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "| student | sampling, batch 2 | tf2onnx not installed |"


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="exports from TensorFlow")
def test_onnx_runtime_samples_what_tensorflow_does(bench, tmp_path):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    record = tmp_path / "bench.json"
    bench.main([*SMALL, "--only", "SDI-GAN", "--engines", "ONNX Runtime", "--json", str(record)])
    (row,) = json.loads(record.read_text())["rows"]
    assert row["what"] == "sampling, batch 2" and row["ms"] > 0.0 and row["difference"] < 0.01


def test_every_family_trains_on_its_batches_and_samples(bench, without_graphs, as_on_a_gpu):
    """One batch of what a step takes, and two samples, of a small model of each."""
    from zdckeras.simulation.reference import load
    from zdckeras.training.batches import Batches

    showers = {}
    rare = 11 if keras.config.backend() == "jax" else 1  # JAX compiles for some seconds each
    for name, (detectors, build) in list(bench.FAMILIES.items())[::rare]:
        showers.setdefault(detectors, load(detectors, "train", 40))
        case = build(bench.SIZES["smoke"], showers[detectors])
        (batch,) = Batches(case.arrays, 10, 0, **case.noise)[0]
        assert all(len(values) == 10 and np.isfinite(values).all() for values in batch.values()), name
        if keras.config.backend() == "torch":
            constant = {key: np.full(10, value, "float32") for key, value in case.constant.items()}
            case.model.compile(case.optimizer)
            assert np.isfinite(keras.tree.flatten(case.model.train_on_batch(batch | constant))).all(), name
        noise = np.random.default_rng(0).standard_normal((2, case.width), "float32")
        columns = [keras.ops.convert_to_tensor(column[:2], "float32") for column in (noise, *case.columns)]
        with without_graphs():
            made = keras.tree.flatten(case.generate(*columns))
        for part in map(keras.ops.convert_to_numpy, made):
            assert len(part) == 2 and np.isfinite(part).all(), name

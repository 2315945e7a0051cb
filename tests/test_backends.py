"""The same small models, weights and noise under every backend: the same losses.

Run as a program, this file trains the models under the backend of KERAS_BACKEND and prints their losses.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest

from zdckeras import backend
from zdckeras.models.distillation import Distiller
from zdckeras.models.photon_sums import PhotonSums
from zdckeras.models.shape_flow import ShapeFlow
from zdckeras.particles import conditions_of
from zdckeras.training import Batches, train

ROOT = Path(__file__).parents[1]
BACKENDS = [name for name in ("tensorflow", "jax", "torch") if find_spec(name)]
EPOCHS, ROWS, BATCH = 3, 64, 16


def set_weights(model, seed):
    """Weights from a seeded NumPy generator: the initialisers of the backends draw different numbers."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign((0.3 * rng.normal(size=weight.shape) / np.sqrt(max(weight.shape[0], 4))).astype("float32"))
    return model


def fit(model, data, names, **noise):
    """Losses of the epochs."""
    batches = Batches({name: data[name] for name in names}, BATCH, seed=4, **noise)
    model.compile(keras.optimizers.Adam(1e-3), jit_compile=backend.jit_compile())
    state = Path(sys.argv[1]) / f"{model.name}.npz"
    return train(model, batches, EPOCHS, state, verbose=0)["loss"]


def losses():
    """Loss of every epoch of a photon-sum flow, a teacher, and its student."""
    rng = np.random.default_rng(0)
    particles = conditions_of(np.repeat([22, 2112], ROWS // 2), rng.normal(0.0, [5.0, 5.0, 1000.0], (ROWS, 3)))
    counts = rng.poisson(2.0 * rng.exponential(1.0, (ROWS, 30, 30))).astype("uint16")
    small = {"steps": 1, "hidden": (8,), "embedding": (8,)}
    shape = set_weights(ShapeFlow.fit_scales("ecal", particles, counts, maps=2, **small), 1)
    sums = np.asarray(keras.ops.convert_to_numpy(shape.sums(counts.astype("float32"))))
    number = set_weights(PhotonSums.fit_scales("ecal", particles, sums, bins=4, **small), 2)
    student = set_weights(shape.student(), 3)
    data = {"conditions": particles, "responses": counts, "sums": sums, "weight": np.linspace(0.5, 1.5, ROWS),
            "channels": np.full(ROWS, 0.5)}
    cells = {"uniform": {"u_cells": (900,)}}
    return {"backend": backend.name(), "losses": {
        "sums": fit(number, data, ("conditions", "sums"), uniform={"u_sums": (5,)}),
        "teacher": fit(shape, data, ("conditions", "responses"), **cells),
        "student": fit(Distiller(shape, student), data, ("conditions", "responses", "weight", "channels"),
                       normal={"z": (900,)}, **cells)}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What this file prints under each installed backend, one process each, side by side."""
    started = {}
    for name in BACKENDS:
        environment = {**os.environ, "KERAS_BACKEND": name, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        started[name] = subprocess.Popen([sys.executable, __file__, tmp_path_factory.mktemp(name)], env=environment,
                                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    outputs = {name: process.communicate() for name, process in started.items()}
    for name, process in started.items():
        assert process.returncode == 0, f"{name}: {outputs[name][1][-2000:]}"
    return {name: json.loads(output[0].splitlines()[-1]) for name, output in outputs.items()}


def test_each_run_used_its_backend(runs):
    assert {name: run["backend"] for name, run in runs.items()} == {name: name for name in BACKENDS}
    assert backend.name() in BACKENDS


@pytest.mark.parametrize("model", ["sums", "teacher", "student"])
def test_losses_agree(runs, model):
    reference = np.array(runs[backend.name()]["losses"][model])
    assert len(reference) == EPOCHS and reference[-1] < reference[0]
    for run in runs.values():
        np.testing.assert_allclose(run["losses"][model], reference, rtol=1e-4, atol=1e-4)


def test_compiles_where_it_pays():
    assert backend.jit_compile() is (backend.name() == "jax") or backend.name() == "tensorflow"


if __name__ == "__main__":
    print(json.dumps(losses()))

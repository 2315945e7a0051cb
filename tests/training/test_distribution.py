"""Two devices train as one: losses of all kinds of models are scaled as Keras scales its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from zdckeras import backend
from zdckeras.training.batches import Batches
from zdckeras.training.loop import train

OLD = Path(__file__).parents[1] / "data" / "old" / "gan.keras"
pytestmark = pytest.mark.skipif(keras.config.backend() == "torch", reason="has no such trainings")

SCRIPT = """
import json, sys, tempfile
import numpy as np
import keras
from zdckeras.backend import use_devices
use_devices(int(sys.argv[1]))
from keras import layers, ops
from zdckeras.flow_distill.sums import PhotonSums
from zdckeras.flows.flow import Flow
from zdckeras.layers.dense import linear
from zdckeras.training.batches import Batches
from zdckeras.training.loop import SampleLoss
from zdckeras.training.loop import train as fit
from zdckeras.training.phases import Phase, PhasedModel

rng = np.random.default_rng(0)
conditions = np.abs(rng.normal(size=(32, 9))) + 1.0
conditions[:, 0] = 500.0
arrays = {"conditions": conditions, "sums": rng.poisson(30.0, (32, 5)), "x": rng.normal(size=(32, 3))}


class Square(SampleLoss):
    traced = 0

    def __init__(self):
        super().__init__()
        self.dense, self.built = linear(3, 1, iter([1])), True

    def call(self, inputs):
        Square.traced += 1
        return ops.sum(ops.square(self.dense(inputs["x"]) - 2.0), axis=-1)


class Pair(PhasedModel):
    def __init__(self):
        super().__init__(momentum=0.5)
        self.first, self.second, self.twin = (linear(3, 1, iter([k])) for k in (1, 2, 1))
        self.twin.trainable, self.built = False, True

    def phases(self):
        return {"a": Phase(lambda b, t: {"loss": ops.mean(ops.square(self.first(b["x"]) - 2.0))}, (self.first,),
                           ("loss",)),
                "b": Phase(lambda b, t: {"loss": ops.mean(ops.square(self.second(b["x"]) + self.first(b["x"])))},
                           (self.second,), ("loss",))}

    def averages(self):
        return ((self.first, self.twin),)


def sums():
    return PhotonSums.fit_scales("zn", conditions, arrays["sums"], steps=1, hidden=(8,), embedding=(8,))


def train(make, columns, uniform=None):
    model = make()
    sgd = lambda: keras.optimizers.SGD(0.02)
    model.compile({"a": sgd(), "b": sgd()} if isinstance(model, PhasedModel) else sgd())
    batches = Batches({k: arrays[k] for k in columns}, 8, 1, uniform)
    with tempfile.TemporaryDirectory() as folder:
        logs = fit(model, batches, 2, folder + "/state.npz", verbose=0)
    held = Batches({k: arrays[k] for k in columns}, 8, 1, uniform, shuffle=False)
    logs["evaluated"] = [model.evaluate(held, verbose=0, return_dict=True)["loss"]]
    return [w.tolist() for w in model.get_weights()], logs


cases = {"SampleLoss": (Square, ["x"]), "PhasedModel": (Pair, ["x"]),
         "PhotonSums": (sums, ["conditions", "sums"], {"u_sums": (5,)})}
found = {name: train(*case) for name, case in cases.items()}
print(json.dumps(found | {"traced": Square.traced}))
"""


def trained_on(devices):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(devices)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def trainings():
    one, two = trained_on(1), trained_on(2)
    return {kind: (one[kind], two[kind]) for kind in one}


@pytest.mark.parametrize("kind", ["SampleLoss", "PhasedModel", "PhotonSums"])
def test_two_devices_train_as_one(trainings, kind):
    (weights, logs), (mirrored, mirrored_logs) = trainings[kind]
    assert logs.keys() == mirrored_logs.keys() and len(weights) == len(mirrored)
    for name, values in logs.items():
        np.testing.assert_allclose(mirrored_logs[name], values, rtol=1e-5, err_msg=name)
    for one, other in zip(weights, mirrored, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(keras.config.backend() != "jax", reason="TensorFlow traces once for each device")
def test_steps_are_compiled_as_often_as_for_one_device(trainings):
    """Not once more when metrics begin again."""
    one, two = trainings["traced"]
    assert two == one


def test_batches_that_cannot_be_shared(monkeypatch, tmp_path):
    monkeypatch.setitem(backend._sharing, "devices", 3)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="multiple of 3 rows for as many devices, received 4 rows"):
        train(model, Batches({"x": np.ones((8, 2))}, 4), 1, tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists()


def test_devices_that_there_are_not():
    """The processor is divided, once, before it is used."""
    code = "import keras, sys; from zdckeras.backend import use_devices; keras.ops.ones(3) + 1; use_devices(3)"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
                          capture_output=True, text=True)
    assert "ValueError: Expected 3 devices, found " in done.stderr and done.returncode == 1


def test_generators_answer_every_row_once_where_devices_are_shared():
    """More rows than a block has: there each of TensorFlow's two replicas answers all of it."""
    code = """
import sys, numpy as np
from zdckeras.backend import use_devices
use_devices(int(sys.argv[1]))
import zdckeras as zdc
from zdckeras.modular.model import ArrivalVAE
from zdckeras.modular.training import encoded_arrivals
from zdckeras.simulation.reference import load
made = zdc.load_model(sys.argv[2]).sample(load("zn", "test", 300).particles, seed=1)
codes = encoded_arrivals(ArrivalVAE("ecal", latent=2), 1100, 0)["code"]
print(made.shape, made.sum(), codes.shape, np.round(np.abs(codes).sum(), 2))
"""
    told = [subprocess.run([sys.executable, "-c", code, str(number), str(OLD)], capture_output=True, text=True,
                           env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}) for number in (1, 2)]
    assert told[0].returncode == told[1].returncode == 0, told[1].stderr[-3000:]
    one, two = (done.stdout.splitlines()[-1] for done in told)
    assert one == two and "(300, 44, 44)" in one and "(1100, 2)" in one

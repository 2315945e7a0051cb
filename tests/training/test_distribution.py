"""Two devices train as one: losses of all kinds of models are scaled as Keras scales its own."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(find_spec("tensorflow") is None, reason="needs TensorFlow")

SCRIPT = """
import json, sys, tempfile
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
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
    def __init__(self):
        super().__init__()
        self.dense, self.built = linear(3, 1, iter([1])), True

    def call(self, inputs):
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
both = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())
found = {}
for name, case in cases.items():
    one = train(*case)
    with both.scope():
        two = train(*case)
    found[name] = [one, two]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def trainings():
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("kind", ["SampleLoss", "PhasedModel", "PhotonSums"])
def test_two_devices_train_as_one(trainings, kind):
    (weights, logs), (mirrored, mirrored_logs) = trainings[kind]
    assert logs.keys() == mirrored_logs.keys() and len(weights) == len(mirrored)
    for name, values in logs.items():
        np.testing.assert_allclose(mirrored_logs[name], values, rtol=1e-4, err_msg=name)
    for one, other in zip(weights, mirrored, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)

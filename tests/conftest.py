"""Small models of a 30 x 30 calorimeter and showers for them, the same on every backend."""

import os
import sys
import warnings
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from scipy import stats
from xdist.scheduler import LoadFileScheduling

import zdckeras
from zdckeras.data.detectors import channel_sums
from zdckeras.data.particles import conditions_of
from zdckeras.data.showers import Showers
from zdckeras.flow_distill.generator import ShowerGenerator
from zdckeras.flow_distill.shape import ShapeFlow
from zdckeras.flow_distill.sums import PhotonSums
from zdckeras.simulation import reference

DETECTOR = "ecal"
PACKAGE = Path(zdckeras.__file__).parent
EAGER = keras.backend.backend() != "jax"  # compiling takes longer than these tests, but eager loops compile too
LONG = ("recipes/test_smoke", "test_backends", "tools/test_sweep", "export/test_onnx", "test_readme")  # minutes each
NEUTRAL = ("simulation/", "tools/test_geant4", "tools/test_pack", "tools/test_check_serving", "tools/test_train_all",
           "plots/", "comparison/test_page")  # all of these are marked neutral: what that is, setup.cfg says
COMPILED = TemporaryDirectory(prefix="zdckeras-jax-")  # what JAX compiled for one test serves the copies in others


class ByRecipe(LoadFileScheduling):
    """A worker takes all tests of a file, or of one recipe."""

    def _split_scope(self, nodeid):
        return super()._split_scope(nodeid) + (nodeid.partition("[")[2] if LONG[0] in nodeid else "")


def pytest_xdist_make_scheduler(config, log):
    config.option.loadscopereorder = False
    return ByRecipe(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """What takes long first, or one worker is left alone with it at the end; skips what runs under another backend."""
    items.sort(key=lambda item: not any(f"tests/{name}.py" in item.nodeid for name in LONG))
    elsewhere = {"jax": ("compiles_long", "neutral"), "torch": ("neutral",)}.get(keras.backend.backend(), ())
    for item in items:
        if any(f"tests/{name}" in item.nodeid for name in NEUTRAL):
            item.add_marker("neutral")
        for mark in filter(item.get_closest_marker, elsewhere):
            item.add_marker(pytest.mark.skip(reason=f"{mark}: see setup.cfg"))


def numpy_uniform(shape, minval=0.0, maxval=1.0, dtype=None, seed=None):
    return np.random.default_rng(seed).uniform(minval, maxval, shape).astype(dtype or "float32")


def numpy_normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    return np.random.default_rng(seed).normal(mean, stddev, shape).astype(dtype or "float32")


def numpy_truncated_normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    cut = stats.truncnorm.rvs(-2.0, 2.0, size=shape, random_state=np.random.default_rng(seed))
    return (mean + stddev * cut).astype(dtype or "float32")


# compiling takes most of the time, running next to none; without fusion emitters it takes a third less, and where there
# is no such flag, XLA ends the process
FLAGS = ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
if find_spec("jaxlib") is None or (0, 8) <= tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(FLAGS))
if keras.backend.backend() == "jax":
    import jax
    from keras.src.initializers import random_initializers

    # initial weights by NumPy: JAX compiles their drawing anew for every shape, which is a third of all test time
    draws = {"uniform": numpy_uniform, "normal": numpy_normal, "truncated_normal": numpy_truncated_normal}
    random_initializers.random = SimpleNamespace(**{**vars(random_initializers.random), **draws})
    jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", COMPILED.name))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def randomise(model, seed=0, size=0.3):
    """Give every weight a value from a seeded NumPy generator, the same on every backend."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign((size * rng.normal(size=weight.shape) / np.sqrt(max(weight.shape[0], 4))).astype("float32"))
    return model


def small_showers(rows=48, seed=0):
    """Neutrons and photons with round spots of Poisson light where they hit."""
    rng = np.random.default_rng(seed)
    pdg = rng.choice([22, 2112], rows)
    pz = rng.choice([-1.0, 1.0], rows) * rng.uniform(100.0, 2500.0, rows)
    momentum = np.column_stack([rng.normal(0.0, 0.008, (rows, 2)) * np.abs(pz)[:, None], pz])
    spot = 14.5 + rng.normal(0.0, 3.0, (rows, 2))
    x, y = np.indices((30, 30))[:, None] - spot.T[:, :, None, None]
    light = 12.0 * np.exp(-(x**2 + y**2) / 8.0)
    return Showers(conditions_of(pdg, momentum), pdg, {DETECTOR: rng.poisson(light).astype("uint16")}, {})


def small_sums(showers):
    sums = channel_sums(showers.response)
    return randomise(PhotonSums.fit_scales(DETECTOR, showers.particles, sums, steps=2, hidden=(8,), bins=4,
                                           embedding=(8,)), seed=1)


def small_shape(showers, **settings):
    return randomise(ShapeFlow.fit_scales(DETECTOR, showers.particles, showers.response,
                                          **{"steps": 2, "hidden": (8,), "embedding": (8,), "maps": 2, **settings}),
                     seed=2)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of fewer primaries; another, as good, meaning of a seed."""
    monkeypatch.setattr(reference, "PRIMARIES_AT_ONCE", 500)


@pytest.fixture(scope="session")
def showers():
    return small_showers()


@pytest.fixture
def sums_model(showers):
    return small_sums(showers)


@pytest.fixture
def teacher(showers):
    return small_shape(showers)


@pytest.fixture(scope="session")
def generator(showers):
    """A MAF generator; shared, so leave its weights alone."""
    return ShowerGenerator(small_sums(showers), small_shape(showers))


@pytest.fixture
def eager():
    """Value of `run_eagerly` with which a few steps take least time."""
    return EAGER


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """On torch, no tensor becomes an array within the package unless it is asked to: on a GPU none does."""
    if keras.backend.backend() == "torch":
        import torch

        def array_of(tensor, *settings, real=torch.Tensor.__array__, **named):
            if PACKAGE in Path(sys._getframe(1).f_code.co_filename).parents:
                raise TypeError("a tensor among NumPy's arrays: use keras.ops")
            return real(tensor, *settings, **named)

        monkeypatch.setattr(torch.Tensor, "__array__", array_of)


@pytest.fixture(scope="session")
def without_graphs():
    """A context in which TensorFlow runs operation by operation: less time than tracing a large model for few steps."""

    @contextmanager
    def operation_by_operation():
        if keras.backend.backend() != "tensorflow":
            yield
            return
        import tensorflow as tf

        tf.config.run_functions_eagerly(True)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Even though")  # data sets keep their graphs
                yield
        finally:
            tf.config.run_functions_eagerly(False)

    return operation_by_operation


@pytest.fixture(scope="session")
def evaluate():
    """Outputs of a function of arrays as NumPy, on every backend in the way that takes least time."""

    def call(function, *arrays):
        class Wrapped(keras.Model):
            def call(self, inputs):
                return function(*(inputs[str(i)] for i in range(len(arrays))))

        model = Wrapped()
        model.built = True  # or Keras runs it once op by op, which JAX compiles one by one
        model.compile(run_eagerly=EAGER)
        return model.predict_on_batch({str(i): np.asarray(a, "float32") for i, a in enumerate(arrays)})

    return call

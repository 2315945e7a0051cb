"""The presets "paper" of the flows: built at their size, counted, and trained on two rows."""

import runpy
from pathlib import Path

import keras
import numpy as np
import pytest

from zdckeras.flow_distill.distiller import Distiller
from zdckeras.flow_distill.published import PublishedFlow
from zdckeras.flow_distill.shape import ShapeFlow
from zdckeras.modular.arrivals import ArrivalBatches
from zdckeras.modular.model import ArrivalVAE
from zdckeras.simulation.reference import load
from zdckeras.training.batches import Batches

FOLDER = Path(__file__).parents[2] / "recipes"
pytestmark = pytest.mark.neutral


def preset(name):
    return runpy.run_path(str(FOLDER / f"{name}.py"), run_name="recipe")["PRESETS"]["paper"]


@pytest.fixture(scope="module")
def some():
    showers = load("zn", "train", 16)
    return {"conditions": showers.particles, "responses": showers.response}


def learns(model, batch, rate, steps=3):
    """The loss of one batch falls, by steps that keep no moments: these models are large."""
    model.compile(keras.optimizers.SGD(rate, clipnorm=1.0), run_eagerly=True)
    losses = [float(np.sum(model.train_on_batch(batch))) for _ in range(steps)]
    assert np.isfinite(losses).all() and losses[-1] < losses[0], losses


@pytest.mark.parametrize(("name", "kind", "weights"), [
    ("flow_noise", PublishedFlow, 286_982_960), ("flow_distill", ShapeFlow, 49_556_648)])
def test_teachers_over_cells(some, name, kind, weights):
    """287 million weights are those of the neutron study; the other flow is ours, its widths the study's."""
    model = kind.fit_scales("zn", *some.values(), **preset(name)["shape"])
    assert model.count_params() == weights
    learns(model, Batches(some, 2, 0, {"u_cells": (1936,)})[0][0], 1e-2)


def test_student_over_cells(some):
    teacher = ShapeFlow.fit_scales("zn", *some.values(), **preset("flow_distill")["shape"])
    student = teacher.student(seed=1)
    assert student.count_params() == teacher.count_params()
    rows = some | {"weight": np.ones(16, "float32"), "channels": np.ones(16, "float32")}
    learns(Distiller(teacher, student), Batches(rows, 2, 0, {"u_cells": (1936,)}, {"z": (1936,)})[0][0], 1e-4)


def test_autoencoder_of_arrivals_and_flow_over_its_codes():
    """One size for `modular`, `flow_matching`, `diffusion` and `one_step`; that of `flow_distill` is the laptop's."""
    papers = [preset(name)["vae"] for name in ("modular", "flow_matching", "diffusion", "one_step")]
    assert all(paper == papers[0] for paper in papers)
    sizes = {name: papers[0][name] for name in ("latent", "decoder")}
    model = ArrivalVAE("zn", **sizes)
    batches = ArrivalBatches("zn", 8, 1, 4, 0, model.latent)
    model.fit_scales({name: batches.arrays[name] for name in model.features.INPUTS}, batches.arrays["responses"])
    learns(model, batches[0][0], 1e-1)
    student = model.prior.student(seed=1)
    assert student.count_params() == model.prior.count_params()

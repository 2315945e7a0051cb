"""The presets "paper" of the recipes: their networks built, counted, and trained on two rows."""

import runpy
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.diffusion.test_images import batch_of
from zdckeras.diffusion.images import ImageDiffusion
from zdckeras.diffusion.latent import DiffusionPrior
from zdckeras.diffusion.one_step import MeanFlowTrainer, fresh_student
from zdckeras.modular.networks import ArrivalFeatures
from zdckeras.simulation.reference import load

FOLDER = Path(__file__).parents[2] / "recipes"
pytestmark = pytest.mark.neutral


@pytest.fixture(scope="module")
def recipes():
    return {name: runpy.run_path(str(FOLDER / f"{name}.py"))
            for name in ("diffusion", "flow_matching", "one_step")}


@pytest.mark.parametrize(("recipe", "row", "weights", "megaflop"), [
    ("flow_matching", "published", 77_372, 107.2), ("diffusion", "published", 3_514_272, 652.4),
    ("flow_matching", "patches", 1_981_615, 484.8)])
def test_whole_responses(recipes, eager, recipe, row, weights, megaflop):
    zn, paper = load("zn", "train", 16), recipes[recipe]["PRESETS"]["paper"]
    _, learnt = recipes[recipe]["IMAGES"][row] if recipe == "diffusion" else (None, {})
    model = ImageDiffusion.fit_scales(zn, paper[row]["network"], paper[row].get("sizes"), published=row == "published",
                                      **learnt)
    assert model.field.count_params() == weights
    assert 2e-6 * model.operations() / model.evaluations == pytest.approx(megaflop, rel=0.01)
    model.compile(keras.optimizers.Adam(1e-4), run_eagerly=eager)
    assert 0.5 < float(model.train_on_batch(batch_of(zn, 2))) < 20.0


def test_codes(recipes, eager):
    papers = [recipes[name]["PRESETS"]["paper"] for name in recipes]
    assert all(paper["prior"] == papers[0]["prior"] and paper["vae"] == papers[0]["vae"] for paper in papers)
    latent, width = papers[0]["vae"]["latent"], ArrivalFeatures("zn").width
    prior = DiffusionPrior(width, latent, **{name: papers[0]["prior"][name] for name in ("hidden",)})
    rng = np.random.default_rng(0)
    assert prior.count_params() == 596_768 and fresh_student(prior).count_params() == 609_056
    batch = {name: rng.random((2, latent), "float32") for name in ("code_mean", "code_deviation", "z", "noise")}
    batch |= {name: rng.random(2, "float32") for name in ("t", "s", "same")}
    batch["features"] = rng.standard_normal((2, width), "float32")
    for make in (lambda: prior, lambda: MeanFlowTrainer(fresh_student(prior), prior)):  # which freezes its teacher
        model = make()
        model.compile(keras.optimizers.Adam(1e-3), run_eagerly=eager)
        assert 0.0 < float(model.train_on_batch(batch)) < 20.0

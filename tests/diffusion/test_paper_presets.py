"""Presets of the recipes: those that share states, and the networks of "paper" built, counted, trained on two rows."""

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

ROOT = Path(__file__).parents[2]
STAGES = ("vae", "codes", "prior")
pytestmark = pytest.mark.neutral


@pytest.fixture(scope="module")
def recipes():
    return {name: runpy.run_path(str(ROOT / "recipes" / f"{name}.py"))
            for name in ("diffusion", "flow_matching", "one_step", "modular")}


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


@pytest.mark.parametrize("preset", ["laptop", "paper"])
def test_trainings_that_begin_with_the_states_of_another_have_its_settings(recipes, preset):
    """Or they would train what they copied once more; `modular` has no codes of diffusion."""
    tool = runpy.run_path(str(ROOT / "tools" / "train_all.py"))

    def settings(name):
        recipe, words, _ = tool["TRAININGS"][name]
        detector = words[words.index("--detector") + 1] if "--detector" in words else "zn"
        found = recipes[recipe]["PRESETS"][preset]
        found = found | found.get("studies", {}).get(detector, {}) | found.get(detector, {})
        return {"detector": detector} | {stage: found[stage] for stage in STAGES if stage in found}

    assert set(tool["SHARED"]) == {"diffusion", "one_step", "modular", "diffusion_zp", "one_step_zp"}
    for name, first in tool["SHARED"].items():
        taken = settings(name)
        assert len(taken) == (2 if name == "modular" else 4), name
        assert taken == {key: value for key, value in settings(first).items() if key in taken}, name


def test_codes(recipes, eager):
    paper = recipes["one_step"]["PRESETS"]["paper"]
    latent, width = paper["vae"]["latent"], ArrivalFeatures("zn").width
    prior = DiffusionPrior(width, latent, hidden=paper["prior"]["hidden"])
    rng = np.random.default_rng(0)
    assert prior.count_params() == 596_768 and fresh_student(prior).count_params() == 609_056
    batch = {name: rng.random((2, latent), "float32") for name in ("code_mean", "code_deviation", "z", "noise")}
    batch |= {name: rng.random(2, "float32") for name in ("t", "s", "same")}
    batch["features"] = rng.standard_normal((2, width), "float32")
    for make in (lambda: prior, lambda: MeanFlowTrainer(fresh_student(prior), prior)):  # which freezes its teacher
        model = make()
        model.compile(keras.optimizers.Adam(1e-3), run_eagerly=eager)
        assert 0.0 < float(model.train_on_batch(batch)) < 20.0

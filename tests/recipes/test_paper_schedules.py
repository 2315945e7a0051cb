"""The presets `paper`: on how many showers, for how long and by which optimizers the publications trained."""

import runpy
from pathlib import Path

import pytest

from zdckeras.recipe import preset_for
from zdckeras.training.one_cycle import OneCycle, tuned

FOLDER = Path(__file__).parents[2] / "recipes"
pytestmark = pytest.mark.neutral


def recipe(name):
    """What a recipe defines, without running it."""
    return runpy.run_path(str(FOLDER / f"{name}.py"), run_name="recipe")


@pytest.mark.parametrize("name", ["autoencoders", "vq_vae", "vq_gan", "sdi_gan", "flow_distill", "diffusion",
                                  "flow_matching"])
def test_the_neutron_study_has_70_of_100_of_its_showers_to_train_on(name):
    """A fifth of the 306,780 with at least 10 photons is tested on, a tenth validates."""
    preset = preset_for(recipe(name)["PRESETS"], "paper", "zn")
    parts = [preset, *(preset[key] for key in ("study", "best") if key in preset)]
    assert {part.get("train", part.get("rows")) for part in parts} == {306_780 - 61_356 - 30_678}


def test_the_published_flow_is_trained_as_its_authors_do():
    """On four fifths of the showers in batches of 512, with Adam at 1e-4, halved after 15, 40 and 70 of 100 epochs."""
    told = recipe("flow_noise")
    preset = told["PRESETS"]["paper"]
    assert (preset["train"], preset["batch"]) == (int(0.8 * 306_780), 512)
    steps = preset["teacher"]["epochs"] * (preset["train"] // preset["batch"])
    rates = tuned(steps, preset["teacher"]["rate"], **told["FALLS"]).get_config()["learning_rate"]["config"]
    assert [step * 100 // steps for step in rates["boundaries"]] == [15, 40, 70]
    assert rates["values"] == [1e-4, 5e-5, 2.5e-5, 1.25e-5] and steps == 47_900


def test_proton_studies_have_showers_of_their_own():
    """Of 344,228 with light, flow matching trains on seven tenths, the GANs' study on four fifths, here rounded."""
    matching, gans = (preset_for(recipe(name)["PRESETS"], "paper", "zp") for name in ("flow_matching", "sdi_gan"))
    assert (matching["train"], gans["train"]) == (344_228 - 68_846 - 34_423, 275_000)
    schedule = recipe("sdi_gan")["schedule"]
    rows = ("published GAN", "published + aux. regressor")
    assert [schedule(gans, "zp", row)["epochs"] for row in rows] == [300, 350]


def test_published_optimizers_are_those_of_the_authors_code():
    """Names and numbers as in architectures and models/quantization of m-wojnar/zdc; a schedule of 83,800 steps."""
    told = {name: recipe(name)["ADAM"] for name in ("autoencoders", "vq_vae", "vq_gan")}
    for adam, kind, decay, betas in (
            (told["autoencoders"]["CNN"], "Nadam", None, (0.76, 0.88)),
            (told["autoencoders"]["ViT"], "AdamW", 0.068, (0.64, 0.73)),
            (told["autoencoders"]["MLP-Mixer"], "AdamW", 0.013, (0.89, 0.88)),
            (told["vq_vae"]["1M"], "AdamW", 0.031, (0.71, 0.88)),
            (told["vq_vae"]["prior, 4M"], "Nadam", 0.33, (0.80, 0.65)),
            (told["vq_gan"]["generator"], "Nadam", None, (0.76, 0.54)),
            (told["vq_gan"]["critic"], "AdamW", 0.0, (0.97, 0.96))):
        made = tuned(83_800, **adam)
        assert (type(made).__name__, made.weight_decay, (made.beta_1, made.beta_2)) == (kind, decay, betas)
    rates = OneCycle(3.5e-3, 83_800, **told["autoencoders"]["ViT"]["cycle"])
    assert [float(rates(step)) for step in (0, 26_816, 83_800)] == pytest.approx(
        [3.5e-3 / 35, 3.5e-3, 3.5e-3 / 35 / 770], rel=1e-4)
    assert told["vq_gan"]["prior"] == told["vq_vae"]["prior, 4M"]
    assert told["vq_gan"]["particle tokens"] == told["vq_vae"]["1M"]
    for phase, adam in recipe("sdi_gan")["ADAM"]["zn"].items():  # gan.py and vq_gan.py have the same
        assert adam | dict(rate={"generator": 1e-4, "critic": 1.4e-5}[phase]) == told["vq_gan"][phase]


def test_diffusion_and_flow_matching_have_their_studies_optimizers():
    """models/diffusion/diffusion.py of m-wojnar/zdc, models/flow_matching/flow_matching.py of m-wojnar/faster_zdc."""
    diffusion, matching = recipe("diffusion"), recipe("flow_matching")
    fit = diffusion["PRESETS"]["paper"]["published"]["fit"]
    made = tuned(83_800, **fit["adam"])
    assert (type(made).__name__, made.beta_1, made.beta_2, made.epsilon, made.weight_decay, made.global_clipnorm) == (
        "AdamW", 0.87, 0.82, 2.5e-10, 5.5e-4, 1.0)
    assert [float(made._learning_rate(step)) for step in (0, 8_380, 83_800)] == pytest.approx([0.0, 2.8e-5, 0.0],
                                                                                            abs=1e-12)
    assert (fit["epochs"], fit["batch"], matching["PRESETS"]["paper"]["published"]["fit"]) == (
        100, 256, dict(epochs=50, batch=256))
    neutron, proton = (tuned(41_900, **matching["ADAM"][name]) for name in ("zn", "zp"))
    assert (neutron.beta_1, neutron.beta_2, float(neutron.learning_rate)) == (0.7, 0.88, pytest.approx(4.4e-4))
    assert (proton.beta_1, proton.beta_2) == (0.94, 0.91)
    assert [float(proton._learning_rate(step)) for step in (0, 8_380, 41_900)] == pytest.approx(
        [2.7e-3 / 25, 2.7e-3, 2.7e-3 / 25_000], rel=1e-3)

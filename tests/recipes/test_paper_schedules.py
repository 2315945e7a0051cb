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


def test_published_schedules_number_by_number():
    """As a whole, so that nothing more and nothing else is handed to an optimizer or sampler; LHCb's study does not
    tell its Adam, which is that of arXiv:1704.00028."""
    assert recipe("autoencoders")["ADAM"] == {
        "CNN": {"rate": 1.4e-3, "beta_1": 0.76, "beta_2": 0.88, "epsilon": 6.1e-8, "nesterov": True},
        "ViT": {"rate": 3.5e-3, "beta_1": 0.64, "beta_2": 0.73, "epsilon": 1.5e-7, "weight_decay": 0.068,
                "cycle": {"rise": 0.32, "start": 35.0, "end": 770.0}},
        "MLP-Mixer": {"rate": 5.7e-3, "beta_1": 0.89, "beta_2": 0.88, "epsilon": 1.2e-6, "weight_decay": 0.013,
                      "cycle": {"rise": 0.34, "start": 600.0, "end": 1200.0}}}
    assert recipe("flow_matching")["ADAM"] == {
        "zn": {"rate": 4.4e-4, "beta_1": 0.7, "beta_2": 0.88, "epsilon": 1e-8},
        "zp": {"rate": 2.7e-3, "beta_1": 0.94, "beta_2": 0.91, "epsilon": 1e-8,
               "cycle": {"rise": 0.2, "start": 25.0, "end": 1000.0}}}
    wgan, sdi, vq_gan, diffusion = (recipe(name) for name in ("wgan_gp", "sdi_gan", "vq_gan", "diffusion"))
    assert wgan["ADAM"] == {"beta_1": 0.0, "beta_2": 0.9}
    assert wgan["PRESETS"]["paper"]["published"] == {"epochs": 3000, "batch": 320, "generator": 1e-4, "critic": 1e-4}
    assert sdi["LAMBDAS"] == {"zp": {"diversity": 0.1, "intensity": 1e-3, "auxiliary": 1e-3}, "zn": {"diversity": 1.0}}
    assert sdi["PRESETS"]["paper"]["published"] == {
        "zp": {"epochs": 300, "batch": 128, "generator": 1e-4, "critic": 1e-5, "regressor": 1e-4},
        "zn": {"epochs": 100, "batch": 256, "generator": 1e-4, "critic": 1.4e-5}}
    assert sdi["ADAM"] == {"zp": {}, "zn": {
        "generator": {"beta_1": 0.76, "beta_2": 0.54, "epsilon": 1.8e-2, "nesterov": True,
                      "cycle": {"rise": 0.34, "start": 260.0, "end": 9500.0}},
        "critic": {"beta_1": 0.97, "beta_2": 0.96, "epsilon": 3.7e-5,
                   "cycle": {"rise": 0.43, "start": 41.0, "end": 1700.0}}}}
    assert recipe("vq_vae")["ADAM"] == {
        "0.25M": {"rate": 7.4e-3, "beta_1": 0.79, "beta_2": 0.76, "epsilon": 2.0e-4,
                  "cycle": {"rise": 0.23, "start": 45.0, "end": 2100.0}},
        "1M": {"rate": 1.7e-3, "beta_1": 0.71, "beta_2": 0.88, "epsilon": 6.7e-9, "weight_decay": 0.031,
               "cycle": {"rise": 0.1, "start": 22.0, "end": 44.0}},
        "prior, 0.25M": {"rate": 7.6e-3, "beta_1": 0.97, "beta_2": 0.93, "epsilon": 3.9e-7, "nesterov": True,
                         "cycle": {"rise": 0.16, "start": 61.0, "end": 5200.0}},
        "prior, 4M": {"rate": 3.6e-3, "beta_1": 0.80, "beta_2": 0.65, "epsilon": 1.7e-9, "nesterov": True,
                      "weight_decay": 0.33, "cycle": {"rise": 0.21, "start": 390.0, "end": 600.0}}}
    assert vq_gan["PRESETS"]["paper"]["faster"] == 1.0
    assert diffusion["PRESETS"]["paper"]["images"] == {"sampler": "ddim", "steps": 50, "eta": 0.6}
    assert diffusion["ADAM"] == {"rate": 2.8e-5, "beta_1": 0.87, "beta_2": 0.82, "epsilon": 2.5e-10,
                                 "weight_decay": 5.5e-4, "warmup": 0.1, "global_clipnorm": 1.0}

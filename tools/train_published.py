"""Train the published networks at their published sizes and batches, for some epochs or minutes each: wants a GPU.

    python tools/train_published.py --minutes 10 --device-noise --out runs/published
    python tools/train_published.py --only diffusion "SDI-GAN" --epochs 30 --train 60000 --device-noise
    python tools/train_published.py --judge --out runs/published

Networks, losses, optimizers, batches, epochs and the number of training showers are those of the rows "published" of
the recipes' preset `paper`. --epochs shortens a training, its parts alike, but not the networks that are trained before
it (WGAN-GP's regressor, the flow's photon number). Each training leaves losses, times and the responses to the test
particles; --judge makes one table and one picture of all that is there, on any machine. Schedules are stretched over
the epochs, so a training that its minutes end has not come to the end of its schedule.
"""

import argparse
import json
import re
import runpy
import sys
from functools import cached_property, partial
from pathlib import Path

import keras
import numpy as np
from bench_common import device, machine, version

from zdckeras.command import check_folder, refuse, run, whole
from zdckeras.data.atomic import atomic_path, open_npz, write_text
from zdckeras.data.particles import Scaler
from zdckeras.data.transforms import BoxCox
from zdckeras.diffusion.images import ImageDiffusion, ImageGenerator, fit_images
from zdckeras.flow_distill.published import PublishedFlow, PublishedFlowGenerator
from zdckeras.flow_distill.sums import fit_sums
from zdckeras.gan.images import ImageGanGenerator
from zdckeras.gan.model import training_arrays
from zdckeras.metrics.energy_report import EnergyReport
from zdckeras.metrics.report import judge, text_table
from zdckeras.metrics.times import milliseconds
from zdckeras.metrics.trainings import over_seeds
from zdckeras.plots import learning_curves, save_figure
from zdckeras.recipe import preset_for
from zdckeras.simulation.reference import load, resimulate
from zdckeras.training.adversarial import train_adversarially
from zdckeras.training.loop import fit_arrays, states_folder
from zdckeras.training.options import add_arguments, apply_arguments, apply_devices
from zdckeras.training.states import read_state
from zdckeras.vae.autoencoders import CodeGenerator
from zdckeras.vq.generator import token_generators
from zdckeras.vq.published import ImageVQGAN
from zdckeras.vq.published_prior import ParticleTokenPrior, fit_reader
from zdckeras.vq.vq_vae import PhotonVQVAE, encode
from zdckeras.wgan_gp.model import EnergyGenerator
from zdckeras.wgan_gp.published import ImageRegressor, ImageWGAN, published_reader
from zdckeras.wgan_gp.regression import EmulatorFit, RegressorFit
from zdckeras.wgan_gp.regressor import Emulator

RECIPES = Path(__file__).parents[1] / "recipes"
SEED = 0


class Job:
    """What a row is trained with: showers, folder, epochs, and what its recipe says.

    Arguments:
        name: of the row, one of `ROWS`.
        args: of the command line.
    """

    def __init__(self, name, args):
        self.name, self.args = name, args
        recipe, self.detector, self.make = ROWS[name]
        self.folder = args.out / re.sub(r"\W+", "_", name)
        self.told = runpy.run_path(str(RECIPES / f"{recipe}.py"))
        self.preset = preset_for(self.told["PRESETS"], args.preset, self.detector)
        self.size = args.train or self.preset["train"]

    @cached_property
    def showers(self):
        """The training showers."""
        return load(self.detector, "train", self.size, SEED)

    @cached_property
    def arrays(self):
        """Conditions and responses of them."""
        return {"conditions": self.showers.particles, "responses": self.showers.response}

    @property
    def reach(self):
        """Least and greatest conditions."""
        return self.showers.particles.min(axis=0), self.showers.particles.max(axis=0)

    def path(self, name=None):
        """Of a state file; other showers, epochs, batches or options have others."""
        args = self.args
        return states_folder(self.folder, args.preset, args.epochs, self.size, args.batch) / (
            f"{name or self.folder.name}.npz")

    def settings(self, *keys, beside=None, before=False):
        """Those of a training in the preset; of --epochs its share beside another part, or none of it before all."""
        found = self.preset
        for key in keys:
            found = found[key]
        return self.shortened(found, beside, before)

    def shortened(self, found, beside=None, before=False):
        """Settings of a training with its share of --epochs, and with --batch; as in `settings`."""
        total = found["epochs"] + (self.preset[beside]["epochs"] if beside else 0)
        share = self.args.epochs / total if self.args.epochs and not before else 1.0
        batch = {"batch": self.args.batch} if self.args.batch else {}
        return found | {"epochs": max(round(share * found["epochs"]), 1)} | batch


def flow_matching(job):
    sizes = job.preset["published"].get("sizes")
    model = ImageDiffusion.fit_scales(job.showers, "unet", sizes, SEED, published=True, sampler="euler", steps=11)
    fit = job.settings("published", "fit") | {"adam": job.told["ADAM"][job.detector]}
    return ImageGenerator(model, *job.reach), fit_images(model, job.arrays, job.path(), seed=SEED, **fit)


def diffusion(job):
    published = job.preset["published"]
    model = ImageDiffusion.fit_scales(job.showers, "unet", published["sizes"], SEED, published=True,
                                      **job.told["IMAGES"]["published"][1], **job.preset["images"])
    fit = job.settings("published", "fit")
    return ImageGenerator(model, *job.reach), fit_images(model, job.arrays, job.path(), seed=SEED, **fit)


def flow(job, noise=0.1):
    """Splines over all cells, with a flow for the photon number."""
    number = fit_sums(job.showers, job.path("number"), seed=SEED, total=True, **job.settings("number", before=True))
    shape = PublishedFlow.fit_scales(job.detector, *job.arrays.values(), noise=noise, seed=SEED, **job.preset["shape"])
    fit = {"batch": job.preset["batch"]} | job.settings("teacher")
    history = fit_arrays(shape, job.arrays, job.path(), seed=SEED, uniform={"u_cells": (shape.detector.cells,)}, **fit)
    return PublishedFlowGenerator(number, shape, *job.reach), history


def gan(job, row):
    scaler, weights = Scaler.fit(job.showers.particles).get_config(), job.told["published_rows"](job.detector)[row]
    model = job.told["published_gan"](job.detector, job.preset, scaler, weights, SEED)
    arrays = job.told["published_arrays"](job.showers, training_arrays(job.showers))
    history = train_adversarially(model, arrays, job.path(), seed=SEED,
                                  adam=job.told["ADAM"][job.detector],
                                  **job.shortened(job.told["schedule"](job.preset, job.detector, row)))
    return ImageGanGenerator.of(model), history


def autoencoder(job, row, body):
    args = argparse.Namespace(rows=[row], seed=SEED)
    models = dict(job.told["published"](args, job.preset, job.showers))
    name = f"published {row}, {body}"
    if name not in models:
        raise ValueError(f"expected one of {', '.join(models)} at preset {job.args.preset}, received {name}")
    model = models[name]
    history = fit_arrays(model, job.arrays, job.path(), seed=SEED, adam=job.told["ADAM"][body],
                         normal={"z": (model.noise_width,)}, **job.settings("fit"))
    return CodeGenerator.of(model, job.showers), history


def _tokens(job, model, history, adam, second):
    """The prior of a trained model's tokens, and the generator of both."""
    settings = job.settings("prior")
    reader, _ = fit_reader(job.showers, job.path().parent, settings, adam, SEED)
    how = dict(kind=ParticleTokenPrior, reader=reader, adam=second)
    held = load(job.detector, "validation", 2000, SEED)
    made, losses = token_generators(model, job.showers, held, job.path().parent, settings | how,
                                    {"prior": None}, (1.0,), SEED)
    return made["prior"][1.0], history | {"prior": losses["prior"]["loss"]}


def vq_vae(job):
    model = PhotonVQVAE.published(job.showers, seed=SEED, **job.preset["published"])
    best = {key: value for key, value in job.settings("best").items() if key not in ("size", "rows")}
    first, second = (job.told["ADAM"][name] for name in job.preset["adam"])
    history = fit_arrays(model, job.arrays, job.path(), seed=SEED, adam=first, **best)
    return _tokens(job, model, history, first, second)


def vq_gan(job):
    """Twelve of a hundred epochs, 10,000 steps, before there is a critic, as published."""
    adam, p = job.told["ADAM"], job.preset
    model = PhotonVQVAE.published(job.showers, width=p["width"], averaged=True, seed=SEED, **p["published"])
    warm = job.settings("warm_start", beside="adversarial")
    fit_arrays(model, job.arrays, job.path("warm_start"), seed=SEED, adam=adam["generator"], **warm)
    held = load(job.detector, "validation", 2000, SEED)
    model.scatter.fit(encode(model, held)[1], held.response)
    against = ImageVQGAN.of(model, job.showers, seed=SEED, **p["published"])
    adam_of = {phase: adam[phase] | dict(rate=p["faster"] * adam[phase]["rate"]) for phase in ("critic", "generator")}
    history = train_adversarially(against, job.arrays, job.path(), seed=SEED, adam=adam_of,
                                  **job.settings("adversarial", beside="warm_start"))
    return _tokens(job, model, history, adam["particle tokens"], adam["prior"])


def corr_vae(job):
    preset = job.preset | {"published": job.settings("published")}
    model, history = job.told["fit_published"](job.showers, preset, job.path(), SEED)
    return model.generator, history


def wgan_gp(job):
    """Emulator and regressor first."""
    boxcox, p = BoxCox.fit(job.showers.response[:5000]).get_config(), job.preset
    reader = ImageRegressor.fit_scales(published_reader(p["divide"], SEED), job.showers)
    emulator = Emulator(job.detector, seed=SEED)
    fit_arrays(EmulatorFit(emulator, reader, boxcox), job.arrays, job.path("emulator"), seed=SEED,
               **job.settings("emulator", before=True))
    fit_arrays(RegressorFit(reader, boxcox, emulator), job.arrays, job.path("regressor"), seed=SEED,
               **job.settings("regressor", before=True))
    model = ImageWGAN.published(reader, boxcox, p["divide"], p["latent"], SEED, critic_steps=p["critic_steps"])
    history = train_adversarially(model, job.arrays, job.path(), seed=SEED, adam=job.told["ADAM"],
                                  uniform={"share": (1, 1)}, **job.settings("published"))
    return EnergyGenerator(model.generator, *job.reach), history


ROWS = {  # row -> recipe, detector, function of a `Job` that gives generator and history
    "flow matching": ("flow_matching", "zn", flow_matching), "diffusion": ("diffusion", "zn", diffusion),
    "flow": ("flow_noise", "zn", flow),
    "GAN": ("sdi_gan", "zn", partial(gan, row="published GAN")),
    "SDI-GAN": ("sdi_gan", "zn", partial(gan, row="published SDI-GAN")),
    "SDI-GAN, all terms, ZP": ("sdi_gan", "zp", partial(gan, row="published + aux. regressor")),
    "WGAN-GP": ("wgan_gp", "ecal", wgan_gp),
    **{f"VAE, {body}": ("autoencoders", "zn", partial(autoencoder, row="VAE", body=body))
       for body in ("CNN", "ViT", "MLP-Mixer")},
    **{f"{row}, ViT": ("autoencoders", "zn", partial(autoencoder, row=row, body="ViT"))
       for row in ("Supervised AE", "AE + Sinkhorn NG", "AE + MSE NG")},
    "VQ-VAE": ("vq_vae", "zn", vq_vae), "VQ-GAN": ("vq_gan", "zn", vq_gan), "CorrVAE": ("corr_vae", "zn", corr_vae),
}


def train(name, args):
    """Train one row, answer the test particles, and write what came of it."""
    job = Job(name, args)
    generator, history = job.make(job)
    trained = sum(read_state(path)["clock"] for path in job.path().parent.glob("*.npz"))
    test = load(job.detector, "test", args.size, SEED)
    responses = generator.sample(test.particles, seed=1)
    times = {f"ms, batch {batch}": milliseconds({"": [generator]}, test.particles, batch)[""] / batch
             for batch in (1, 256)}
    record = {"row": name, "weights": generator.count_params(), "training showers": job.size,
              "test showers": len(test), "seconds": round(trained, 1), **times, "history": history,
              "backend": keras.config.backend(), "machine": machine(1), "device": device(),
              "versions": {one: version(one) for one in ("keras", "jax", "tensorflow", "torch")}}
    with atomic_path(job.folder / "responses.npz") as temporary:
        np.savez_compressed(temporary, responses=responses)
    write_text(job.folder / "record.json", json.dumps(record))


def stored(responses, particles, seed):
    """What was generated before, whatever the seed."""
    return responses


def judge_all(args):
    """A table for each detector, and the learning curves, of all rows that are there."""
    found, records = {}, {}
    for name, job in ((name, Job(name, args)) for name in args.only):
        if (record := job.folder / "record.json").is_file():
            found[name], records[name] = job, json.loads(record.read_text(encoding="utf-8"))
            if records[name]["test showers"] != args.size:
                refuse(f"{record}: expected the responses to {args.size} test showers, received "
                       f"{records[name]['test showers']}; give --size")
    if not found:
        refuse(f"{args.out}: expected trained rows, received none of {', '.join(args.only)}")
    lines = [["", "weights", "epochs", "seconds", "ms, batch 1", "ms, batch 256", "first loss", "last"]]
    for name, r in records.items():
        losses = r["history"]["generator_adversarial" if "generator_adversarial" in r["history"] else "loss"]
        lines.append([name, f"{r['weights']:,}", str(len(losses)), f"{r['seconds']:.0f}", f"{r['ms, batch 1']:.2f}",
                      f"{r['ms, batch 256']:.4f}", f"{losses[0]:.4g}", f"{losses[-1]:.4g}"])
    texts = [text_table(lines)]
    for detector in dict.fromkeys(job.detector for job in found.values()):
        test, made = load(detector, "test", args.size, SEED), {}
        again = resimulate(test, 1).response
        for name, job in found.items():
            if job.detector == detector:
                with open_npz(job.folder / "responses.npz") as file:
                    made[name] = file["responses"]
        if detector == "ecal":
            texts.append(EnergyReport(test, {"floor": again, **made}, SEED).write(args.out))
        else:
            samplers = {name: partial(stored, responses) for name, responses in made.items()}
            texts.append(text_table(over_seeds(judge(test, [again], samplers, 1, SEED).scores)))
    text = "\n\n".join(texts)
    write_text(args.out / "published.txt", f"{text}\n")
    save_figure(learning_curves({name: r["history"] for name, r in records.items() if "loss" in r["history"]}),
                args.out / "learning.png")
    print(text)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--preset", choices=("paper", "laptop", "smoke"), default="paper", help="sizes and batches")
    parser.add_argument("--epochs", type=whole(1), help="of a training, all its parts together; those of the study")
    parser.add_argument("--train", type=whole(1), help="embedded training showers; as many as in the study")
    parser.add_argument("--size", type=whole(1), default=5_000, help="of the test set")
    parser.add_argument("--batch", type=whole(1), help="rows of a step, where not those of the study")
    parser.add_argument("--judge", action="store_true", help="make the table of what is there, and train nothing")
    parser.add_argument("--out", type=Path, default=Path("runs/published"))
    add_arguments(parser)
    args = parser.parse_args(arguments)
    check_folder(args.out)
    apply_devices(args)
    apply_arguments(args)
    if args.judge:
        return judge_all(args)
    failed = 0
    for name in args.only:
        print(f"\n== {name}", flush=True)
        try:
            train(name, args)
        except Exception as error:  # whatever a framework or a device raises is told, and the other rows go on
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            print(f"{name}: {kind}{error}", file=sys.stderr, flush=True)
            failed += 1
    return int(failed > 0)


if __name__ == "__main__":
    run(main)

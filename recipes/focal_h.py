"""FoCal-H: does a loss on where a shower ought to be help a generator? Two families, each with and without it.

What the study proposes (ALICE FoCal-H, talk on normalizing-flow distillation, "theory-inspired approach"): one more
loss, the distance between the centre of a generated shower and the expected one, x = z tan(2 atan(e^-eta)) cos(phi),
y with sin(phi); "encouraging for some architectures, not helping in others". Here: a variational autoencoder and a
WGAN-GP, trained on pions and protons of 25 to 300 GeV from the interaction point in an embedded stand-in for the
detector (copper with scintillating fibres, Geant4), z the depth of the mean shower.

    python recipes/focal_h.py                         # embedded showers
    python recipes/focal_h.py --data focalh.root      # your own, or a folder with the npz pair

Interrupted, the same command goes on where it stopped.
"""

import argparse
from pathlib import Path

import numpy as np

from zdckeras.atomic import atomic_path
from zdckeras.metrics.channels import wasserstein
from zdckeras.metrics.directional import OBSERVABLES, directional_shapes, directional_table
from zdckeras.metrics.report import aligned
from zdckeras.metrics.two_sample import classifier_auc
from zdckeras.models.gan_training import play
from zdckeras.models.regression import RegressorFit
from zdckeras.models.vae import DecoderGenerator, ResponseVAE
from zdckeras.models.wgan_gp import EnergyGenerator, ResponseWGAN, ScoreStart
from zdckeras.networks.regressor import ParameterRegressor
from zdckeras.plots import response_gallery, save_figure, shape_histograms
from zdckeras.showers_io import open_showers
from zdckeras.simulation.reference import load, resimulate
from zdckeras.statistics import repeated_pairs
from zdckeras.training import Batches, fit_adam, states_folder
from zdckeras.transforms import BoxCox

PRESETS = {
    "laptop": dict(
        train=30_000, test=5_000, channels=(64, 32, 16, 8), latent=64, regressor=dict(epochs=2, batch=128, rate=1e-3),
        vae=dict(epochs=6, batch=64, rate=1e-3), start=dict(epochs=3, batch=64, rate=1e-3),
        play=dict(epochs=1, batch=320, generator=1e-4, critic=3e-4)),
    "smoke": dict(
        train=640, test=160, channels=(8, 4, 4, 2), latent=16, regressor=dict(epochs=1, batch=64, rate=1e-3),
        vae=dict(epochs=1, batch=64, rate=1e-3), start=dict(epochs=1, batch=64, rate=1e-3),
        play=dict(epochs=1, batch=320, generator=1e-4, critic=3e-4)),
}
CENTRE = {"VAE": 10.0, "WGAN-GP": 0.1}  # weights of the term, per squared cell: both losses are then of its size
SHOWN = ("total", "centre_x", "centre_y", "longitudinal", "length", "width", "cells")


def data(args, p):
    """Training and test showers, and further responses to the test's particles."""
    if args.data:
        training, _, test = open_showers(args.data).split()
        return training, *repeated_pairs(test, args.seed)
    training, test = (load("focalh", part, p[part], args.seed, progress=True) for part in ("train", "test"))
    return training, test, resimulate(test, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="laptop")
    parser.add_argument("--data", help="your showers: a .root file or a folder with the npz pair")
    parser.add_argument("--out", type=Path, default=Path("runs/focal_h"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    p, out = PRESETS[args.preset], args.out
    states = states_folder(out, p, CENTRE, args.data, args.seed)

    # data: the depth of the mean shower is how far its centre of gravity moves along the flight, per slope
    training, test, second = data(args, p)
    where = training.detector()
    arrays = {"conditions": training.particles.astype("float32"), "responses": training.response}
    boxcox = BoxCox.fit(training.response[:5000]).get_config()
    offset = where.pitch * directional_shapes(training.response, training.particles, where)[:, 2:4]
    slope = training.particles[:, 4:6] / np.abs(training.particles[:, 6:7])
    depth = float((offset * slope).sum() / (slope**2).sum())
    print(f"the mean shower is {depth:.0f} cm deep")

    # train both families, without and with the term
    def fit(model, name, settings, **codes):
        batches = Batches(arrays, settings["batch"], args.seed, **codes)
        return fit_adam(model, batches, states / f"{name}.npz", settings["epochs"], settings["rate"])

    regressor = ParameterRegressor.fit_scales(training.particles, where, channels=p["channels"], seed=args.seed)
    fit(RegressorFit(regressor, boxcox), "regressor", p["regressor"])
    models = {}
    for suffix, used in (("", 0.0), (" + centre", 1.0)):
        sizes = dict(channels=p["channels"])
        vae = ResponseVAE.fit_scales(training, boxcox, centre=used * CENTRE["VAE"], depth=depth, encoder=sizes,
                                     decoder=sizes, seed=args.seed)
        fit(vae, f"VAE{suffix}", p["vae"], normal={"z": (vae.decoder.latent,)})
        models[f"VAE{suffix}"] = DecoderGenerator(vae.decoder, boxcox)
        gan = ResponseWGAN.fit_scales(
            training, regressor, boxcox, generator=dict(sizes, latent=p["latent"]), critic=sizes, depth=depth,
            weights={"adversarial": 0.1, "energy": 1.0, "centre": used * CENTRE["WGAN-GP"]}, seed=args.seed,
            momentum=0.99)
        codes = {name: (p["latent"],) for name in ("z", "z2")}
        fit(ScoreStart(gan), f"score{suffix}", p["start"], normal=codes)
        gan.average.set_weights(gan.generator.get_weights())
        play(gan, arrays, states / f"WGAN-GP{suffix}.npz", seed=args.seed, uniform={"share": (1, 1)}, **p["play"])
        low, high = (f(training.particles, axis=0) for f in (np.min, np.max))
        models[f"WGAN-GP{suffix}"] = EnergyGenerator(gan.average, low, high)

    # judge on the test set: the distance of the centre of gravity from where it is expected, beside the shapes
    responses = {"floor": second.response}
    responses |= {name: models[name].sample(test.particles, args.seed) for name in sorted(models)}
    expected = depth / where.pitch * test.particles[:, 4:6] / np.abs(test.particles[:, 6:7])
    real = directional_shapes(test.response, test.particles, where)
    shapes = {name: directional_shapes(e, test.particles, where) for name, e in responses.items()}
    away = {name: np.linalg.norm(v[:, 2:4] - expected, axis=1) for name, v in {"real": real, **shapes}.items()}
    lines = [["", "|g - g0| [cells]", "its WS", "AUC", *SHOWN], ["real", f"{away['real'].mean():.3f}", "", "",
                                                                  *[""] * len(SHOWN)]]
    distance = {}
    for name, values in shapes.items():
        table = directional_table(real, values)
        distance[name] = float(wasserstein(away["real"][:, None], away[name][:, None])[0])
        auc = classifier_auc(test.response, responses[name], test.particles, args.seed)
        lines.append([name, f"{away[name].mean():.3f}", f"{distance[name]:.3f}", f"{auc:.3f}",
                      *(f"{table[o]['distance']:.3f}" for o in SHOWN)])
    verdict = [f"{name}: the term {'helps' if distance[f'{name} + centre'] < distance[name] else 'does not help'}; "
               f"the distance of |g - g0| goes from {distance[name]:.3f} to {distance[f'{name} + centre']:.3f} cells "
               f"(floor {distance['floor']:.3f})" for name in CENTRE]

    # report and pictures
    text = "\n".join([*aligned(lines), "", *verdict])
    print("\n" + text)
    with atomic_path(out / "report.txt") as path:
        path.write_text(text + "\n", encoding="utf-8")
    save_figure(response_gallery(test[:8], {name: e[:8] for name, e in responses.items()}), out / "responses.png")
    save_figure(shape_histograms(real, shapes, observables=OBSERVABLES), out / "shapes.png")
    for name, model in models.items():
        model.save(out / f"{name.replace(' + ', '_')}.keras")
    print(f"report, pictures and generators are in {out}")


if __name__ == "__main__":
    main()

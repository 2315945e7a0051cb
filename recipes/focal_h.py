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


import numpy as np

from zdckeras.data.impact import impact_from_centre, slopes
from zdckeras.data.transforms import BoxCox
from zdckeras.metrics.channels import wasserstein
from zdckeras.metrics.directional import directional_shapes
from zdckeras.metrics.energy_report import EnergyReport
from zdckeras.plots import write_energy_pictures
from zdckeras.recipe import command_line, showers_for
from zdckeras.training.adversarial import train_adversarially, warm_start_scores
from zdckeras.training.batches import Batches
from zdckeras.training.loop import fit_adam, states_folder
from zdckeras.vae.energy_vae import DecoderGenerator, ResponseVAE
from zdckeras.wgan_gp.generator import EnergyGenerator
from zdckeras.wgan_gp.model import ResponseWGAN
from zdckeras.wgan_gp.regression import RegressorFit
from zdckeras.wgan_gp.regressor import ParameterRegressor
from zdckeras.wgan_gp.warm_start import EnergyScoreFit

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


def main():
    args = command_line(__doc__, PRESETS, "runs/focal_h").parse_args()
    p, out = PRESETS[args.preset], args.out
    states = states_folder(out, p, CENTRE, args.data, args.seed)

    # data: the depth of the mean shower is how far its centre of gravity moves along the flight, per slope, where the
    # edges of the detector are far
    training, _, test, (resimulated,) = showers_for("focalh", args.data, p, seed=args.seed)
    detector = training.detector()
    arrays = {"conditions": training.particles.astype("float32"), "responses": training.response}
    boxcox = BoxCox.fit(training.response[:5000]).get_config()
    offset = detector.pitch * directional_shapes(training.response, training.particles, detector)[:, 2:4]
    slope = slopes(training.particles)
    inner = np.abs(impact_from_centre(training.particles, detector)).max(axis=1) < min(detector.half_size) / 2
    depth = float((offset * slope)[inner].sum() / (slope**2)[inner].sum())
    print(f"the mean shower is {depth:.0f} cm deep")

    # train both families, without and with the term
    def fit(model, name, settings, **codes):
        batches = Batches(arrays, settings["batch"], args.seed, **codes)
        return fit_adam(model, batches, states / f"{name}.npz", settings["epochs"], settings["rate"])

    regressor = ParameterRegressor.fit_scales(training.particles, detector, channels=p["channels"], seed=args.seed)
    fit(RegressorFit(regressor, boxcox), "regressor", p["regressor"])
    models = {}
    low, high = training.particles.min(axis=0), training.particles.max(axis=0)
    for suffix, used in (("", 0.0), (" + centre", 1.0)):
        sizes = dict(channels=p["channels"])
        vae = ResponseVAE.fit_scales(training, boxcox, deviation=1.0, centre=used * CENTRE["VAE"], depth=depth,
                                     encoder=sizes, decoder=sizes, seed=args.seed)
        fit(vae, f"VAE{suffix}", p["vae"], normal={"z": (vae.decoder.latent,)})
        models[f"VAE{suffix}"] = DecoderGenerator(vae.decoder, boxcox, low, high)
        gan = ResponseWGAN.fit_scales(
            training, regressor, boxcox, generator=dict(sizes, latent=p["latent"]), critic=sizes, depth=depth,
            weights={"adversarial": 0.1, "energy": 1.0, "centre": used * CENTRE["WGAN-GP"]}, seed=args.seed,
            momentum=0.99)
        warm_start_scores(gan, {f"score{suffix}": (EnergyScoreFit(gan), arrays, p["start"])}, states, args.seed)
        train_adversarially(gan, arrays, states / f"WGAN-GP{suffix}.npz", seed=args.seed, uniform={"share": (1, 1)},
                            **p["play"])
        models[f"WGAN-GP{suffix}"] = EnergyGenerator(gan.average, low, high)

    # judge on the test set: the distance of the centre of gravity from where it is expected, beside the shapes
    responses = {"floor": resimulated.response}
    responses |= {name: models[name].sample(test.particles, args.seed) for name in sorted(models)}
    report = EnergyReport(test, responses, args.seed)
    expected = depth / detector.pitch * slopes(test.particles)
    away = {name: np.linalg.norm(values[:, 2:4] - expected, axis=1)
            for name, values in {"real": report.real, **report.shapes}.items()}
    distance = {name: float(wasserstein(away["real"][:, None], r[:, None])[0]) for name, r in away.items()}
    centres = [["distance of the centre from g0 [cells]", "mean", "WS to real"]]
    centres += [[name, f"{r.mean():.3f}", f"{distance[name]:.3f}"] for name, r in away.items()]
    verdict = [f"{name}: the term {'helps' if distance[f'{name} + centre'] < distance[name] else 'does not help'} the "
               f"centre: {distance[name]:.3f} cells without, {distance[f'{name} + centre']:.3f} with it (floor "
               f"{distance['floor']:.3f}); AUC {report.auc[name]:.3f} and {report.auc[f'{name} + centre']:.3f}"
               for name in CENTRE]
    print("\n" + report.write(out, centres, "\n".join(verdict)))
    write_energy_pictures(out, report)
    for name, model in models.items():
        model.save(out / f"{name.replace(' + ', '_')}.keras")
    print(f"report, pictures and generators are in {out}")


if __name__ == "__main__":
    main()

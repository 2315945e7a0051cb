"""FoCal-H: does a loss on where a shower ought to be help a generator? Two families, each with and without it.

What the study proposes (ALICE FoCal-H, talk on normalizing-flow distillation, "theory-inspired approach"): one more
loss, the distance between the centre of a generated shower and the expected one, x = z tan(2 atan(e^-eta)) cos(phi),
y with sin(phi); "encouraging for some architectures, not helping in others". Here: a variational autoencoder and a
WGAN-GP, trained on pions and protons of 25 to 300 GeV from the interaction point in an embedded stand-in for the
detector (copper with scintillating fibres, Geant4), z the depth of the mean shower.

    python recipes/focal_h.py                         # embedded showers, one training of each
    python recipes/focal_h.py --seeds 3               # the fewest from which a verdict is drawn
    python recipes/focal_h.py --data focalh.root      # your own, or a folder with the npz pair

Interrupted, the same command goes on where it stopped. 16 minutes of processor time a training. In one training each,
from which nothing is concluded, the centre of the WGAN-GP's showers is 0.020 cells from the right distance with the
term and 0.050 without (floor 0.007), that of the VAE's 0.215 and 0.127.
"""

from itertools import product

import numpy as np

from zdckeras.command import run
from zdckeras.data.impact import impact_from_centre, slopes
from zdckeras.data.transforms import BoxCox
from zdckeras.metrics.channels import wasserstein
from zdckeras.metrics.directional import directional_shapes
from zdckeras.metrics.energy_report import EnergyReport
from zdckeras.metrics.trainings import critics_at_end, ordering
from zdckeras.plots import write_energy_pictures
from zdckeras.provenance import provenance_text
from zdckeras.recipe import command_line, recipe_data, recipe_states, save_models
from zdckeras.training.adversarial import train_adversarially, warm_start_scores
from zdckeras.training.loop import fit_arrays
from zdckeras.vae.energy_vae import DecoderGenerator, ResponseVAE
from zdckeras.wgan_gp.model import EnergyGenerator, EnergyScoreFit, ResponseWGAN
from zdckeras.wgan_gp.regression import RegressorFit
from zdckeras.wgan_gp.regressor import ParameterRegressor

PRESETS = {
    "laptop": dict(
        train=30_000, test=5_000, pairs=1_000, channels=(64, 32, 16, 8), latent=64, critic_steps=5,
        regressor=dict(epochs=2, batch=128, rate=1e-3), vae=dict(epochs=6, batch=64, rate=1e-3),
        warm_start=dict(epochs=3, batch=64, rate=1e-3),
        adversarial=dict(epochs=1, batch=320, generator=1e-4, critic=3e-4)),
    "smoke": dict(
        train=128, test=96, pairs=32, channels=(8, 4, 4, 2), latent=16, critic_steps=1,
        regressor=dict(epochs=1, batch=64, rate=1e-3), vae=dict(epochs=1, batch=64, rate=1e-3),
        warm_start=dict(epochs=1, batch=64, rate=1e-3),
        adversarial=dict(epochs=1, batch=64, generator=1e-4, critic=3e-4)),
}
CENTRE = {"VAE": 10.0, "WGAN-GP": 0.1}  # weights of the term, per squared cell: both losses are then of its size


def mean_depth(showers):
    """Depth of the mean shower [cm]: how far its centre moves along the flight, per slope, where edges are far."""
    detector, slope = showers.detector(), slopes(showers.particles)
    offset = detector.pitch * directional_shapes(showers.response, showers.particles, detector)[:, 2:4]
    inner = np.abs(impact_from_centre(showers.particles, detector)).max(axis=1) < min(detector.half_size) / 2
    return float((offset * slope)[inner].sum() / (slope**2)[inner].sum())


def train_models(args, p, data, depth):
    """Both families, without and with the term, with every seed: generators and critics by "<model>, seed <k>"."""
    states, arrays, particles = recipe_states(args, p, CENTRE, data=data), data.arrays, data.training.particles
    boxcox = BoxCox.fit(data.training.response[:5000]).get_config()
    low, high = particles.min(axis=0), particles.max(axis=0)
    sizes, generators, histories, settings = dict(channels=p["channels"]), {}, {}, dict(seed=args.seed)
    regressor = ParameterRegressor.fit_scales(particles, data.training.detector(), **sizes, **settings)
    fit_arrays(RegressorFit(regressor, boxcox), arrays, states / "regressor.npz", **settings, **p["regressor"])
    for seed, (suffix, used) in product(range(args.seeds), (("", 0.0), (" + centre", 1.0))):
        name, settings = f"{suffix}, seed {seed}", dict(seed=args.seed + seed)
        vae = ResponseVAE.fit_scales(data.training, boxcox, deviation=1.0, centre=used * CENTRE["VAE"], depth=depth,
                                     encoder=sizes, decoder=sizes, **settings)
        fit_arrays(vae, arrays, states / f"VAE{name}.npz", normal={"z": (vae.decoder.latent,)}, **settings, **p["vae"])
        generators[f"VAE{name}"] = DecoderGenerator(vae.decoder, boxcox, low, high)
        gan = ResponseWGAN.fit_scales(
            data.training, regressor, boxcox, generator=dict(sizes, latent=p["latent"]), critic=sizes, depth=depth,
            weights={"adversarial": 0.1, "energy": 1.0, "centre": used * CENTRE["WGAN-GP"]}, momentum=0.99,
            critic_steps=p["critic_steps"], **settings)
        stages = {f"score{name}": (EnergyScoreFit(gan), arrays, p["warm_start"])}
        warm_start_scores(gan, stages, states, **settings)
        histories[f"WGAN-GP{name}"] = train_adversarially(gan, arrays, states / f"WGAN-GP{name}.npz",
                                                          uniform={"share": (1, 1)}, **settings, **p["adversarial"])
        generators[f"WGAN-GP{name}"] = EnergyGenerator(gan.average, low, high)
    return generators, histories


def judge_centres(report, expected):
    """Distances of the centre of gravity from where it is expected (N, 2), as a table, and the verdict on the term."""
    away = {name: np.linalg.norm(values[:, 2:4] - expected, axis=1)
            for name, values in {"real": report.real, **report.shapes}.items()}
    distance = {name: float(wasserstein(away["real"][:, None], r[:, None])[0]) for name, r in away.items()}
    table = [["distance of the centre from g0 [cells]", "mean", "WS to real"]]
    table += [[name, f"{r.mean():.3f}", f"{distance[name]:.3f}"] for name, r in away.items()]
    verdict = []
    for name in CENTRE:
        values = {row: [d for label, d in distance.items() if label.startswith(f"{row}, seed ")]
                  for row in (name, f"{name} + centre")}
        verdict.append(f"{name}: {ordering(values, 'distance of the centre')}")
    return table, "\n".join(verdict)


def main():
    args = command_line(__doc__, PRESETS, "runs/focal_h", trainings=1).parse_args()
    p, out = PRESETS[args.preset], args.out
    data = recipe_data(args, p, "focalh")
    detector, depth = data.training.detector(), mean_depth(data.training)
    print(f"the mean shower is {depth:.0f} cm deep")
    generators, histories = train_models(args, p, data, depth)
    save_models(args, data, {f"{name.split(', ')[0].replace(' + ', '_')}.keras": one
                             for name, one in generators.items() if name.endswith("seed 0")})
    responses = {"floor": data.floor[0]} if data.floor else {}
    responses |= {name: generators[name].sample(data.test.particles, args.seed) for name in sorted(generators)}
    report = EnergyReport(data.test, responses, args.seed, p["pairs"])
    centres = judge_centres(report, depth / detector.pitch * slopes(data.test.particles))
    print("\n" + report.write(out, *centres, critics_at_end(histories), provenance_text(data.provenance)))
    write_energy_pictures(out, report)
    print(f"tables, pictures and generators are in {out}")


if __name__ == "__main__":
    run(main)

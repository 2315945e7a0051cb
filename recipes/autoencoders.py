"""Autoencoders: four ways to generate from one, each with three bodies.

What the study did (Wojnar, "Generative networks for the ZDC"): conditional VAEs, supervised autoencoders and
autoencoders with a noise generator (trained by a Sinkhorn divergence, or by mean squared error), as CNN, vision
transformer and MLP-Mixer. The first rows are these, networks, losses and tuned optimizers of the authors' code: images
ln(1 + n) and squared errors, of which photons are rounded (laptop: fewer channels).
Ours answer with whole photons, drawn from a light whose Poisson deviance they are trained on.

    python recipes/autoencoders.py                          # embedded data, neutron calorimeter
    python recipes/autoencoders.py --rows VAE --out runs/vae # one of the four
    python recipes/autoencoders.py --seeds 3                # three trainings of every row
    python recipes/autoencoders.py --data showers.root      # your own showers, or a folder with the npz pair
    python recipes/autoencoders.py --preset paper --dry-run # what the published sizes and schedule would cost

Interrupted, the same command goes on where it stopped. 25 minutes of processor time for the trainings; WS of ours,
means of three trainings, is 3.0 to 3.8 (floor 1.01), 6.7 to 8.0 of the supervised ones.
"""

import re

from zdckeras.command import run
from zdckeras.data.particles import CONDITION_COUNT
from zdckeras.layers.cnn import CnnDecoder, CnnEncoder, PublishedCnnDecoder, PublishedCnnEncoder
from zdckeras.layers.patches import (
    MixerDecoder,
    MixerEncoder,
    PublishedMixerDecoder,
    PublishedMixerEncoder,
    PublishedVitDecoder,
    PublishedVitEncoder,
    VitDecoder,
    VitEncoder,
)
from zdckeras.layers.photon_coding import photon_pair
from zdckeras.metrics.trainings import by_row, of_seed, ordering, values_by_row
from zdckeras.recipe import FEW, command_line, judged_with_times, recipe_data, recipe_states, save_models, write_results
from zdckeras.simulation.reference import load
from zdckeras.training.cost import passes_of_loss, printed_cost
from zdckeras.training.loop import fit_arrays
from zdckeras.vae.autoencoders import (
    CodeGenerator,
    NoiseGeneratorAutoencoder,
    PhotonVAE,
    SupervisedAutoencoder,
)
from zdckeras.vae.published import ImageNoiseAutoencoder, ImageSupervisedAutoencoder, ImageVAE

PRESETS = {
    "laptop": dict(
        train=20_000, validation=2_000, test=10_000, generations=2, pairs=1_000,
        fit=dict(epochs=3, batch=64, rate=2e-3), published={"ViT": dict(width=32, hidden=40)}, hidden=64,
        bodies={"CNN": dict(channels=(48, 24, 12, 8)), "ViT": dict(patch=8, hidden=64, depth=2),
                "MLP-Mixer": dict(patch=8, hidden=64, depth=2, across=48)}),
    "paper": dict(
        train=214_746, validation=40_000, test=60_000, generations=5, pairs=20_000,
        fit=dict(epochs=100, batch=256, rate=1e-3), published={"CNN": {}, "ViT": {}, "MLP-Mixer": {}}, hidden=128,
        bodies={"CNN": dict(channels=(128, 64, 32, 16)), "ViT": dict(patch=8, hidden=96, depth=4),
                "MLP-Mixer": dict(patch=8, hidden=96, depth=5, across=128)}),
    "smoke": dict(
        train=128, validation=64, test=128, generations=2, pairs=32, batches=(4,),
        fit=dict(epochs=1, batch=64, rate=1e-3), rows=("Supervised AE", "AE + Sinkhorn NG"), hidden=4,
        published={"ViT": dict(width=4, patch=11, hidden=8, depth=1)},
        bodies={"ViT": dict(patch=11, hidden=8, depth=1)}),
}
BODIES = {"CNN": (CnnEncoder, CnnDecoder), "ViT": (VitEncoder, VitDecoder), "MLP-Mixer": (MixerEncoder, MixerDecoder)}
PUBLISHED_BODIES = {"CNN": (PublishedCnnEncoder, PublishedCnnDecoder),
                    "ViT": (PublishedVitEncoder, PublishedVitDecoder),
                    "MLP-Mixer": (PublishedMixerEncoder, PublishedMixerDecoder)}
ADAM = {  # of the published rows, as tuned for the VAE of each body
    "CNN": dict(rate=1.4e-3, beta_1=0.76, beta_2=0.88, epsilon=6.1e-8, nesterov=True),
    "ViT": dict(rate=3.5e-3, beta_1=0.64, beta_2=0.73, epsilon=1.5e-7, weight_decay=0.068,
                cycle=dict(rise=0.32, start=35.0, end=770.0)),
    "MLP-Mixer": dict(rate=5.7e-3, beta_1=0.89, beta_2=0.88, epsilon=1.2e-6, weight_decay=0.013,
                      cycle=dict(rise=0.34, start=600.0, end=1200.0))}
MODELS = {"VAE": (PhotonVAE, {}), "Supervised AE": (SupervisedAutoencoder, {}),
          "AE + Sinkhorn NG": (NoiseGeneratorAutoencoder, dict(match="sinkhorn")),
          "AE + MSE NG": (NoiseGeneratorAutoencoder, dict(match="mse"))}
ORDER = ("Supervised AE", "VAE", "AE + Sinkhorn NG", "AE + MSE NG")  # the study's ViTs: WS 20.43, 11.90, 11.34, 11.19
PUBLISHED = {"VAE": (ImageVAE, {}), "Supervised AE": (ImageSupervisedAutoencoder, {}),
             "AE + Sinkhorn NG": (ImageNoiseAutoencoder, dict(match="sinkhorn")),
             "AE + MSE NG": (ImageNoiseAutoencoder, dict(match="mse"))}


def published(args, p, training, seed=0):
    """The untrained models of the published rows, each with every body, by name."""
    for row in args.rows:
        kind, settings = PUBLISHED[row]
        for body, sizes in p["published"].items():
            yield f"published {row}, {body}", kind.of(training, *PUBLISHED_BODIES[body], seed=seed, **sizes,
                                                      settings=dict(hidden=p["hidden"], **settings))


def ours(args, p, training, seed):
    """Those of our rows."""
    for row in args.rows:
        kind, settings = MODELS[row]
        for body, sizes in p["bodies"].items():
            parts = photon_pair(training, *BODIES[body], width=16, informed=kind is not SupervisedAutoencoder,
                                seed=seed, **sizes)
            yield f"{row}, {body}", kind(*parts, seed=seed, **settings)


def dry_run(args, p):
    """What the trainings of the published rows would cost."""
    for name, model in published(args, p, load(args.detector, "train", FEW)):
        rows = dict(conditions=(CONDITION_COUNT,), responses=model.detector.shape, z=(model.noise_width,))
        printed_cost(passes_of_loss(name, model, **rows), p["train"], p["fit"])


def train_models(args, p, data):
    """All of them, trained alike: models and histories by name."""
    states, models, histories = recipe_states(args, p, ADAM, data=data), {}, {}
    for k in range(args.seeds):
        seed = args.seed + k
        found, learnt = dict(published(args, p, data.training, seed)) | dict(ours(args, p, data.training, seed)), {}
        for name, model in found.items():
            adam = ADAM[name.split(", ")[1]] if name.startswith("published") else None
            learnt[name] = fit_arrays(model, data.arrays, states / f"seed{k}" / f"{name}.npz", seed=seed, adam=adam,
                                      normal={"z": (model.noise_width,)}, **p["fit"])
        models, histories = models | of_seed(found, k), histories | of_seed(learnt, k)
    return models, histories


def verdicts(scores):
    """What the table says of the order in which the study found its vision transformers."""
    found = values_by_row(scores)
    for kind in ("published ", ""):
        rows = [row for name in ORDER if (row := f"{kind}{name}, ViT") in found]
        if len(rows) > 1:
            yield f"{kind}ViT: {ordering({row: found[row] for row in rows})}"


def main():
    parser = command_line(__doc__, PRESETS, "runs/autoencoders", ("zn", "zp"), trainings=1, dry=True)
    parser.add_argument("--rows", nargs="+", choices=MODELS, help="of the table, all by default")
    args = parser.parse_args()
    p = PRESETS[args.preset]
    args.rows = args.rows or p.get("rows", list(MODELS))
    if args.dry_run:
        return dry_run(args, p)
    data = recipe_data(args, p, draws=range(1, p["generations"]))
    models, histories = train_models(args, p, data)
    generators = {name: CodeGenerator.of(model, data.training) for name, model in models.items()}
    save_models(args, data, {re.sub(r"[^\w-]+", "_", row) + ".keras": trainings[0]
                             for row, trainings in by_row(generators).items()})
    table, _, text = judged_with_times(args, data, generators, p)
    text = "\n\n".join([text, *verdicts(table.scores)])
    shown = {row: generators[f"{row}, ViT, seed 0"].sample for row in (f"published {args.rows[0]}", *args.rows)}
    write_results(args, "autoencoders.txt", text, table, data.test, shown, histories)


if __name__ == "__main__":
    run(main)

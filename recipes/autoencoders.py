"""Autoencoders: four ways to generate from one, each with three bodies.

What the study did (Wojnar, "Generative networks for the ZDC"): conditional VAEs, supervised autoencoders and
autoencoders with a noise generator (trained by a Sinkhorn divergence, or by mean squared error), as CNN, vision
transformer and MLP-Mixer. Here all answer with whole photons, from a light whose Poisson deviance they are trained on.

    python recipes/autoencoders.py                          # embedded data, neutron calorimeter
    python recipes/autoencoders.py --rows VAE               # one of the four
    python recipes/autoencoders.py --data showers.root      # your own showers, or a folder with the npz pair

Interrupted, the same command goes on where it stopped.
"""

from zdckeras.data.atomic import atomic_path
from zdckeras.generators import milliseconds
from zdckeras.layers.cnn import CnnDecoder, CnnEncoder
from zdckeras.layers.patches import MixerDecoder, MixerEncoder, VitDecoder, VitEncoder
from zdckeras.layers.photon_coding import photon_pair
from zdckeras.metrics.report import judge, over_seeds, text_table
from zdckeras.plots import write_pictures
from zdckeras.recipe import command_line, showers_for
from zdckeras.training.batches import Batches
from zdckeras.training.loop import fit_adam, states_folder
from zdckeras.vae.autoencoders import CodeGenerator, NoiseGeneratorAutoencoder, PhotonVAE, SupervisedAutoencoder

PRESETS = {
    "laptop": dict(
        train=20_000, validation=2_000, test=10_000, generations=2, fit=dict(epochs=3, batch=64, rate=2e-3),
        bodies={"CNN": dict(channels=(48, 24, 12, 8)), "ViT": dict(patch=8, hidden=64, depth=2),
                "MLP-Mixer": dict(patch=8, hidden=64, depth=2, across=48)}),
    "paper": dict(
        train=300_000, validation=40_000, test=60_000, generations=5, fit=dict(epochs=100, batch=256, rate=1e-3),
        bodies={"CNN": dict(channels=(128, 64, 32, 16)), "ViT": dict(patch=8, hidden=96, depth=4),
                "MLP-Mixer": dict(patch=8, hidden=96, depth=4, across=64)}),
    "smoke": dict(
        train=256, validation=64, test=128, generations=2, fit=dict(epochs=1, batch=64, rate=1e-3),
        bodies={"CNN": dict(channels=(4, 4, 2)), "ViT": dict(patch=11, hidden=8, depth=1),
                "MLP-Mixer": dict(patch=11, hidden=8, depth=1, across=8)}),
}
BODIES = {"CNN": (CnnEncoder, CnnDecoder), "ViT": (VitEncoder, VitDecoder), "MLP-Mixer": (MixerEncoder, MixerDecoder)}
MODELS = {"VAE": (PhotonVAE, {}), "Supervised AE": (SupervisedAutoencoder, {}),
        "AE + Sinkhorn NG": (NoiseGeneratorAutoencoder, dict(match="sinkhorn")),
        "AE + MSE NG": (NoiseGeneratorAutoencoder, dict(match="mse"))}


def main():
    parser = command_line(__doc__, PRESETS, "runs/autoencoders", ("zn", "zp"))
    parser.add_argument("--rows", nargs="+", choices=MODELS, default=list(MODELS), help="of the table")
    args = parser.parse_args()
    p, out = PRESETS[args.preset], args.out
    states = states_folder(out, p, args.detector, args.data, args.seed)

    # data
    training, validation, test, resimulated = showers_for(args.detector, args.data, p, range(1, p["generations"]),
                                                      args.seed)
    arrays = {"conditions": training.particles, "responses": training.response}

    # train every row with every body
    generators, histories, weights = {}, {}, {}
    for row in args.rows:
        kind, settings = MODELS[row]
        for body, pair in BODIES.items():
            parts = photon_pair(training, *pair, width=16, informed=kind is not SupervisedAutoencoder, seed=args.seed,
                                **p["bodies"][body])
            model, name = kind(*parts, seed=args.seed, **settings), f"{row}, {body}"
            batches = Batches(arrays, p["fit"]["batch"], args.seed, normal={"z": (model.latent,)})
            histories[name] = fit_adam(model, batches, states / f"{name}.npz", p["fit"]["epochs"], p["fit"]["rate"])
            generators[name], weights[name] = CodeGenerator.of(model, training), model

    # judge on the test set
    rows = {name: generator.sample for name, generator in generators.items()}
    table = judge(test, [again.response for again in resimulated], rows, p["generations"], args.seed)
    summary = over_seeds(table.scores)
    summary[0] += ["weights", "MFLOP", "ms, batch 1", "ms, batch 256"]
    summary[1] += ["-"] * 4
    one, many = (milliseconds({k: [g] for k, g in generators.items()}, test.particles, b) for b in (1, 256))
    for line in summary[2:]:
        shipped, name = generators[line[0]], line[0]
        line += [f"{shipped.count_params():,}", f"{2e-6 * weights[name].operations():.1f}", f"{one[name]:.2f}",
                 f"{many[name] / 256:.3f}"]
    text = "\n".join([text_table(summary), ""])
    print("\n" + text)

    # report, pictures, models
    table.write(out)
    with atomic_path(out / "autoencoders.txt") as path:
        path.write_text(text, encoding="utf-8")
    some = test[:2000]
    shown = {row: generators[f"{row}, ViT"].sample(some.particles, args.seed) for row in args.rows}
    write_pictures(out, some, shown, histories)
    for name, generator in generators.items():
        generator.save(out / f"{name.replace(' + ', '_').replace(', ', '_').replace(' ', '_')}.keras")
    print(f"report, pictures and generators are in {out}")


if __name__ == "__main__":
    main()

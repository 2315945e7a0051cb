"""Transport times response: what physics knows is computed, and a network learns single showers in their own frame.

A particle flies, decays and is bent on its way (`zdckeras.modular.transport`); what arrives on the detector's face gets
a map of light around the cell it strikes, from a variational autoencoder whose prior over 16 codes is a flow; maps are
added, and photons drawn last, with the lumpiness of single fibres. The prior is the teacher (MAF) of the distillation
study, from which a student (IAF) learns to sample in one pass, with the study's losses (arXiv:2512.20346).

    python recipes/modular.py                          # embedded data, neutron calorimeter
    python recipes/modular.py --detector zp --seeds 3
    python recipes/modular.py --data showers.root      # trained on those of your particles that arrive as they started

On embedded data decays cannot be wrong: the transport has the physics of the reference simulation. Judged beside it are
therefore single arrivals, and the same networks behind a transport that is wrong on purpose.

Interrupted, the same command goes on where it stopped.
"""

from functools import cache

import numpy as np

from zdckeras.data.atomic import atomic_path
from zdckeras.generators import milliseconds
from zdckeras.metrics.classifier import pixel_auc, species_auc
from zdckeras.metrics.diversity import DIVERSITY_SPECIES, diversity_ratios
from zdckeras.metrics.report import judge, over_seeds, text_table
from zdckeras.modular.arrivals import draw_arrivals, respond, single_arrivals, single_scores
from zdckeras.modular.generator import ModularGenerator
from zdckeras.modular.training import distil, fit_vae
from zdckeras.modular.transport import Transport
from zdckeras.plots import write_pictures
from zdckeras.recipe import command_line, showers_for
from zdckeras.training.loop import states_folder

PRESETS = {
    "laptop": dict(
        test=10_000, generations=2, arrivals=6_000, pairs=4_000,
        vae=dict(rows=60_000, epochs=30, batch=256, rate=1e-3),
        student=dict(rows=40_000, epochs=4, batch=256, rate=1e-3)),
    "paper": dict(
        test=60_000, generations=5, arrivals=20_000, pairs=20_000,
        vae=dict(rows=300_000, epochs=40, batch=256, rate=1e-3, latent=32,
                 decoder=dict(hidden=(512, 768), known=384, rim=96)),
        student=dict(rows=300_000, epochs=20, batch=256, rate=1e-3)),
    "smoke": dict(
        test=160, generations=2, arrivals=160, pairs=64,
        vae=dict(rows=256, epochs=2, batch=64, rate=1e-3, latent=4, encoder=dict(hidden=(16, 8)),
                 decoder=dict(hidden=(8, 8), known=8, rim=4), prior=dict(steps=2, hidden=(8,), context=8)),
        student=dict(rows=256, epochs=1, batch=64, rate=1e-3)),
}
STUDENTS = {"bs": (0.0, False), "bs+ch": (1.0, False), "bs+ch+div": (1.0, True)}
SHIPPED = "bs+ch+div"
WRONG = {"optics 2 % off": dict(kick=1.02), "detector 0.5 mm off": dict(shift=(0.05, 0.0))}
SPECIES = {**DIVERSITY_SPECIES, "K0L": 130, "p": 2212}


def main():
    args = command_line(__doc__, PRESETS, "runs/modular", ("zn", "zp"), trainings=1).parse_args()
    p, out, name = PRESETS[args.preset], args.out, args.detector
    states = states_folder(out, p["vae"], p["student"], name, args.data)

    # data: the test set, and single arrivals
    draws = range(1, p["generations"] + 1)
    training, _, test, floor = showers_for(name, args.data, {"test": p["test"]}, draws, args.seed)
    floor, cut = [again.response for again in floor], int(test.photon_sums().min())
    own = single_arrivals(training) if args.data else None
    low, high = (test.particles if own is None else training.particles).min(axis=0), test.particles.max(axis=0)

    # train the autoencoder with the teacher as its prior, then the students
    histories, generators = {}, {}
    for seed in range(args.seeds):
        path = states / f"autoencoder{seed}.npz"
        vae, histories[f"autoencoder, seed {seed}"] = fit_vae(name, path, seed=seed, own=own, **p["vae"])
        priors = {"teacher": vae.prior}
        for row, (channels, scaled) in STUDENTS.items():
            path = states / f"{row.replace('+', '_')}{seed}.npz"
            priors[row], histories[f"{row}, seed {seed}"] = distil(vae, path, channels=channels, scaled=scaled,
                                                                   seed=seed, own=own, **p["student"])
        for row, prior in priors.items():
            generators[f"{row}, seed {seed}"] = ModularGenerator(Transport(name), prior, vae.decoder, low, high)
    shipped = generators[f"{SHIPPED}, seed 0"]
    for row, wrong in WRONG.items():
        parts = Transport(name, **wrong), shipped.prior, shipped.decoder
        generators[f"{row}, seed 0"] = ModularGenerator(*parts, low, high)

    # judge on single arrivals
    rng = np.random.default_rng([args.seed, 9])
    arrivals = draw_arrivals(name, p["arrivals"], rng)
    pair = [respond(name, arrivals, rng) for _ in range(2)]
    single = {"floor": single_scores(arrivals, pair[0], pair[1], args.seed, p["pairs"])}
    for label, generator in generators.items():
        if label.split(",")[0] not in WRONG:
            made = generator.respond(arrivals, args.seed)
            single[label] = single_scores(arrivals, pair[0], made, args.seed, p["pairs"])

    # judge on the test set; ids tell neutral kaons and antibaryons, which have one mass and charge
    def sampler(generator, told=True):
        beside = generator.beside(test.pdg) if told else {}
        return cache(lambda *seed: generator.sample(test.particles, seed, beside=beside, at_least=cut))

    models = {label: sampler(generator) for label, generator in generators.items()}
    models |= {f"{SHIPPED} from conditions alone, seed 0": sampler(shipped, told=False)}
    table = judge(test, floor, {label: lambda _, seed, draw=draw: draw(*seed) for label, draw in models.items()},
                  p["generations"], args.seed)
    for label, score in table.scores.items():
        draws = floor if label == "floor" else [models[label](args.seed, k) for k in range(len(floor))]
        score["pixels"] = pixel_auc(test.response, draws[0], args.seed, p["pairs"])
        score["species"] = species_auc(test.response, draws[0], test.particles, test.pdg, SPECIES)
        score["diversity"] = diversity_ratios(floor, draws, test.pdg, SPECIES) if len(floor) > 1 else {}
    found = [species for species, code in SPECIES.items() if (test.pdg == code).sum() >= 30]
    columns = {"WS": lambda s: s["metrics"]["all"]["WS"][0], "MAE": lambda s: s["metrics"]["all"]["MAE"][0],
               "AUC": lambda s: s["auc"], "AUC pixels": lambda s: s["pixels"]}
    columns |= {f"AUC {species}": lambda s, k=species: s["species"][k] for species in found}
    columns |= {f"D({species})": lambda s, k=species: s["diversity"].get(k, np.nan) for species in found}
    one, many = (milliseconds({"": [shipped]}, test.particles, batch)[""] for batch in (1, 256))
    lines = ["single arrivals, nothing imposed", text_table(over_seeds(single, {k: lambda s, k=k: s[k] for k in
                                                                               single["floor"]})),
             "", f"{len(test)} test showers, nothing imposed", text_table(over_seeds(table.scores, columns)), "",
             f"{shipped.count_params():,} weights, {2e-6 * shipped.operations():.1f} MFLOP; ms a response: "
             f"{one:.2f} at batch 1, {many / 256:.3f} at batch 256"]
    print("\n" + "\n".join(lines))

    # report, pictures, model
    table.write(out)
    with atomic_path(out / "modular.txt") as path:
        path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    some = test[:2000]
    shown = {row: generators[f"{row}, seed 0"].sample(some.particles, args.seed, beside=shipped.beside(some.pdg),
                                                      at_least=cut) for row in ("teacher", SHIPPED)}
    write_pictures(out, some, shown, histories)
    shipped.save(out / "generator.keras")
    print(f"report, pictures and the generator of the row {SHIPPED} are in {out}")


if __name__ == "__main__":
    main()

"""Transport times response: what physics knows is computed, and a network learns single showers in their own frame.

A particle flies, decays and is bent on its way (`zdckeras.modular.transport`); what arrives on the detector's face gets
a map of light around the cell it strikes, from a variational autoencoder whose prior over 16 codes is a flow; maps are
added, and photons drawn last, with the lumpiness of single fibres. The prior is the teacher (MAF) of the distillation
study, from which students (IAF) learn to sample in one pass, with the study's losses (arXiv:2512.20346); the teacher is
shipped.

    python recipes/modular.py                          # embedded data, neutron calorimeter
    python recipes/modular.py --detector zp --seeds 3
    python recipes/modular.py --detector ecal          # or focalh: a gun's particles, energies in place of photons
    python recipes/modular.py --data showers.root      # trained on those of your particles that arrive as they started

Where a detector has a gun, the particle itself is the arrival: its slope is one more thing that the network is told,
cells hold energies (Gamma variables, or nothing), and the test set is one of single arrivals.

On embedded data decays cannot be wrong: the transport has the physics of the reference simulation. Judged beside it are
therefore single arrivals, and the same networks behind a transport that is wrong on purpose.

Interrupted, the same command goes on where it stopped. The autoencoder takes 23 minutes of one busy core; that of ZN is
the one of `flow_matching.py`, whose states, copied, are taken up. Its generator, packed and judged by
`tools/make_pretrained.py`, has WS 1.10 (floor 1.04) and AUC 0.512 (0.497) on ZN.
"""

from functools import cache, partial

import numpy as np

from zdckeras.command import run
from zdckeras.flow_distill.students import STUDENTS
from zdckeras.judging import answer, photon_cut
from zdckeras.metrics.classifier import classifier_auc, pixel_auc, shape_importance, species_auc
from zdckeras.metrics.diversity import DIVERSITY_SPECIES, diversity_ratios
from zdckeras.metrics.energy_report import EnergyReport
from zdckeras.metrics.report import noise_seed, text_table
from zdckeras.metrics.shapes import SHAPE_OBSERVABLES
from zdckeras.metrics.times import milliseconds
from zdckeras.metrics.trainings import over_seeds
from zdckeras.modular.arrivals import draw_arrivals, respond, single_arrivals, single_scores
from zdckeras.modular.generator import ModularGenerator
from zdckeras.modular.guns import StraightFlight
from zdckeras.modular.judging import judge_single_arrivals
from zdckeras.modular.training import distil, encoded_arrivals, fit_vae
from zdckeras.modular.transport import Transport
from zdckeras.plots import write_energy_pictures
from zdckeras.provenance import provenance_text
from zdckeras.recipe import command_line, judged, recipe_data, recipe_states, save_models, write_results, write_text
from zdckeras.simulation.gun import GUNS
from zdckeras.simulation.reference import half_libraries, resimulate

DISTILLED = ("bs", "bs+ch", "bs+ch+div")  # of STUDENTS
SHIPPED = "teacher"  # exact, and at batch 256 as fast as its students
WRONG = {"optics 2 % off": dict(kick=1.02), "detector 0.5 mm off": dict(shift=(0.05, 0.0))}
PRESETS = {
    "laptop": dict(
        train=1, test=10_000, generations=2, arrivals=6_000, pairs=4_000, students=DISTILLED, wrong=tuple(WRONG),
        levels=3, coded=100_000, vae=dict(rows=60_000, epochs=45, batch=256, rate=1e-3, decoder=dict(rank=128)),
        student=dict(epochs=6, batch=256, rate=1e-3),
        zp=dict(vae=dict(rows=60_000, epochs=30, batch=256, rate=1e-3)),  # its decoder full; packaged: one_step.py
        gun=dict(test=5_000, students=(),  # where a detector has one
                 vae=dict(rows=60_000, epochs=12, batch=128, rate=3e-3, decoder=dict(rank=128)))),
    "paper": dict(
        train=1, test=60_000, generations=5, arrivals=20_000, pairs=20_000, students=DISTILLED,
        wrong=tuple(WRONG), levels=3,
        vae=dict(rows=300_000, epochs=40, batch=256, rate=1e-3, latent=32,
                 decoder=dict(hidden=(512, 768), known=384, rim=96)),
        coded=300_000, student=dict(epochs=20, batch=256, rate=1e-3)),
    "smoke": dict(
        train=1, test=128, generations=2, arrivals=64, pairs=32, students=("bs+ch+div",), wrong=(), levels=1,
        vae=dict(rows=128, epochs=1, batch=64, rate=1e-3, latent=4, encoder=dict(hidden=(16, 8)),
                 decoder=dict(hidden=(8, 8), known=8, rim=4), prior=dict(steps=1, hidden=(8,), context=8)),
        coded=128, student=dict(epochs=1, batch=64, rate=1e-3)),
}
SPECIES = {**DIVERSITY_SPECIES, "K0L": 130, "p": 2212, "e-": 11, "pi+": 211}


def train_models(args, p, data, states, own):
    """Generators and histories: the autoencoder with the teacher as its prior, its students, and wrong transports."""
    name, reach, histories, generators = args.detector, data.reach, {}, {}
    path = StraightFlight(name) if name in GUNS else Transport(name, p["levels"])
    for seed in range(args.seeds):
        draw = args.seed + seed  # of arrivals, which are the data here, and weights
        place = recipe_states(args, p["vae"], *([f"seed {seed}"] if seed else []), data=data) / "autoencoder.npz"
        vae, histories[f"autoencoder, seed {seed}"] = fit_vae(name, place, seed=draw, own=own, **p["vae"])
        priors = {"teacher": vae.prior}
        students = p["students"] if not seed else ()  # of the first training only
        arrays = encoded_arrivals(vae, p["coded"], draw, own) if students else None
        for row in students:
            channels, scaled = STUDENTS[row]
            priors[row], histories[row] = distil(vae, arrays, states / f"{row}.npz", seed=draw, channels=channels,
                                                 scaled=scaled, **p["student"])
        generators |= {f"{row}, seed {seed}": ModularGenerator(path, prior, vae.decoder, *reach)
                       for row, prior in priors.items()}
    shipped = generators[f"{SHIPPED}, seed 0"]
    for row in () if name in GUNS else p["wrong"]:
        parts = Transport(name, p["levels"], **WRONG[row]), shipped.prior, shipped.decoder
        generators[f"{row}, seed 0"] = ModularGenerator(*parts, *reach)
    return generators, histories


def judge_other_library(args, p, data, states):
    """A model of one half of the Geant4 showers, judged on what the other half makes, and that half's own simulation.

    Training, test and floor have one library of showers elsewhere: a model that learnt them by heart would not be seen.
    """
    name, rng, cut = args.detector, np.random.default_rng([args.seed, 10]), photon_cut(data.test)
    first, second = half_libraries(name)
    vae, _ = fit_vae(name, states / "first_half.npz", seed=args.seed, showers=first, **p["vae"])
    model = ModularGenerator(Transport(name, p["levels"]), vae.prior, vae.decoder, *data.reach)
    arrivals = draw_arrivals(name, p["arrivals"], rng)
    real, again, other = (respond(name, arrivals, rng, showers) for showers in (second, second, first))
    singles = {"floor": again, "first half, simulated": other, "first half, model": model.respond(arrivals, args.seed)}
    test, again, other = (resimulate(data.test, seed, {name: showers}) for seed, showers in
                          enumerate((second, second, first), 90))
    made = model.sample(test.particles, args.seed, beside=model.beside(test.pdg), at_least=cut)
    whole = dict(zip(singles, (again.response, other.response, made), strict=True))
    lines = []
    for row, responses in singles.items():
        scores = single_scores(arrivals, real, responses, args.seed, p["pairs"])
        scores["AUC test set"] = classifier_auc(test.response, whole[row], test.particles, args.seed)
        lines.append([row, *(f"{value:.3f}" for value in scores.values())])
    return text_table([["", *scores], *lines])


def judge_particles(args, p, data, generators):
    """`Table` of the test set and its text; ids tell neutral kaons and antibaryons, which have one mass and charge."""
    test, floor, cut = data.test, data.floor, photon_cut(data.test)

    def alone(conditions, seed):  # no particle has the id 0
        return shipped.sample(conditions, seed, beside=shipped.beside(np.zeros_like(test.pdg)), at_least=cut)

    shipped = generators[f"{SHIPPED}, seed 0"]
    answers = {label: partial(answer, generator, test) for label, generator in generators.items()}
    if args.detector not in GUNS:
        answers[f"{SHIPPED} from conditions alone, seed 0"] = alone
    draws = {label: cache(lambda *seed, sample=sample: sample(test.particles, seed)) for label, sample in
             answers.items()}
    table = judged(args, data, {label: lambda _, seed, draw=draw: draw(*seed) for label, draw in draws.items()},
                   p["generations"])
    for label, score in table.scores.items():
        made = floor if label == "floor" else [draws[label](*noise_seed(label, args.seed, k))
                                               for k in range(max(len(floor), 1))]
        score["pixels"] = pixel_auc(test.response, made[0], args.seed, p["pairs"])
        score["species"] = species_auc(test.response, made[0], test.particles, test.pdg, SPECIES)
        score["diversity"] = diversity_ratios(floor, made, test.pdg, SPECIES) if len(floor) > 1 else {}
    found = [species for species, code in SPECIES.items() if (test.pdg == code).sum() >= 30]
    columns = {"WS": lambda s: s["metrics"]["all"]["WS"][0], "MAE": lambda s: s["metrics"]["all"]["MAE"][0],
               "AUC": lambda s: s["auc"], "AUC pixels": lambda s: s["pixels"]}
    columns |= {f"AUC {species}": lambda s, k=species: s["species"][k] for species in found}
    columns |= {f"D({species})": lambda s, k=species: s["diversity"].get(k, np.nan)
                for species in (found if len(floor) > 1 else ())}
    made = draws[f"{SHIPPED}, seed 0"](args.seed, 0)
    lines = [["the classifier's area falls by, without", *SHAPE_OBSERVABLES]]
    for name, rows in ({"all": slice(None)} | {name: test.pdg == SPECIES[name] for name in found}).items():
        fall = shape_importance(test.response[rows], made[rows], test.particles[rows], args.seed)
        lines.append([name, *(f"{fall[observable]:.3f}" for observable in SHAPE_OBSERVABLES)])
    return table, f"{text_table(over_seeds(table.scores, columns))}\n\n{text_table(lines)}"


def judge_energies(args, data, generator):
    """The report of the other models in energy (`recipes/wgan_gp.py`): shapes along the flight, energy resolution."""
    responses = {"floor": data.floor[0]} if data.floor else {}
    report = EnergyReport(data.test, responses | {SHIPPED: generator.sample(data.test.particles, args.seed)}, args.seed)
    write_energy_pictures(args.out, report)
    print("\n" + report.write(args.out, provenance_text(data.provenance)))


def main():
    args = command_line(__doc__, PRESETS, "runs/modular", ("zn", "zp", *GUNS), trainings=1).parse_args()
    p, gun = PRESETS[args.preset], args.detector in GUNS
    p = p | p.get("gun" if gun else args.detector, {})
    data = recipe_data(args, p, draws=range(1, p["generations"] + 1))
    states = recipe_states(args, p["vae"], p["coded"], p["student"], data=data)
    least = max(p[stage]["batch"] for stage in ("vae", *(["student"] if p["students"] else [])))
    own = single_arrivals(data.training, least) if args.data else None
    generators, histories = train_models(args, p, data, states, own)
    shipped = generators[f"{SHIPPED}, seed 0"]
    save_models(args, data, {"generator.keras": shipped})
    right, lines = {label: one for label, one in generators.items() if label.split(",")[0] not in WRONG}, []
    if not gun:  # whose test set is of single arrivals
        single = judge_single_arrivals(right, p["arrivals"], args.seed, p["pairs"])
        lines += [f"{p['arrivals']} single arrivals, nothing imposed", single, ""]
    table, particles = judge_particles(args, p, data, generators)
    one, many = (milliseconds({"": [shipped]}, data.test.particles, batch)[""] for batch in (1, 256))
    lines += [f"{len(data.test)} test showers, nothing imposed", particles, "",
              f"{shipped.count_params():,} weights, {2e-6 * shipped.operations():.1f} MFLOP; ms a response: "
              f"{one:.2f} at batch 1, {many / 256:.3f} at batch 256"]
    shown = {row: partial(answer, generators[f"{row}, seed 0"], data.test) for row in (SHIPPED, *p["students"][-1:])}
    write_results(args, "modular.txt", "\n".join(lines), table, data.test, shown, histories)
    if gun:
        judge_energies(args, data, shipped)
    elif not args.data:
        write_text(args.out / "other_library.txt", judge_other_library(args, p, data, states), data.provenance)


if __name__ == "__main__":
    run(main)

"""Does this particle leave light: a small network on all particles, those without any response included.

Most particles miss a Zero Degree Calorimeter, or decay on the way. A simulation such as ALICE O2 asks a classifier
first, and generators only for the particles that pass. The generators can answer "empty" themselves, so what decides
about the threshold is the light that is lost: it is the largest one that keeps 99.9 % of all photons of validation
particles.

    python recipes/classifier.py                       # embedded data, ZN and ZP together
    python recipes/classifier.py --data showers.root   # your own, empty responses included

The floor is the simulation itself: the share of further responses to the same particle that are not empty. It is told
the PDG id, which tells K0S from K0L; the network is not.

Interrupted, the same command goes on where it stopped.
"""

import numpy as np

from zdckeras.command import check_folder, refuse, run
from zdckeras.data.files import open_showers
from zdckeras.data.particles import COLUMN
from zdckeras.hits.classifier import fit_hits
from zdckeras.metrics.probabilities import LEAST, probability_scores, threshold_for, threshold_scores
from zdckeras.metrics.report import text_table
from zdckeras.plots import learning_curves, probability_curves, save_figure
from zdckeras.provenance import provenance_text, save_model, versions, write_provenance
from zdckeras.recipe import EMBEDDED, check_results, command_line, recipe_states, write_text
from zdckeras.simulation.reference import draws, respond
from zdckeras.training.states import digest

DETECTORS = ("zn", "zp")
KEPT = 0.999  # of all photons
SPECIES = {"gamma": 22, "n": 2112, "p": 2212, "Lambda": 3122, "K0S": 310, "K0L": 130, "pi+": 211}
FEWEST = 50  # particles of a species in a row of the table
PRESETS = {
    "laptop": dict(train=200_000, validation=50_000, test=20_000, again=10,
                   hits=dict(epochs=12, batch=512, rate=2e-3, hidden=(96, 96))),
    "smoke": dict(train=600, validation=300, test=300, again=2,
                  hits=dict(epochs=1, batch=100, rate=1e-3, hidden=(8,))),
}


def photons_of(blocks):
    """Particles, PDG ids and photons in all detectors together; the responses themselves are not kept."""
    columns = [(block.particles, block.pdg, sum(block.photon_sums(name) for name in block.responses))
               for block in blocks]
    return [np.concatenate(column) for column in zip(*columns, strict=True)]


def three_parts(args, p):
    """Names of the detectors, and what `photons_of` gives of training, validation and test part."""
    if args.data:
        showers = open_showers(args.data)
        return list(showers.responses), [photons_of([part]) for part in showers.split(by_condition=True)]
    return list(DETECTORS), [photons_of(draws("+".join(DETECTORS), part, p[part], args.seed, keep_all=True,
                                              progress=True)) for part in ("train", "validation", "test")]


def lit_share(particles, pdg, detectors, times, seed, rows=20_000):
    """Share of further responses of the simulation to each particle that are not empty."""
    lit, rng = np.zeros(len(pdg)), np.random.default_rng([seed, 82])
    for _ in range(times):
        for start in range(0, len(pdg), rows):
            part = slice(start, start + rows)
            made = respond(particles[part], pdg[part], detectors, rng)
            lit[part] += sum(counts.sum(axis=(1, 2)) for counts in made.values()) > 0
    return lit / times


def tables(test, probabilities, threshold):
    """Scores of each row, and efficiency and light by species, as text."""
    _, pdg, photons = test
    rows = {name: probability_scores(p, photons > 0) | threshold_scores(p, photons > 0, threshold, photons)
            for name, p in probabilities.items()}
    found = {name: pdg == code for name, code in SPECIES.items() if (photons[pdg == code] > 0).sum() >= FEWEST}
    lines = [["", *next(iter(rows.values()))], *([name, *(f"{value:.4f}" for value in row.values())]
                                                for name, row in rows.items())]
    kinds = [["", *found]]
    for name, p in probabilities.items():
        for what in ("efficiency", "purity", "light"):
            values = [threshold_scores(p[rows], photons[rows] > 0, threshold, photons[rows])[what]
                      for rows in found.values()]
            kinds.append([f"{name} {what}", *(f"{value:.4f}" for value in values)])
    return text_table(lines), text_table(kinds)


def main():
    args = command_line(__doc__, PRESETS, "runs/classifier").parse_args()
    p = PRESETS[args.preset]
    check_folder(args.out)
    check_results(args)
    detectors, (training, validation, test) = three_parts(args, p)
    for part, (_, _, photons) in {"training": training, "test": test}.items():
        if (photons > 0).all() or not (photons > 0).any():
            refuse(f"expected particles with and without light, received {len(photons)} of the {part} part "
                   f"{'with' if photons.any() else 'without'} it; `zdckeras simulate --keep-all` keeps both")
    content = digest(dict(zip(("particles", "pdg", "photons"), training, strict=True))) if args.data else None
    states = recipe_states(args, p, content)
    model, history = fit_hits(detectors, training[0], training[2] > 0, states / "classifier.npz", seed=args.seed,
                              **p["hits"])
    model.threshold = max(threshold_for(model.probability(validation[0]), validation[2], KEPT), LEAST)
    provenance = {"recipe": "classifier", "preset": args.preset, "data": args.data or EMBEDDED, "seed": args.seed,
                  "particles": len(training[1]), "threshold": model.threshold, "versions": versions()}
    save_model(model, args.out / "classifier.keras", provenance)
    write_provenance(args.out, provenance)
    probabilities = {} if args.data else {"floor": lit_share(*test[:2], detectors, p["again"], args.seed)}
    probabilities["classifier"] = model.probability(test[0])
    energy = test[0][:, COLUMN["energy"]]
    whole, kinds = tables(test, probabilities, model.threshold)
    write_text(args.out / "classifier.txt", "\n".join([
        f"{len(energy)} test particles of {energy.min():.3g} to {energy.max():.4g} GeV, {np.mean(test[2] > 0):.4f} of "
        f"them with light; threshold {model.threshold:.3g}", whole, "", kinds, "",
        f"{model.count_params():,} weights", provenance_text(provenance)]))
    save_figure(probability_curves(test[2] > 0, probabilities), args.out / "probabilities.png")
    save_figure(learning_curves({"classifier": history}), args.out / "learning.png")
    print(f"tables, pictures and classifier.keras are in {args.out}")


if __name__ == "__main__":
    run(main)

"""Geant4 showers that no library has, ranked among generated ones of the same arrival: is every distribution right?

    python tools/rank_showers.py zn                                  # the pretrained generator, finite block
    python tools/rank_showers.py zp --model runs/modular_zp/generator.keras --unseen raw.npz

The showers are those of the finite block in tests/data and of whatever --unseen names (files of
tools/geant4_showers.py); the generator is a modular one, which takes arrivals. Ranks of a right generator are uniform:
mean and spread say how far they are from that, in standard errors, and p is the probability of such a distance. Beside
it stands the reference simulation, from whose showers the generator has learnt.
"""

import argparse
from pathlib import Path

import numpy as np

from zdckeras.command import run, whole
from zdckeras.metrics.ranks import rank_pulls, ranks
from zdckeras.metrics.report import text_table
from zdckeras.metrics.shapes import SHAPE_OBSERVABLES, shapes
from zdckeras.modular.arrivals import respond
from zdckeras.packaged import open_generator
from zdckeras.simulation.library import load_library, read_geant4
from zdckeras.simulation.realism import in_detector
from zdckeras.simulation.response_fit import FITTED_KINDS, PHOTON, shower_kind

FINITE = Path(__file__).parents[1] / "tests" / "data"
OBSERVABLES = ("photons", "centre_x", "centre_y", "width", "lit", "brightest", "core", "sparsity")
LEAST = 10  # photons, as the papers cut


def unseen_showers(name, paths, rng):
    """Arrivals, and photons drawn from the light of unseen showers of a detector."""
    libraries = [load_library(FINITE / f"finite_{name}.npz"), *(read_geant4(path, name) for path in paths)]
    parts = []
    for library in libraries:
        kind, energy = shower_kind(library.pdg, library.energy)
        seen = np.isin(kind, FITTED_KINDS) & (energy > 0)
        x, y = library.impact[seen].T
        kind = np.array([FITTED_KINDS.index(k) for k in kind[seen]])
        arrivals = {"kind": kind, "energy": energy[seen], "x": x, "y": y}
        parts.append((arrivals, rng.poisson(in_detector(library)[seen]).astype("uint16")))
    arrivals = {key: np.concatenate([part[0][key] for part in parts]) for key in parts[0][0]}
    return arrivals, np.concatenate([part[1] for part in parts])


def table(real, made, photon, seed):
    """Lines of observables, (mean, spread, p) for all showers, and means for photons and hadrons."""
    places = [list(SHAPE_OBSERVABLES).index(name) for name in OBSERVABLES]
    values = ranks(shapes(real)[:, places], shapes(made.reshape(-1, *real.shape[1:])).reshape(
        len(real), -1, len(SHAPE_OBSERVABLES))[:, :, places], seed)
    parts = [rank_pulls(values[rows]) for rows in (slice(None), photon, ~photon)]
    lines = [["", "mean", "spread", "p", "mean photons", "mean hadrons"]]
    for k, name in enumerate(OBSERVABLES):
        (mean, spread, p), photons, hadrons = (part[:, k] for part in parts)
        lines.append([name, f"{mean:+.2f}", f"{spread:+.2f}", f"{p:.3f}", f"{photons[0]:+.2f}", f"{hadrons[0]:+.2f}"])
    return text_table(lines)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", choices=("zn", "zp"))
    parser.add_argument("--model", help="a modular generator; the pretrained one by default")
    parser.add_argument("--unseen", type=Path, action="append", default=[], help="raw file of more showers")
    parser.add_argument("--draws", type=whole(1), default=40, help="responses to each arrival")
    parser.add_argument("--seed", type=whole(0), default=0)
    options = parser.parse_args(arguments)
    generator = open_generator(options.model or options.detector)
    if not hasattr(generator, "respond") or generator.detectors[0].name != options.detector:
        parser.error(f"expected a modular generator of {options.detector}, received {generator.name} of "
                     f"{'+'.join(d.name for d in generator.detectors)}")
    arrivals, real = unseen_showers(options.detector, options.unseen, np.random.default_rng([options.seed, 1]))
    bright = real.sum(axis=(1, 2)) >= LEAST
    arrivals, real = {key: values[bright] for key, values in arrivals.items()}, real[bright]
    many = {key: np.repeat(values, options.draws) for key, values in arrivals.items()}
    photon = arrivals["kind"] == FITTED_KINDS.index(PHOTON)
    for label, made in {"generator": generator.respond(many, options.seed),
                        "reference simulation": respond(options.detector, many, [options.seed, 2])}.items():
        print(f"\n{options.detector}: {len(real)} unseen showers among {options.draws} of the {label}\n"
              f"{table(real, made, photon, options.seed)}", flush=True)


if __name__ == "__main__":
    run(main)

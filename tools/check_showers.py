"""How real the frozen showers are: imitations of unseen Geant4 showers beside these, with errors; table and picture.

    python tools/check_showers.py --output realism.png
    python tools/check_showers.py zn --unseen raw_wide.npz --unseen raw_finite.npz
    python tools/check_showers.py --classifier 4
    python tools/check_showers.py --halves 10000 --sets 4

Unseen are the showers of the library itself, each imitated by a library without it (--folds parts take turns), those
of the finite block in tests/data, and whatever --unseen names (files of tools/geant4_showers.py, one detector then).

--classifier: a classifier tells showers of the library from imitations by a library without them; several times.

--halves: responses to the test set's particles made from one half of the library, and from the other, against each
other. What a classifier tells there is the library's size, and no generator can be expected to do better.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.stats import sem
from tqdm import tqdm

from zdckeras.command import check_folder, run, whole
from zdckeras.data.detectors import channel_sums
from zdckeras.metrics.channels import wasserstein
from zdckeras.metrics.classifier import classifier_auc, pixel_auc
from zdckeras.metrics.report import text_table, with_error
from zdckeras.simulation.frozen import FrozenShowers
from zdckeras.simulation.library import load_library, merge, packaged_library, read_geant4
from zdckeras.simulation.realism import (
    KIND_NAMES,
    LIGHT_OBSERVABLES,
    STATISTICS,
    compare_by_kind,
    compare_unseen,
    imitate_left_out,
    in_detector,
    light_observables,
    respond_left_out,
)
from zdckeras.simulation.reference import half_libraries, load, resimulate

HALVES_SPECIES = {"gamma": 22, "n": 2112, "K0S": 310, "K0L": 130, "Lambda": 3122, "Sigma+": 3222, "p": 2212,
                  "e-": 11, "pi+": 211}
TOLD_ENERGIES = (20.0, 300.0, 1600.0, 3400.0)  # GeV, bins of showers that a classifier is shown
FINITE = Path(__file__).parents[1] / "tests" / "data"


def show(title, lines):
    """Print one table and the summary of its pulls; return how many lines are beyond two standard errors."""
    print(f"\n{title}")
    print(f"{'bin':26}{'n':>5}  {'observable':11}{'':7}{'Geant4':>19}{'imitated':>19}{'pull':>7}")
    for line in lines:
        print(f"{line.label:26}{line.count:5}  {line.observable:11}{line.statistic:7}"
              f"{line.real:9.4f} +-{line.real_error:7.4f}{line.imitated:9.4f} +-{line.imitated_error:7.4f}"
              f"{line.pull:+7.2f}{' *' if abs(line.pull) > 2 else ''}")
    for name in dict.fromkeys(line.observable for line in lines):
        for statistic in STATISTICS:
            pulls = np.array([e.pull for e in lines if (e.observable, e.statistic) == (name, statistic)])
            print(f"{name:11}{statistic:7} {len(pulls):3} bins, mean pull {pulls.mean():+.2f}, "
                  f"rms {np.sqrt((pulls**2).mean()):.2f}, beyond 2: {(np.abs(pulls) > 2).sum()}")
    return sum(abs(line.pull) > 2 for line in lines)


def unseen_by_block(paths, name):
    """Showers of the named raw files that the library does not have, those of one block together."""
    known = {tuple(row) for row in packaged_library(name).primaries[:, :4].astype("float32").tolist()}
    parts = {}
    for path in paths:
        part = read_geant4(path, name)
        new = [tuple(row) not in known for row in part.primaries[:, :4].astype("float32").tolist()]
        if any(new):
            parts.setdefault(part.light.shape[1:], []).append(part.select(np.array(new)))
        print(f"{path}: {sum(new)} of {len(part)} showers are not in the library")
    return [merge(group) for group in parts.values()]


def plot(results, path):
    """Light per GeV, its spread, width and outer light against energy, by kind; points Geant4, bands imitation."""
    import matplotlib.pyplot as plt

    rows = [(0, "mean"), (0, "spread"), (1, "mean"), (3, "mean")]
    figure, axes = plt.subplots(len(rows), len(results), figsize=(5.5 * len(results), 11), squeeze=False)
    for column, (name, (showers, imitated)) in enumerate(results.items()):
        real = light_observables(in_detector(showers), showers.energy, showers.detector)
        edges = np.geomspace(showers.energy.min(), showers.energy.max() * 1.001, 7)
        for row, (k, statistic) in enumerate(rows):
            axis = axes[row, column]
            for number, (kind, ids) in enumerate(KIND_NAMES.items()):
                points = []
                for low, high in zip(edges[:-1], edges[1:], strict=True):
                    which = np.isin(showers.pdg, ids) & (showers.energy >= low) & (showers.energy < high)
                    if which.sum() < 5:
                        continue
                    a, b, n = real[which, k], imitated[which][:, :, k], which.sum()
                    error = a.std() / np.sqrt(n if statistic == "mean" else 2 * n)
                    summary = (a.mean(), b.mean()) if statistic == "mean" else (a.std(), b.std(axis=0).mean())
                    points.append((np.sqrt(low * high) * (1 + 0.04 * number), *summary, error))
                if points:
                    x, shown, drawn, error = np.array(points).T
                    axis.errorbar(x, shown, error, fmt="o", ms=3, color=f"C{number}", label=f"{kind}, Geant4")
                    axis.plot(x, drawn, "-", color=f"C{number}", label=f"{kind}, imitated")
            axis.set(xscale="log", ylabel=f"{LIGHT_OBSERVABLES[k]} {statistic}", title=name if row == 0 else None)
        axes[-1, column].set_xlabel("energy [GeV]")
    axes[0, 0].legend(fontsize=6, ncol=2)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(f"\npicture: {path}")


def tell_apart(name, draws, folds, seed):
    """Print by species how well a classifier tells library showers from imitations by a library without them.

    Beside the mean area of k trials with the same n showers is sqrt((1 + 1/k) / (12 n)), its error where nothing tells
    them: Mann and Whitney's, of which the showers have one half and the imitations of each trial the other.
    """
    library, lines = packaged_library(name), [["", "showers", "AUC"]]
    conditions = np.zeros((len(library), 9))
    conditions[:, 0], conditions[:, 1:3] = library.energy, library.impact
    pairs = [respond_left_out(library, folds, [seed, draw]) for draw in range(draws)]
    for code in np.unique(library.pdg):
        for low, high in pairwise(TOLD_ENERGIES):
            some = np.flatnonzero((library.pdg == code) & (library.energy >= low) & (library.energy < high))
            if len(some) >= 100:
                area = np.mean([classifier_auc(a[some], b[some], conditions[some], seed) for a, b in pairs])
                error = np.sqrt((1.0 + 1.0 / draws) / (12.0 * len(some)))
                lines.append([f"{code}, {low:.0f}-{high:.0f} GeV", str(len(some)), f"{area:.3f} ± {error:.3f}"])
    print(f"\n{name}: library showers told from imitations by a library without them\n{text_table(lines)}", flush=True)


def compare_halves(name, size, sets):
    """Print AUC and WS between responses from two halves of a library, by species, beside the floor.

    Means, and their errors, over disjoint test sets of that size: the area of a few hundred showers moves by 0.03 from
    one set to another, and grows with their number.
    """
    test = load(name, "test", size * sets)
    floor = resimulate(test, 1).response
    first, second = (resimulate(test, k, {name: half}).response for k, half in enumerate(half_libraries(name)))
    pairs, found, counts = ((first, second), (test.response, floor)), {}, {}
    for part in tqdm(np.split(np.arange(len(test)), sets), desc=f"comparing {name}"):
        rows = {"all": part} | {key: part[test.pdg[part] == code] for key, code in HALVES_SPECIES.items()}
        for label, some in rows.items():
            if len(some) >= 30:
                values = [(classifier_auc(a[some], b[some], test.particles[some]),
                           wasserstein(channel_sums(a[some]), channel_sums(b[some])).mean()) for a, b in pairs]
                found.setdefault(label, []).append([value[k] for k in (0, 1) for value in values])
                counts.setdefault(label, []).append(len(some))
        found.setdefault("all, pixels", []).append([pixel_auc(a[part], b[part]) for a, b in pairs])
    lines = [["", "showers", "AUC", "floor", "WS", "floor"]]
    for label, values in found.items():
        errors = sem(values) if len(values) > 1 else np.zeros(len(values[0]))
        cells = [with_error(mean, error, len(values), 3)
                 for mean, error in zip(np.mean(values, axis=0), errors, strict=True)]
        of = f"{np.mean(counts.get(label, size)):.0f} x {len(values)}"
        lines.append([label, of, *cells, *[""] * (4 - len(cells))])
    print(f"\n{name}: two halves of the library\n{text_table(lines)}", flush=True)


def main(arguments=None):
    """Print the tables, draw the picture, and say how many lines are beyond two standard errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detectors", nargs="*", default=["zn", "zp"])
    parser.add_argument("--unseen", type=Path, action="append", default=[], help="raw file of more showers")
    parser.add_argument("--draws", type=whole(1), default=20, help="imitations of each shower")
    parser.add_argument("--folds", type=whole(1), default=10, help="parts of the library that take turns")
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("--output", type=Path, default=Path("realism.png"))
    parser.add_argument("--classifier", type=whole(1), metavar="DRAWS",
                        help="tell showers from so many imitations each")
    parser.add_argument("--halves", type=whole(1), metavar="SIZE",
                        help="compare halves of the library on SIZE test showers")
    parser.add_argument("--sets", type=whole(1), default=1, help="of so many test showers, for the errors of --halves")
    options = parser.parse_args(arguments)
    if options.classifier or options.halves:
        for name in options.detectors:
            if options.classifier:
                tell_apart(name, options.classifier, options.folds, options.seed)
            if options.halves:
                compare_halves(name, options.halves, options.sets)
        return
    if options.unseen and len(options.detectors) != 1:
        parser.error("expected one detector with --unseen")
    check_folder(options.output.parent)
    unseen = {name: unseen_by_block(options.unseen, name) for name in options.detectors}
    results, beyond, total = {}, 0, 0
    for name in options.detectors:
        library, frozen = packaged_library(name), FrozenShowers(name)
        imitated, source = imitate_left_out(library, options.draws, options.folds, options.seed)
        results[f"{name}, left out"] = library, imitated
        tables = {f"{name}: {len(library)} library showers, left out": compare_by_kind(library, imitated, source)}
        finite = FINITE / f"finite_{name}.npz"
        others = [load_library(finite)] if finite.exists() else []
        for showers in others + unseen[name]:
            title = f"{name}: {len(showers)} unseen showers, block of {showers.light.shape[1:]} cells"
            imitated, tables[title] = compare_unseen(showers, frozen, options.draws, options.seed)
            if showers.light.shape[1:] != frozen.detector.shape:
                results[f"{name}, unseen"] = showers, imitated
        for title, lines in tables.items():
            beyond += show(title, lines)
            total += len(lines)
    print(f"\n{beyond} of {total} lines are beyond two standard errors; 4.6 % would be by chance alone")
    plot(results, options.output)


if __name__ == "__main__":
    run(main)

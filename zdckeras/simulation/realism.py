"""How real imitated showers are: imitations of the primaries of unseen Geant4 showers beside those showers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from zdckeras.data.detectors import Detector, get_detector
from zdckeras.metrics.shapes import SHAPE_OBSERVABLES, shapes
from zdckeras.simulation.frozen import FrozenShowers
from zdckeras.simulation.library import ShowerLibrary

LIGHT_OBSERVABLES = ("light/GeV", "width [cm]", "brightest", "outer")
STATISTICS = ("mean", "spread")
UNSEEN_ENERGIES = (20.0, 200.0, 3400.0)  # GeV, bins of showers that are few
KIND_NAMES = {"photon": (22,), "neutron": (2112,), "proton": (2212,), "K0L": (130,), "pion": (211, -211)}


def light_observables(light: np.ndarray, energy: np.ndarray, detector: Detector | str) -> np.ndarray:
    """Light per GeV, transverse width, share of the brightest cell, and share of the outer cells.

    With l_ij the light in cell ij, L its sum and w the width of `zdckeras.metrics.shapes` [cells]: L / E; w times the
    pitch; max l_ij / L; and sum l_ij / L over the cells of the outer eighth at each edge. 0 of a shower without light.

    Arguments:
        light: (N, nx, ny) photons.
        energy: (N,) total energies [GeV].
        detector: `Detector` or its name.

    Returns:
        (N, 4) in the order of `LIGHT_OBSERVABLES`; the width in cm.

    Example:
        >>> light = np.zeros((1, 44, 44)); light[0, 20:22, 20] = 5
        >>> light_observables(light, np.array([100.0]), "zn").round(2).tolist()
        [[0.1, 0.08, 0.5, 0.0]]
    """
    detector, table = get_detector(detector), dict(zip(SHAPE_OBSERVABLES, shapes(light).T, strict=True))
    total = np.maximum(table["photons"], 1e-12)
    mx, my = (n // 8 for n in detector.shape)
    inner = light[:, mx : detector.shape[0] - mx, my : detector.shape[1] - my].sum(axis=(1, 2), dtype="float64")
    return np.stack([table["photons"] / energy, table["width"] * detector.pitch, table["brightest"] / total,
                     (table["photons"] - inner) / total], axis=1)


def in_detector(library: ShowerLibrary) -> np.ndarray:
    """Light (N, nx, ny) of showers in the central part of their block that is the detector."""
    shape = get_detector(library.detector).shape
    low = [(b - n) // 2 for b, n in zip(library.light.shape[1:], shape, strict=True)]
    return library.light[:, low[0] : low[0] + shape[0], low[1] : low[1] + shape[1]]


def imitate(showers: ShowerLibrary, frozen: FrozenShowers, draws: int,
            rng: int | np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Observables of several imitations of the primaries of each shower.

    Arguments:
        showers: `ShowerLibrary` whose primaries are imitated.
        frozen: `FrozenShowers`, which must not know these showers.
        draws: imitations R of each.
        rng: seed or `np.random.Generator`.

    Returns:
        (N, R, 4) observables, and (N, R) library index of the shower behind each.
    """
    repeated = np.repeat(np.arange(len(showers)), draws)
    x, y = showers.impact[repeated].T
    light, source = frozen.expected_light(showers.pdg[repeated], showers.energy[repeated], x, y, rng)
    values = light_observables(light, showers.energy[repeated], showers.detector)
    return values.reshape(len(showers), draws, -1), source.reshape(len(showers), draws)


def imitate_left_out(library: ShowerLibrary, draws: int, folds: int,
                     rng: int | np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Observables of imitations of every library shower by a library without it: `folds` parts take turns.

    Arguments:
        library: `ShowerLibrary`.
        draws, rng: as `imitate`.
        folds: number of parts; as many as showers leaves one out at a time.

    Returns:
        As `imitate`.
    """
    rng = np.random.default_rng(rng)
    values, source = np.zeros((len(library), draws, len(LIGHT_OBSERVABLES))), np.zeros((len(library), draws), "int64")
    for part, known, frozen in _parts(library, folds, rng):
        values[part], index = imitate(library.select(part), frozen, draws, rng)
        source[part] = known[index]
    return values, source


def respond_left_out(library: ShowerLibrary, folds: int,
                     rng: int | np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Photons of every library shower in the detector, and of an imitation of it by a library without it.

    A classifier that tells these apart has found what moving, mirroring and scaling other showers does to them.

    Arguments:
        library, folds, rng: as `imitate_left_out`.

    Returns:
        Two arrays (N, nx, ny) of photons: the showers, drawn from their light, and one imitation of each.
    """
    rng = np.random.default_rng(rng)
    showers = rng.poisson(in_detector(library)).astype("uint16")
    imitations = np.zeros_like(showers)
    for part, _, frozen in _parts(library, folds, rng):
        some = library.select(part)
        imitations[part] = frozen.respond(np.arange(len(part)), some.pdg, some.energy, *some.impact.T, len(part), rng)
    return showers, imitations


def _parts(library, folds, rng):
    """In turns: the showers of one part, those of the others, and `FrozenShowers` that know the others alone."""
    part = rng.permutation(len(library)) % folds
    for fold in range(folds):
        known = np.flatnonzero(part != fold)
        yield np.flatnonzero(part == fold), known, FrozenShowers(library.detector, library.select(known))


@dataclass(frozen=True)
class Comparison:
    """One line of the table: a statistic of an observable in one bin, real and imitated, with standard errors.

    `pull` is the difference over its standard error; `count` the number of real showers.
    """

    label: str
    observable: str
    statistic: str
    count: int
    real: float
    real_error: float
    imitated: float
    imitated_error: float
    pull: float


def _mean_and_spread(values, weight):
    """Weighted mean, and standard deviation of one set of showers, averaged over the R sets: (B, n, R) to (2, B)."""
    norm = np.maximum(weight.sum(axis=1), 1e-12)
    mean = (weight * values).sum(axis=1) / norm
    variance = np.maximum((weight * values**2).sum(axis=1) / norm - mean**2, 0.0)
    return np.stack([mean.mean(axis=1), np.sqrt(variance).mean(axis=1)])


def bootstrap(label: str, real: np.ndarray, imitated: np.ndarray, source: np.ndarray, rng: int | np.random.Generator,
              resamples: int = 200, names: Sequence[str] = LIGHT_OBSERVABLES) -> list[Comparison]:
    """Means and spreads of all observables in one bin, real against imitated.

    The errors are bootstrap deviations. The real showers are drawn anew, with the imitations of the same primaries;
    the imitated ones also by library shower, as the imitations that rest on one of them stand or fall together.
    The spread is that among the n showers of a bin, for the imitations the average over the R sets of n.

    Arguments:
        label: name of the bin.
        real: (n, K) observables of unseen showers.
        imitated: (n, R, K) of imitations of the same primaries.
        source: (n, R) library showers behind them.
        rng: seed or `np.random.Generator`.
        resamples: number of bootstrap draws.
        names: of the K observables.

    Returns:
        List of `Comparison`, for every observable its mean and its spread.
    """
    rng, count = np.random.default_rng(rng), len(real)

    def resampled(size):
        return np.concatenate([np.ones((1, size)), rng.multinomial(size, np.full(size, 1 / size), resamples)])

    _, cluster = np.unique(source, return_inverse=True)
    rows = resampled(count)[:, :, None]
    library = resampled(cluster.max() + 1)[:, cluster.reshape(source.shape)]
    lines = []
    for k, name in enumerate(names):
        shown = _mean_and_spread(real[None, :, None, k], rows)
        drawn = _mean_and_spread(imitated[None, :, :, k], library)
        difference = shown - _mean_and_spread(imitated[None, :, :, k], rows * library)
        for s, statistic in enumerate(STATISTICS):
            lines.append(Comparison(label, name, statistic, count, shown[s, 0], shown[s, 1:].std(), drawn[s, 0],
                                    drawn[s, 1:].std(), difference[s, 0] / max(difference[s, 1:].std(), 1e-12)))
    return lines


def compare_by_kind(showers: ShowerLibrary, imitated: np.ndarray, source: np.ndarray,
                    energies: Sequence[float] = (20.0, 100.0, 500.0, 1600.0, 3400.0), least: int = 8,
                    rng: int | np.random.Generator = 0) -> list[Comparison]:
    """The comparison in bins of kind and energy.

    Arguments:
        showers: `ShowerLibrary` of unseen showers.
        imitated, source: their imitations.
        energies: edges of the bins [GeV].
        least: bins with fewer showers are left out.
        rng: seed or `np.random.Generator`.

    Returns:
        List of `Comparison`.
    """
    bins = {f"{name} {low:.0f}-{high:.0f} GeV":
            np.isin(showers.pdg, kinds) & (showers.energy >= low) & (showers.energy < high)
            for name, kinds in KIND_NAMES.items() for low, high in pairwise(energies)}
    return _compare_in_bins(bins, showers, imitated, source, least, rng)


def compare_by_edge(showers: ShowerLibrary, imitated: np.ndarray, source: np.ndarray,
                    edges: Sequence[float] = (0.0, 0.5, 1.5, 2.5, 6.0), least: int = 8,
                    rng: int | np.random.Generator = 0) -> list[Comparison]:
    """The comparison in bins of the distance [cm] of the impact to the nearest edge of the face, all kinds together.

    Arguments and result: as `compare_by_kind`, for showers of the finite block.
    """
    distance = (np.array(get_detector(showers.detector).half_size) - np.abs(showers.impact)).min(axis=1)
    bins = {f"edge {low:.1f}-{high:.1f} cm": (distance >= low) & (distance < high) for low, high in pairwise(edges)}
    return _compare_in_bins(bins, showers, imitated, source, least, rng)


def compare_unseen(showers: ShowerLibrary, frozen: FrozenShowers, draws: int,
                   rng: int | np.random.Generator) -> tuple[np.ndarray, list[Comparison]]:
    """Imitations of unseen showers, and the comparison in bins of kind and, if their block is the detector's, of edge.

    Arguments:
        showers, frozen, draws, rng: as `imitate`.

    Returns:
        (N, R, 4) observables of the imitations, and a list of `Comparison`.
    """
    imitated, source = imitate(showers, frozen, draws, rng)
    lines = compare_by_kind(showers, imitated, source, UNSEEN_ENERGIES)
    if showers.light.shape[1:] == frozen.detector.shape:
        lines += compare_by_edge(showers, imitated, source)
    return imitated, lines


def _compare_in_bins(bins, showers, imitated, source, least, rng):
    """The comparison in each of the bins, name -> (N,) mask, that has at least so many showers."""
    rng, real = np.random.default_rng(rng), light_observables(in_detector(showers), showers.energy, showers.detector)
    lines = []
    for name, which in bins.items():
        if which.sum() >= least:
            lines += bootstrap(name, real[which], imitated[which], source[which], rng)
    return lines

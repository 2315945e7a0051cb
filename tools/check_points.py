"""How real turned showers are: unseen Geant4 showers beside imitations of the same primaries from a library of points.

    python tools/geant4_points.py ecal tilted.npz --slope 0.25 --energy 2 60 --showers 150 --seed 77
    python tools/check_points.py ecal tilted.npz

The library holds showers that came in at a right angle; `PointShowers` turns them. Both kinds are summed up in the
detector's cells around the same points of impact. Real showers must not be in the library: give them another seed.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from check_showers import show

from zdckeras.command import run, whole
from zdckeras.data.detectors import get_detector
from zdckeras.data.moments import Moments, moment_weights
from zdckeras.data.particles import conditions_of
from zdckeras.simulation.archives import read_arrays
from zdckeras.simulation.gun import PointShowers
from zdckeras.simulation.points import load_points
from zdckeras.simulation.realism import bootstrap

POINT_OBSERVABLES = ("MeV/GeV", "centre [cm]", "rms x [cm]", "rms y [cm]", "brightest")
LEAST = 8  # showers in a bin of the table


def in_cells(points, counts, impact, detector):
    """Energy (N, nx, ny) of showers whose points (P, 4) [cm, MeV] are given around their point of impact (N, 2)."""
    owner = np.repeat(np.arange(len(counts)), counts)
    place = points[:, :2] + impact[owner]
    cell = np.floor(place / detector.pitch + np.array(detector.shape) / 2).astype("int64")
    inside = ((cell >= 0) & (cell < detector.shape)).all(axis=1)
    inside &= (points[:, 2] >= 0) & (points[:, 2] <= detector.length)
    response = np.zeros((len(counts), *detector.shape))
    np.add.at(response, (owner[inside], *cell[inside].T), points[inside, 3])
    return response


def point_observables(response, energy, impact, detector):
    """Visible energy per GeV, centre of gravity along x from the impact, rms along x and y, brightest cell's share.

    With r_ij the energy in cell ij at x_i, y_j and R its sum: R / E; c_x - x0 with c_x = sum r_ij x_i / R;
    sqrt(sum r_ij (x_i - c_x)^2 / R), likewise y; max r_ij / R. Columns (N, 5) in the order of `POINT_OBSERVABLES`.
    """
    flat = response.reshape(len(response), -1).astype("float64")
    moments = Moments(flat, moment_weights(detector.shape))
    x, rms = moments.centre[:, 0], [np.sqrt(moments.along(*axis)) for axis in ((1.0, 0.0), (0.0, 1.0))]
    return np.column_stack([moments.total[:, 0] / energy, x * detector.pitch - impact[:, 0],
                            *(r * detector.pitch for r in rms), flat.max(axis=1) / moments.some[:, 0]])


def check(path, showers, draws, bins, rng):
    """Slope of the showers in a raw file, and the comparison with imitations in bins of kind and energy."""
    detector, rng = showers.detector, np.random.default_rng(rng)
    points, counts, primaries, settings = read_arrays(path, ("points", "counts", "primaries", "settings"))
    settings = json.loads(settings.item())
    if settings["detector"] != detector.name:
        raise SystemExit(f"Expected showers of {detector.name}, received {path}, showers of {settings['detector']}.")
    slope = settings.get("slope", 0.0)
    pdg, energy = primaries[:, 0].astype("int64"), primaries[:, 1]
    impact = rng.uniform(-detector.pitch, detector.pitch, (len(pdg), 2))
    cells = in_cells(points * (0.1, 0.1, 0.1, 1.0), counts, impact, detector)
    real = point_observables(cells, energy, impact, detector)
    mass2 = np.maximum(energy**2 - conditions_of(pdg, np.zeros((len(pdg), 3)))[:, 0] ** 2, 0.0)
    momentum = np.sqrt(mass2 / (1 + slope**2))[:, None] * (slope, 0.0, 1.0)
    vertex = np.column_stack([impact + (detector.centre_x, 0.0), np.full(len(pdg), detector.distance)])
    conditions = conditions_of(pdg, momentum, vertex)
    imitated = np.stack([point_observables(showers.respond(conditions, pdg, rng), energy, impact, detector)
                         for _ in range(draws)], axis=1)
    # Imitations count as independent: few of them rest on one library shower.
    source = np.arange(len(pdg) * draws).reshape(-1, draws)
    edges = np.geomspace(energy.min(), energy.max() * 1.0001, bins + 1)
    lines = []
    for kind in np.unique(pdg).tolist():
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            which = (pdg == kind) & (energy >= low) & (energy < high)
            if which.sum() >= LEAST:
                lines += bootstrap(f"{kind} {low:.1f}-{high:.1f} GeV", real[which], imitated[which], source[which], rng,
                                   names=POINT_OBSERVABLES)
    return slope, lines


def main(arguments=None):
    """Print one table for each file, and say how many lines are beyond two standard errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", help="ecal or focalh")
    parser.add_argument("unseen", nargs="+", type=Path, help="files of tools/geant4_points.py")
    parser.add_argument("--library", type=Path, help="file of tools/pack_points.py (default: the packaged one)")
    parser.add_argument("--draws", type=whole(1), default=10, help="imitations of each shower")
    parser.add_argument("--bins", type=whole(1), default=3, help="of energy, equal in the logarithm")
    parser.add_argument("--seed", type=whole(0), default=0)
    options = parser.parse_args(arguments)
    detector = get_detector(options.detector)
    showers = PointShowers(detector, load_points(options.library) if options.library else None)
    beyond = total = 0
    for path in options.unseen:
        slope, lines = check(path, showers, options.draws, options.bins, options.seed)
        beyond += show(f"{path}: {detector.name}, slope {slope:g}, library of {len(showers.library)} showers", lines)
        total += len(lines)
    print(f"\n{beyond} of {total} lines are beyond two standard errors; 4.6 % would be by chance alone")


if __name__ == "__main__":
    run(main)

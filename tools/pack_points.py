"""Merge raw files of tools/geant4_points.py into one compact library of points.

python tools/pack_points.py ecal raw1.npz raw2.npz --output zdckeras/simulation/data/points_ecal.npz
"""

import argparse
from pathlib import Path

import numpy as np

from zdckeras.simulation.points import PointLibrary, load_points, read_points, save_points

POINTS_SOURCE = "Geant4 11.4 FTFP_BERT, minimal data files; energy in the scintillator"


def main(arguments=None):
    """Pack the named files and say what the file holds and what rounding changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", help="ecal or focalh")
    parser.add_argument("raw", nargs="+", type=Path, help="files of tools/geant4_points.py")
    parser.add_argument("--output", type=Path, required=True, help="library file to write")
    parser.add_argument("--source", default=POINTS_SOURCE, help="what the metadata says about the origin")
    options = parser.parse_args(arguments)
    parts = [read_points(path, options.detector, {"source": options.source}) for path in options.raw]
    columns = (np.concatenate([getattr(part, name) for part in parts])
               for name in ("pdg", "energy", "points", "counts"))
    library = PointLibrary(options.detector, *columns, parts[0].metadata)
    save_points(library, options.output)
    packed = load_points(options.output)
    width = [np.sqrt(np.add.reduceat(one.points[:, 3] * (one.points[:, :2] ** 2).sum(axis=1), one.first)
                     / one.deposited) for one in (library, packed)]
    print(f"{options.output}: {len(packed)} showers, {packed.counts.mean():.0f} points each, "
          f"{options.output.stat().st_size / 1e6:.2f} MB; energies {packed.energy.min():.1f} to "
          f"{packed.energy.max():.1f} GeV; packing moved widths by {np.mean(width[1] / width[0] - 1):+.2%} on average, "
          f"deviation {np.std(width[1] / width[0]):.2%}")


if __name__ == "__main__":
    main()

"""Merge raw files of tools/geant4_points.py into one compact library of points.

python tools/pack_points.py ecal raw1.npz raw2.npz --output zdckeras/simulation/data/points_ecal.npz
python tools/pack_points.py ecal raw3.npz --add --output zdckeras/simulation/data/points_ecal.npz
"""

import numpy as np
from pack_raw import pack

from zdckeras.command import run
from zdckeras.simulation.points import load_points, merge_libraries, read_points, save_points

POINTS_SOURCE = "Geant4 11.4 FTFP_BERT, minimal data files; energy in the scintillator"


def main(arguments=None):
    """Pack the named files and say what the file holds and what rounding changed."""
    library, packed, said = pack(__doc__, arguments, "ecal or focalh", POINTS_SOURCE, read_points, merge_libraries,
                                 save_points, load_points)
    width = [np.sqrt(np.add.reduceat(one.points[:, 3] * (one.points[:, :2] ** 2).sum(axis=1), one.first)
                     / one.deposited) for one in (library, packed)]
    print(f"{said}, {packed.counts.mean():.0f} points each; energies {packed.energy.min():.1f} to "
          f"{packed.energy.max():.1f} GeV; packing moved widths by {np.mean(width[1] / width[0] - 1):+.2%} on average, "
          f"deviation {np.std(width[1] / width[0]):.2%}")


if __name__ == "__main__":
    run(main)

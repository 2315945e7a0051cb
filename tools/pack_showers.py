"""Merge raw files of tools/geant4_showers.py into one compact library file.

python tools/pack_showers.py zn raw1.npz raw2.npz --output zdckeras/simulation/data/showers_zn.npz
python tools/pack_showers.py zn raw3.npz --add --output zdckeras/simulation/data/showers_zn.npz
"""

from collections import Counter

import numpy as np
from pack_raw import pack

from zdckeras.command import run
from zdckeras.simulation.library import load_library, merge, read_geant4, save_library

SHOWERS_SOURCE = "Geant4 11.4 FTFP_BERT, minimal data files; absolute light scale arbitrary"


def main(arguments=None):
    """Pack the named files and say what the file holds and what rounding lost."""
    library, packed, said = pack(__doc__, arguments, "zn or zp", SHOWERS_SOURCE, read_geant4, merge,
                                 save_library, load_library)
    raw, kept = (np.sum(part.light, axis=(1, 2), dtype="float64") for part in (library, packed))
    bright = library.light > 1
    kinds = ", ".join(f"{count} of {pdg}" for pdg, count in sorted(Counter(library.pdg.tolist()).items()))
    print(f"{said} ({kinds}); energies {packed.energy.min():.0f} to {packed.energy.max():.0f} GeV; rounding moved sums "
          f"by at most {np.max(np.abs(kept / np.maximum(raw, 1e-9) - 1)):.1e}, cells above one photon by at most "
          f"{np.max(np.abs(packed.light[bright] / library.light[bright] - 1)):.1%}")


if __name__ == "__main__":
    run(main)

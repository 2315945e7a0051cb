"""Merge raw Geant4 shower files into one compact library file.

python tools/pack_showers.py zn raw1.npz raw2.npz --output zdckeras/simulation/data/showers_zn.npz
python tools/pack_showers.py zn raw3.npz --add --output zdckeras/simulation/data/showers_zn.npz
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from zdckeras.simulation.library import load_library, merge, read_geant4, save_library

SHOWERS_SOURCE = "Geant4 11.4 FTFP_BERT, minimal data files; absolute light scale arbitrary"


def main(arguments=None):
    """Pack the named files and say what the file holds and what rounding lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", help="zn or zp")
    parser.add_argument("raw", nargs="+", type=Path, help="files of tools/geant4_showers.py")
    parser.add_argument("--output", type=Path, required=True, help="library file to write")
    parser.add_argument("--add", action="store_true", help="keep the showers already in the output file")
    parser.add_argument("--source", default=SHOWERS_SOURCE, help="what the metadata says about the origin")
    options = parser.parse_args(arguments)
    parts = [read_geant4(path, options.detector, {"source": options.source}) for path in options.raw]
    if options.add:
        parts.insert(0, load_library(options.output))
    library = merge(parts)
    save_library(library, options.output)
    packed = load_library(options.output)
    raw, kept = (np.sum(part.light, axis=(1, 2), dtype="float64") for part in (library, packed))
    bright = library.light > 1
    kinds = ", ".join(f"{count} of {pdg}" for pdg, count in sorted(Counter(library.pdg.tolist()).items()))
    print(f"{options.output}: {len(packed)} showers ({kinds}), {options.output.stat().st_size / 1e6:.2f} MB")
    print(f"energies {packed.energy.min():.0f} to {packed.energy.max():.0f} GeV; rounding moved sums by at most "
          f"{np.max(np.abs(kept / np.maximum(raw, 1e-9) - 1)):.1e}, cells above one photon by at most "
          f"{np.max(np.abs(packed.light[bright] / library.light[bright] - 1)):.1%}")


if __name__ == "__main__":
    main()

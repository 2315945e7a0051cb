"""Write the reference simulation to a file: photon counts of ZN and ZP, or energies in other detectors' cells.

python tools/simulate.py out/ --detector zn --size 100000 --seed 0 --part train
python tools/simulate.py out.root --detector zn+zp --size 2000000

A name that ends in .root gives a ROOT tree, written block by block, so that its size is not limited by memory;
another name is a folder for the npz pair data_nonrandom_responses.npz, data_nonrandom_particles.npz, which is made in
memory (4 kB a shower). Nothing is left behind by a run that fails.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from zdckeras.data.detectors import DETECTORS
from zdckeras.data.files import METADATA_FILE, PARTICLES_FILE, RESPONSES_FILE, write_npz, write_root
from zdckeras.data.showers import Showers
from zdckeras.simulation.reference import DATA_PARTS, draws


def gather(blocks, size):
    """All blocks as one `Showers`, each copied into its place as soon as it is there."""
    filled = 0
    for block in blocks:
        if not filled:
            particles, pdg = np.empty((size, block.particles.shape[1])), np.empty(size, "int32")
            responses = {name: np.empty((size, *r.shape[1:]), r.dtype) for name, r in block.responses.items()}
        rows = slice(filled, filled + len(block))
        particles[rows], pdg[rows] = block.particles, block.pdg
        for name, counts in block.responses.items():
            responses[name][rows] = counts
        filled += len(block)
    return Showers(particles, pdg, responses, block.metadata)


def npz_files(folder):
    """Files of any npz data set in a folder."""
    names = (RESPONSES_FILE, PARTICLES_FILE, METADATA_FILE)
    places = [folder, *(folder / name for name in DETECTORS)]
    return [place / name for place in places for name in names if (place / name).is_file()]


def main(arguments=None):
    """Simulate and write; 0 if all went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for npz, or a name that ends in .root")
    parser.add_argument("--detector", default="zn", help="zn, zp, zn+zp, ecal or focalh (default: %(default)s)")
    parser.add_argument("--size", type=int, default=100_000, help="number of showers (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    parser.add_argument("--part", choices=DATA_PARTS, default="train", help="independent draws (default: %(default)s)")
    parser.add_argument("--keep-all", action="store_true",
                        help="also responses below the papers' cut of 10 photons in ZN, 1 in ZP; most are empty")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    options = parser.parse_args(arguments)
    output, to_root = options.output, options.output.suffix == ".root"
    if to_root and output.is_dir() or not to_root and output.is_file():
        parser.error(f"{output} is a {'folder' if to_root else 'file'}: expected a .root file or a folder for npz")
    old = [output] if to_root and output.exists() else [] if to_root else npz_files(output)
    if old and not options.overwrite:
        parser.error(f"{old[0]} exists: choose another name, or --overwrite")
    try:
        blocks = draws(options.detector, options.part, options.size, options.seed, options.keep_all, progress=True)
        if to_root:
            write_root(blocks, output)
        else:
            showers = gather(blocks, options.size)
            print(f"compressing {len(showers)} showers", file=sys.stderr)
            write_npz(showers, output)
            written = {output} if len(showers.responses) == 1 else {output / name for name in showers.responses}
            for file in old:
                if file.parent not in written:
                    file.unlink()
    except ValueError as error:
        parser.error(str(error))
    except MemoryError:
        sys.exit(f"{parser.prog}: {options.size} showers do not fit into memory: write a .root file")
    except OSError as error:
        sys.exit(f"{parser.prog}: cannot write {output}: {error.strerror or error}; nothing new was left there")
    except KeyboardInterrupt:
        sys.exit(f"{parser.prog}: interrupted; nothing new was left there")
    return 0


if __name__ == "__main__":
    sys.exit(main())

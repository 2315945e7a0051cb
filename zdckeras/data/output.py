"""Showers to one file or folder from blocks that are made one after the other."""

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from zdckeras.data.detectors import DETECTORS
from zdckeras.data.files import METADATA_FILE, PARTICLES_FILE, RESPONSES_FILE, write_npz, write_root
from zdckeras.data.showers import Showers


def files_in_the_way(output: str | Path, overwrite: bool = False) -> list[Path]:
    """Files of an earlier output that a new one takes the place of.

    Arguments:
        output: a name that ends in .root, or a folder for npz files.
        overwrite: whether they may be replaced.

    Returns:
        Existing files: the ROOT file, or those of any npz data set in the folder.

    Raises:
        FileExistsError: if there are some and `overwrite` is False.
        ValueError: for a folder where a file is expected, or the other way round.

    Example:
        >>> files_in_the_way("no/such/showers.root")
        []
    """
    output = Path(output)
    to_root = output.suffix == ".root"
    if to_root and output.is_dir() or not to_root and output.is_file():
        raise ValueError(f"{output} is a {'folder' if to_root else 'file'}: expected a .root file or a folder for npz.")
    names = (RESPONSES_FILE, PARTICLES_FILE, METADATA_FILE)
    places = [output, *(output / name for name in DETECTORS)]
    old = [output] if to_root else [place / name for place in places for name in names]
    old = [file for file in old if file.is_file()]
    if old and not overwrite:
        raise FileExistsError(f"{old[0]} exists: choose another name, or --overwrite.")
    return old


def write_showers(blocks: Iterable[Showers], size: int, output: str | Path, overwrite: bool = False) -> Path:
    """Write blocks of showers as a ROOT tree, each as soon as it is there, or as npz files, which are made in memory.

    Arguments:
        blocks: iterable of `Showers` with the same detectors, `size` rows in all.
        size: number of showers.
        output: a name that ends in .root, or a folder; see `write_root` and `write_npz`.
        overwrite: replace an earlier output; what it held is kept until the new one is whole.

    Returns:
        The file or folder.

    Raises:
        FileExistsError, ValueError: see `files_in_the_way`; nothing of `blocks` has been made then.
        MemoryError: if npz files do not fit into memory.
    """
    old, output = files_in_the_way(output, overwrite), Path(output)
    if output.suffix == ".root":
        return write_root(blocks, output)
    showers = _gather(blocks, size)
    print(f"compressing {len(showers)} showers", file=sys.stderr)
    write_npz(showers, output)
    written = {output} if len(showers.responses) == 1 else {output / name for name in showers.responses}
    for file in old:
        if file.parent not in written:
            file.unlink()
    return output


def _gather(blocks, size):
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

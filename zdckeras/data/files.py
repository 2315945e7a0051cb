"""Showers and particles from whatever a user names, and to one file or folder, block by block."""

import re
import sys
from collections.abc import Iterable
from glob import glob, has_magic
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zdckeras.data.atomic import check_place, is_npz, open_npz
from zdckeras.data.detectors import DETECTORS
from zdckeras.data.formats import (
    METADATA_FILE,
    PARTICLES_FILE,
    RESPONSES_FILE,
    read_npz,
    read_root,
    read_root_particles,
    said,
    write_npz,
    write_root,
    written_together,
)
from zdckeras.data.kinematics import check_ids, check_particles, likely_ids
from zdckeras.data.particles import CONDITION_COUNT
from zdckeras.data.showers import Showers, concatenate

ROOT_SUFFIX = ".root"  # in whatever case
OTHER_SUFFIXES = (".npz", ".npy", ".h5", ".hdf5", ".csv", ".txt", ".json", ".parquet", ".hepmc", ".hepmc3", ".gz",
                  ".keras", ".onnx")  # of files that showers are not written to


def open_showers(path: str | Path | Iterable[str | Path]) -> Showers:
    """Read showers from what `path` is: ROOT files, or a folder with npz files.

    Arguments:
        path: as `find_sources` takes it: a ROOT file (in it the tree "showers", or the only one with all branches),
            `file.root:folder/tree`, an address, a pattern, a folder with ROOT files, one written by `write_npz` or with
            the published pair data_nonrandom_responses.npz, data_nonrandom_particles.npz; or several of these, with the
            same detectors.

    Returns:
        `Showers`, those of several files one after the other.

    Raises:
        FileNotFoundError: if nothing is there.
        ImportError: for an address whose protocol needs a package that is not installed.
        ValueError: if it is something else, or its content is not usable (see `read_npz`, `read_root`).
    """
    parts = []
    for source in find_sources(path):
        parts.append(_read(source))
        if set(parts[-1].responses) != set(parts[0].responses):
            raise ValueError(f"{source.place}: expected showers of {', '.join(parts[0].responses)}, as in the first "
                             f"file, received {', '.join(parts[-1].responses)}.")
    return concatenate(parts) if len(parts) > 1 else parts[0]


def _read(source):
    """`Showers` of one file or folder."""
    if source.is_root:
        return read_root(source.place, source.tree)
    folder = Path(source.place)
    if not source.detectors:
        return read_npz(folder / RESPONSES_FILE, folder / PARTICLES_FILE)
    folders = [folder / name for name in source.detectors]
    lost = [name for name in written_together(folders[0]) if name not in source.detectors]
    if lost:
        raise ValueError(f"{folder}: expected the folder {', '.join(lost)} too, which was written together with "
                         f"{', '.join(source.detectors)}; found none.")
    parts = [read_npz(place / RESPONSES_FILE, place / PARTICLES_FILE, place.name) for place in folders]
    first = parts[0]
    for place, part in zip(folders, parts, strict=True):
        if not (np.array_equal(part.particles, first.particles) and np.array_equal(part.pdg, first.pdg)):
            raise ValueError(f"{place / PARTICLES_FILE}: not the same particles as in {folders[0] / PARTICLES_FILE}.")
    responses = {name: counts for part in parts for name, counts in part.responses.items()}
    return Showers(first.particles, first.pdg, responses, first.metadata)


class Source(NamedTuple):
    """A ROOT file or an npz folder.

    Arguments:
        place: path, or address that contains "://".
        tree: name of the tree in a ROOT file, if it was given.
        detectors: of a folder: names of the folders in it that have responses or particles; none if it has them itself.
    """

    place: str
    tree: str | None = None
    detectors: tuple = ()

    @property
    def is_root(self) -> bool:
        """Whether it is a ROOT file."""
        return "://" in self.place or not Path(self.place).is_dir()


def find_sources(path: str | Path | Iterable[str | Path]) -> list[Source]:
    """What a name stands for; only looked for, not read.

    Arguments:
        path: a ROOT file, `file.root:folder/tree` for one of its trees, an address that begins with "root://" or
            another "...://", a pattern with *, ? or [...], a folder with ROOT files or npz files; or several of these.

    Returns:
        Non-empty list of `Source`, those of a pattern or folder in alphabetical order.

    Raises:
        FileNotFoundError: if nothing is there.
        ValueError: for an empty name, something else than these, or one file or folder named twice.

    Example:
        >>> find_sources("root://host//file.root:events/showers")
        [Source(place='root://host//file.root', tree='events/showers', detectors=())]
    """
    found, seen = _find(path), set()
    for place, tree, _ in found:
        key = (place if "://" in place else str(Path(place).resolve()), tree)
        if key in seen:
            raise ValueError(f"{place}: expected every file or folder once, received it twice.")
        seen.add(key)
    return found


def _find(path):
    """`find_sources`, whether or not something is named twice."""
    if not isinstance(path, (str, Path)):
        try:
            parts = list(path)
        except TypeError:
            raise ValueError(f"Expected the name of a file or folder, or several, received {path!r}.") from None
        if not parts:
            raise ValueError("Expected the name of a file or folder, or several, received none.")
        return [source for part in parts for source in _find(part)]
    name = str(path)
    if not name.strip() or "\0" in name:
        raise ValueError(f"Expected the name of a file or folder, received {name!r}.")
    file, tree = _split(name)
    if "://" in name:
        return [Source(file, tree)]
    if not Path(file).exists() and has_magic(file):
        found = sorted(glob(file, recursive=True))
        if not found:
            raise FileNotFoundError(f"No file or folder matches {file}")
        if tree is None:
            return [source for one in found for source in _find(Path(one))]
        return [Source(one, tree) for one in found]
    place = Path(file)
    if not place.exists():
        raise FileNotFoundError(f"No such file or folder: {file}")
    if place.is_dir():
        return _in_folder(place)
    if tree is None and not _like_root(place):
        raise ValueError(_expected(place) + f"; found a file that ends in {place.suffix!r}.")
    return [Source(file, tree)]


def _split(name):
    """(file, tree or None) of `file.root:tree`; a file that has such a name is a file."""
    found = re.fullmatch(rf"(.+{re.escape(ROOT_SUFFIX)}):([^:]+)", name, re.IGNORECASE)
    return (name, None) if found is None or ("://" not in name and Path(name).exists()) else found.groups()


def _in_folder(folder):
    """The npz files of a folder, or those in its folders for detectors, or else its ROOT files."""
    names = (RESPONSES_FILE, PARTICLES_FILE)
    single = any((folder / name).is_file() for name in names)
    several = tuple(one for one in DETECTORS if any((folder / one / name).is_file() for name in names))
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() == ROOT_SUFFIX and file.is_file()
                   and not file.name.startswith("."))
    if single and several:
        raise ValueError(f"{_expected(folder)}; found both of the last two.")
    if files and (single or several):
        raise ValueError(f"{_expected(folder)}; found {files[0].name} and npz files: name one of them.")
    if single or several:
        return [Source(str(folder), None, several)]
    if not files:
        raise ValueError(f"{_expected(folder)}; found none of these.")
    return [Source(str(file)) for file in files]


def _like_root(path):
    """Whether a file has the name, or the first bytes, of a ROOT file."""
    if path.suffix.lower() == ROOT_SUFFIX:
        return True
    with open(path, "rb") as file:
        return file.read(4) == b"root"


def _expected(path):
    return (f"{path}: expected a .root file, a folder with .root files, one with {RESPONSES_FILE} and "
            f"{PARTICLES_FILE}, or one with a folder of these for each detector ({', '.join(DETECTORS)})")


def open_particles(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the particles of a file of showers, or a bare list of particles; responses are not read.

    Arguments:
        path: a ROOT file with a tree of showers (the nine conditions and `pdg`), or a folder of showers, as
            `find_sources` takes it; or an npz file with one array of shape (N, 9), the conditions, or (N, 10), with the
            PDG id last.

    Returns:
        (conditions (N, 9) float64, pdg (N,) int32); without ids, those of the most frequent species with the same mass
        and charge, and 0 for neutral kaons, with a warning: see `likely_ids`.

    Raises:
        FileNotFoundError: if nothing is there.
        ValueError: if it is none of these, or holds no particles, or some that cannot be, see `check_particles`.

    Example:
        >>> open_particles("no_such.npz")
        Traceback (most recent call last):
        FileNotFoundError: No such file or folder: no_such.npz
    """
    lists = isinstance(path, (str, Path)) and Path(path).is_file() and not _like_root(Path(path))
    parts = [(path, None)] if lists else [(source.place, source) for source in find_sources(path)]
    values = [_particles(place, source) for place, source in parts]
    conditions, pdg = (np.concatenate(found) for found in zip(*values, strict=True))
    return conditions, pdg


def _particles(place, source):
    """Conditions and ids of one file or folder, or of a list, which has no `Source`."""
    try:
        if source is None:
            values = _from_npz(place)
        elif source.is_root:
            values = read_root_particles(place, source.tree)
        else:
            first, *others = [Path(place, name, PARTICLES_FILE) for name in source.detectors or ("",)]
            values = _from_npz(first)
            if unlike := [other for other in others if not np.array_equal(_from_npz(other), values)]:
                raise ValueError(f"{unlike[0].relative_to(place)}: not the same particles as in "
                                 f"{first.relative_to(place)}: name one of the folders")
    except (FileNotFoundError, ImportError):
        raise
    except Exception as error:  # damaged files raise a dozen unrelated kinds
        reason = said(error).removeprefix(f"{place}: cannot be read as showers: ")[:200]
        raise ValueError(f"{place}: cannot be read as particles: {reason}") from None
    if values.ndim != 2 or values.shape[1] not in (CONDITION_COUNT, CONDITION_COUNT + 1) or not len(values):
        raise ValueError(f"{place}: expected particles of shape (N, {CONDITION_COUNT}), or (N, {CONDITION_COUNT + 1}) "
                         f"with PDG ids, received shape {values.shape}.")
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise ValueError(f"{place}: expected finite numbers, received {values.dtype} values that are not all finite.")
    conditions = values[:, :CONDITION_COUNT].astype("float64")
    try:
        pdg = values[:, -1] if values.shape[1] > CONDITION_COUNT else likely_ids(conditions)
        check_ids(pdg)
        check_particles(conditions, pdg)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
    return conditions, pdg.astype("int32")


def _from_npz(path):
    """The only array of an npz file, never a pickled one."""
    if not is_npz(path):
        raise ValueError("expected an npz archive, a .root file, a folder, a .csv table or a HepMC file (.hepmc3)")
    with open_npz(path) as archive:
        if len(archive.files) != 1:
            raise ValueError(f"expected one array, found {', '.join(archive.files) or 'none'}")
        return archive[archive.files[0]]


def files_in_the_way(output: str | Path, overwrite: bool = False) -> list[Path]:
    """Files of an earlier output that a new one takes the place of.

    Arguments:
        output: a name that ends in .root, or a folder for npz files.
        overwrite: whether they may be replaced.

    Returns:
        Existing files: the ROOT file, or those of any npz data set in the folder.

    Raises:
        FileExistsError: if there are some and `overwrite` is False.
        ValueError: for a folder where a file is expected or the other way round, or if nothing can be written there.

    Example:
        >>> files_in_the_way("no/such/showers.root")
        []
    """
    output = Path(output)
    to_root = output.suffix.lower() == ROOT_SUFFIX
    if output.suffix.lower() in OTHER_SUFFIXES:
        raise ValueError(f"{output}: expected a name that ends in .root or a folder for npz files, received one that "
                         f"ends in {output.suffix}.")
    if to_root and output.is_dir() or not to_root and output.is_file():
        raise ValueError(f"{output} is a {'folder' if to_root else 'file'}: expected a .root file or a folder for npz.")
    check_place(output)
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
    files_in_the_way(output, overwrite)
    output = Path(output)
    if output.suffix.lower() == ROOT_SUFFIX:
        return write_root(blocks, output)
    showers = _gather(blocks, size)
    print(f"compressing {len(showers)} showers", file=sys.stderr)
    return write_npz(showers, output, overwrite)


def _gather(blocks, size):
    """All blocks as one `Showers`, each copied into its place as soon as it is there."""
    filled, block = 0, None
    for block in blocks:
        if not filled:
            particles, pdg = np.empty((size, block.particles.shape[1])), np.empty(size, "int32")
            responses = {name: np.empty((size, *r.shape[1:]), r.dtype) for name, r in block.responses.items()}
        if filled + len(block) > size:
            raise ValueError(f"expected {size} showers, received more.")
        rows = slice(filled, filled + len(block))
        particles[rows], pdg[rows] = block.particles, block.pdg
        for name, counts in block.responses.items():
            responses[name][rows] = counts
        filled += len(block)
    if filled != size or block is None:
        raise ValueError(f"expected {size} showers, received {filled}.")
    return Showers(particles, pdg, responses, block.metadata)

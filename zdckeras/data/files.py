"""Showers on disk: the published studies' pair of npz files, and a flat ROOT tree."""

import json
import zipfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import uproot

from zdckeras.data.atomic import atomic_path
from zdckeras.data.detectors import DETECTORS
from zdckeras.data.detectors import get_detector as detector_of
from zdckeras.data.particles import CONDITION_COUNT, CONDITIONS, check_pdg, pdg_of
from zdckeras.data.responses import measured
from zdckeras.data.showers import Showers

RESPONSES_FILE = "data_nonrandom_responses.npz"
PARTICLES_FILE = "data_nonrandom_particles.npz"
METADATA_FILE = "data_nonrandom_metadata.json"
KEY = "arr_0"
BRANCH = "response_"
BASKET_ROWS = 1000  # rows in one basket of a ROOT file


def open_showers(path: str | Path) -> Showers:
    """Read showers from what `path` is: a ROOT file, or a folder with npz files.

    Arguments:
        path: a file that ends in .root; a folder written by `write_npz`; or a folder with the published pair
            data_nonrandom_responses.npz, data_nonrandom_particles.npz.

    Returns:
        `Showers`.

    Raises:
        FileNotFoundError: if nothing is there.
        ValueError: if it is neither, or its content is not usable (see `read_npz`, `read_root`).
    """
    path = Path(path)
    if path.is_file() and path.suffix == ".root":
        return read_root(path)
    if not path.exists():
        raise FileNotFoundError(f"No such file or folder: {path}")
    single = path.is_dir() and (path / RESPONSES_FILE).is_file()
    several = [path / name for name in DETECTORS if (path / name / RESPONSES_FILE).is_file()]
    if single == bool(several):
        found = "both" if single else "neither"
        raise ValueError(
            f"{path}: expected a .root file, a folder with {RESPONSES_FILE} and {PARTICLES_FILE}, or one with a "
            f"folder of these for each detector ({', '.join(DETECTORS)}); found {found} of the last two."
        )
    if single:
        return read_npz(path / RESPONSES_FILE, path / PARTICLES_FILE)
    parts = [read_npz(folder / RESPONSES_FILE, folder / PARTICLES_FILE, folder.name) for folder in several]
    first = parts[0]
    for folder, part in zip(several, parts, strict=True):
        if not (np.array_equal(part.particles, first.particles) and np.array_equal(part.pdg, first.pdg)):
            raise ValueError(f"{folder / PARTICLES_FILE}: not the same particles as in {several[0] / PARTICLES_FILE}.")
    responses = {name: counts for part in parts for name, counts in part.responses.items()}
    return Showers(first.particles, first.pdg, responses, first.metadata)


def read_npz(responses_file: str | Path, particles_file: str | Path, detector: str | None = None) -> Showers:
    """Read one detector's showers from the published pair of npz files.

    Arguments:
        responses_file: npz with 'arr_0' of shape (N, nx, ny), photon counts or energies [MeV].
        particles_file: npz with 'arr_0' of shape (N, 10), the nine conditions and the PDG id.
        detector: name; by default the one with responses of this shape.

    Returns:
        `Showers`; the metadata come from data_nonrandom_metadata.json beside the responses where it exists.

    Raises:
        FileNotFoundError: for a missing file.
        ValueError: for a file that is empty, truncated, not an npz archive, or holds Python objects (never
            loaded: that could run code), a missing array, and whatever `Showers` refuses.
    """
    responses = _read_array(responses_file)
    particles = _read_array(particles_file)
    columns = len(CONDITIONS) + 1
    if particles.ndim != 2 or particles.shape[1] != columns:
        raise ValueError(
            f"{particles_file}: expected shape (N, {columns}), {len(CONDITIONS)} conditions and the PDG id; "
            f"received {particles.shape}."
        )
    if detector is None:
        fitting = [name for name, one in DETECTORS.items() if one.shape == responses.shape[1:]]
        if len(fitting) != 1:
            shapes = ", ".join(f"{name} {one.shape}" for name, one in DETECTORS.items())
            raise ValueError(
                f"{responses_file}: responses of shape {responses.shape} fit {fitting or 'no'} known detector "
                f"({shapes}); expected (N, nx, ny)."
            )
        detector = fitting[0]
    metadata = {"source": str(responses_file)}
    beside = Path(responses_file).with_name(METADATA_FILE)
    if beside.is_file():
        metadata = _metadata_from(beside.read_text(encoding="utf-8"), beside)
    with _named(responses_file):
        return Showers(particles[:, :-1], particles[:, -1], {detector: responses}, metadata)


def write_npz(showers: Showers, folder: str | Path) -> Path:
    """Write showers as the published pair of npz files, with the metadata beside them as JSON.

    One detector gives `folder`/data_nonrandom_responses.npz and its companions; several give one such set in
    `folder`/zn, `folder`/zp, ... Nothing is renamed to its final name before everything has been written.

    Arguments:
        showers: `Showers`.
        folder: where to; made if missing.

    Returns:
        The folder as a `pathlib.Path`.
    """
    folder = Path(folder)
    particles = np.column_stack([showers.particles, showers.pdg])
    metadata = _metadata_text(showers)
    with ExitStack() as files:
        for name, counts in showers.responses.items():
            detector = folder if len(showers.responses) == 1 else folder / name
            np.savez_compressed(files.enter_context(atomic_path(detector / RESPONSES_FILE)), **{KEY: counts})
            np.savez_compressed(files.enter_context(atomic_path(detector / PARTICLES_FILE)), **{KEY: particles})
            files.enter_context(atomic_path(detector / METADATA_FILE)).write_text(metadata, encoding="utf-8")
    return folder


def write_root(showers: Showers, path: str | Path) -> Path:
    """Write showers as a flat TTree "showers", readable by ROOT, chunk by chunk.

    Branches: the nine conditions (double), `pdg` (int) and, for each detector, `response_<name>[nx][ny]`
    (unsigned short for photons, float for energies in MeV). The metadata are a TObjString "metadata" that holds JSON.

    Arguments:
        showers: `Showers`, or an iterable of `Showers` with the same detectors that are written one after the other;
            the metadata are those of the first.
        path: the .root file to write.

    Returns:
        The file as a `pathlib.Path`.
    """
    path = Path(path)
    tree = None
    with atomic_path(path) as temporary, uproot.recreate(temporary) as file:
        for part in [showers] if isinstance(showers, Showers) else showers:
            columns = {name: part.particles[:, index] for index, name in enumerate(CONDITIONS)}
            columns["pdg"] = part.pdg
            columns |= {BRANCH + name: counts for name, counts in part.responses.items()}
            if tree is None:
                file["metadata"] = _metadata_text(part)
                types = {name: np.dtype((values.dtype, values.shape[1:])) for name, values in columns.items()}
                tree = file.mktree("showers", types)
            for start in range(0, len(part), BASKET_ROWS):
                tree.extend({name: values[start : start + BASKET_ROWS] for name, values in columns.items()})
    return path


def read_root(path: str | Path, tree: str = "showers") -> Showers:
    """Read showers from a flat TTree: one branch per condition, `pdg`, and fixed-size `response_<detector>`.

    Arguments:
        path: ROOT file.
        tree: name of the TTree.

    Returns:
        `Showers` with every detector that has a branch.

    Raises:
        FileNotFoundError: for a missing file.
        ValueError: for a file that is not ROOT, empty or truncated; a missing tree or branch, listing those
            found; a branch of another shape; and whatever `Showers` refuses.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No such file: {path}")
    with _named(path), uproot.open({path: None}) as file:
        found = file.classnames(cycle=False)
        if found.get(tree) != "TTree":
            raise ValueError(f"expected a TTree {tree!r}, found {found or 'nothing'}.")
        branches = file[tree]
        names = branches.keys()
        responses = [BRANCH + name for name in DETECTORS if BRANCH + name in names]
        missing = [name for name in (*CONDITIONS, "pdg") if name not in names]
        if not responses:
            missing.append(" or ".join(BRANCH + name for name in DETECTORS))
        if missing:
            raise ValueError(f"tree {tree!r} has no branch {', '.join(missing)}; found {', '.join(names)}.")
        metadata = {"source": str(path)}
        if found.get("metadata") == "TObjString":
            metadata = _metadata_from(str(file["metadata"]), "the string 'metadata'")
        particles = np.column_stack([_read_branch(branches[name]) for name in CONDITIONS])
        counts = {name.removeprefix(BRANCH): _read_responses(branches[name]) for name in responses}
        return Showers(particles, _read_branch(branches["pdg"]), counts, metadata)


def _read_array(path):
    """The array of an npz file, never a pickled one."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No such file: {path}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: not an npz archive (empty, truncated or another format).")
    with _named(path), np.load(path, allow_pickle=False) as archive:
        if KEY not in archive.files:
            raise ValueError(f"expected an array {KEY!r}, found {', '.join(archive.files) or 'none'}.")
        return archive[KEY]


def _read_branch(branch):
    """One number per row."""
    values = branch.array(library="np")
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        raise ValueError(f"branch {branch.name!r}: expected one number per row, received type {branch.typename}.")
    return values


def _read_responses(branch):
    """(N, nx, ny) photons (uint16) or energies (float32), filled chunk by chunk."""
    detector = detector_of(branch.name.removeprefix(BRANCH))
    shape = detector.shape
    counts = np.empty((branch.num_entries, *shape), "uint16" if detector.unit == "photons" else "float32")
    for start in range(0, len(counts), BASKET_ROWS):
        block = branch.array(entry_start=start, entry_stop=start + BASKET_ROWS, library="np")
        if block.shape[1:] != shape:
            raise ValueError(f"branch {branch.name!r}: expected shape {shape} per row, received {branch.typename}.")
        counts[start : start + BASKET_ROWS] = measured(block, detector, f"branch {branch.name!r}, rows from {start}")
    return counts


def _metadata_text(showers):
    """Metadata as JSON; NumPy numbers and arrays become plain ones."""

    def plain(value):
        if isinstance(value, (np.generic, np.ndarray)):
            return value.tolist()
        raise TypeError(f"metadata: expected values that JSON can hold, received {type(value).__name__} {value!r}.")

    return json.dumps(showers.metadata, default=plain, indent=1)


def _metadata_from(text, origin):
    """The dictionary in a JSON text."""
    try:
        metadata = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{origin}: expected JSON, {error}.") from None
    if not isinstance(metadata, dict):
        raise ValueError(f"{origin}: expected a JSON object, received {type(metadata).__name__}.")
    return metadata


@contextmanager
def _named(path):
    """Whatever goes wrong while reading a file's content becomes a ValueError that starts with its name."""
    try:
        yield
    except Exception as error:  # damaged files raise a dozen unrelated kinds, AssertionError and IndexError among them
        reason = str(error).strip() or type(error).__name__
        raise ValueError(f"{path}: cannot be read as showers: {reason}") from error


def open_particles(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the particles of a file of showers, or a bare list of particles; responses are not read.

    Arguments:
        path: a ROOT file with a TTree "showers" (the nine conditions and `pdg`); a folder of showers as `open_showers`
            takes it; or an npz file with one array of shape (N, 9), the conditions, or (N, 10), with the PDG id last.

    Returns:
        (conditions (N, 9) float64, pdg (N,) int32); without ids, those of the most frequent species with the same mass
        and charge, see `pdg_of`.

    Raises:
        FileNotFoundError: if nothing is there.
        ValueError: if it is none of these, or holds no particles, values that are not finite, or unknown ids.

    Example:
        >>> open_particles("no_such.npz")
        Traceback (most recent call last):
        FileNotFoundError: No such file or folder: no_such.npz
    """
    path = Path(path)
    if path.is_dir():
        found = sorted([*path.glob(PARTICLES_FILE), *path.glob(f"*/{PARTICLES_FILE}")])
        if not found:
            raise ValueError(f"{path}: expected a folder with {PARTICLES_FILE} beside {RESPONSES_FILE}.")
        path = found[0]
    if not path.is_file():
        raise FileNotFoundError(f"No such file or folder: {path}")
    try:
        values = _from_root(path) if path.suffix == ".root" else _from_npz(path)
    except Exception as error:  # damaged files raise a dozen unrelated kinds
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{path}: cannot be read as particles: {reason}") from None
    if values.ndim != 2 or values.shape[1] not in (CONDITION_COUNT, CONDITION_COUNT + 1) or not len(values):
        raise ValueError(f"{path}: expected particles of shape (N, {CONDITION_COUNT}), or (N, {CONDITION_COUNT + 1}) "
                         f"with PDG ids, received shape {values.shape}.")
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise ValueError(f"{path}: expected finite numbers, received {values.dtype} values that are not all finite.")
    conditions = values[:, :CONDITION_COUNT].astype("float64")
    if values.shape[1] == CONDITION_COUNT:
        return conditions, pdg_of(conditions)
    check_pdg(values[:, -1])
    return conditions, values[:, -1].astype("int32")


def _from_root(path):
    """Conditions and ids (N, 10) of the TTree "showers"."""
    with uproot.open({path: "showers"}) as tree:
        return np.column_stack([tree[name].array(library="np") for name in (*CONDITIONS, "pdg")]).astype("float64")


def _from_npz(path):
    """The only array of an npz file, never a pickled one."""
    if not zipfile.is_zipfile(path):
        raise ValueError("expected an npz archive, a .root file or a folder")
    with np.load(path, allow_pickle=False) as archive:
        if len(archive.files) != 1:
            raise ValueError(f"expected one array, found {', '.join(archive.files) or 'none'}")
        return archive[archive.files[0]]

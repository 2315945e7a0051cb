"""Showers of one npz pair or ROOT file, read and written: the formats on disk."""

import json
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from zdckeras.data.atomic import atomic_path, atomic_set, is_npz, open_npz
from zdckeras.data.detectors import DETECTORS
from zdckeras.data.detectors import get_detector as detector_of
from zdckeras.data.particles import CONDITIONS
from zdckeras.data.responses import as_images, measured
from zdckeras.data.showers import Showers, checked
from zdckeras.mapped import kept, open_array

RESPONSES_FILE = "data_nonrandom_responses.npz"
PARTICLES_FILE = "data_nonrandom_particles.npz"
METADATA_FILE = "data_nonrandom_metadata.json"
PAIR_FILES = (PARTICLES_FILE, RESPONSES_FILE, METADATA_FILE)
KEY = "arr_0"
TREE = "showers"
BRANCH = "response_"
BASKET_ROWS = 1000  # rows in one basket of a ROOT file
TOGETHER = "zdckeras_detectors"  # in the metadata: the detectors that were written together, a folder each


def read_npz(responses_file: str | Path, particles_file: str | Path, detector: str | None = None) -> Showers:
    """Read one detector's showers from the published pair of npz files.

    Arguments:
        responses_file: npz with 'arr_0' of shape (N, nx, ny), photon counts or energies [MeV]; also (N, nx ny), or with
            further axes of length 1.
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
        raise ValueError(f"{particles_file}: expected shape (N, {columns}), {columns - 1} conditions and the PDG id; "
                         f"received {particles.shape}.")
    if detector is None:
        fitting = [name for name, one in DETECTORS.items() if as_images(responses, one).shape[1:] == one.shape]
        if len(fitting) != 1:
            shapes = ", ".join(f"{name} {one.shape}" for name, one in DETECTORS.items())
            raise ValueError(f"{responses_file}: responses of shape {responses.shape} fit {fitting or 'no'} known "
                             f"detector ({shapes}); expected (N, nx, ny).")
        detector = fitting[0]
    metadata = _metadata_in(Path(responses_file).parent, {"source": str(responses_file)})
    metadata.pop(TOGETHER, None)
    with named(responses_file):
        return Showers(particles[:, :-1], particles[:, -1], {detector: as_images(responses, detector_of(detector))},
                       metadata)


def written_together(folder: Path) -> list[str]:
    """Names of the detectors whose folders were written together with this one, as its metadata say; or none."""
    told = _metadata_in(folder).get(TOGETHER, [])
    if not isinstance(told, list) or not all(isinstance(name, str) for name in told):
        raise ValueError(f"{folder / METADATA_FILE}: expected names of detectors as {TOGETHER}, received {told!r}.")
    return told


def write_npz(showers: Showers, folder: str | Path, overwrite: bool = False) -> Path:
    """Write showers as the published pair of npz files, with the metadata beside them as JSON.

    One detector gives `folder`/data_nonrandom_responses.npz and its companions; several give one such set in
    `folder`/zn, `folder`/zp, ... Earlier ones of the same names are replaced when all has been written; a run that is
    killed meanwhile leaves a folder that is refused, never new particles beside old responses.

    Arguments:
        showers: `Showers`.
        folder: where to; made if missing.
        overwrite: remove showers of other detectors there.

    Returns:
        The folder as a `pathlib.Path`.

    Raises:
        FileExistsError: if there are showers of other detectors, which could not be told from these.
    """
    folder, showers = Path(folder), checked(showers)
    particles = np.column_stack([showers.particles, showers.pdg])
    several = len(showers.responses) > 1
    places = {name: folder / name if several else folder for name in showers.responses}
    others = [place / name for place in (folder, *(folder / one for one in DETECTORS)) for name in PAIR_FILES
              if place not in places.values() and (place / name).is_file()]
    if others and not overwrite:
        raise FileExistsError(f"{others[0]} belongs to showers of other detectors, which could not be told from these: "
                              "choose another folder, or remove them.")
    metadata = _metadata_text(showers, {TOGETHER: list(places)} if several else {})
    files = [place / name for name in PAIR_FILES for place in places.values()]
    with atomic_set(files, others) as temporary:
        for name, place in places.items():
            np.savez_compressed(temporary[place / RESPONSES_FILE], **{KEY: showers.responses[name]})
            np.savez_compressed(temporary[place / PARTICLES_FILE], **{KEY: particles})
            temporary[place / METADATA_FILE].write_text(metadata, encoding="utf-8")
    return folder


def write_root(showers: Showers | Iterable[Showers], path: str | Path) -> Path:
    """Write showers as a flat TTree "showers", readable by ROOT, chunk by chunk.

    Branches: the nine conditions (double), `pdg` (int) and, for each detector, `response_<name>[nx][ny]`
    (unsigned short for photons, float for energies in MeV). The metadata are a TObjString "metadata" that holds JSON.

    Arguments:
        showers: `Showers`, or an iterable of `Showers` with the same detectors that are written one after the other;
            the metadata are those of the first.
        path: the .root file to write.

    Returns:
        The file as a `pathlib.Path`.

    Raises:
        ValueError: for no showers, or parts with other detectors than the first.
    """
    import uproot  # a quarter of a second that readers of npz files need not wait
    path = Path(path)
    tree = None
    with atomic_path(path) as temporary, uproot.recreate(temporary.absolute()) as file:
        for part in map(checked, [showers] if isinstance(showers, Showers) else showers):
            columns = {name: part.particles[:, index] for index, name in enumerate(CONDITIONS)}
            columns["pdg"] = part.pdg
            columns |= {BRANCH + name: counts for name, counts in part.responses.items()}
            if tree is None:
                file["metadata"] = _metadata_text(part)
                types = {name: np.dtype((values.dtype, values.shape[1:])) for name, values in columns.items()}
                tree = file.mktree(TREE, types)
            if set(columns) != set(types):
                raise ValueError(f"{path}: expected showers with the branches of the first, "
                                 f"{', '.join(set(types) - set(columns)) or 'no others'}; received "
                                 f"{', '.join(set(columns) - set(types)) or 'fewer'}.")
            for start in range(0, len(part), BASKET_ROWS):
                tree.extend({name: values[start : start + BASKET_ROWS] for name, values in columns.items()})
        if tree is None:
            raise ValueError(f"{path}: expected showers to write, received none.")
    return path


def read_root(path: str | Path, tree: str | None = None) -> Showers:
    """Read showers from a flat TTree or RNTuple: one branch per condition, `pdg`, and `response_<detector>`.

    Responses are arrays (or vectors) of nx by ny numbers, or flat ones of nx ny, x being the slower index.

    Arguments:
        path: ROOT file, or the address of one.
        tree: name, with its folder ("events/showers"); by default "showers", or the only one that has all branches.

    Returns:
        `Showers` with every detector that has a branch.

    Raises:
        FileNotFoundError: for a missing file.
        ImportError: for an address whose protocol needs a package that is not installed.
        ValueError: for a file that is not ROOT, empty or truncated; a missing tree or branch, listing those
            found; a branch of another shape; and whatever `Showers` refuses.
    """
    with open_tree(path, tree, responses=True) as (file, branches):
        names = branches.keys(recursive=False)
        responses = [BRANCH + name for name in DETECTORS if BRANCH + name in names]
        missing = [name for name in (*CONDITIONS, "pdg") if name not in names]
        if not responses:
            missing.append(" or ".join(BRANCH + name for name in DETECTORS))
        if missing:
            raise ValueError(f"tree {branches.name!r} has no branch {', '.join(missing)}; found {', '.join(names)}.")
        metadata = _told_metadata(file) or {"source": str(path)}
        particles = np.column_stack([_read_numbers(branches, name) for name in CONDITIONS])
        counts = {name.removeprefix(BRANCH): _read_responses(branches, name) for name in responses}
        return Showers(particles, _read_numbers(branches, "pdg"), counts, metadata)


def read_root_particles(path: str | Path, tree: str | None = None) -> np.ndarray:
    """Conditions and ids (N, 10) of a TTree or RNTuple; raises as `read_root`."""
    with open_tree(path, tree) as (_, branches):
        missing = [name for name in (*CONDITIONS, "pdg") if name not in branches.keys(recursive=False)]
        if missing:
            raise ValueError(f"tree {branches.name!r} has no branch {', '.join(missing)}.")
        return np.column_stack([_read_numbers(branches, name) for name in (*CONDITIONS, "pdg")]).astype("float64")


@contextmanager
def open_tree(path, tree=None, responses=False):
    """(file, tree) of a ROOT file: that named, "showers", or the only one with conditions and, if wanted, responses."""
    remote = "://" in str(path)
    if not remote and not Path(path).is_file():
        raise FileNotFoundError(f"No such file: {path}")
    if not remote:
        with open(path, "rb") as file:
            if file.read(4) != b"root":
                raise ValueError(f"{path}: cannot be read as showers: not a ROOT file (empty or another format).")
    with named(path), _open(path, remote) as file:
        found = {name: kind for name, kind in file.classnames(cycle=False).items() if _is_tree(kind)}
        chosen = tree
        if tree is None:
            branches = {name: set(file[name].keys(recursive=False)) for name in found}
            fitting = [name for name, has in branches.items()
                       if set(CONDITIONS) <= has and (not responses or any(one.startswith(BRANCH) for one in has))]
            chosen = TREE if TREE in found or len(fitting) != 1 else fitting[0]
        if chosen not in found:
            raise ValueError(f"expected a TTree {chosen!r}, found {file.classnames(cycle=False) or 'nothing'}; one of "
                             f"another name is given as file.root:tree.")
        yield file, file[chosen]


@contextmanager
def named(path):
    """Whatever goes wrong while reading a file's content becomes a ValueError that starts with its name."""
    try:
        yield
    except (FileNotFoundError, ImportError):
        raise
    except Exception as error:  # damaged files raise a dozen unrelated kinds, AssertionError and IndexError among them
        raise ValueError(f"{path}: cannot be read as showers: {said(error)}") from error


def said(error: Exception) -> str:
    """What an error says, in one line, without NumPy's advice on how to load Python objects."""
    return " ".join(str(error).split()).replace(" when allow_pickle=False", "") or type(error).__name__


def _open(path, remote):
    """An open ROOT file; ImportError with the name of the extra if its protocol is not installed."""
    import uproot
    try:
        return uproot.open(str(path) if remote else {path: None})
    except (ImportError, ValueError) as error:
        if not remote or isinstance(error, ValueError) and "rotocol" not in str(error):
            raise
        raise ImportError(f"{path}: reading from there needs what is not installed: pip install 'zdckeras[xrootd]' for "
                          "root://, else what fsspec names.") from None


def _is_tree(kind):
    """Whether a ROOT class is one of trees."""
    return kind in ("TTree", "TNtuple", "TNtupleD", "TChain") or kind.split("::")[-1] == "RNTuple"


def _read_array(path):
    """The array of an npz file, never a pickled one."""
    path = Path(path)
    if not path.is_file():
        left = sorted(path.parent.glob(f".{path.stem}-*"))
        killed = f" (an interrupted writing left {left[0].name}: write the showers again)" if left else ""
        raise FileNotFoundError(f"No such file: {path}{killed}")
    if not is_npz(path):
        raise ValueError(f"{path}: not an npz archive (empty, truncated or another format).")
    with named(path):
        with open_npz(path) as archive:
            if KEY not in archive.files:
                raise ValueError(f"expected an array {KEY!r}, found {', '.join(archive.files) or 'none'}.")
        return open_array(path, KEY)


def _block(branches, name, start=None, stop=None):
    """Rows of one branch as a NumPy array; vectors become arrays if all are of one length."""
    import awkward as ak  # here, for who reads npz files does without

    values = branches.arrays([name], entry_start=start, entry_stop=stop, library="ak")[name]
    try:
        return ak.to_numpy(values, allow_missing=False)
    except (ValueError, TypeError):
        raise ValueError(f"branch {name!r}: expected as many numbers in every row, received type "
                         f"{ak.type(values).content}.") from None


def _read_numbers(branches, name):
    """One number per row."""
    values = _block(branches, name)
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        raise ValueError(f"branch {name!r}: expected one number per row, received type {_type(branches, name)}.")
    return values


def _read_responses(branches, name):
    """(N, nx, ny) photons (uint16) or energies (float32), filled chunk by chunk; on disk if they are many."""
    detector = detector_of(name.removeprefix(BRANCH))
    shape = detector.shape

    def blocks():
        for first, end in _spans(branches, name):
            read = as_images(_block(branches, name, first, end), detector)
            if read.shape[1:] != shape:
                raise ValueError(f"branch {name!r}: expected shape {shape} per row, received {_type(branches, name)}.")
            for start in range(first, end, BASKET_ROWS):
                block = read[start - first : start - first + BASKET_ROWS]
                yield measured(block, detector, f"branch {name!r}, rows from {start}")

    return kept(blocks(), (branches.num_entries, *shape), "uint16" if detector.unit == "photons" else "float32")


def _spans(branches, name):
    """(first, end) of rows to read at once: whole baskets, none of which is decompressed twice, up to 1000 rows
    together or a larger one alone; in an RNTuple, which has none, 1000 rows each."""
    total, first, end = branches.num_entries, 0, 0
    for border in sorted({*getattr(branches[name], "entry_offsets", range(0, total, BASKET_ROWS)), total}):
        if end > first and border - first > BASKET_ROWS:
            yield first, end
            first = end
        end = border
    yield from [(first, end)] if end else []


def _type(branches, name):
    """C++ type of a branch."""
    return getattr(branches[name], "typename", "of another kind")


def _told_metadata(file):
    """The dictionary in the string "metadata", if there is one; anything else of that name is none of ours."""
    if file.classnames(cycle=False).get("metadata") != "TObjString":
        return {}
    try:
        found = json.loads(str(file["metadata"]))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _metadata_text(showers, more=()):
    """Metadata as JSON; NumPy numbers and arrays become plain ones."""

    def plain(value):
        if isinstance(value, (np.generic, np.ndarray)):
            return value.tolist()
        raise TypeError(f"metadata: expected values that JSON can hold, received {type(value).__name__} {value!r}.")

    return json.dumps({**showers.metadata, **dict(more)}, default=plain, indent=1)


def _metadata_in(folder, or_else=()):
    """The dictionary in the metadata file of a folder; another one where there is none."""
    file = folder / METADATA_FILE
    try:
        metadata = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else dict(or_else)
    except (ValueError, RecursionError) as error:  # of bytes that are no UTF-8, too
        raise ValueError(f"{file}: expected JSON, {error}.") from None
    if not isinstance(metadata, dict):
        raise ValueError(f"{file}: expected a JSON object, received {type(metadata).__name__}.")
    return metadata

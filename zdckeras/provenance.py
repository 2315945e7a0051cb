"""What made a result: command, data, seeds and versions, written beside tables and into models.

Models also keep a small sample of hashes of their training rows, which says whether they have seen other showers.
"""

import base64
import io
import json
import subprocess
import zipfile
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import zdckeras
from zdckeras.data.atomic import atomic_path, write_text
from zdckeras.data.detectors import get_detector
from zdckeras.data.showers import Showers

if TYPE_CHECKING:
    import keras

PROVENANCE_FILE = "provenance.json"  # beside a report, and member of a .keras archive
SKETCH_FILE = "training_rows.npz"  # member of a .keras archive
SKETCH = "training rows"  # the same in the metadata of exported files, as text
KEPT = 16_384  # hashes of a sketch: 128 kB
LEAST_PHOTONS = 10  # two responses to one particle with less light may be equal by chance


def commit() -> str:
    """The commit of this package, with a + if files differ from it; empty where it does not lie in a checkout."""
    def git(*words):
        return subprocess.run(["git", "--no-optional-locks", *words], cwd=root, capture_output=True, text=True,
                              check=True).stdout.strip()

    root = Path(zdckeras.__file__).parents[1]
    if not (root / ".git").exists():
        return ""
    try:
        return git("rev-parse", "--short=7", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def versions() -> dict[str, str]:
    """Versions of this package, with its commit where it is known, Keras, its backend and NumPy, by name.

    Example:
        >>> "zdckeras" in versions()
        True
    """
    from zdckeras import backend

    found = {"zdckeras": f"{zdckeras.__version__} {commit()}".strip()}
    for name in ("keras", backend.name(), "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "of a name that is not known"
    return found


def provenance_text(provenance: dict[str, Any]) -> str:
    """One line for a report; nested settings in brackets.

    Example:
        >>> provenance_text({"preset": "smoke", "seed": 1, "versions": {"keras": "3.15"}})
        'Made with: preset smoke; seed 1; versions (keras 3.15).'
    """
    def words(value):
        if isinstance(value, dict):
            return "(" + ", ".join(f"{key} {item}" for key, item in value.items()) + ")"
        return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)

    return "Made with: " + "; ".join(f"{key} {words(value)}" for key, value in provenance.items()) + "."


def save_model(model: "keras.Model", path: str | Path, provenance: dict[str, Any],
               sketch: Mapping[str, np.ndarray] | None = None) -> Path:
    """Save a model as a `.keras` file that says what made it, whole or not at all.

    Arguments:
        model: Keras model.
        path: a name that ends in .keras.
        provenance: plain values that JSON can hold.
        sketch: of the showers it was trained on, from `sketch_of`.

    Returns:
        The file, a `pathlib.Path`; `provenance_of` and `training_sketch_of` read it back.
    """
    path = Path(path)
    with atomic_path(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(PROVENANCE_FILE, json.dumps(provenance, indent=1, default=str))
            if sketch:
                archive.writestr(SKETCH_FILE, _packed(sketch))
    return path


def write_provenance(folder: Path, provenance: dict) -> None:
    """Write what results in a folder were made from beside them, for `zdckeras.recipe.check_results`."""
    write_text(folder / PROVENANCE_FILE, json.dumps(provenance, indent=1, default=str))


def _packed(sketch):
    """A sketch as the bytes of an npz file."""
    content = io.BytesIO()
    np.savez(content, **sketch)
    return content.getvalue()


def _unpacked(content):
    """The sketch in the bytes of an npz file."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name].astype("uint64") for name in arrays.files}


def sketch_text(sketch: Mapping[str, np.ndarray]) -> str:
    """A sketch as text, for the metadata of exported files; `sketch_in` reads it back."""
    return base64.b64encode(_packed(sketch)).decode("ascii")


def sketch_in(text: str) -> dict[str, np.ndarray]:
    """The sketch of `sketch_text`.

    Raises:
        ValueError: for other text.

    Example:
        >>> sketch_in(sketch_text({"zn": np.arange(3, dtype="uint64")}))["zn"].tolist()
        [0, 1, 2]
    """
    try:
        return _unpacked(base64.b64decode(text, validate=True))
    except Exception as error:  # of base64, zipfile or NumPy
        raise ValueError(f"{SKETCH}: expected a sketch as text, received {text[:20]!r}...: {error}") from None


def provenance_of(path: str | Path) -> dict[str, Any]:
    """What a model file says about its making; nothing if it does not say.

    Raises:
        FileNotFoundError, ValueError: if nothing is there, or no archive.
    """
    found = _member(path, PROVENANCE_FILE, json.loads)
    return {} if found is None else dict(found)


def training_sketch_of(path: str | Path) -> dict[str, np.ndarray] | None:
    """The sketch of the showers a model was trained on, as `overlap` takes it; None
    if its file has none.

    Raises:
        FileNotFoundError, ValueError: if nothing is there, or no archive.
    """
    return _member(path, SKETCH_FILE, _unpacked)


def _member(path, name, read):
    """What `read` makes of the bytes of a member of a .keras archive; None if there is none."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No such file: {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            return read(archive.read(name)) if name in archive.namelist() else None
    except Exception as error:  # damaged archives raise half a dozen unrelated kinds
        raise ValueError(f"{path}: expected a Keras model, received a damaged archive: {str(error)[:200]}") from None


def row_hashes(showers: Showers, detector: str | None = None) -> np.ndarray:
    """64-bit hashes of the rows of showers: particle in single precision, PDG id and response, sorted, each once.

    Rows with fewer than 10 photons, or without energy, are left out.

    Arguments:
        showers: `Showers`.
        detector: name; may be left out where there is only one.

    Returns:
        (n,) uint64, n at most the number of rows.
    """
    name = showers.detector(detector).name
    photons = get_detector(name).unit == "photons"
    particles, pdg = showers.particles.astype("float32"), showers.pdg.astype("int32")
    found = []
    for row, response in enumerate(showers.response_of(name)):
        if response.sum() >= LEAST_PHOTONS if photons else response.any():
            content = particles[row].tobytes() + pdg[row].tobytes()
            content += np.ascontiguousarray(response, "uint16" if photons else "float32").tobytes()
            found.append(int.from_bytes(blake2b(content, digest_size=8).digest(), "little"))
    return np.unique(np.array(found, "uint64"))


def sketch_of(sets: Iterable[Showers]) -> dict[str, np.ndarray]:
    """The smallest 16,384 hashes of all rows of several sets of showers, for each detector.

    Hashes are uniform, so this is a random sample of the rows, and the same rows are in the sample of any other set.

    Arguments:
        sets: several `Showers`, of the same detectors.

    Returns:
        Detector name -> (n,) sorted uint64, n at most 16,384.

    Source: bottom-k sketches; Cohen and Kaplan, PODC 2007.
    """
    found = {}
    for showers in sets:
        for name in showers.responses:
            both = np.union1d(found.get(name, np.empty(0, "uint64")), row_hashes(showers, name))
            found[name] = both[:KEPT]
    return found


def overlap(sketch: Mapping[str, np.ndarray], showers: Showers, detector: str | None = None) -> int | None:
    """How many rows are known to be among those of a sketch; None if it does not have the detector.

    If the sketch is a sample (it is full), only rows whose hash is not above its largest are looked for: of m rows in
    common about m x 16,384 / (rows of the sketch's set) are found. A wrong hit has a probability of 2^-64 a pair.

    Arguments:
        sketch: from `sketch_of`.
        showers: `Showers`.
        detector: name; may be left out where there is only one.

    Example:
        >>> from zdckeras.data.particles import conditions_of
        >>> pdg = np.full(4, 2112)
        >>> light = np.random.default_rng(0).poisson(1.0, (4, 44, 44))
        >>> showers = Showers(conditions_of(pdg, np.tile([0.0, 0.0, 2500.0], (4, 1))), pdg, {"zn": light})
        >>> overlap(sketch_of([showers[:3]]), showers[1:])
        2
    """
    name = showers.detector(detector).name
    if name not in sketch:
        return None
    return int(np.isin(row_hashes(showers, name), sketch[name], assume_unique=True).sum())

"""What made a result: command, data, seeds and versions, written beside tables and into models."""

import io
import json
import zipfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import zdckeras
from zdckeras.data.atomic import atomic_path

if TYPE_CHECKING:
    import keras

PROVENANCE_FILE = "provenance.json"  # beside a report, and member of a .keras archive
SKETCH_FILE = "training_rows.npz"  # member of a .keras archive


def versions() -> dict[str, str]:
    """Versions of this package, Keras, its backend and NumPy, by name.

    Example:
        >>> "zdckeras" in versions()
        True
    """
    from zdckeras import backend

    found = {"zdckeras": zdckeras.__version__}
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
        sketch: of the showers it was trained on, from `zdckeras.metrics.fingerprints.sketch_of`.

    Returns:
        The file, a `pathlib.Path`; `provenance_of` and `training_sketch_of` read it back.
    """
    path = Path(path)
    with atomic_path(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(PROVENANCE_FILE, json.dumps(provenance, indent=1, default=str))
            if sketch:
                content = io.BytesIO()
                np.savez(content, **sketch)
                archive.writestr(SKETCH_FILE, content.getvalue())
    return path


def provenance_of(path: str | Path) -> dict[str, Any]:
    """What a model file says about its making; nothing if it does not say.

    Raises:
        FileNotFoundError, ValueError: if nothing is there, or no archive.
    """
    found = _member(path, PROVENANCE_FILE, json.loads)
    return {} if found is None else dict(found)


def training_sketch_of(path: str | Path) -> dict[str, np.ndarray] | None:
    """The sketch of the showers a model was trained on, as `overlap` of `zdckeras.metrics.fingerprints` takes it; None
    if its file has none.

    Raises:
        FileNotFoundError, ValueError: if nothing is there, or no archive.
    """
    def read(content):
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name].astype("uint64") for name in arrays.files}

    return _member(path, SKETCH_FILE, read)


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

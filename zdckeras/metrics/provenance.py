"""What made a result: command, data, seeds and versions, written beside tables and into models."""

import json
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zdckeras
from zdckeras.data.atomic import atomic_path

if TYPE_CHECKING:
    import keras

PROVENANCE_FILE = "provenance.json"  # beside a report, and member of a .keras archive


def versions() -> dict[str, str]:
    """Versions of this package, Keras, its backend and NumPy, by name.

    Example:
        >>> "zdckeras" in versions()
        True
    """
    import keras

    found = {"zdckeras": zdckeras.__version__}
    for name in ("keras", keras.config.backend(), "numpy"):
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


def save_model(model: "keras.Model", path: str | Path, provenance: dict[str, Any]) -> Path:
    """Save a model as a `.keras` file that says what made it, whole or not at all.

    Arguments:
        model: Keras model.
        path: a name that ends in .keras.
        provenance: plain values that JSON can hold.

    Returns:
        The file, a `pathlib.Path`; `provenance_of` reads it back.
    """
    path = Path(path)
    with atomic_path(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(PROVENANCE_FILE, json.dumps(provenance, indent=1, default=str))
    return path


def provenance_of(path: str | Path) -> dict[str, Any]:
    """What a model file says about its making; nothing if it does not say.

    Raises:
        FileNotFoundError, ValueError: if nothing is there, or no archive.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No such file: {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            if PROVENANCE_FILE not in archive.namelist():
                return {}
            return dict(json.loads(archive.read(PROVENANCE_FILE)))
    except Exception as error:  # damaged archives raise half a dozen unrelated kinds
        raise ValueError(f"{path}: expected a Keras model, received a damaged archive: {str(error)[:200]}") from None

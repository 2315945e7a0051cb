"""The npz files of shower libraries: their arrays and metadata, and the files shipped with the package."""

import json
import zipfile
from collections.abc import Callable, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

from zdckeras.data.atomic import is_npz, open_npz
from zdckeras.data.detectors import Detector, get_detector


def read_arrays(path: str | Path, names: Sequence[str]) -> list[np.ndarray]:
    """The named arrays of an npz file, or an error that says what is wrong with it.

    Arguments:
        path: file name.
        names: of the arrays.

    Returns:
        The arrays, in that order.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is truncated or lacks an array.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No shower file {path}.")
    if not is_npz(path):
        raise ValueError(f"{path} is not a complete npz file: truncated or of another kind.")
    try:
        with open_npz(path) as archive:
            missing = [name for name in names if name not in archive.files]
            if missing:
                raise ValueError(f"{path} has no array {', '.join(missing)}; expected {', '.join(names)}, "
                                 f"received {', '.join(archive.files) or 'nothing'}.")
            return [archive[name] for name in names]
    except (zipfile.BadZipFile, EOFError, OSError, zipfile.zlib.error) as error:
        raise ValueError(f"{path} is not a complete npz file ({error}): truncated or of another kind.") from None


def to_metadata(metadata: dict, detector: str) -> np.ndarray:
    """Metadata of a library as an array of one string for an npz file, JSON that names the detector.

    Example:
        >>> to_metadata({"source": "Geant4"}, "zn").item()
        '{"source": "Geant4", "detector": "zn"}'
    """
    return np.array(json.dumps({**metadata, "detector": detector}))


def from_metadata(array: np.ndarray, path: str | Path) -> tuple[dict, str]:
    """The metadata behind `to_metadata`, and the detector they name.

    Raises:
        ValueError: for anything else; `path` is the file named in the message.

    Example:
        >>> from_metadata(to_metadata({}, "zn"), "showers.npz")
        ({'detector': 'zn'}, 'zn')
    """
    try:
        metadata = json.loads(array.item())
        return metadata, metadata["detector"]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path}: expected metadata in JSON that names the detector.") from None


def read_packaged(kind: str, detector: Detector | str, read: Callable[[Path], Any]) -> Any:
    """A file shipped with the package for a detector.

    Arguments:
        kind: "showers" or "points".
        detector: `Detector` or its name.
        read: function of the file's path.

    Returns:
        What `read` gives.

    Raises:
        ValueError: if none is shipped for that detector, naming those that have one.
    """
    folder, name = files("zdckeras.simulation") / "data", get_detector(detector).name
    source = folder / f"{kind}_{name}.npz"
    if not source.is_file():
        known = sorted(f.name[len(kind) + 1 : -4] for f in folder.iterdir() if f.name.startswith(f"{kind}_"))
        raise ValueError(f"No library of {kind} is shipped for {name!r}; tools/geant4_{kind}.py makes one. Expected "
                         f"one of {', '.join(known)}.")
    with as_file(source) as path:
        return read(path)

"""Numbered shards of a campaign, each a file with the same bytes whoever writes it, and the manifest of those done."""

import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from zdckeras.data.atomic import atomic_path, open_npz, write_text
from zdckeras.data.detectors import get_detector
from zdckeras.data.responses import measured
from zdckeras.data.showers import Showers

MANIFEST = "manifest.json"
TOLD = ("model_sha256", "seed", "rows")  # settings that a merged file repeats or is checked by
SHARD_NAME = re.compile(r"shard-\d{6,}\.npz")
OWN_FILES = re.compile(rf"{SHARD_NAME.pattern}|{re.escape(MANIFEST)}")  # of a campaign's folder
PARTICLES, SHAPE, GAPS, RESPONSE = "particles", "shape_", "gaps_", "response_"
LAYOUT = "gaps between lit cells"  # of shards; those of another layout are no part of the same campaign
LEAP = 255  # cells that one number says are empty


def write_shard(path: str | Path, particles: np.ndarray, pdg: np.ndarray,
                blocks: Iterable[Mapping[str, np.ndarray]], first: int = 0) -> str:
    """Write showers as one npz file, whole or not at all, and give the SHA-256 of its bytes.

    Most cells are empty. Arrays: "particles" (N, 10), conditions and PDG ids, and for each detector "shape_<detector>"
    (nx, ny), "gaps_<detector>", how many empty cells lie before each lit one (see `gaps_between`), one shower after the
    other, and "response_<detector>", what these hold; compressed as fast as zlib can. `read_shard` gives showers.

    Arguments:
        path: of the file.
        particles, pdg: (N, 9) and (N,).
        blocks: detector -> (n, nx, ny) each, which follow each other, N rows in all; of each only what is lit is kept.
        first: row of the campaign that the shard begins with, for messages.

    Raises:
        ValueError: for what cannot be a response, see `zdckeras.data.responses.measured`, with particle and cell.
    """
    path, shapes, lit, read, row = Path(path), {}, {}, {}, 0
    for block in blocks:
        for name, responses in block.items():
            shapes[name] = responses.shape[1:]
            cells = np.flatnonzero(responses != 0)
            held, cells = responses.reshape(-1)[cells], cells + row * (responses.size // len(responses))
            # the few that are not 0 are checked and turned into what is read out
            try:
                read.setdefault(name, []).append(measured(held[:, None, None], get_detector(name)).reshape(-1))
            except ValueError:
                raise _told(held, cells, shapes[name], get_detector(name), f"{path.name}, {name}", first) from None
            lit.setdefault(name, []).append(cells)
        row += len(responses)
    arrays = {PARTICLES: np.column_stack([particles, pdg])}
    for name, shape in shapes.items():
        arrays |= {SHAPE + name: np.array(shape), GAPS + name: gaps_between(np.concatenate(lit.pop(name))),
                   RESPONSE + name: np.concatenate(read.pop(name))}
    with atomic_path(path, clean=False) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, values in arrays.items():
                # by name, for members with a header of one's own are compressed slowly; they are stamped 1980
                with archive.open(f"{name}.npy", "w", force_zip64=True) as content:
                    np.lib.format.write_array(content, np.ascontiguousarray(values), allow_pickle=False)
        return checksum(temporary)


def _told(held, lit, shape, detector, what, first):
    """ValueError that names particle and cell of the first value that no detector could give."""
    for value, cell in zip(held, lit.tolist(), strict=True):
        try:
            measured(np.array([[[value]]]), detector)
        except ValueError as error:
            row, x, y = (int(k) for k in np.unravel_index(cell, (1 + cell // (shape[0] * shape[1]), *shape)))
            return ValueError(f"{what}: {str(error).partition(': ')[2].rstrip('.')}, received {value:g} for particle "
                              f"{first + row}, cell ({x}, {y}): are weights and particle sound?")
    raise AssertionError("no value is refused alone")


def read_shard(path: str | Path, metadata: dict | None = None) -> Showers:
    """Showers of one shard.

    Raises:
        ValueError: for a file that is no shard.
    """
    try:
        with open_npz(path) as archive:
            particles, responses = archive[PARTICLES], {}
            for name in (name.removeprefix(SHAPE) for name in archive.files if name.startswith(SHAPE)):
                shape, values = tuple(archive[SHAPE + name].tolist()), archive[RESPONSE + name]
                responses[name] = np.zeros((len(particles), *shape), values.dtype)
                responses[name].reshape(-1)[cells_after(archive[GAPS + name])] = values
    except Exception as error:  # damaged archives raise half a dozen unrelated kinds
        raise ValueError(f"{path}: expected a shard of a campaign: {' '.join(str(error).split())[:200]}") from None
    return Showers.answering(particles[:, :-1], particles[:, -1], responses, metadata or {})


def gaps_between(cells: np.ndarray) -> np.ndarray:
    """Rising indices of lit cells as uint8: how many empty ones lie before each, 255 for so many and no lit one yet.

    Example:
        >>> gaps = gaps_between(np.array([0, 1, 5, 300]))
        >>> gaps.tolist(), cells_after(gaps).tolist()
        ([0, 0, 3, 255, 39], [0, 1, 5, 300])
    """
    leaps, rest = np.divmod(np.diff(cells, prepend=-1) - 1, LEAP)
    ends = np.cumsum(leaps + 1) - 1
    gaps = np.full(len(cells) + leaps.sum(), LEAP, "uint8")
    gaps[ends] = rest
    return gaps


def cells_after(gaps: np.ndarray) -> np.ndarray:
    """Indices of lit cells of their `gaps_between`."""
    lit = gaps < LEAP
    return np.cumsum(gaps + lit.astype("int64"))[lit] - 1


def checksum(path: str | Path) -> str:
    """SHA-256 of a file, read piece by piece."""
    found = sha256()
    with open(path, "rb") as content:
        while chunk := content.read(1 << 20):
            found.update(chunk)
    return found.hexdigest()


@dataclass
class Manifest:
    """What a campaign makes, and the shards that are done.

    Arguments:
        folder: of the campaign.
        settings: what its bytes depend on: model, particles, seed and sizes; plain values that JSON can hold.
        shards: name of a shard's file -> {"rows", "sha256"}.
    """

    folder: Path
    settings: dict
    shards: dict

    @classmethod
    def open(cls, folder: str | Path, settings: dict | None = None) -> "Manifest":
        """The manifest of a folder, or a new one for the settings.

        Raises:
            FileNotFoundError: if there is none, and no settings.
            ValueError: for a damaged manifest, or one of other settings.
        """
        folder = Path(folder)
        path = folder / MANIFEST
        if not path.exists():
            if settings is None:
                raise FileNotFoundError(f"No such file: {path}")
            return cls(folder, settings, {})
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            known = cls(folder, dict(found["settings"]), dict(found["shards"]))
            if missing := [name for name in TOLD if name not in known.settings]:
                raise ValueError(f"settings without {' and '.join(missing)}")
            for name, entry in known.shards.items():
                if not (SHARD_NAME.fullmatch(name) and entry["rows"] >= 1 and len(entry["sha256"]) == 64):
                    raise ValueError(f"{name}: {entry}")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: expected the manifest of a campaign, received one that cannot be read: "
                             f"{type(error).__name__} {error}") from None
        if settings is not None and known.settings != settings:
            other = [name for name in settings if known.settings.get(name) != settings[name]]
            raise ValueError(f"{path}: expected a campaign with the same settings, received one with another "
                             f"{' and '.join(other) or 'set of them'}: choose another folder.")
        return known

    def save(self) -> None:
        """Write it, whole or not at all: the same bytes for the same shards, in whatever order they were made."""
        shards = {name: self.shards[name] for name in self.names()}
        text = json.dumps({"settings": self.settings, "shards": shards}, indent=1)
        write_text(self.folder / MANIFEST, text + "\n", clean=False)

    def names(self) -> list[str]:
        """Names of the shards in the order of their numbers, beyond 999,999 too.

        Example:
            >>> Manifest(Path("."), {}, {"shard-1000000.npz": {}, "shard-999999.npz": {}}).names()
            ['shard-999999.npz', 'shard-1000000.npz']
        """
        return sorted(self.shards, key=lambda name: (len(name), name))

    def wrong(self) -> list[str]:
        """Names of listed shards whose file is missing or has other bytes."""
        return [name for name, entry in self.shards.items()
                if not (self.folder / name).is_file() or checksum(self.folder / name) != entry["sha256"]]

"""The shower library: expected light of Geant4 showers in a block wider than the detector, in a compact file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zdckeras.data.atomic import atomic_path
from zdckeras.data.detectors import Detector, get_detector
from zdckeras.data.particles import check_pdg
from zdckeras.simulation.archives import from_metadata, read_arrays, read_packaged, to_metadata

PRIMARY_COLUMNS = ("pdg", "energy", "x", "y", "tx", "ty")
FAINTEST_CELL = 0.005  # photons; fainter cells are dark in the file, their light (1e-4 of all) goes to the others
LN_LIGHT_STEP = 0.05  # of the logarithm of the light; one byte then reaches from FAINTEST_CELL to 1600 photons


@dataclass(frozen=True)
class ShowerLibrary:
    """Showers of single particles: who came in, and the mean number of photons in every cell of the block.

    Arguments:
        detector: name of the calorimeter.
        primaries: (N, 6) float64: PDG id, total energy [GeV], impact x, y [mm, 0 = block centre], slopes tx, ty.
        light: (N, bx, by) float32, expected photons per cell; the first axis is x. The block has the cells of
            the detector: as many as the detector itself (finite block) or more (library block).
        metadata: where the showers come from.

    Raises:
        ValueError: for a wrong shape, NaN, negative light, an unknown PDG id, a non-positive energy, or an
            impact outside the block.

    Example:
        >>> light = np.ones((1, 44, 44), "float32")
        >>> len(ShowerLibrary("zn", np.array([[22, 100.0, 0.5, -0.5, 0, 0]]), light, {}))
        1
    """

    detector: str
    primaries: np.ndarray
    light: np.ndarray
    metadata: dict

    def __post_init__(self):
        detector, primaries = get_detector(self.detector), np.asarray(self.primaries, "float64")
        light = np.asarray(self.light, "float32")
        if light.ndim != 3 or not len(light):
            raise ValueError(f"Expected light of shape (N, bx, by) with N > 0, received {light.shape}.")
        if primaries.shape != (len(light), len(PRIMARY_COLUMNS)):
            raise ValueError(f"Expected primaries of shape {(len(light), 6)} beside {len(light)} showers, "
                             f"received {primaries.shape}.")
        if any(b < n or (b - n) % 2 for b, n in zip(light.shape[1:], detector.shape, strict=True)):
            raise ValueError(f"Expected a block of at least the {detector.shape} cells of {detector.name}, and an even "
                             f"number more; received {light.shape[1:]}.")
        if not np.isfinite(primaries).all():
            raise ValueError("Expected finite primaries, received NaN or infinity.")
        if not np.isfinite(light).all() or light.min() < 0:
            raise ValueError("Expected finite, non-negative light, received NaN, infinity or negative values.")
        check_pdg(primaries[:, 0].astype("int64"))
        if (primaries[:, 1] <= 0).any():
            raise ValueError(f"Expected positive energies [GeV], received {primaries[:, 1].min()}.")
        half = np.array(light.shape[1:]) * detector.pitch * 10 / 2
        if (np.abs(primaries[:, 2:4]) > half).any():
            raise ValueError(f"Expected impacts within {half.tolist()} mm of the block centre, received "
                             f"{np.abs(primaries[:, 2:4]).max(axis=0).tolist()}.")
        object.__setattr__(self, "detector", detector.name)
        object.__setattr__(self, "primaries", primaries)
        object.__setattr__(self, "light", light)

    def __len__(self):
        return len(self.light)

    @property
    def pdg(self) -> np.ndarray:
        """PDG ids (N,) int64."""
        return self.primaries[:, 0].astype("int64")

    @property
    def energy(self) -> np.ndarray:
        """Total energies (N,) [GeV]."""
        return self.primaries[:, 1]

    @property
    def impact(self) -> np.ndarray:
        """Impact points (N, 2) [cm], relative to the block centre."""
        return self.primaries[:, 2:4] / 10

    def halves(self) -> "tuple[ShowerLibrary, ShowerLibrary]":
        """Every second shower and the others, by kind and energy: two libraries of independent showers, alike else."""
        order = np.lexsort([self.energy, self.pdg])
        return self.select(order[::2]), self.select(order[1::2])

    def select(self, which: np.ndarray) -> "ShowerLibrary":
        """The showers named by a mask or by indices, as a library of their own."""
        return ShowerLibrary(self.detector, self.primaries[which], self.light[which], self.metadata)


def merge(libraries: Sequence[ShowerLibrary]) -> ShowerLibrary:
    """One library out of several of the same block; a shower that occurs twice is kept once.

    Arguments:
        libraries: non-empty sequence of `ShowerLibrary`. The metadata is that of the first.

    Returns:
        A `ShowerLibrary`, sorted by PDG id and energy, so that the order of the parts does not matter.

    Raises:
        ValueError: if there is nothing to merge, or detectors or blocks differ.

    Example:
        >>> one = ShowerLibrary("zn", np.array([[22, 9.0, 0, 0, 0, 0]]), np.ones((1, 44, 44)), {})
        >>> len(merge([one, one]))
        1
    """
    libraries = list(libraries)
    blocks = {(part.detector, part.light.shape[1:]) for part in libraries}
    if len(blocks) != 1:
        raise ValueError(f"Expected libraries of one detector and block, received {sorted(blocks)}.")
    primaries = np.concatenate([part.primaries for part in libraries])
    light = np.concatenate([part.light for part in libraries])
    _, first = np.unique(primaries.astype("float32")[:, :4], axis=0, return_index=True)
    return ShowerLibrary(libraries[0].detector, primaries[first], light[first], libraries[0].metadata)


def save_library(library: ShowerLibrary, path: str | Path) -> None:
    """Write a library: the light l of a cell as a byte c with l = (sum of shower) x e^(s c) / (sum of e^(s c)).

    The byte is 0 for a dark cell and else 1 + round(log(l / faintest) / s) with s = 0.05, or larger if the brightest
    cell would not fit. The sum of every shower is kept as it was; a cell is off by about half a step at most. Where no
    cell of a shower is above the faintest, its brightest ones keep the sum.

    Arguments:
        library: `ShowerLibrary`.
        path: file name ending in ".npz". The file appears complete or not at all.

    Example:
        >>> import tempfile
        >>> one = ShowerLibrary("zn", np.array([[22, 9.0, 0, 0, 0, 0]]), np.ones((1, 44, 44)), {"source": "example"})
        >>> name = Path(tempfile.mkdtemp()) / "showers.npz"
        >>> save_library(one, name)
        >>> load_library(name).metadata["source"]
        'example'
    """
    light = library.light
    step = max(LN_LIGHT_STEP, float(np.log(max(light.max(), FAINTEST_CELL) / FAINTEST_CELL)) / 254)
    with np.errstate(divide="ignore"):
        codes = np.clip(np.rint(np.log(light / FAINTEST_CELL) / step) + 1, 0, 255)
    codes[light < FAINTEST_CELL] = 0
    dark = ~codes.any(axis=(1, 2))  # showers of faint cells alone, the brightest of which take all the light
    codes[dark] = (light[dark] == light[dark].max(axis=(1, 2), keepdims=True)) & (light[dark] > 0)
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary, codes=codes.astype("uint8"), step=np.float64(step),
            primaries=library.primaries.astype("float32"),
            total=light.sum(axis=(1, 2), dtype="float64").astype("float32"),
            metadata=to_metadata(library.metadata, library.detector))


def load_library(path: str | Path) -> ShowerLibrary:
    """Read a library written by `save_library`.

    Arguments:
        path: file name.

    Returns:
        `ShowerLibrary`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is truncated, lacks an array, or holds impossible values.
    """
    codes, step, primaries, total, metadata = read_arrays(path, ("codes", "step", "primaries", "total", "metadata"))
    if codes.ndim != 3 or codes.dtype != np.uint8:
        raise ValueError(f"{path}: expected codes (N, bx, by) in uint8, received {codes.shape} in {codes.dtype}.")
    if total.shape != codes.shape[:1] or not np.isfinite(total).all() or (total < 0).any():
        raise ValueError(f"{path}: expected {len(codes)} finite non-negative sums, received {total.shape}.")
    metadata, name = from_metadata(metadata, path)
    table = np.exp(float(step) * np.arange(256))
    table[0] = 0.0
    light = table.astype("float32")[codes]
    summed = light.sum(axis=(1, 2), dtype="float64")
    light *= np.divide(total, summed, out=np.zeros_like(summed), where=summed > 0)[:, None, None].astype("float32")
    return ShowerLibrary(name, primaries, light, metadata)


def read_geant4(path: str | Path, name: str, metadata: dict | None = None) -> ShowerLibrary:
    """Read a raw file of tools/geant4_showers.py: arrays `expected` (N, bx, by) and `primaries` (N, 6).

    Arguments:
        path: npz file.
        name: detector the block is made of.
        metadata: dictionary to keep with it.

    Returns:
        `ShowerLibrary`.

    Raises:
        FileNotFoundError, ValueError: as `load_library`.
    """
    expected, primaries = read_arrays(path, ("expected", "primaries"))
    return ShowerLibrary(name, primaries, expected, metadata or {})


def packaged_library(name: Detector | str) -> ShowerLibrary:
    """The library shipped with the package for a detector.

    Arguments:
        name: `Detector` or its name.

    Returns:
        `ShowerLibrary`.

    Raises:
        ValueError: if none is shipped for that detector, naming those that have one.

    Example:
        >>> packaged_library("zn").light.shape[1:]
        (88, 88)
    """
    return read_packaged("showers", name, load_library)

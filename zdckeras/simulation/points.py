"""The library of points: Geant4 showers as points of energy around their axis, in a compact file."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from zdckeras.data.atomic import atomic_path
from zdckeras.data.detectors import Detector, get_detector
from zdckeras.data.particles import check_pdg
from zdckeras.simulation.archives import from_metadata, read_arrays, read_packaged, to_metadata

REACH = 60.0  # cm across, either side of the axis
DEPTH = 120.0  # cm along the axis
FAINTEST_POINT, LN_ENERGY_STEP = 0.002, 0.06  # MeV, and step of the logarithm; one byte reaches to 8 GeV
# Points are merged in cubes of `CUBE_SIZES` cm up to `CUBE_RADII` cm from the axis, `SLICE_DEPTHS` cm deep.
CUBE_RADII, CUBE_SIZES, SLICE_DEPTHS = (1.5, 5.0, 12.0), (0.5, 1.0, 2.0, 2.0), (3.6, 7.2, 14.4, 40.0)


@dataclass(frozen=True, eq=False)
class PointLibrary:
    """Showers of single particles that came in along the z axis, as points of deposited energy.

    Arguments:
        detector: name of the calorimeter.
        pdg: (N,) PDG ids.
        energy: (N,) total energies [GeV].
        points: (P, 4) float32: x, y, z [cm], z from the front face, and deposited energy [MeV]; shower after shower.
        counts: (N,) points of each shower.
        metadata: where the showers come from.

    Raises:
        ValueError: for shapes that do not belong together, NaN, energies that are not positive, unknown PDG ids.

    Example:
        >>> point = np.array([[0.1, 0.0, 5.0, 2.5]])
        >>> len(PointLibrary("ecal", np.array([11]), np.array([1.0]), point, np.array([1]), {}))
        1
    """

    detector: str
    pdg: np.ndarray
    energy: np.ndarray
    points: np.ndarray
    counts: np.ndarray
    metadata: dict

    def __post_init__(self):
        arrays = {"pdg": np.asarray(self.pdg, "int64"), "energy": np.asarray(self.energy, "float64"),
                  "points": np.asarray(self.points, "float32"), "counts": np.asarray(self.counts, "int64")}
        rows = len(arrays["pdg"])
        shapes = {name: values.shape for name, values in arrays.items()}
        total = int(arrays["counts"].sum())
        wanted = {"pdg": (rows,), "energy": (rows,), "points": (total, 4), "counts": (rows,)}
        if not rows or shapes != wanted or arrays["counts"].min() < 1:
            raise ValueError(f"Expected showers of at least one point each and shapes {wanted}, received {shapes}.")
        if not all(np.isfinite(values).all() for values in arrays.values()):
            raise ValueError("Expected finite points and energies, received NaN or infinity.")
        if arrays["energy"].min() <= 0 or arrays["points"][:, 3].min() <= 0:
            raise ValueError(f"Expected positive energies, received {arrays['energy'].min()} GeV and "
                             f"{arrays['points'][:, 3].min()} MeV.")
        check_pdg(arrays["pdg"])
        for name, values in {**arrays, "detector": get_detector(self.detector).name}.items():
            object.__setattr__(self, name, values)

    def __len__(self):
        return len(self.pdg)

    @property
    def first(self) -> np.ndarray:
        """Index (N,) of the first point of each shower."""
        return np.cumsum(self.counts) - self.counts

    def halves(self) -> "tuple[PointLibrary, PointLibrary]":
        """Every second shower and the others, by kind and energy: two libraries of independent showers, alike else.

        Example:
            >>> library = packaged_points("focalh")
            >>> first, second = map(len, library.halves())
            >>> first + second == len(library), first - second
            (True, 1)
        """
        order = np.lexsort([self.energy, self.pdg])
        return self.select(order[::2]), self.select(order[1::2])

    def select(self, which: np.ndarray) -> "PointLibrary":
        """The showers named by indices, as a library of their own.

        Arguments:
            which: (M,) indices, at least one.

        Raises:
            ValueError: for none.

        Example:
            >>> library = packaged_points("focalh")
            >>> one = library.select(np.array([3]))
            >>> len(one), bool(np.isclose(one.deposited[0], library.deposited[3]))
            (1, True)
        """
        which = np.arange(len(self))[which]
        if not len(which):
            raise ValueError("Expected at least one shower to select, received none.")
        spans = [np.arange(start, start + count) for start, count in zip(self.first[which], self.counts[which],
                                                                         strict=True)]
        return PointLibrary(self.detector, self.pdg[which], self.energy[which], self.points[np.concatenate(spans)],
                            self.counts[which], self.metadata)

    @property
    def deposited(self) -> np.ndarray:
        """Energy [MeV] that each shower leaves in the active material, (N,) float64."""
        return np.add.reduceat(self.points[:, 3].astype("float64"), self.first)


def merge_points(points: np.ndarray, radii: Sequence[float] = CUBE_RADII, sizes: Sequence[float] = CUBE_SIZES,
                 depths: Sequence[float] = SLICE_DEPTHS) -> np.ndarray:
    """Points (P, 4) with near ones taken together at their centre of energy: the energy and its centre are kept.

    Arguments:
        points: (P, 4) x, y, z [cm] and energy [MeV] of one shower.
        radii: up to which distances from the axis cubes have which size; one fewer than sizes and depths.
        sizes, depths: of cubes across and along the axis, in the unit of the points.

    Returns:
        (Q, 4) float64, Q <= P.

    Example:
        >>> merge_points(np.array([[0.1, 0.1, 1.0, 3.0], [0.3, 0.1, 1.0, 1.0], [9.0, 0.0, 1.0, 1.0]])).round(3).tolist()
        [[0.15, 0.1, 1.0, 4.0], [9.0, 0.0, 1.0, 1.0]]
    """
    points = np.asarray(points, "float64")
    level = np.searchsorted(radii, np.hypot(points[:, 0], points[:, 1]))
    size, depth = np.array(sizes)[level], np.array(depths)[level]
    key = np.column_stack([level, *np.floor(points[:, :2].T / size), np.floor(points[:, 2] / depth)]).astype("int64")
    _, group = np.unique(key, axis=0, return_inverse=True)
    energy = np.bincount(group.ravel(), points[:, 3])
    return np.column_stack([*(np.bincount(group.ravel(), points[:, 3] * c) / energy for c in points[:, :3].T), energy])


def merge_libraries(libraries: Iterable[PointLibrary]) -> PointLibrary:
    """One library out of several of one detector, shower after shower; the metadata is that of the first.

    Arguments:
        libraries: non-empty sequence of `PointLibrary`.

    Raises:
        ValueError: if there is nothing to merge, or detectors differ.
    """
    libraries = list(libraries)
    detectors = sorted({part.detector for part in libraries})
    if len(detectors) != 1:
        raise ValueError(f"Expected libraries of one detector, received {detectors}.")
    columns = (np.concatenate([getattr(part, name) for part in libraries])
               for name in ("pdg", "energy", "points", "counts"))
    return PointLibrary(detectors[0], *columns, libraries[0].metadata)


def read_points(path: str | Path, name: str, metadata: dict | None = None) -> PointLibrary:
    """Read a raw file of tools/geant4_points.py (in mm) and merge its points.

    Arguments:
        path: npz file with `points` (P, 4), `counts` (N,), `primaries` (N, 2), PDG id and energy [GeV], and
            `settings`, JSON with the detector and the slope of incidence.
        name: detector.
        metadata: dictionary to keep with it.

    Returns:
        `PointLibrary`.

    Raises:
        FileNotFoundError, ValueError: as `load_points`; ValueError also for another detector, showers that did not
            come in at a right angle, or none that left a point.
    """
    name = get_detector(name).name
    points, counts, primaries, settings = read_arrays(path, ("points", "counts", "primaries", "settings"))
    try:
        settings = json.loads(settings.item())
        made_for, slope = settings["detector"], settings.get("slope", 0.0)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(f"{path}: expected settings in JSON that name the detector.") from None
    if made_for != name:
        raise ValueError(f"{path}: expected showers of {name}, received {made_for}.")
    if slope:
        raise ValueError(f"{path}: expected showers at a right angle, received some of slope {slope}.")
    if points.shape != (int(counts.sum()), 4) or primaries.shape != (*counts.shape, 2):
        raise ValueError(f"{path}: expected {counts.sum()} points of {counts.size} showers, received {points.shape} "
                         f"points and {primaries.shape} primaries.")
    showers = np.split(points * (0.1, 0.1, 0.1, 1.0), np.cumsum(counts)[:-1])
    kept = [shower[(np.abs(shower[:, :2]) < REACH).all(axis=1) & (shower[:, 3] > FAINTEST_POINT)] for shower in showers]
    lit = [k for k, shower in enumerate(kept) if len(shower)]
    if not lit:
        raise ValueError(f"{path}: none of {len(counts)} showers left a point.")
    parts = [merge_points(kept[k]) for k in lit]
    return PointLibrary(name, primaries[lit, 0], primaries[lit, 1], np.concatenate(parts),
                        np.array([len(part) for part in parts]), metadata or {})


def save_points(library: PointLibrary, path: str | Path) -> None:
    """Write a library in four bytes a point: across, sign(x) sqrt(|x|) in steps of sqrt(60 cm) / 127 (0.1 cm at 1 cm);
    along, steps of 120 cm / 255; energy, steps of 6 % (each shower's sum is kept as it was).

    Arguments:
        library: `PointLibrary`.
        path: file name ending in ".npz". The file appears complete or not at all.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> point = np.array([[1.0, 0.0, 60.0, 2.5]])
        >>> name = Path(tempfile.mkdtemp()) / "points.npz"
        >>> save_points(PointLibrary("ecal", np.array([11]), np.array([1.0]), point, np.array([1]), {}), name)
        >>> [round(float(v), 2) for v in load_points(name).points[0]]
        [0.95, 0.0, 60.24, 2.5]
    """
    x, y, z, energy = library.points.T
    across = [np.rint(np.sign(c) * np.sqrt(np.minimum(np.abs(c), REACH) / REACH) * 127).astype("int8") for c in (x, y)]
    along = np.rint(np.clip(z / DEPTH, 0, 1) * 255).astype("uint8")
    codes = np.clip(np.rint(np.log(energy / FAINTEST_POINT) / LN_ENERGY_STEP), 0, 255).astype("uint8")
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary, x=across[0], y=across[1], z=along, codes=codes, counts=library.counts.astype("uint32"),
            pdg=library.pdg.astype("int32"), energy=library.energy.astype("float32"),
            deposited=library.deposited.astype("float32"),
            metadata=to_metadata(library.metadata, library.detector))


def load_points(path: str | Path) -> PointLibrary:
    """Read a library written by `save_points`; errors are those of `load_library`."""
    x, y, z, codes, counts, pdg, energy, deposited, metadata = read_arrays(
        path, ("x", "y", "z", "codes", "counts", "pdg", "energy", "deposited", "metadata"))
    if not x.shape == y.shape == z.shape == codes.shape == (int(counts.sum()),) or deposited.shape != counts.shape:
        raise ValueError(f"{path}: expected {counts.sum()} points of {len(counts)} showers, received {x.shape}, "
                         f"{y.shape}, {z.shape}, {codes.shape}, and {deposited.shape} sums.")
    metadata, name = from_metadata(metadata, path)
    across = [np.sign(c) * (np.abs(c.astype("float64")) / 127) ** 2 * REACH for c in (x, y)]
    value = FAINTEST_POINT * np.exp(LN_ENERGY_STEP * codes.astype("float64"))
    first = np.cumsum(counts, dtype="int64") - counts
    value *= np.repeat(deposited / np.add.reduceat(value, first), counts)
    points = np.column_stack([*across, z.astype("float64") / 255 * DEPTH, value])
    return PointLibrary(name, pdg, energy, points, counts, metadata)


@cache
def packaged_points(name: Detector | str) -> PointLibrary:
    """The library of points shipped with the package for a detector, read once.

    Arguments:
        name: `Detector` or its name.

    Returns:
        `PointLibrary`.

    Raises:
        ValueError: if none is shipped for that detector, naming those that have one.

    Example:
        >>> set(packaged_points("ecal").pdg.tolist())
        {11}
    """
    return read_packaged("points", name, load_points)

"""Test-beam guns, and responses of calorimeters of uniform structure: points of Geant4 showers, turned and moved."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from zdckeras.data.detectors import Detector, get_detector
from zdckeras.data.particles import COLUMN, MOMENTUM_COLUMNS, VERTEX_COLUMNS, check_pdg, conditions_of
from zdckeras.simulation.points import CUBE_RADII, SLICE_DEPTHS, PointLibrary, packaged_points
from zdckeras.simulation.primaries import repeat_conditions

NEAREST_IN_ENERGY = 40  # library showers nearest in energy, of which one is drawn; a twentieth of a smaller library
PARTICLES_AT_ONCE = 1000  # particles answered at once
ROUNDED = 0.01  # cm, by which particles that start on the face may seem to be behind it


@dataclass(frozen=True)
class Gun:
    """What is shot at a detector.

    Arguments:
        kinds: PDG id -> share.
        energy: lowest and highest total energy [GeV], uniform in the logarithm.
        face: half width [cm] of the square on the front face where particles start; None: all start at the
            interaction point.
        slope: largest |px / pz| and |py / pz|, uniform, for particles that start on the face.
        eta: lowest and highest pseudorapidity, uniform, for particles from the interaction point.
    """

    kinds: dict
    energy: tuple
    face: float | None = None
    slope: float = 0.0
    eta: tuple = (0.0, 0.0)


GUNS = {"ecal": Gun({11: 1.0}, (1.0, 100.0), face=10.0, slope=0.25),
        "focalh": Gun({211: 0.5, 2212: 0.5}, (25.0, 300.0), eta=(3.8, 5.3))}


def draw_gun(name: str, size: int, rng: int | np.random.Generator,
             repeated: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Particles of a detector's gun.

    Arguments:
        name: detector with a gun, see `GUNS`.
        size: number of rows.
        rng: NumPy generator or seed.
        repeated: share of the rows that belong to particles that occur 20 to 60 times, as in `draw_primaries`.

    Returns:
        conditions (N, 9) and pdg (N,) int32, in random order. The vertex is the point on the front face, or 0.

    Raises:
        ValueError: for a detector without a gun.

    Example:
        >>> conditions, pdg = draw_gun("ecal", 100, 1)
        >>> conditions.shape, sorted(set(pdg.tolist())), bool((abs(conditions[:, 1]) < 10).all())
        ((100, 9), [11], True)
    """
    name = get_detector(name).name
    if name not in GUNS:
        raise ValueError(f"{name!r} has no gun; expected one of {', '.join(GUNS)}.")
    gun, rng = GUNS[name], np.random.default_rng(rng)

    def draw(number):
        kinds, shares = np.array(list(gun.kinds)), np.array(list(gun.kinds.values()))
        pdg = rng.choice(kinds, number, p=shares / shares.sum()).astype("int32")
        energy = np.exp(rng.uniform(*np.log(gun.energy), number))
        mass = conditions_of(pdg, np.zeros((number, 3)))[:, COLUMN["energy"]]
        vertex = np.zeros((number, 3))
        if gun.face is None:
            azimuth, theta = rng.uniform(-np.pi, np.pi, number), 2 * np.arctan(np.exp(-rng.uniform(*gun.eta, number)))
            slopes = np.tan(theta)[:, None] * np.column_stack([np.cos(azimuth), np.sin(azimuth)])
        else:
            slopes = rng.uniform(-gun.slope, gun.slope, (number, 2))
            vertex = np.column_stack([rng.uniform(-gun.face, gun.face, (number, 2)),
                                      np.full(number, get_detector(name).distance)])
        direction = np.column_stack([slopes, np.ones(number)])
        direction *= (np.sqrt(energy**2 - mass**2) / np.linalg.norm(direction, axis=1))[:, None]
        return conditions_of(pdg, direction, vertex), pdg

    return repeat_conditions(draw, size, repeated, rng)


def flies_there(conditions: Any, detector: Detector) -> Any:
    """Whether particles (N, 9), an array or a tensor, fly towards a detector with a gun: ahead, and not from behind its
    face, (N,) booleans."""
    ahead, start = conditions[:, COLUMN["pz"]] > 0.0, conditions[:, COLUMN["vz"]]
    return ahead & (start <= detector.distance + ROUNDED)


class PointShowers:
    """Draws responses of a calorimeter of uniform structure to particles, from a library of Geant4 showers.

    A particle of energy E gets one of the (at most) 40 library showers of its kind nearest in energy, E_i. Its
    points are turned by a random angle around the axis, and the axis into the direction of flight; they start where
    the particle meets the front face, and their energies are multiplied by E / E_i. What lands in a cell is added
    up; what lies outside the detector is lost. As the structure looks the same from everywhere, this invents
    nothing: it takes layers and fibres as one mixed material where the shower comes in at an angle, and
    fluctuations as equal within some per cent of E (4 % in ECAL).

    Arguments:
        detector, library: as for `FrozenShowers`, but a `PointLibrary`.

    Example:
        >>> conditions, pdg = draw_gun("ecal", 2, 1)
        >>> response = PointShowers("ecal").respond(conditions, pdg, 1)
        >>> response.shape, response.dtype, bool(0.1 < response[0].sum() / conditions[0, 0] / 1000 < 0.25)
        ((2, 30, 30), dtype('float32'), True)
    """

    def __init__(self, detector: Detector | str, library: PointLibrary | None = None) -> None:
        self.detector = get_detector(detector)
        library = packaged_points(self.detector.name) if library is None else library
        if library.detector != self.detector.name:
            raise ValueError(f"Expected a library of {self.detector.name}, received one of {library.detector}.")
        self.library, self.first = library, library.first
        self.kinds = {}
        for code in np.unique(library.pdg).tolist():
            rows = np.flatnonzero(library.pdg == code)
            self.kinds[code] = rows[np.argsort(library.energy[rows], kind="stable")]

    def respond(self, conditions: np.ndarray, pdg: np.ndarray, rng: int | np.random.Generator) -> np.ndarray:
        """Energies that particles leave in the cells.

        Arguments:
            conditions: (N, 9) in the order of `zdckeras.data.particles.CONDITIONS`; those with pz <= 0, or that start
                behind the face, leave nothing.
            pdg: (N,) PDG ids, of kinds in the library.
            rng: seed or `np.random.Generator`.

        Returns:
            (N, nx, ny) float32 [MeV].

        Raises:
            ValueError: for arrays that do not belong together, NaN, kinds without showers, or energies beyond twice
                the library's.
        """
        conditions, pdg = np.asarray(conditions, "float64"), np.asarray(pdg)
        if conditions.ndim != 2 or conditions.shape[1] != len(COLUMN) or pdg.shape != conditions.shape[:1]:
            raise ValueError(f"Expected conditions (N, {len(COLUMN)}) and pdg (N,), received {conditions.shape} and "
                             f"{pdg.shape}.")
        if not np.isfinite(conditions).all():
            raise ValueError("Expected finite conditions, received NaN or infinity.")
        check_pdg(pdg)
        unknown = sorted(set(np.unique(pdg).tolist()) - set(self.kinds))
        if unknown:
            raise ValueError(f"No showers of PDG id(s) {unknown} in the library of {self.detector.name}, only of "
                             f"{sorted(self.kinds)}.")
        low, high = self.library.energy.min() / 2, self.library.energy.max() * 2
        energy = conditions[flies_there(conditions, self.detector), COLUMN["energy"]]
        if len(energy) and not (low <= energy.min() and energy.max() <= high):
            raise ValueError(f"Expected energies from {low:.3g} to {high:.3g} GeV, received {energy.min():.3g} to "
                             f"{energy.max():.3g}.")
        rng = np.random.default_rng(rng)
        response = np.zeros((len(pdg), self.detector.cells), "float32")
        for start in range(0, len(pdg), PARTICLES_AT_ONCE):
            rows = slice(start, start + PARTICLES_AT_ONCE)
            self._add(response[rows], conditions[rows], pdg[rows], rng)
        return response.reshape(-1, *self.detector.shape)

    def _draw(self, pdg, energy, rng):
        """Library shower of each particle, (N,)."""
        chosen = np.empty(len(pdg), "int64")
        for code, rows in self.kinds.items():
            mine = pdg == code
            window = min(NEAREST_IN_ENERGY, max(8, len(rows) // 20), len(rows))
            place = np.searchsorted(self.library.energy[rows], energy[mine]) - window // 2
            place = np.clip(place, 0, len(rows) - window)
            chosen[mine] = rows[place + rng.integers(0, window, mine.sum())]
        return chosen

    def _add(self, response, conditions, pdg, rng):
        """Add the points of every particle to its row of cells."""
        energy, detector = conditions[:, COLUMN["energy"]], self.detector
        shower, turn = self._draw(pdg, energy, rng), rng.uniform(0, 2 * np.pi, len(pdg))
        momentum = conditions[:, MOMENTUM_COLUMNS]
        ahead = momentum / np.maximum(np.linalg.norm(momentum, axis=1, keepdims=True), 1e-12)
        flight = (detector.distance - conditions[:, COLUMN["vz"]]) / np.maximum(ahead[:, 2], 1e-9)
        start = conditions[:, VERTEX_COLUMNS][:, :2] + flight[:, None] * ahead[:, :2] - (detector.centre_x, 0.0)
        # two axes across the direction of flight, turned at random
        side = np.cross(ahead, np.column_stack([-np.sin(turn), np.cos(turn), np.zeros(len(turn))]))
        side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-12)
        axes = np.stack([side, np.cross(ahead, side), ahead], axis=1).astype("float32")  # (N, 3 axes, 3)
        seen = np.flatnonzero(flies_there(conditions, detector))
        counts = self.library.counts[shower[seen]]
        owner = np.repeat(seen, counts)
        offset = np.cumsum(counts) - counts
        index = np.arange(len(owner)) - np.repeat(offset - self.first[shower[seen]], counts)
        points = self.library.points[index]
        x, y, z = np.einsum("pk,pkc->cp", points[:, :3], axes[owner])
        # a point stands for a slice in depth, which a slope spreads sideways
        depth = np.array(SLICE_DEPTHS, "float32")[np.searchsorted(CUBE_RADII, np.hypot(points[:, 0], points[:, 1]))]
        depth *= rng.uniform(-0.5, 0.5, len(points)).astype("float32")
        x, y = (c + depth * ahead[owner, k].astype("float32") for k, c in enumerate((x, y)))
        column, row = (np.floor((c + s[owner]) / detector.pitch + n / 2).astype("int64")
                       for c, s, n in zip((x, y), start.T.astype("float32"), detector.shape, strict=True))
        inside = (column >= 0) & (column < detector.shape[0]) & (row >= 0) & (row < detector.shape[1])
        inside &= (z >= 0) & (z <= detector.length)
        scale = energy / self.library.energy[shower]
        cell = owner[inside] * detector.cells + column[inside] * detector.shape[1] + row[inside]
        response += np.bincount(cell, (points[:, 3] * scale[owner])[inside], response.size).reshape(response.shape)

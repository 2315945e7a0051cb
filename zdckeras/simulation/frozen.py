"""Frozen showers: every arriving particle gets a Geant4 shower of its kind, near its energy, moved to its impact."""

from functools import cache

import numpy as np
from scipy.spatial import KDTree

from zdckeras.data.detectors import Detector, get_detector
from zdckeras.data.responses import MAXIMUM_COUNT
from zdckeras.simulation.library import ShowerLibrary, packaged_library
from zdckeras.simulation.response_fit import MESONS, PHOTON, SILENT, ResponseFit, shower_kind

# What counts as near: the unit of distance in log(energy) and in cells, the least and the greatest number of neighbours
# to draw from, and the distance up to which, between these numbers, all of them are.
ENERGY_UNIT = {"photon": 0.4, "hadron": 0.25}
CELL_UNIT = {"photon": 0.07, "hadron": 0.2}
NEAREST_SHOWERS = {"photon": (10, 10), "hadron": (24, 96)}
NEAR = {"photon": 0.0, "hadron": 1.5}
MESON_DISTANCE = 3.0  # between mesons and baryons, in the same unit
# Light lost at a real edge because particles that left do not come back: share, and range [cells]
# (tools/geant4_edges.py: neutrons in ZN and protons in ZP of 40 GeV, gammas of 30 GeV).
EDGE_LOSS = {"zn": {"photon": (0.18, 1.6), "hadron": (0.30, 2.5)}, "zp": {"photon": (0.22, 1.3), "hadron": (0.29, 3.1)}}
EDGE_REACH = 4.0  # ranges; impacts farther from an edge lose less than 1 % there
FAINTEST_RATIO = 0.02  # of the mean light; no shower gets less
HIGHEST_ENERGY = 1e5  # GeV; the brightest cell of one shower then stays below 65536 photons
ARRIVALS_AT_ONCE = 2048  # arrivals simulated at once


class _Pool:
    """The library's photons, or its hadrons, in a tree that finds those near an arriving particle."""

    def __init__(self, group, members, log_energy, folded, meson):
        self.members, self.units, self.within = members, (ENERGY_UNIT[group], CELL_UNIT[group]), NEAR[group]
        self.reach = log_energy[members].min(), log_energy[members].max()
        self.least, self.most = (min(count, len(members) - 1) for count in NEAREST_SHOWERS[group])
        self.tree = KDTree(self._points(log_energy[members], folded[members], meson[members]))

    def _points(self, log_energy, folded, meson):
        energy = np.clip(log_energy, *self.reach) / self.units[0]
        return np.column_stack([energy, folded / self.units[1], meson * MESON_DISTANCE])

    def near(self, log_energy, folded, meson):
        """Nearest showers (N, k) and their weights 1 - (d / d_last)^2, normalised; 0 beyond d_last.

        Where all but the first are as far away as d_last, the least number of neighbours have a share beside it.
        """
        distance, index = self.tree.query(self._points(log_energy, folded, meson), k=self.most + 1)
        last = np.clip(self.within, distance[:, self.least], distance[:, -1])[:, None]
        weight = np.maximum(1.0 - (distance[:, :-1] / np.maximum(last, 1e-9)) ** 2, 0.0)
        weight[:, 0] += 1e-9
        alone = weight[:, 1:].sum(axis=1) < 1e-9
        weight[alone, 1 : self.least] += 1e-9
        return self.members[index[:, :-1]], weight / weight.sum(axis=1, keepdims=True)


class _Frozen:
    """A library made ready for drawing: the fit, one pool a group, and all showers folded into one orientation.

    Mirrors, and in a square block the swap of x and y, bring the impact into the part 0 <= u_y (<= u_x) <= 1/2 of
    the cell, where u is measured from the fibre. There a particle and the showers are compared; the shower drawn is
    then mirrored as the particle was.
    """

    def __init__(self, library):
        self.detector = get_detector(library.detector)
        self.shape = np.array(self.detector.shape)
        block = np.array(library.light.shape[1:])
        self.square = block[0] == block[1]
        kind, energy = shower_kind(library.pdg, library.energy)
        centred = library.impact / self.detector.pitch
        offset = self.offset(centred + self.shape / 2)
        folded, sign, swap = self.fold(offset)
        self.impact = np.where(swap[:, None], (centred * sign)[:, ::-1], centred * sign)
        self.total = library.light.sum(axis=(1, 2), dtype="float64")
        self.fit = ResponseFit.fit(kind, energy, offset, self.total)
        mean, self.spread = self.fit(kind, energy, offset)
        self.deviation = self.total / (mean * energy) - 1.0
        self.pools = {
            group: _Pool(group, np.flatnonzero(which), np.log(energy), folded, np.isin(kind, MESONS))
            for group, which in (("photon", kind == PHOTON), ("hadron", kind != PHOTON))}
        shower, x, y = np.nonzero(library.light)
        self.light = library.light[shower, x, y]
        self.start = np.searchsorted(shower, np.arange(len(library) + 1))
        # From the block's centre in half cells, so that a mirrored cell is a cell.
        cell = (2 * np.stack([x, y], axis=1) + 1 - block) * sign[shower]
        cell = np.where(swap[shower, None], cell[:, ::-1], cell).astype("int16")
        self.x, self.y = cell.T.reshape(-1), cell[:, ::-1].T.reshape(-1)  # as it is, then with x and y swapped

    @staticmethod
    def offset(position):
        """Impact relative to the fibre of its cell, in [-1/2, 1/2) cells, for positions [cells] from the corner."""
        return np.mod(position, 1.0) - 0.5

    def fold(self, offset):
        """Offset mirrored into the common part of the cell (N, 2), the signs (N, 2) and swaps (N,) that do it."""
        sign = np.where(offset < 0, -1, 1)
        folded = np.abs(offset)
        swap = self.square & (folded[:, 1] > folded[:, 0])
        return np.where(swap[:, None], folded[:, ::-1], folded), sign, swap

    def draw(self, kind, energy, position, rng):
        """One shower a particle: index and factor to its light (N,)."""
        shower, factor, chance = np.zeros(len(kind), "int64"), np.zeros(len(kind)), rng.random(len(kind))
        offset = self.offset(position)
        folded = self.fold(offset)[0]
        mean, spread = self.fit(kind, energy, offset)
        log_energy = np.log(np.maximum(energy, 1e-9))
        for group, pool in self.pools.items():
            one = np.flatnonzero((kind == PHOTON) if group == "photon" else (kind != PHOTON) & (kind != SILENT))
            if not len(one):
                continue
            near, weight = pool.near(log_energy[one], folded[one], np.isin(kind[one], MESONS))
            deviation = self.deviation[near] * spread[one, None] / self.spread[near]
            deviation -= (weight * deviation).sum(axis=1, keepdims=True)
            deviation /= np.sqrt(1.0 - (weight**2).sum(axis=1, keepdims=True))
            column = (np.cumsum(weight[:, :-1], axis=1) < chance[one, None]).sum(axis=1)
            rows = np.arange(len(one))
            shower[one] = near[rows, column]
            ratio = np.maximum(1.0 + deviation[rows, column], FAINTEST_RATIO)
            factor[one] = mean[one] * energy[one] * ratio / np.maximum(self.total[shower[one]], 1e-9)
        return shower, factor

    def cells(self, kind, shower, factor, position):
        """Lit cells inside the detector, all particles in a row: particle, flat cell index, expected light."""
        _, sign, swap = self.fold(self.offset(position))
        impact = np.where(swap[:, None], self.impact[shower, ::-1], self.impact[shower]) * sign
        corner = self.shape - 1 + 2 * np.rint(position - self.shape / 2 - impact).astype("int64")
        length = np.diff(self.start)[shower]
        first = self.start[shower] - np.cumsum(length) + length
        total, rows = int(length.sum()), len(self.light)

        def per_cell(values, dtype):
            return np.repeat(values.astype(dtype), length)

        entry = per_cell(first, "int32") + np.arange(total, dtype="int32")
        turned = entry + per_cell(swap * rows, "int32")
        x, y = ((side[turned] * per_cell(sign[:, axis], "int16") + per_cell(corner[:, axis], "int16")) >> 1
                for axis, side in enumerate((self.x, self.y)))
        nx, ny = self.detector.shape
        # As unsigned numbers, cells below 0 are above the last.
        inside = np.flatnonzero((x.view("uint16") < nx) & (y.view("uint16") < ny))
        particle = per_cell(np.arange(len(shower)), "int32")[inside]
        x, y = x[inside].astype("int32"), y[inside].astype("int32")
        light = self.light[entry[inside]] * factor.astype("float32")[particle]
        self.lose(light, kind, particle, (x, y), position)
        return particle, x * ny + y, light

    def lose(self, light, kind, particle, cell, position):
        """Take away the light of particles that came back from beyond an edge: 1 - a (1 + 4 d c / (r^2 + b^2))^-4.

        d and c are the distances of impact and cell to the edge, r that between impact and cell: the light at the
        mirror image of the cell behind the edge, relative to that of the cell, would be a steep function of
        r^2 + 4 d c over r^2.
        """
        if self.detector.name not in EDGE_LOSS:
            return
        loss = EDGE_LOSS[self.detector.name]
        share, reach = np.where(kind[:, None] == PHOTON, loss["photon"], loss["hadron"]).astype("float32").T
        place = position.astype("float32")
        for axis, size in enumerate(self.detector.shape):
            for far in (False, True):
                distance = size - place[:, axis] if far else place[:, axis]
                entry = np.flatnonzero((distance < EDGE_REACH * reach)[particle])
                one = particle[entry]
                x, y = (cell[k][entry] + np.float32(0.5) for k in (0, 1))
                away = (x - place[one, 0]) ** 2 + (y - place[one, 1]) ** 2 + reach[one] ** 2
                depth = (x, y)[axis]
                ratio = 1 + 4 * distance[one] * (size - depth if far else depth) / away
                ratio *= ratio
                light[entry] *= 1 - share[one] / (ratio * ratio)


@cache
def _packaged(name):
    """The library shipped for a detector, read and prepared once."""
    return _Frozen(packaged_library(name))


class FrozenShowers:
    """Draws responses of a calorimeter to arriving particles from a library of Geant4 showers.

    A particle of kind k that can put E_s into a shower, at the point u of a cell, gets one of the nearest library
    showers i (in log E_s, in u after a mirror or rotation, and among mesons or baryons), drawn with weight
    w_i = 1 - (d_i / d_last)^2, normalised; d_last is NEAR, or farther where there are too few (NEAREST_SHOWERS), or
    nearer where there are too many. Its light is

        l = m(k, E_s, u) E_s (1 + (q_i - sum_n w_n q_n) / sqrt(1 - sum_n w_n^2)) l_i / L_i,
        q_i = (L_i / (m_i E_i) - 1) s(k, E_s) / s_i,

    where m and s are the smooth fits of mean and relative spread (`ResponseFit`) and L_i is the summed light of the
    library shower: the mean is the fit's, and the spread does not suffer from the small number of neighbours. The
    shower is moved by whole cells, cut at the detector's edge, and loses there the light of particles that had been
    outside (EDGE_LOSS). Photon counts are Poisson with that expectation.
    A particle that does not hit the front face leaves no light.

    Arguments:
        detector: `Detector` or its name; its packaged library is read once.
        library: `ShowerLibrary` to use in place of the packaged one.

    Raises:
        ValueError: if no library is shipped for the detector, or `library` is of another one.

    Example:
        >>> zn = FrozenShowers("zn")
        >>> response = zn.respond([0, 0, 2], [2112, 22, 22], [900.0, 50.0, 300.0], [0.3, -1, 9], [0, 1, 0], 3, rng=1)
        >>> response.shape, response.dtype, (response.sum(axis=(1, 2)) > 0).tolist()
        ((3, 44, 44), dtype('uint16'), [True, False, False])
    """

    def __init__(self, detector: Detector | str, library: ShowerLibrary | None = None) -> None:
        self.detector = get_detector(detector)
        if library is not None and library.detector != self.detector.name:
            raise ValueError(f"Expected a library of {self.detector.name}, received one of {library.detector}.")
        self._frozen = _packaged(self.detector.name) if library is None else _Frozen(library)

    def _check(self, pdg, energy, x, y):
        """Kind, shower energy and position [cells from the corner]; silent where the face is missed."""
        pdg, energy = np.asarray(pdg), np.asarray(energy, "float64")
        xy = np.stack([np.asarray(x, "float64"), np.asarray(y, "float64")], axis=-1)
        if pdg.ndim != 1 or energy.shape != pdg.shape or xy.shape != (*pdg.shape, 2):
            raise ValueError(f"Expected pdg, energy, x and y of one length, received shapes {pdg.shape}, "
                             f"{energy.shape}, {xy.shape[:-1]}.")
        if not ((energy >= 0) & (energy <= HIGHEST_ENERGY)).all():
            raise ValueError(f"Expected energies from 0 to {HIGHEST_ENERGY:.0f} GeV, received NaN, negative or larger.")
        if not np.isfinite(xy).all():
            raise ValueError("Expected finite impact points [cm], received NaN or infinity.")
        kind, available = shower_kind(pdg, energy)
        position = xy / self.detector.pitch + self._frozen.shape / 2
        hit = ((position >= 0) & (position < self.detector.shape)).all(axis=1) & (available > 0)
        return np.where(hit, kind, SILENT), available, position

    def _draw(self, kind, energy, position, rng):
        """In chunks: particles that leave light, the showers they get; and particle, cell, light of each lit cell."""
        for first in range(0, len(kind), ARRIVALS_AT_ONCE):
            part = slice(first, first + ARRIVALS_AT_ONCE)
            lit = np.flatnonzero(kind[part] != SILENT) + first
            if len(lit):
                shower, factor = self._frozen.draw(kind[lit], energy[lit], position[lit], rng)
                particle, cell, light = self._frozen.cells(kind[lit], shower, factor, position[lit])
                yield lit, shower, lit[particle], cell, light

    def expected_light(self, pdg: np.ndarray, energy: np.ndarray, x: np.ndarray, y: np.ndarray,
                       rng: int | np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Expected photons per cell of single particles, before the Poisson step.

        Arguments:
            pdg, energy, x, y, rng: as in `respond`.

        Returns:
            (N, nx, ny) float32, and (N,) the index in the library of the shower that was used, -1 where none was.
        """
        kind, energy, position = self._check(pdg, energy, x, y)
        light = np.zeros((len(kind), self.detector.cells), "float32")
        used = np.full(len(kind), -1)
        for lit, shower, particle, cell, value in self._draw(kind, energy, position, np.random.default_rng(rng)):
            light[particle, cell], used[lit] = value, shower
        return light.reshape(-1, *self.detector.shape), used

    def respond(self, primary: np.ndarray, pdg: np.ndarray, energy: np.ndarray, x: np.ndarray, y: np.ndarray, size: int,
                rng: int | np.random.Generator) -> np.ndarray:
        """Photon counts of primaries, the light of all particles that arrive from one of them added.

        Arguments:
            primary: (N,) index of the primary, 0 to size - 1, that each arriving particle comes from.
            pdg: (N,) PDG ids.
            energy: (N,) total energies [GeV].
            x, y: (N,) impact on the front face [cm], relative to the detector's centre.
            size: number of primaries; those without arriving particles get an empty response.
            rng: seed or `np.random.Generator`.

        Returns:
            (size, nx, ny) uint16.

        Raises:
            ValueError: for arrays of different length, NaN, negative energies, indices outside 0 to size - 1, or
                ids that no showers stand for; or for more than 65,535 photons in a cell, of arrivals of one primary
                together.
        """
        primary, rng = np.asarray(primary), np.random.default_rng(rng)
        kind, energy, position = self._check(pdg, energy, x, y)
        if primary.shape != kind.shape or primary.size and (primary.min() < 0 or primary.max() >= size):
            raise ValueError(f"Expected {len(kind)} indices of primaries from 0 to {size - 1}, received shape "
                             f"{primary.shape} from {primary.min(initial=0)} to {primary.max(initial=0)}.")
        response = np.zeros((size, self.detector.cells), "int32")
        for _, _, particle, cell, light in self._draw(kind, energy, position, rng):
            photons = rng.poisson(light)
            some = photons > 0
            np.add.at(response.reshape(-1), primary[particle[some]] * self.detector.cells + cell[some],
                      photons[some].astype("int32"))
        if response.max(initial=0) > MAXIMUM_COUNT:
            row = int(np.argmax(response.max(axis=1)))
            raise ValueError(f"Expected at most {MAXIMUM_COUNT} photons in a cell of {self.detector.name}, made "
                             f"{response[row].max()} of what arrives from primary {row}.")
        return response.astype("uint16").reshape(size, *self.detector.shape)

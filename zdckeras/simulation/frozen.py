"""Frozen showers: every arriving particle gets a Geant4 shower of its kind, near its energy, moved to its impact."""

from functools import cache

import numpy as np
from scipy.spatial import KDTree

from zdckeras.detectors import detector
from zdckeras.simulation.library import packaged_library
from zdckeras.simulation.response_fit import KINDS, MESONS, PHOTON, SILENT, ResponseFit, shower_kind

# What counts as near: the unit of distance in log(energy) and in cells, and the number of neighbours to draw from.
ENERGY_UNIT = {"photon": 1.0, "hadron": 0.25}
CELL_UNIT = {"photon": 0.05, "hadron": 0.15}
NEIGHBOURS = {"photon": 12, "hadron": 48}
MESON_DISTANCE = 2.0  # between mesons and baryons, in the same unit
HIGHEST_ENERGY = 1e5  # GeV; the brightest cell then stays below 65536 photons
CHUNK = 2048  # arrivals simulated at once

# Symmetries of a square: (swap x and y, sign of x, sign of y). A block that is not square has the first four.
SYMMETRIES = np.array([(swap, x, y) for swap in (0, 1) for x in (1, -1) for y in (1, -1)])


def _images(symmetries, xy):
    """Images (S, N, 2) of points or cells xy (N, 2), measured from the block's centre."""
    return np.where(symmetries[:, None, :1] == 1, xy[None, :, ::-1], xy[None]) * symmetries[:, None, 1:]


def _offset(position):
    """Impact relative to the fibre of its cell, in [-1/2, 1/2) cells, for positions [cells] from a cell's corner."""
    return np.mod(position, 1.0) - 0.5


class _Pool:
    """The library's photons, or its hadrons, under all symmetries, in a tree that finds those near a particle."""

    def __init__(self, group, members, symmetries, impact, log_energy, meson, half):
        self.units = ENERGY_UNIT[group], CELL_UNIT[group]
        self.reach = log_energy[members].min(), log_energy[members].max()
        self.count = min(NEIGHBOURS[group], len(members) - 1)
        self.shower = np.tile(members, len(symmetries))
        self.symmetry = np.repeat(np.arange(len(symmetries)), len(members))
        self.impact = _images(symmetries, impact[members]).reshape(-1, 2) + half
        points = self._points(log_energy[self.shower], self.impact, meson[self.shower])
        self.tree = KDTree(points, boxsize=[0, 1 / self.units[1], 1 / self.units[1], 0])

    def _points(self, log_energy, position, meson):
        cell = np.mod(np.mod(position, 1.0), 1.0) / self.units[1]  # twice, as mod(-1e-17, 1) is 1
        energy = np.clip(log_energy, *self.reach) / self.units[0]
        return np.column_stack([energy, cell, meson * MESON_DISTANCE])

    def near(self, log_energy, position, meson):
        """Nearest candidates (N, k) and their weights 1 - (d / d_last)^2, normalised."""
        points = self._points(log_energy, position, meson)
        distance, candidate = self.tree.query(points, k=self.count + 1)
        weight = 1.0 + 1e-9 - (distance[:, :-1] / np.maximum(distance[:, -1:], 1e-9)) ** 2
        return candidate[:, :-1], weight / weight.sum(axis=1, keepdims=True)


class _Frozen:
    """A library made ready for drawing: the fit, one pool a group, lit cells under every symmetry."""

    def __init__(self, library):
        self.where = detector(library.detector)
        self.half = np.array(self.where.shape) / 2
        block = np.array(library.light.shape[1:])
        symmetries = SYMMETRIES if block[0] == block[1] else SYMMETRIES[:4]
        kind, energy = shower_kind(library.pdg, library.energy)
        self.total = library.light.sum(axis=(1, 2), dtype="float64")
        log_energy, impact = np.log(energy), library.impact / self.where.pitch
        offset = _offset(impact + self.half)
        self.fit = ResponseFit.fit(kind, energy, offset, self.total)
        mean, self.spread = self.fit(kind, energy, offset)
        self.deviation = self.total / (mean * energy) - 1.0
        self.pools = {
            group: _Pool(group, np.flatnonzero(which), symmetries, impact, log_energy, np.isin(kind, MESONS), self.half)
            for group, which in (("photon", kind == PHOTON), ("hadron", kind != PHOTON))}
        shower, x, y = np.nonzero(library.light)
        self.light = library.light[shower, x, y]
        self.start = np.searchsorted(shower, np.arange(len(library) + 1))
        # From the block's centre in half cells, so that a mirrored cell is a cell.
        centred = 2 * np.stack([x, y], axis=1) + 1 - block
        self.cell = ((_images(symmetries, centred) + np.array(self.where.shape) - 1) // 2).astype("int16")
        self.local = {k: self._local(k) for k in KINDS}

    def _deviation(self, shower, spread):
        """Relative deviations of showers from the mean, stretched to the spread at the particle's energy."""
        return self.deviation[shower] * spread / self.spread[shower]

    def _local(self, kind, energies=48, positions=8):
        """Mean deviation of what would be drawn, uniformly over the cell, on a grid of log energy."""
        pool = self.pools["photon" if kind == PHOTON else "hadron"]
        grid = np.linspace(*pool.reach, energies)
        u = (np.arange(positions) + 0.5) / positions
        position = np.tile(np.stack(np.meshgrid(u, u), axis=-1).reshape(-1, 2), (energies, 1))
        log_energy = np.repeat(grid, positions**2)
        kinds = np.full(len(log_energy), kind)
        candidate, weight = pool.near(log_energy, position, np.isin(kinds, MESONS))
        mean, spread = self.fit(kinds, np.exp(log_energy), _offset(position))
        deviation = (weight * self._deviation(pool.shower[candidate], spread[:, None])).sum(axis=1)
        mean, deviation = mean.reshape(energies, -1), deviation.reshape(energies, -1)
        return grid, (mean * deviation).sum(axis=1) / mean.sum(axis=1)

    def draw(self, kind, energy, position, rng):
        """One shower a particle: index, symmetry, factor to its light, each (N,), and shift [cells] (N, 2)."""
        count = len(kind)
        shower, symmetry, factor = np.zeros(count, "int64"), np.zeros(count, "int64"), np.zeros(count)
        shift, chance = np.zeros((count, 2), "int64"), rng.random(count)
        mean, spread = self.fit(kind, energy, _offset(position))
        log_energy = np.log(np.maximum(energy, 1e-9))
        for group, pool in self.pools.items():
            one = np.flatnonzero((kind == PHOTON) if group == "photon" else (kind != PHOTON) & (kind != SILENT))
            if not len(one):
                continue
            candidate, weight = pool.near(log_energy[one], position[one], np.isin(kind[one], MESONS))
            column = (np.cumsum(weight[:, :-1], axis=1) < chance[one, None]).sum(axis=1)
            chosen = candidate[np.arange(len(one)), column]
            shower[one], symmetry[one] = pool.shower[chosen], pool.symmetry[chosen]
            shift[one] = np.rint(position[one] - pool.impact[chosen])
            local = np.zeros(len(one))
            for k in np.unique(kind[one]):
                local[kind[one] == k] = np.interp(log_energy[one][kind[one] == k], *self.local[k])
            ratio = np.maximum(1.0 + self._deviation(shower[one], spread[one]) - local, 0.02)
            factor[one] = mean[one] * energy[one] * ratio / np.maximum(self.total[shower[one]], 1e-9)
        return shower, symmetry, factor, shift

    def cells(self, shower, symmetry, factor, shift):
        """Lit cells inside the detector, all particles in a row: particle, flat cell index, expected light."""
        length = np.diff(self.start)[shower]
        particle = np.repeat(np.arange(len(shower)), length)
        entry = np.arange(len(particle)) + np.repeat(self.start[shower] - np.cumsum(length) + length, length)
        cell = self.cell[symmetry[particle], entry] + shift.astype("int16")[particle]
        inside = ((cell >= 0) & (cell < np.array(self.where.shape, "int16"))).all(axis=1)
        particle, entry, cell = particle[inside], entry[inside], cell[inside].astype("int32")
        return particle, cell[:, 0] * self.where.shape[1] + cell[:, 1], self.light[entry] * factor[particle]


@cache
def _packaged(name):
    """The library shipped for a detector, read and prepared once."""
    return _Frozen(packaged_library(name))


class FrozenShowers:
    """Draws responses of a calorimeter to arriving particles from a library of Geant4 showers.

    A particle of kind k that can put E_s into a shower, at the point u of a cell, gets one of the nearest library
    showers i (in log E_s, in u after a mirror or rotation, and among mesons or baryons), drawn with weight
    1 - (d_i / d_last)^2. Its light is

        l_ij = m(k, E_s, u) E_s (1 + [s(k, E_s) / s_i] r_i - <r>) l_ij(library) / L_i,   r_i = L_i / (m_i E_i) - 1,

    where m and s are the smooth fits of mean and relative spread (`ResponseFit`), L_i is the summed light of the
    shower, and <r> is the mean of the bracket's second term over the cell, so that the mean is the fit's. The shower
    is moved by whole cells and cut at the detector's edge. Photon counts are Poisson with that expectation.
    A particle that does not hit the front face leaves no light.

    Arguments:
        where: detector or its name; its packaged library is read once.
        library: `ShowerLibrary` to use in place of the packaged one.

    Raises:
        ValueError: if no library is shipped for the detector, or `library` is of another one.

    Example:
        >>> zn = FrozenShowers("zn")
        >>> response = zn.respond([0, 0, 2], [2112, 22, 22], [900.0, 50.0, 300.0], [0.3, -1, 9], [0, 1, 0], 3, rng=1)
        >>> response.shape, response.dtype, (response.sum(axis=(1, 2)) > 0).tolist()
        ((3, 44, 44), dtype('uint16'), [True, False, False])
    """

    def __init__(self, where, library=None):
        self.detector = detector(where)
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
        position = xy / self.detector.pitch + self._frozen.half
        hit = ((position >= 0) & (position < self.detector.shape)).all(axis=1) & (available > 0)
        return np.where(hit, kind, SILENT), available, position

    def _draw(self, kind, energy, position, rng):
        """In chunks: particles that leave light, the showers they get; and particle, cell, light of each lit cell."""
        for first in range(0, len(kind), CHUNK):
            part = slice(first, first + CHUNK)
            lit = np.flatnonzero(kind[part] != SILENT) + first
            if len(lit):
                shower, *placed = self._frozen.draw(kind[lit], energy[lit], position[lit], rng)
                particle, cell, light = self._frozen.cells(shower, *placed)
                yield lit, shower, lit[particle], cell, light

    def expected_light(self, pdg, energy, x, y, rng):
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

    def respond(self, primary, pdg, energy, x, y, size, rng):
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
                ids that no showers stand for.
        """
        primary, rng = np.asarray(primary), np.random.default_rng(rng)
        kind, energy, position = self._check(pdg, energy, x, y)
        if primary.shape != kind.shape or primary.size and (primary.min() < 0 or primary.max() >= size):
            raise ValueError(f"Expected {len(kind)} indices of primaries from 0 to {size - 1}, received shape "
                             f"{primary.shape} from {primary.min(initial=0)} to {primary.max(initial=0)}.")
        response = np.zeros((size, self.detector.cells), "uint16")
        for _, _, particle, cell, light in self._draw(kind, energy, position, rng):
            photons = rng.poisson(light)
            some = photons > 0
            np.add.at(response.reshape(-1), primary[particle[some]] * self.detector.cells + cell[some],
                      photons[some].astype("uint16"))
        return response.reshape(size, *self.detector.shape)

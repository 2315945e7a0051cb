"""Transport as a layer: a particle flies, decays, is bent, and arrives as showering particles on a detector's face."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from zdckeras import backend
from zdckeras.backend import Tensor
from zdckeras.data.detectors import get_detector
from zdckeras.data.particles import COLUMN, KAONS, KNOWN, LEFT_OPEN, TRANSPORTED, transported
from zdckeras.simulation.decays import branchings, properties
from zdckeras.simulation.response_fit import FITTED_KINDS, SILENT, shower_kind
from zdckeras.simulation.transport import FIELD, INVISIBLE, dipole_kick

MODES = 3  # decay modes of a species, at most
NUMBERS = 4  # uniform numbers of a decay: length of flight, mode, polar and azimuthal angle
SIGNS = np.array([[1.0], [-1.0]], "float32")  # of the momenta of two daughters in the rest frame
STABLE = 1e30  # c tau / M [cm/GeV] of what does not decay on the way


class _Tables(NamedTuple):
    """Properties of species, a row each; the last row is of particles that are not seen."""

    basic: np.ndarray  # mass [GeV], charge [e], c tau / M [cm/GeV]
    fractions: np.ndarray  # of MODES decay modes, cumulative
    daughters: np.ndarray  # a row for each mode: first, second daughter, their momentum in the rest frame [GeV]
    known: np.ndarray  # mass [MeV] and charge of TRANSPORTED
    shower: np.ndarray  # index of the kind in FITTED_KINDS, -1 for none; energy that the mass takes away or adds [GeV]


@cache
def tables() -> _Tables:
    """The tables of `Transport`, from those of the reference simulation."""
    unseen = len(KNOWN)
    mass, charge, length = (np.append(column, last) for column, last in zip(properties(KNOWN), (0, 0, np.inf),
                                                                             strict=True))
    reach = np.where(np.isfinite(length), length / np.maximum(mass, 1e-9), STABLE)
    modes = np.zeros((unseen + 1, MODES, 4))
    modes[unseen, :, 0] = 2.0
    for row, code in enumerate(KNOWN):
        total = 0.0
        for k, (fraction, pair) in enumerate(branchings(code)):
            total += fraction
            first, second = (unseen if d in INVISIBLE else KNOWN.index(d) for d in pair)
            m1, m2, m = mass[first], mass[second], mass[row]
            momentum = np.sqrt(max((m**2 - (m1 + m2) ** 2) * (m**2 - (m1 - m2) ** 2), 0.0)) / (2 * m)
            modes[row, k] = total, first, second, momentum
        modes[row, len(branchings(code)) - 1 :, 0] = 2.0  # the last mode takes the rest
    kind, energy = shower_kind(KNOWN, np.full(len(KNOWN), 100.0))
    index = [-1 if k == SILENT else FITTED_KINDS.index(k) for k in kind]
    shower = np.stack([[*index, -1], [*(energy - 100.0), 0.0]], axis=1)
    return _Tables(*(np.asarray(table, "float32") for table in
                     (np.stack([mass, charge, reach], axis=1), modes[:, :, 0], modes[:, :, 1:].reshape(-1, 3),
                      transported(), shower)))


class Arrivals(NamedTuple):
    """What arrives of each particle, (B, A) each: up to A showering particles, those that are not there of kind -1.

    Arguments:
        kind: int32 index in `zdckeras.simulation.response_fit.FITTED_KINDS`, -1 for none.
        energy: that goes into the shower [GeV].
        x, y: impact from the detector's centre [cm].
    """

    kind: Tensor
    energy: Tensor
    x: Tensor
    y: Tensor


class _Flight(NamedTuple):
    """Particles on their way: species (B, n), place [cm] and momentum [GeV] (B, 3, n) with pz > 0."""

    species: Tensor
    place: Tensor
    momentum: Tensor


@keras.saving.register_keras_serializable("zdckeras")
class Transport(layers.Layer):
    """Particles at the interaction point to arrivals on the front face of a detector, by noise that comes in.

    The physics of `zdckeras.simulation.transport.transport`, in operations that any graph has: straight flight, decays
    in flight after L = -ln(1 - u) c tau p / M with the branchings of the simulation, isotropic two-body decays boosted
    along the parent, the kick of the dipole in proportion to the part of it that is crossed, up to three decays one
    after another. What starts behind the face leaves nothing. Species are told by mass and charge, which the nine
    conditions hold: a neutral kaon is then a K0S or a K0L by chance, and a neutral antibaryon its particle, unless the
    PDG id is given; of ids that it does not know, as those of nuclei, nothing arrives. The sides A and C are treated
    alike.

    Arguments:
        detector: name.
        levels: decays one after another, at most.
        short: chance of a neutral kaon of unknown id to be a K0S.
        kick: factor on the dipole's kick; other than 1 to see what a wrong beam optics costs.
        shift: (x, y) of the detector from where it should be [cm]; other than 0 to see what a wrong survey costs.

    Returns:
        call((B, 9) conditions, (B, `numbers`) uniform numbers in (0, 1), (B,) PDG ids or None) gives `Arrivals` with
        A = 2^levels.

    Example:
        >>> layer = Transport("zn")
        >>> photon = np.array([[900.0, 0, 0, 0, 0.05, 0, 900.0, 0, 0]], "float32")
        >>> arrivals = layer(photon, np.full((1, layer.numbers), 0.5, "float32"))
        >>> [round(float(v[0, 0]), 2) for v in (arrivals.kind, arrivals.energy, arrivals.x)]
        [0.0, 900.0, 0.63]
    """

    def __init__(self, detector: str, levels: int = 3, short: float = 0.5, kick: float = 1.0,
                 shift: Sequence[float] = (0.0, 0.0), **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.detector, self.levels, self.short = get_detector(detector), levels, float(short)
        self.kick, self.shift = float(kick), tuple(map(float, shift))
        self.slots, self.numbers = 2**levels, NUMBERS * (2**levels - 1) + 1
        self.built = True

    def identify(self, conditions, uniform, pdg=None):
        """Row of each particle in the table of species, (B,) int32: of its id, the last row (not seen) for ids that the
        table lacks; where the id is not told, of the nearest in mass and charge."""
        mass, charge = (conditions[:, COLUMN[name]] for name in ("mass", "charge"))
        known, (short, long) = tables().known, (TRANSPORTED.index(code) for code in KAONS)
        distance = ops.abs(ops.subtract(mass[:, None], known[:, 0])) + 1e4 * ops.abs(
            ops.subtract(charge[:, None], known[:, 1]))
        nearest = ops.cast(ops.top_k(-distance, 1)[1][:, 0], "int32")
        kaon = (nearest == short) | (nearest == long)
        nearest = ops.where(kaon, ops.where(uniform < self.short, short, long), nearest)
        if pdg is None:
            return nearest
        told, codes = ops.cast(pdg, "int32")[:, None], np.array(KNOWN, "int32")
        same = ops.cast(ops.equal(told, codes), "int32")
        row = len(codes) + ops.sum(ops.multiply(same, np.arange(len(codes), dtype="int32") - len(codes)), axis=1)
        return ops.where(ops.any(ops.equal(told, np.array(LEFT_OPEN, "int32")), axis=1), nearest, row)

    def _propagate(self, flight, charge, z):
        """Where particles are at planes z, and with what momentum: `zdckeras.simulation.transport.propagate`."""
        low, high = FIELD
        (x, y, start), (px, py, pz) = (ops.unstack(vector, axis=1) for vector in flight[1:])
        enter, leave = ops.clip(start, low, high), ops.clip(z, low, high)
        inside = leave - enter
        kick = charge * inside * (self.kick * dipole_kick() / (high - low))
        way = z - start
        bend = px * way + kick * (0.5 * inside + z - leave)
        bent = ops.sqrt(ops.maximum(ops.square(pz) - kick * (2.0 * px + kick), 0.0))
        return flight._replace(place=ops.stack([x + bend / pz, y + py * way / pz, z], axis=1),
                               momentum=ops.stack([px + kick, py, bent], axis=1))

    def _decay(self, flight, uniform):
        """One generation on: (B, n) particles and (B, 4, n) numbers give (B, 2 n), second daughters behind the first.

        What does not decay before the detector is carried there, with nothing as its second daughter. Also which ones
        decay, (B, n).
        """
        n, unseen = flight.species.shape[1], len(tables().basic) - 1
        mass, charge, reach = ops.unstack(backend.rows_at(tables().basic, flight.species), axis=2)
        length, mode, polar, azimuth = ops.unstack(uniform, axis=1)
        stop = flight.place[:, 2] - ops.log1p(-length) * reach * flight.momentum[:, 2]
        decays = stop < self.detector.distance
        there = self._propagate(flight, charge, ops.minimum(stop, self.detector.distance))
        fractions = backend.rows_at(tables().fractions, flight.species)
        below = ops.cast(mode[:, :, None] >= fractions, "int32")  # cumulative, so modes before the drawn one
        drawn = backend.rows_at(tables().daughters, flight.species * MODES + ops.sum(below, axis=2))
        daughters = ops.cast(ops.transpose(drawn[:, :, :2], (0, 2, 1)), "int32")
        q, cosine, azimuth = drawn[:, :, 2], 2.0 * polar - 1.0, 2.0 * np.pi * azimuth
        sine = ops.sqrt(ops.maximum(1.0 - cosine * cosine, 0.0))
        direction = ops.stack([sine * ops.cos(azimuth), sine * ops.sin(azimuth), cosine], axis=1)
        away = direction * q[:, None]
        energy = ops.sqrt(ops.sum(ops.square(there.momentum), axis=1) + ops.square(mass))
        along = ops.multiply((ops.sum(there.momentum * away, axis=1) / (energy + mass))[:, None], SIGNS)
        rest = ops.sqrt(ops.square(q)[:, None] + ops.square(backend.rows_at(tables().basic[:, 0], daughters)))
        boost = (along + rest) / ops.maximum(mass, 1e-6)[:, None]
        moved = ops.multiply(away[:, :, None], SIGNS) + there.momentum[:, :, None] * boost[:, None]  # (B, 3, 2, n)
        ahead, passed, decays = moved[:, 2:] > 0.0, decays, decays[:, None]
        kept = ops.stack([there.species, ops.full_like(there.species, unseen)], axis=1)
        species = ops.where(decays, ops.where(ahead[:, 0], daughters, unseen), kept)
        momentum = ops.where(decays[:, None], ops.where(ahead, moved, 1.0), there.momentum[:, :, None])
        place = ops.concatenate([there.place, there.place], axis=2)
        return _Flight(ops.reshape(species, (-1, 2 * n)), place, ops.reshape(momentum, (-1, 3, 2 * n))), passed

    def call(self, conditions, uniform, pdg=None):
        conditions = ops.cast(conditions, "float32")
        side = ops.where(conditions[:, 6:7] < 0.0, -1.0, 1.0)
        mirror = ops.concatenate([ops.ones_like(side), ops.ones_like(side), side], axis=1)
        place, momentum = conditions[:, 1:4] * mirror, conditions[:, 4:7] * mirror
        momentum = ops.concatenate([momentum[:, :2], ops.maximum(momentum[:, 2:], 1e-6)], axis=1)
        species = self.identify(conditions, uniform[:, 0], pdg)
        species = ops.where(place[:, 2] < self.detector.distance, species, len(tables().basic) - 1)  # born behind it
        flight = _Flight(species[:, None], place[:, :, None], momentum[:, :, None])
        flight, decays = self._generation(flight, uniform, 0)

        def daughters():
            later = flight
            for level in range(1, self.levels):
                later, _ = self._generation(later, uniform, level)
            return later

        def none():
            times = self.slots // 2
            unseen = ops.full_like(ops.tile(flight.species, (1, times - 1)), len(tables().basic) - 1)
            return _Flight(ops.concatenate([flight.species, unseen], axis=1),
                           *(ops.tile(vector, (1, 1, times)) for vector in flight[1:]))

        if self.levels > 1:
            flight = ops.cond(ops.any(decays), daughters, none) if backend.is_compact() else daughters()
        return self._arrive(flight)

    def _generation(self, flight, uniform, level):
        """`_decay` of the 2^level particles of a level, with their share of the numbers."""
        n = 2**level
        start = 1 + NUMBERS * (n - 1)
        return self._decay(flight, ops.reshape(uniform[:, start : start + NUMBERS * n], (-1, NUMBERS, n)))

    def _arrive(self, flight):
        """`Arrivals` of what hits the face."""
        mass, charge, _ = ops.unstack(backend.rows_at(tables().basic, flight.species), axis=2)
        kind, shift = ops.unstack(backend.rows_at(tables().shower, flight.species), axis=2)
        there = self._propagate(flight, charge, ops.full_like(mass, self.detector.distance))
        x, y = there.place[:, 0] - (self.detector.centre_x + self.shift[0]), there.place[:, 1] - self.shift[1]
        half_x, half_y = self.detector.half_size
        energy = ops.sqrt(ops.sum(ops.square(there.momentum), axis=1) + ops.square(mass)) + shift
        hit = (ops.abs(x) < half_x) & (ops.abs(y) < half_y) & (there.momentum[:, 2] > 0.0) & (kind >= 0.0)
        hit = hit & (energy > 0.0)
        return Arrivals(ops.cast(ops.where(hit, kind, -1.0), "int32"), ops.where(hit, energy, 1.0),
                        ops.where(hit, x, 0.0), ops.where(hit, y, 0.0))

    def get_config(self):
        return {**super().get_config(), "detector": self.detector.name, "levels": self.levels, "short": self.short,
                "kick": self.kick,
                "shift": self.shift}

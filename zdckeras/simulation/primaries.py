"""Forward particles at the interaction point: a table of generated ones, spectator nucleons, and repeated draws."""

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from zdckeras.data.atomic import is_npz, open_npz
from zdckeras.data.particles import check_pdg, conditions_of
from zdckeras.simulation.decays import properties
from zdckeras.simulation.transport import BEAM_ENERGY

TABLE = Path(__file__).with_name("data") / "primaries.npz"
FERMI_MOMENTUM = 0.265  # of lead [GeV]; Moniz et al., Phys. Rev. Lett. 26 (1971) 445
PROTON_SHARE = 82 / 208  # of the nucleons in lead
VERTEX_DEVIATION = (4.15e-6, 4.42e-6, 0.0245)  # in the real training set [cm]
COPIES = (20, 60)  # how often a repeated condition occurs

# The sample is drawn by importance: a particle of the table counts E to this power, times a factor for its species.
# Both were chosen so that the particles that light up ZN resemble the real training set (AliceO2, ZDC fastsimulation
# scales) and that the rarer species fill a table of their own. At a given species and energy, angles are the
# generator's; its spectra and shares come back when the weights are divided out.
ENERGY_POWER = 1.0
EMPHASIS = {22: 20.0, 3122: 6.0, 310: 27.0, 130: 13.0, 3222: 21.0}
SPECTATORS = 0.11  # share of the draws


@dataclass(frozen=True)
class PrimaryTable:
    """Generated particles: columns (K,) of `pt` and `pz` [GeV] and `pdg`, cumulated draw weights, and metadata."""

    pt: np.ndarray
    pz: np.ndarray
    pdg: np.ndarray
    cumulative: np.ndarray
    metadata: dict


@cache
def load_table(path: str | Path = TABLE) -> PrimaryTable:
    """Read a table of forward particles that `tools/make_primaries.py` wrote.

    The weight of row i is w_i = g(species) E^a / kept(species), with a = `ENERGY_POWER`, g = `EMPHASIS` (1 for others)
    and the share of the species that the tool kept.

    Arguments:
        path: npz file; the packaged table (Pythia 8.317, pp at 5.36 TeV) by default.

    Returns:
        `PrimaryTable`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged or not such a table.

    Example:
        >>> table = load_table()
        >>> table.metadata["generator"], bool(table.pz.min() > 0)
        ('Pythia', True)
    """
    try:
        if not is_npz(path):
            raise ValueError("no npz archive, empty, truncated or of another kind")
        with open_npz(path) as file:
            pt, pz, pdg = (file[name] for name in ("pt", "pz", "pdg"))
            metadata = json.loads(str(file["metadata"]))
    except (KeyError, BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise ValueError(f"{path} is not a readable table of primaries (pt, pz, pdg, metadata): {error}") from error
    if not (pt.shape == pz.shape == pdg.shape and pt.ndim == 1 and len(pt)):
        raise ValueError(f"{path}: expected equally long columns, received {pt.shape}, {pz.shape}, {pdg.shape}.")
    check_pdg(pdg)
    pt, pz, pdg = pt.astype("float64"), pz.astype("float64"), pdg.astype("int32")
    codes, inverse = np.unique(pdg, return_inverse=True)
    kept = metadata["kept"]
    factor = np.array([EMPHASIS.get(int(code), 1.0) / kept.get(str(code), 1.0) for code in codes])[inverse]
    weight = factor * np.sqrt(pt**2 + pz**2 + properties(pdg)[0] ** 2) ** ENERGY_POWER
    cumulative = np.cumsum(weight)
    return PrimaryTable(pt, pz, pdg, cumulative / cumulative[-1], metadata)


def draw_generated(size: int, rng: np.random.Generator, path: str | Path = TABLE) -> tuple[np.ndarray, np.ndarray]:
    """Draw particles from the table, with replacement, each turned to a new azimuth.

    Arguments:
        size: number of particles.
        rng: NumPy generator.
        path: see `load_table`.

    Returns:
        momentum (size, 3) with pz > 0 [GeV] and pdg (size,) int32.

    Example:
        >>> momentum, pdg = draw_generated(3, np.random.default_rng(0))
        >>> momentum.shape, bool((momentum[:, 2] > 0).all())
        ((3, 3), True)
    """
    table = load_table(path)
    rows = np.searchsorted(table.cumulative, rng.random(size), side="right")
    azimuth = rng.uniform(0, 2 * np.pi, size)
    pt = table.pt[rows]
    return np.column_stack([pt * np.cos(azimuth), pt * np.sin(azimuth), table.pz[rows]]), table.pdg[rows]


def draw_spectators(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw spectator nucleons of lead: Fermi motion, p uniform in a sphere of p_F = 265 MeV/c, boosted to the beam.

    pz = gamma (p_z* + beta E*), gamma = E_beam / <E*>, so that the mean energy is the beam's 2680 GeV.

    Arguments:
        size: number of nucleons.
        rng: NumPy generator.

    Returns:
        momentum (size, 3) with pz > 0 [GeV] and pdg (size,) int32, protons and neutrons as 82 to 126.

    Source: Fermi momentum from quasi-elastic electron scattering, Moniz et al., Phys. Rev. Lett. 26 (1971) 445.

    Example:
        >>> momentum, pdg = draw_spectators(1000, np.random.default_rng(0))
        >>> sorted(set(pdg.tolist())), bool(abs(momentum[:, 2].mean() / 2680 - 1) < 0.02)
        ([2112, 2212], True)
    """
    pdg = np.where(rng.random(size) < PROTON_SHARE, 2212, 2112).astype("int32")
    direction = rng.normal(size=(size, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    momentum = direction * (FERMI_MOMENTUM * np.cbrt(rng.random((size, 1))))
    mass = np.where(pdg == 2212, *(properties([code])[0][0] for code in (2212, 2112)))
    energy = np.sqrt((momentum**2).sum(axis=1) + mass**2)
    gamma = BEAM_ENERGY / (mass + 0.3 * FERMI_MOMENTUM**2 / mass)  # <p^2> = 3/5 p_F^2
    momentum[:, 2] = gamma * momentum[:, 2] + np.sqrt(gamma**2 - 1) * energy
    return momentum, pdg


def draw_primaries(size: int, rng: int | np.random.Generator, repeated: float = 0.5, spectators: float = SPECTATORS,
                   path: str | Path = TABLE) -> tuple[np.ndarray, np.ndarray]:
    """Draw primaries as a training set has them: conditions and species, some conditions many times.

    N conditions c = (E, v, p, m, q): a share of spectators, the rest from the table by weight, v from a normal
    distribution. Of 1,000,000 such primaries (seeds 5 and 6), the 33 % that bring more than 40 GeV to ZN have (real
    training set in brackets) energy 1218 +- 905 GeV (1367 +- 1260), pz -20 +- 1517 GeV (39 +- 1858), px and py
    +- 0.158 and 0.159 GeV (0.235, 0.258), mass 390 +- 468 MeV (354 +- 455), charge 0.027 +- 0.166 e (0.063 +- 0.257);
    gamma 57 %, n 28 %, Lambda 5.6 %, K0S 3.7 %, K0L 3.1 %, Sigma+ 2.8 %. Particles wider than 0.7 mrad
    are not in the packaged table: with one out to 3.5 mrad they were 0.8 % of those that light up ZN. Neutral ones at
    1.2 to 3.3 mrad, which point at ZP, are taken as stopped by the apertures of the magnets.

    Arguments:
        size: number of rows N.
        rng: NumPy generator or seed; different generators give independent draws of the same process.
        repeated: share of the rows that belong to conditions that occur 20 to 60 times (the last one may be cut
            short), so that the diversity per condition is defined; the rest occur once.
        spectators: share of the conditions that are beam-energy spectator nucleons, the rest come from the table.
        path: see `load_table`.

    Returns:
        conditions (N, 9) float64 in the order of `particles.CONDITIONS`, flying to either side with equal
        probability, and pdg (N,) int32, in random order.

    Raises:
        ValueError: for a negative size, or shares outside [0, 1].

    Example:
        >>> conditions, pdg = draw_primaries(1000, 1)
        >>> conditions.shape, pdg.dtype, len(np.unique(conditions, axis=0)) < 530
        ((1000, 9), dtype('int32'), True)
    """
    if int(size) != size or size < 0:
        raise ValueError(f"Expected a number of primaries of at least 0, received {size}.")
    for name, share in (("repeated", repeated), ("spectators", spectators)):
        if not 0 <= share <= 1:
            raise ValueError(f"Expected a share `{name}` in [0, 1], received {share}.")
    rng = np.random.default_rng(rng)

    def draw(distinct):
        from_beam = int(rng.binomial(distinct, spectators))
        parts = draw_generated(distinct - from_beam, rng, path), draw_spectators(from_beam, rng)
        momentum, pdg = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        momentum[:, 2] *= rng.choice([-1.0, 1.0], distinct)
        vertex = rng.normal(size=(distinct, 3)) * VERTEX_DEVIATION
        return np.asarray(conditions_of(pdg, momentum, vertex), "float64"), pdg

    return repeat_conditions(draw, int(size), repeated, rng)


def repeat_conditions(draw: Callable, size: int, repeated: float,
                      rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a data set in which some conditions occur 20 to 60 times, the last one perhaps cut short, others once.

    Arguments:
        draw: function of a number n that draws conditions (n, 9) and pdg (n,).
        size: number of rows N.
        repeated: share of the rows that belong to repeated conditions.
        rng: NumPy generator.

    Returns:
        conditions (N, 9) and pdg (N,), in random order.
    """
    copied = round(size * repeated)
    copies = rng.integers(COPIES[0], COPIES[1] + 1, -(-copied // COPIES[0]))
    occurs = np.concatenate([copies, np.ones(size - copied, "int64")])
    before = np.cumsum(copies) - copies
    occurs[: len(copies)] = np.clip(copied - before, 0, copies)
    occurs = occurs[occurs > 0]
    conditions, pdg = draw(len(occurs))
    mixed = rng.permutation(len(occurs))  # so that single and repeated conditions have the same mixture
    rows = rng.permutation(np.repeat(mixed, occurs))
    return conditions[rows], pdg[rows]

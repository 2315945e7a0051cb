"""Particles that can be: on their mass shell, with the mass and charge of their PDG id, and the likely cause if not."""

import warnings
from functools import cache

import numpy as np

from zdckeras.data.particles import COLUMN, CONDITIONS, MOMENTUM_COLUMNS, VERTEX_COLUMNS, pdg_of, species, unknown_ids

SHELL = 1e-3  # relative to the energy; [GeV] too, for particles at rest
MASS, MASS_FLOOR = 2e-3, 0.05  # relative, and [MeV]: what tables of different years differ by
WIDTHS = 10.0  # of a resonance, by which a generator may move its mass
HIGHEST = 1e4  # GeV a nucleon: 1.5 times the beam of the LHC
FARTHEST = 1e6  # cm from the interaction point
NUCLEON = 931.494  # MeV, the mass of a nucleus per A
BINDING = 3e-3  # of it, by which heavy nuclei differ; light ones and those with strangeness by more
SHARE = 0.01  # of rows that may have ids which are in no table
NAMED = 5  # rows and ids in a message
MEV = 1e-3
SHORT, UNTOLD = 310, 0  # ids of a K0S, and of a neutral kaon that may be a K0S or a K0L
FIRST = "the PDG id looks to be the first column, expected it last"


@cache
def _known(code):
    """(mass [MeV], tolerance [MeV], charge [e], nucleons) of an id; NaN where the table does not say."""
    try:
        particle = species(code)
    except ValueError:
        particle = None
    nucleus = _nucleus(code)
    nucleons = max(nucleus[1], 1) if nucleus else 1
    if particle is not None and (particle.mass is not None or not nucleus):
        mass = particle.mass or 0.0
        return mass, MASS * mass + MASS_FLOOR + WIDTHS * (particle.width or 0.0), float(particle.charge), nucleons
    if nucleus is None:
        return np.nan, np.nan, np.nan, 1
    mass = NUCLEON * nucleons
    return mass, (BINDING if nucleons >= 50 and not nucleus[2] else 0.1) * mass, float(nucleus[0]), nucleons


def _nucleus(code):
    """(Z, A, number of Lambdas) behind the id 10LZZZAAAI of a nucleus, or None."""
    digits = str(abs(code))
    if len(digits) != 10 or not digits.startswith("10"):
        return None
    strange, charge, nucleons = int(digits[2]), int(digits[3:6]), int(digits[6:9])
    return (charge if code > 0 else -charge, nucleons, strange) if 0 < nucleons >= charge + strange else None


def nucleus_charges(pdg: np.ndarray) -> np.ndarray:
    """Charges [e] (N,) that the ids of nuclei say themselves.

    Raises:
        ValueError: for the id of something else.

    Example:
        >>> nucleus_charges(np.array([1000822081, -1010010030])).tolist()
        [82.0, -1.0]
    """
    codes = np.asarray(pdg).astype("int64").tolist()
    if others := [code for code in codes if _nucleus(code) is None]:
        raise ValueError(f"Unknown PDG id(s) {sorted(set(others))[:NAMED]}: expected ids of the `particle` package's "
                         "table or of nuclei.")
    return np.array([float(_nucleus(code)[0]) for code in codes])


def likely_ids(particles: np.ndarray) -> np.ndarray:
    """PDG ids of particles known by mass and charge alone, see `pdg_of`; 0 for neutral kaons, with a warning.

    K0S and K0L have one mass and charge, and a K0L reaches a calorimeter where a K0S decays: id 0 says that it may be
    either, and generators that take ids then choose by chance.

    Arguments:
        particles: (N, 9) conditions.

    Raises:
        ValueError: as `pdg_of`.

    Example:
        >>> from zdckeras.data.particles import conditions_of
        >>> likely_ids(conditions_of(np.array([22, 2112]), np.ones((2, 3)))).tolist()
        [22, 2112]
    """
    pdg = pdg_of(particles)
    kaons = pdg == SHORT
    if kaons.any():
        warnings.warn(f"Neutral kaons without PDG ids, which tell K0S from K0L: {kaons.sum()} of {len(pdg)} rows get "
                      f"id {UNTOLD} and are taken for either by chance.", stacklevel=4)
    return np.where(kaons, UNTOLD, pdg).astype("int32")


def are_ids(pdg: np.ndarray) -> bool:
    """Whether all of an array are whole numbers, of a size that PDG ids have.

    Example:
        >>> are_ids(np.array([2112.0, 22.0])), are_ids(np.array([2112.0, 22.6])), are_ids(np.array(["n"]))
        (True, False, False)
    """
    return pdg.dtype.kind in "iuf" and bool(np.all((pdg == np.rint(pdg)) & (np.abs(pdg) < 2**31)))


def check_ids(pdg: np.ndarray) -> None:
    """Refuse PDG ids (N,) that are no whole numbers.

    Raises:
        ValueError: in one line.

    Example:
        >>> check_ids(np.array([2112.0, 22.6]))
        Traceback (most recent call last):
        ValueError: expected whole numbers as PDG ids, received [2112.0, 22.6].
    """
    if not are_ids(pdg):
        raise ValueError(f"expected whole numbers as PDG ids, received {pdg[:NAMED].tolist()}.")


def check_particles(particles: np.ndarray, pdg: np.ndarray) -> None:
    """Refuse particles that cannot be; tell the first rows and, where one change mends nearly all, the likely cause.

    Checked: E > 0 and at most 10 TeV a nucleon; E^2 = p^2 + m^2 within 0.1 % of E; vertices within 10 km; mass and
    charge those of the id, where the table of the `particle` package knows it. Ids of nuclei that the table lacks
    (excited ones, hypernuclei) are kept, with a warning that names them; so are others in up to 1 % of the rows. Id 0
    is that of a neutral kaon which may be a K0S or a K0L.

    Arguments:
        particles: (N, 9) finite conditions.
        pdg: (N,) whole numbers.

    Raises:
        ValueError: in one line.

    Example:
        >>> from zdckeras.data.particles import conditions_of
        >>> pdg = np.array([2112, 22])
        >>> particles = conditions_of(pdg, np.array([[0.0, 0.0, 2680.0], [0.0, 0.1, 50.0]]))
        >>> check_particles(particles, pdg)
        >>> particles[:, 0] *= 1000
        >>> check_particles(particles, pdg)
        Traceback (most recent call last):
        ValueError: particles: expected E^2 = p^2 + m^2, received 2 of 2 otherwise (rows 0, 1; the first has energy
        2.68e+06, px 0, py 0, pz 2680, mass 939.6, charge 0, id 2112): energies look like MeV, expected GeV.
    """
    pdg = np.asarray(pdg).astype("int64")
    pdg = np.where((pdg == UNTOLD) & _kaons(particles), SHORT, pdg)
    unknown = unknown_ids(pdg)
    strange = [code for code in unknown if _nucleus(code) is None]
    if (rows := np.isin(pdg, strange).sum()) > SHARE * len(pdg):
        cause = _cause(particles, pdg, of_ids=True)
        raise ValueError(f"Unknown PDG id(s) {strange[:NAMED]} in {rows} of {len(pdg)} rows: expected ids of the "
                         f"`particle` package's table{f'; {cause}' if cause else ''}.")
    wrong = _faults(particles, pdg)
    what = max(wrong, key=lambda name: wrong[name].sum())
    if wrong[what].any():
        cause, rows = _cause(particles, pdg), np.flatnonzero(wrong[what])
        first = ", ".join(f"{name} {particles[rows[0], COLUMN[name]]:.4g}" for name in CONDITIONS if name[0] != "v")
        raise ValueError(f"particles: expected {what}, received {len(rows)} of {len(pdg)} otherwise (rows "
                         f"{', '.join(map(str, rows[:NAMED]))}{', ...' if len(rows) > NAMED else ''}; the first has "
                         f"{first}, id {pdg[rows[0]]}){f': {cause}' if cause else ''}.")
    if unknown:
        warnings.warn(f"PDG ids that the table of the `particle` package lacks, kept as species of their own: "
                      f"{', '.join(map(str, unknown[:NAMED]))}{', ...' if len(unknown) > NAMED else ''} "
                      f"({np.isin(pdg, unknown).sum()} of {len(pdg)} rows).", stacklevel=4)


def _kaons(particles):
    """Which particles have the mass and charge of a neutral kaon."""
    mass, tolerance, charge, _ = _known(SHORT)
    mass, charge = (particles[:, COLUMN[name]] - value for name, value in (("mass", mass), ("charge", charge)))
    return (np.abs(mass) <= tolerance) & (np.abs(charge) <= 0.01)


def _faults(particles, pdg):
    """What is expected -> mask of the rows where it is not so."""
    codes, inverse = np.unique(pdg, return_inverse=True)
    mass, tolerance, charge, nucleons = np.array([_known(int(code)) for code in codes]).T[:, inverse.reshape(-1)]
    energy, given, told = (particles[:, COLUMN[name]] for name in ("energy", "mass", "charge"))
    momentum = np.hypot(np.hypot(*particles[:, MOMENTUM_COLUMNS].T[:2]), particles[:, COLUMN["pz"]])
    light, heavy = np.hypot(momentum, MEV * given), np.hypot(momentum, given)  # on the shell, and if it were in MeV
    shell = np.abs(energy - light) > SHELL * (energy + 1.0)
    tells = (heavy - light > 1e-5 * energy) & (given > 0)
    in_mev = tells & (np.abs(energy - heavy) < np.abs(energy - light))
    in_mev &= in_mev.sum() > 0.9 * tells.sum()
    lengthwise = np.abs(particles[:, COLUMN["pz"]]) > energy * (1.0 + 1e-6)
    known = np.isfinite(mass)
    return {
        "energies above 0": energy <= 0,
        "vertices within 10 km": np.abs(particles[:, VERTEX_COLUMNS]).max(axis=1) > FARTHEST,
        "masses of at least 0": given < 0,
        "E^2 = p^2 + m^2": shell | lengthwise,
        "energies and momenta in GeV": in_mev | (energy > HIGHEST * nucleons),
        "the charge of the PDG id": np.where(known, np.abs(told - charge) > 0.01,
                                             (np.abs(told) > 120) | (told != np.rint(told))),
        "the mass of the PDG id [MeV]": known & (np.abs(given - mass) > tolerance),
    }


def _cause(particles, pdg, of_ids=False):
    """The one change, of ids alone if asked for, after which nearly all rows are right, in words, or None."""
    def scaled(names, factor):
        changed = particles.copy()
        changed[:, [COLUMN[name] for name in names]] *= factor
        return changed, pdg

    def swapped():
        changed = particles.copy()
        changed[:, COLUMN["energy"]], changed[:, COLUMN["pz"]] = particles[:, COLUMN["pz"]], particles[:, 0]
        changed[:, 0] = np.abs(changed[:, 0])
        return changed, pdg

    def rolled():
        ids = particles[:, 0]
        return np.column_stack([particles[:, 1:], pdg]), np.where(np.abs(ids) < 2**31, np.rint(ids), 0).astype("int64")

    def kinetic():
        changed = particles.copy()
        changed[:, 0] += MEV * particles[:, COLUMN["mass"]]
        return changed, pdg

    momenta = ("px", "py", "pz")
    changes = {
        "energies look like MeV, expected GeV": lambda: scaled(["energy"], MEV),
        "energies and momenta look like MeV, expected GeV": lambda: scaled(["energy", *momenta], MEV),
        "momenta look like MeV, expected GeV": lambda: scaled(momenta, MEV),
        "masses look like GeV, expected MeV": lambda: scaled(["mass"], 1e3),
        "energy and pz look swapped": swapped,
        FIRST: rolled,
        "energies look kinetic, expected total ones": kinetic,
    }
    for text, change in ({FIRST: rolled} if of_ids else changes).items():
        if np.any(list(_faults(*change()).values()), axis=0).mean() < 0.1:
            return text
    heavy = np.abs(pdg) > 2**24
    if heavy.any() and (pdg[heavy] % 64 == 0).all():
        return "ids of nuclei look rounded to float32, which holds whole numbers up to 16,777,216"
    return None

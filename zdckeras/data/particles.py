"""The nine condition columns with their units, the species behind a PDG id, and the standard scaler."""

import warnings
from dataclasses import dataclass
from functools import cache

import numpy as np
from hepunits import GeV, MeV, cm
from particle import InvalidParticle, Particle, ParticleNotFound

CONDITIONS = ("energy", "vx", "vy", "vz", "px", "py", "pz", "mass", "charge")
UNITS = {"energy": GeV, "vx": cm, "vy": cm, "vz": cm, "px": GeV, "py": GeV, "pz": GeV, "mass": MeV, "charge": 1.0}
UNIT_NAMES = ("GeV", "cm", "cm", "cm", "GeV", "GeV", "GeV", "MeV", "e")
COLUMN = {name: index for index, name in enumerate(CONDITIONS)}
CONDITION_COUNT = len(CONDITIONS)
VERTEX_COLUMNS, MOMENTUM_COLUMNS = slice(1, 4), slice(4, 7)  # columns

# Species that tables show on their own where there are enough, those of the distillation study in its order.
SPECIES = {"gamma": 22, "n": 2112, "p": 2212, "pi+": 211, "Lambda": 3122, "K0S": 310, "K0L": 130, "Sigma+": 3222}

# What reaches forward detectors, the more frequent first.
FREQUENT = (22, 2112, 2212, 211, -211, 310, 321, -321, 3122, 3222, 3112, 3322, 3312, -2212, -3222, -3112, -3312, 11,
            -11, 13, -13)

# Ids whose mass and charge other species have, too: neutral kaons those of each other, antibaryons of their particles.
KAONS = (310, 130)  # K0S and K0L
NEUTRAL_ANTI = (-2112, -3122, -3212, -3322)
NEUTRINOS = (12, -12, 14, -14, 16, -16)  # which have those of the photon

# Species that transports tell apart by mass and charge, all that they know by id, which NEUTRINOS, that leave nothing,
# are not, and ids that leave it to mass and charge: 0 and those of a K0.
TRANSPORTED = (22, 2112, 2212, 130, 211, -211, 310, 3122, 3222, 111, 11, -11, 13, -13, -2212, 321, -321, 3112, 3212,
               3322, 3312, 3334, -3222, -3112, -3312, -3334)
KNOWN = (*TRANSPORTED, *NEUTRAL_ANTI)
LEFT_OPEN = (0, 311, -311)


@cache
def species(pdg: int) -> Particle:
    """The `particle.Particle` of one PDG id.

    Arguments:
        pdg: PDG Monte-Carlo id.

    Returns:
        The `Particle` (mass in MeV, charge in e, lifetime in ns).

    Raises:
        ValueError: if the id is not in the PDG table.

    Example:
        >>> species(2112).name, species(3122).mass > species(2112).mass
        ('n', True)
    """
    try:
        return Particle.from_pdgid(int(pdg))
    except (ParticleNotFound, InvalidParticle, ValueError, OverflowError):
        raise ValueError(f"Unknown PDG id {pdg}: it is not in the table of the `particle` package.") from None


def name_of(pdg: int, latex: bool = False) -> str:
    """What a species is called; the id itself where the table of the `particle` package lacks it.

    Example:
        >>> name_of(2112), name_of(3122, latex=True), name_of(1000822071)
        ('n', '$\\\\Lambda$', '1000822071')
    """
    try:
        particle = species(pdg)
    except ValueError:
        return str(int(pdg))
    return f"${particle.latex_name}$" if latex else particle.name


def unknown_ids(pdg: np.ndarray) -> list[int]:
    """PDG ids that the table lacks, each once.

    Example:
        >>> unknown_ids(np.array([22, 1010010030, 2112]))
        [1010010030]
    """
    unknown = []
    for code in map(int, np.unique(pdg).tolist()):
        try:
            species(code)
        except ValueError:
            unknown.append(code)
    return unknown


def check_pdg(pdg: np.ndarray) -> None:
    """Raise ValueError unless every PDG id of an array is known; the message lists the unknown ones."""
    if unknown := unknown_ids(pdg):
        raise ValueError(f"Unknown PDG id(s) {unknown[:10]}: expected ids of the `particle` package's table.")


def conditions_of(pdg: np.ndarray, momentum: np.ndarray, vertex: np.ndarray | None = None) -> np.ndarray:
    """Condition vectors (E, v, p, m, q) of particles on their mass shell, E^2 = p^2 + m^2.

    Arguments:
        pdg: (N,) PDG ids.
        momentum: (N, 3) px, py, pz [GeV].
        vertex: (N, 3) production point [cm]; the origin by default.

    Returns:
        (N, 9) float64 in the order of `CONDITIONS`.

    Raises:
        ValueError: for an unknown id.

    Example:
        >>> conditions_of(np.array([22]), np.array([[0.0, 3.0, 4.0]]))[0, [0, 7]].tolist()
        [5.0, 0.0]
    """
    pdg, momentum = np.asarray(pdg), np.asarray(momentum, "float64")
    check_pdg(pdg)
    codes, inverse = np.unique(pdg, return_inverse=True)
    mass = np.array([species(int(c)).mass or 0.0 for c in codes])[inverse]
    charge = np.array([float(species(int(c)).charge) for c in codes])[inverse]
    vertex = np.zeros_like(momentum) if vertex is None else np.asarray(vertex, "float64")
    energy = np.sqrt((momentum**2).sum(axis=1) + (mass * MeV / GeV) ** 2)
    return np.column_stack([energy, vertex, momentum, mass, charge])


def pdg_of(conditions: np.ndarray) -> np.ndarray:
    """PDG ids of particles known by mass and charge alone; of two that share both, the first of `FREQUENT`.

    Arguments:
        conditions: (N, 9).

    Returns:
        (N,) int32.

    Raises:
        ValueError: for a mass and charge that no frequent species has within 0.1 %.

    Example:
        >>> pdg_of(conditions_of(np.array([22, 3122, -2112, -211]), np.zeros((4, 3)))).tolist()
        [22, 3122, 2112, -211]
    """
    masses = np.array([species(code).mass or 0.0 for code in FREQUENT])
    charges = np.array([float(species(code).charge) for code in FREQUENT])
    kinds, inverse = np.unique(np.asarray(conditions)[:, COLUMN["mass"] :], axis=0, return_inverse=True)
    near = (np.abs(kinds[:, :1] - masses) <= 1e-3 * masses + 1e-6) & (kinds[:, 1:] == charges)
    if not near.any(axis=1).all():
        mass, charge = kinds[~near.any(axis=1)][0]
        raise ValueError(f"Expected mass and charge of a known particle, received {mass:g} MeV and charge {charge:g}.")
    return np.array(FREQUENT, "int32")[near.argmax(axis=1)[inverse.reshape(-1)]]


@dataclass(frozen=True)
class Scaler:
    """Standard scaler z = (x - mean) / scale, fitted on the training part only.

    Arguments:
        mean: (9,) in the units of `CONDITIONS`.
        scale: (9,) positive standard deviations.
        low, high: (9,) range of what it was fitted on, None if that is not known.

    Example:
        >>> s = Scaler.fit(np.array([[0.0, 1.0], [2.0, 1.0]]))
        >>> s.transform(np.array([[2.0, 1.0]])).tolist(), s.inverse(np.zeros((1, 2))).tolist()
        ([[1.0, 0.0]], [[1.0, 1.0]])
    """

    mean: np.ndarray
    scale: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    @classmethod
    def fit(cls, values: np.ndarray) -> "Scaler":
        """Mean, population standard deviation and range of each column; a constant column gets scale 1."""
        values = np.asarray(values, "float64")
        if values.ndim != 2 or not len(values):
            raise ValueError(f"Expected a non-empty (N, columns) array to fit a scaler, received {values.shape}.")
        mean, scale = values.mean(axis=0), values.std(axis=0)
        scale = np.where(scale > 1e-9 * np.abs(mean), scale, 1.0)  # a constant has rounding errors
        return cls(mean, scale, values.min(axis=0), values.max(axis=0))

    def get_config(self) -> dict[str, list[float]]:
        """Plain lists, as layers and models take them."""
        numbers = {"mean": self.mean, "scale": self.scale, "low": self.low, "high": self.high}
        return {name: values.tolist() for name, values in numbers.items() if values is not None}

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Scale (N, columns) to zero mean and unit deviation."""
        return (np.asarray(values, "float64") - self.mean) / self.scale

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Undo `transform`."""
        return np.asarray(values, "float64") * self.scale + self.mean


def warn_outside(conditions: np.ndarray, low: np.ndarray, high: np.ndarray, level: int = 2) -> None:
    """Warn, naming them, of conditions (N, 9) outside the range (9,) of a training; `level` as `stacklevel`."""
    if outside := outside_range(conditions, low, high):
        warnings.warn(f"Particles outside the trained range: {outside}.", stacklevel=level + 1)


def warn_untold(model: str, pdg: np.ndarray, level: int = 2) -> None:
    """Warn of particles that only their PDG ids (N,) tell from others, where a model that is not told ids answers them.

    Arguments:
        model: its name, with which the message begins.
        pdg: (N,).
        level: as `stacklevel`.
    """
    alike = (*KAONS, *NEUTRAL_ANTI, *NEUTRINOS)
    hidden = np.asarray(pdg)[np.isin(pdg, alike)]
    if len(hidden):
        ids = ", ".join(str(code) for code in alike if code in hidden)
        warnings.warn(f"{model} is not told PDG ids: {len(hidden)} of {len(pdg)} particles ({ids}) are answered by "
                      "their mass and charge alone.", stacklevel=level + 1)


def warn_unknown(model: str, pdg: np.ndarray, level: int = 2) -> None:
    """Warn of PDG ids (N,) that a model which is told ids does not know: it answers such particles with nothing.

    Arguments:
        model: its name, with which the message begins.
        pdg: (N,).
        level: as `stacklevel`.
    """
    strange = np.asarray(pdg)[~np.isin(pdg, (*KNOWN, *NEUTRINOS, *LEFT_OPEN))]
    if len(strange):
        ids = ", ".join(str(int(code)) for code in np.unique(strange)[:5])
        warnings.warn(f"{model} does not know {len(strange)} of {len(pdg)} particles by their PDG ids ({ids}) and "
                      "answers with no light; id 0 leaves it to mass and charge.", stacklevel=level + 1)


@cache
def transported() -> np.ndarray:
    """Mass [MeV] and charge [e] of the species in TRANSPORTED, (S, 2)."""
    return np.array([[species(code).mass or 0.0, float(species(code).charge)] for code in TRANSPORTED])


def warn_of_no_species(conditions: np.ndarray, level: int = 2) -> None:
    """Warn of conditions (N, 9) with the mass and charge of no species that transports know, as masses in GeV have:
    they are taken for the nearest one. `level` as `stacklevel`.

    Example:
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     warn_of_no_species(np.array([[800.0, 0, 0, 0, 0, 0, 800.0, 0.93957, 0]]))
        >>> print(said[0].message)
        1 of 1 particles have the mass and charge of no species here, such as 0.93957 MeV and 0 e: expected MeV.
    """
    known = transported()
    kinds, inverse = np.unique(np.asarray(conditions)[:, COLUMN["mass"] :], axis=0, return_inverse=True)
    near = np.abs(kinds[:, None, 0] - known[:, 0]) <= 1e-3 * known[:, 0] + 1e-3
    lost = ~(near & (kinds[:, None, 1] == known[:, 1])).any(axis=1)
    if lost.any():
        mass, charge = kinds[lost][0]
        rows = lost[inverse.reshape(-1)].sum()
        warnings.warn(f"{rows} of {len(conditions)} particles have the mass and charge of no species here, such as "
                      f"{mass:.5g} MeV and {charge:g} e: expected MeV.", stacklevel=level + 1)


def outside_range(conditions: np.ndarray, low: np.ndarray, high: np.ndarray) -> str:
    """Which of conditions (N, 9) are outside a range, in words; "" for none.

    Outside is what lies beyond an end by more than a fiftieth of the range, of energies by more than a fiftieth of that
    end: a photon of 1 GeV is not near one of 30 GeV, though the range goes to 3,000 GeV.

    Arguments:
        low, high: (9,).

    Example:
        >>> outside_range(np.full((2, 9), [[1.0], [3.0]]), np.zeros(9), np.array([2.0] + [4.0] * 8))
        'energy (1 of 2 outside 0 to 2 GeV)'
    """
    share = np.where(np.arange(len(low)) == COLUMN["energy"], np.abs([low, high]), high - low)  # (2, 9)
    below, above = 0.02 * share + 1e-6 * np.maximum(np.abs(low), np.abs(high)) + 1e-9  # float32 rounds
    counts = ((conditions < low - below) | (conditions > high + above)).sum(axis=0)
    return ", ".join(f"{name} ({count} of {len(conditions)} outside {bottom:.4g} to {top:.4g} {unit})"
                     for name, unit, count, bottom, top in zip(CONDITIONS, UNIT_NAMES, counts, low, high, strict=True)
                     if count)

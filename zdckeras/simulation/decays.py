"""Decays in flight: lifetimes, two-body branchings, and exact two-body kinematics for mixed species at once."""

from functools import cache

import numpy as np
from hepunits import GeV, MeV, cm, mm

from zdckeras.data.particles import species

# Two-body modes and their branching fractions (Particle Data Group, Review of Particle Physics, 2026 edition).
# Rarer modes and modes with three bodies are left out and the rest is scaled to 1: this matters only for K+-, where
# the two modes below are 84 % of all decays, and for pi0 (1.2 % Dalitz decays). Antiparticles: charge conjugation.
BRANCHINGS = {
    3122: ((0.641, (2212, -211)), (0.359, (2112, 111))),  # Lambda
    310: ((0.6920, (211, -211)), (0.3069, (111, 111))),  # K0S
    3222: ((0.5147, (2212, 111)), (0.4843, (2112, 211))),  # Sigma+
    3112: ((0.99848, (2112, -211)),),  # Sigma-
    3212: ((1.0, (3122, 22)),),  # Sigma0
    3322: ((0.99517, (3122, 111)),),  # Xi0
    3312: ((0.99887, (3122, -211)),),  # Xi-
    3334: ((0.677, (3122, -321)), (0.243, (3322, -211)), (0.0855, (3312, 111))),  # Omega-
    111: ((0.98823, (22, 22)),),  # pi0
    211: ((0.999877, (-13, 14)),),  # pi+
    321: ((0.6356, (-13, 14)), (0.2067, (211, 111))),  # K+
}
SELF_CONJUGATE = (22, 111, 130, 310)
STABLE_LENGTH = 10.0 * 100.0  # c tau [cm] above which a species is carried as stable: K0L (15 m), mu, n, ...


@cache
def branchings(pdg: int) -> tuple:
    """The decay modes of a species, as ((fraction, (daughter, daughter)), ...) with fractions that sum to 1.

    Arguments:
        pdg: PDG id; of an antiparticle too.

    Returns:
        Tuple of modes, empty for a species that is carried as stable over the 112.6 m to the detectors: one whose
        c tau exceeds 10 m (the photon, e, mu, neutrinos, p, n, K0L) or a nucleus.

    Raises:
        ValueError: for an id that is unknown, or of a species that decays but has no modes in the table.

    Source: Particle Data Group, Review of Particle Physics, 2026 edition.

    Example:
        >>> [daughters for _, daughters in branchings(-3122)]
        [(-2212, 211), (-2112, 111)]
        >>> branchings(130)
        ()
    """
    pdg, particle = int(pdg), species(pdg)
    sign = -1 if pdg < 0 else 1
    modes = BRANCHINGS.get(abs(pdg))
    if modes is None:
        if particle.pdgid.is_nucleus or (particle.ctau is not None and particle.ctau * mm / cm > STABLE_LENGTH):
            return ()
        raise ValueError(
            f"No decay modes for {particle.name} (PDG id {pdg}): expected a long-lived species or one of "
            f"{sorted(BRANCHINGS)} and antiparticles; let shorter-lived ones decay in the generator."
        )
    total = sum(fraction for fraction, _ in modes)
    return tuple(
        (fraction / total, tuple(d if d in SELF_CONJUGATE else sign * d for d in daughters))
        for fraction, daughters in modes
    )


@cache
def _properties(pdg):
    """Mass [GeV], charge [e] and c tau [cm] of one species; infinite where it is carried as stable."""
    particle = species(pdg)
    length = particle.ctau * mm / cm if branchings(pdg) else np.inf
    return (particle.mass or 0.0) * MeV / GeV, float(particle.charge), length


def properties(pdg: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mass, charge and proper decay length c tau of each particle.

    Arguments:
        pdg: (N,) PDG ids.

    Returns:
        Three arrays (N,): mass [GeV], charge [e], c tau [cm] (infinite where `branchings` is empty).

    Raises:
        ValueError: as `branchings`.

    Example:
        >>> [column.round(3).tolist() for column in properties([3122, 22])]
        [[1.116, 0.0], [0.0, 0.0], [7.846, inf]]
    """
    codes, inverse = np.unique(np.asarray(pdg), return_inverse=True)
    rows = np.array([_properties(int(code)) for code in codes], "float64").reshape(-1, 3)
    return tuple(rows[inverse].T)


def draw_flight(momentum: np.ndarray, mass: np.ndarray, length: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw how far particles fly before they decay: L = -ln(u) c tau p / M, so <L> = gamma beta c tau.

    Arguments:
        momentum: (N,) |p| for the path, or one component of p for the path along that axis [GeV].
        mass: (N,) [GeV].
        length: (N,) c tau [cm], infinite for stable species.
        rng: NumPy generator.

    Returns:
        (N,) [cm], infinite for stable species.

    Example:
        >>> mass, _, length = properties([3122, 22])
        >>> np.isinf(draw_flight(np.array([100.0, 100.0]), mass, length, np.random.default_rng(0))).tolist()
        [False, True]
    """
    decays = np.isfinite(length)
    flight = np.full(len(length), np.inf)
    flight[decays] = rng.exponential(size=decays.sum()) * length[decays] * momentum[decays] / mass[decays]
    return flight


def draw_daughters(pdg: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the decay mode of each particle with the probabilities of `branchings`.

    Arguments:
        pdg: (N,) PDG ids of decaying species.
        rng: NumPy generator.

    Returns:
        (N, 2) PDG ids of the daughters, int32.

    Raises:
        ValueError: for a species that does not decay here.

    Example:
        >>> draw_daughters([111, -211], np.random.default_rng(0)).tolist()
        [[22, 22], [13, -14]]
    """
    pdg = np.asarray(pdg)
    daughters = np.empty((len(pdg), 2), "int32")
    uniform = rng.random(len(pdg))
    for code in np.unique(pdg):
        modes = branchings(int(code))
        if not modes:
            raise ValueError(f"{species(code).name} (PDG id {code}) is carried as stable: expected a decaying species.")
        rows = np.flatnonzero(pdg == code)
        edges = np.cumsum([fraction for fraction, _ in modes])[:-1]
        daughters[rows] = np.array([pair for _, pair in modes])[np.searchsorted(edges, uniform[rows], side="right")]
    return daughters


def boost(momentum: np.ndarray, parent: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Boost four-momenta from the rest frame of a parent (E, P, M) to the laboratory.

    E' = (E e + P.p) / M,  p' = p + P (P.p / (E + M) + e) / M: the form without differences of large numbers and
    without division by |P|, so that it keeps float64 accuracy for gamma from 1 to 10^4 and more.

    Arguments:
        momentum: (N, 4) e, px, py, pz in the rest frame [GeV].
        parent: (N, 4) E, Px, Py, Pz of the parent in the laboratory [GeV].
        mass: (N,) mass M of the parent [GeV].

    Returns:
        (N, 4) in the laboratory [GeV].

    Example:
        >>> boost(np.array([[1.0, 0, 0, 0]]), np.array([[5.0, 0, 3.0, 0]]), np.array([4.0])).tolist()
        [[1.25, 0.0, 0.75, 0.0]]
    """
    along = (parent[:, 1:] * momentum[:, 1:]).sum(axis=1)
    boosted = np.empty_like(momentum)
    boosted[:, 0] = (parent[:, 0] * momentum[:, 0] + along) / mass
    boosted[:, 1:] = (
        momentum[:, 1:] + parent[:, 1:] * ((along / (parent[:, 0] + mass) + momentum[:, 0]) / mass)[:, None]
    )
    return boosted


def two_body(parent_momentum: np.ndarray, mass1: np.ndarray | float, mass2: np.ndarray | float,
             rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Decay particles into two bodies, isotropically in each rest frame.

    q = sqrt((M^2 - (m1 + m2)^2) (M^2 - (m1 - m2)^2)) / (2 M), back to back, then boosted with the parent's momentum.
    M^2 = (E - |P|) (E + |P|) carries a relative rounding error of about 2e-16 gamma^2.

    Arguments:
        parent_momentum: (N, 4) E, px, py, pz [GeV]; the mass M follows from it.
        mass1: (N,) or number, mass of the first daughter [GeV].
        mass2: (N,) or number, mass of the second daughter [GeV].
        rng: NumPy generator.

    Returns:
        Two arrays (N, 4), the daughters' E, px, py, pz [GeV].

    Raises:
        ValueError: if the shape is not (N, 4) or a parent is lighter than its daughters together.

    Source: Particle Data Group, Review of Particle Physics, chapter "Kinematics", two-body decays.

    Example:
        >>> a, b = two_body(np.array([[10.0, 0, 0, np.sqrt(100 - 0.135**2)]]), 0.0, 0.0, np.random.default_rng(1))
        >>> np.allclose(a + b, [[10.0, 0, 0, np.sqrt(100 - 0.135**2)]])
        True
    """
    parent = np.asarray(parent_momentum, "float64")
    if parent.ndim != 2 or parent.shape[1] != 4:
        raise ValueError(f"Expected parent four-momenta of shape (N, 4), received {parent.shape}.")
    length = np.sqrt((parent[:, 1:] ** 2).sum(axis=1))
    square = (parent[:, 0] - length) * (parent[:, 0] + length)
    mass1, mass2 = (np.broadcast_to(np.asarray(m, "float64"), length.shape) for m in (mass1, mass2))
    if not np.all((square > 0) & (square >= (mass1 + mass2) ** 2)):
        raise ValueError("Expected parents heavier than their two daughters together, received a lighter or NaN one.")
    mass = np.sqrt(square)
    q = np.sqrt((square - (mass1 + mass2) ** 2) * (square - (mass1 - mass2) ** 2)) / (2 * mass)

    cosine, azimuth = rng.uniform(-1, 1, len(q)), rng.uniform(0, 2 * np.pi, len(q))
    sine = np.sqrt(1 - cosine**2)
    rest = np.column_stack([np.zeros_like(q), q * sine * np.cos(azimuth), q * sine * np.sin(azimuth), q * cosine])
    daughters = []
    for m, sign in ((mass1, 1.0), (mass2, -1.0)):
        daughter = sign * rest
        daughter[:, 0] = np.sqrt(q**2 + m**2)
        daughters.append(boost(daughter, parent, mass))
    return tuple(daughters)

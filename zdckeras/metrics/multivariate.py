"""Real against generated showers in all their shape observables at once: neighbours, Frechet and kernel distances.

Columns are standardised by the real mean and deviation first, so that units do not matter. A floor is the same function
of a second simulation. Tables of equal length are taken to be pairs, responses to the same particles row by row: they
are nearer to each other than independent samples would be, and the corrections for finite samples have to know.
"""

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from zdckeras.metrics.channels import spreads, two_tables

NEIGHBOURS = 5
ROWS = 5_000  # rows of each side used for neighbours, drawn at random: all pairs are looked at
BATCHES, BATCH = 10, 1_000  # of the kernel distance
SIZES, DRAWS = 10, 8  # sample sizes of the extrapolation, and draws of each


def standardised(real: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both tables minus the real mean, over the real deviation; columns that are constant in the real one are left out.

    Arguments:
        real: (N, K).
        generated: (M, K).

    Raises:
        ValueError: for other shapes, fewer than 10 rows, values that are not finite, or no column that varies.
    """
    real, generated = two_tables(real, generated, 2 * NEIGHBOURS)
    spread = spreads(real)
    varies = spread > 0
    if not varies.any():
        raise ValueError("Expected real values that vary, received equal rows.")
    centre, spread = real.mean(axis=0)[varies], spread[varies]
    return (real[:, varies] - centre) / spread, (generated[:, varies] - centre) / spread


def neighbourhoods(real: np.ndarray, generated: np.ndarray, seed: int = 0, k: int = NEIGHBOURS) -> dict[str, float]:
    """Density and coverage, precision and recall: do generated showers lie where real ones do, and everywhere there?

    With r_i the distance of the real x_i to its k-th real neighbour, and y_j the M generated ones:
    density = (1 / kM) sum_ij [|x_i - y_j| <= r_i], 1 for independent samples of equal distributions and above 1 where
    only their core is made; coverage = (1 / N) sum_i [min_j |x_i - y_j| <= r_i], about 1 - 2^-k (0.969) for such of
    equal size; precision is the share of y_j within the r_i of any x_i, recall the reverse. Pairs, responses to one
    particle, have more, and particles that occur again less: what is best is the floor's.

    Arguments:
        real: (N, K) observables, for instance from `zdckeras.metrics.shapes.shapes`.
        generated: (M, K).
        seed: of the subsample of 5000 rows of each, where there are more.
        k: neighbours.

    Returns:
        "density", "coverage", "precision", "recall" -> number.

    Raises:
        ValueError: as `standardised`.

    Source: Naeem et al., arXiv:2002.09797, eqs. 3 and 4; Kynkaanniemi et al., arXiv:1904.06991.

    Example:
        >>> x, y = np.random.default_rng(0).normal(size=(2, 900, 3))
        >>> found = neighbourhoods(x, y)
        >>> abs(found["density"] - 1) < 0.1, abs(found["coverage"] - 0.969) < 0.02, neighbourhoods(x, y + 50)["recall"]
        (True, True, 0.0)
    """
    rng = np.random.default_rng(seed)
    x, y = standardised(real, generated)
    rows = [np.sort(rng.permutation(len(part))[:ROWS]) for part in (x, y)]
    x, y = x[rows[0]], y[rows[len(x) != len(y)]]  # pairs stay pairs
    near, reach = (cKDTree(part).query(part, k + 1)[0][:, k] for part in (x, y))
    inside, precise, recalled, covered = 0, 0, np.zeros(len(x), bool), np.zeros(len(x), bool)
    for start in range(0, len(y), 500):
        block = slice(start, start + 500)
        apart = cdist(x, y[block])
        within = apart <= near[:, None]
        inside, precise = inside + within.sum(), precise + within.any(axis=0).sum()
        covered |= within.any(axis=1)
        recalled |= (apart <= reach[None, block]).any(axis=1)
    return {"density": float(inside / (k * len(y))), "coverage": float(covered.mean()),
            "precision": float(precise / len(y)), "recall": float(recalled.mean())}


def gaussian_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """Frechet distance of the normal distributions with the mean and covariance of two tables.

    d^2 = |m - m'|^2 + Tr(C + C' - 2 (C C')^(1/2))

    Arguments:
        real: (N, K).
        generated: (M, K).

    Source: Dowson and Landau, J. Multivariate Anal. 12 (1982) 450, eq. 4.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(400, 2))
        >>> round(gaussian_distance(x, x + [3.0, 4.0]), 6)
        25.0
    """
    means = real.mean(axis=0) - generated.mean(axis=0)
    first, second = (np.atleast_2d(np.cov(part.T)) for part in (real, generated))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T  # C C' has the eigenvalues of C^(1/2) C' C^(1/2)
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0.0)).sum()
    return float(means @ means + np.trace(first) + np.trace(second) - 2 * cross)


def frechet_distance(real: np.ndarray, generated: np.ndarray, seed: int = 0) -> float:
    """Frechet distance of standardised observables as for samples without end (FPD of the CaloChallenge).

    The distance of finite samples is too large, by a term a / n: it is computed for ten sizes n from N/4 to N, spaced
    evenly in 1/n, the mean of 8 draws each (of pairs, where there are pairs), and the straight line in 1/n is followed
    to 0. Equal distributions give 0 within the statistics, so a value may be negative.

    Arguments:
        real: (N, K) observables, for instance from `zdckeras.metrics.shapes.shapes`.
        generated: (M, K).
        seed: of the draws.

    Raises:
        ValueError: as `standardised`.

    Source: Kansal et al., arXiv:2211.10295, section II; CaloChallenge, arXiv:2410.21611.
    """
    x, y = standardised(real, generated)
    rng, rows = np.random.default_rng(seed), min(len(x), len(y))
    inverse = np.linspace(1.0 / rows, 4.0 / rows, SIZES)
    distances = [np.mean([gaussian_distance(*_drawn(x, y, n, rng)) for _ in range(DRAWS)])
                 for n in np.rint(1.0 / inverse).astype(int)]
    return float(np.polyfit(inverse, distances, 1)[1])


def kernel_distance(real: np.ndarray, generated: np.ndarray, seed: int = 0) -> float:
    """Kernel distance of standardised observables (KPD of the CaloChallenge), the median over batches.

    MMD^2 = <k(x, x')> + <k(y, y')> - 2 <k(x, y)>, k(x, y) = (x . y / K + 1)^4, without a shower and itself, or the
    other response to its particle, so that its expectation is 0 for equal distributions. A batch has at most 1000 rows
    of each side; ten are drawn at random, independently of one another, so that they share rows of short tables; where
    neither side has more than 1000, there is one batch, of all rows.

    Arguments:
        real: (N, K) observables, for instance from `zdckeras.metrics.shapes.shapes`.
        generated: (M, K).
        seed: of the batches.

    Raises:
        ValueError: as `standardised`.

    Source: Gretton et al., JMLR 13 (2012) 723, eq. 3; Kansal et al., arXiv:2211.10295, section II.

    Example:
        >>> x, y = np.random.default_rng(0).normal(size=(2, 900, 3))
        >>> abs(kernel_distance(x, y)) < 0.3, kernel_distance(x, y + 1) > 1
        (True, True)
    """
    x, y = standardised(real, generated)
    rng, distances = np.random.default_rng(seed), []

    def kernel(a, b):
        square = np.square(a @ b.T / a.shape[1] + 1.0)
        return np.square(square, out=square)

    def mean(k, without):
        return (k.sum() - np.trace(k)) / (k.size - len(k)) if without else k.mean()

    for _ in range(BATCHES if max(len(x), len(y)) > BATCH else 1):
        a, b = _drawn(x, y, BATCH, rng)
        distances.append(mean(kernel(a, a), True) + mean(kernel(b, b), True) - 2 * mean(kernel(a, b), len(x) == len(y)))
    return float(np.median(distances))


def _drawn(x, y, number, rng):
    """At most so many rows of each, drawn at random: the same ones of pairs."""
    rows = rng.permutation(len(x))[:number]
    return x[rows], y[rows if len(x) == len(y) else rng.permutation(len(y))[:number]]

"""What repeated draws of one particle say about its response: how much it varies, how bright it is, where it peaks."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from sklearn.neighbors import KNeighborsRegressor

from zdckeras.data.impact import impact_from_centre
from zdckeras.data.particles import COLUMN
from zdckeras.data.showers import Showers

CELLS_AT_ONCE = 64  # cells handled at once: the wider copy is N x 64 numbers
NEAREST_CONDITIONS = 8
LEAST_SHARE = 0.25  # of the rows that have to share their condition for a floor of them
FARTHEST = 2.0  # impacts further out than this many half sizes are all equally far


@dataclass(frozen=True, eq=False)
class ConditionStatistics:
    """Statistics of a data set's conditions, one entry for each of its N rows.

    Arguments:
        diversity: (N,) output variability of the row's condition, in [0, 1].
        photon_sum: (N,) mean number of photons of the condition.
        peak: (N, 2) cell (row, column) with the highest mean count of the condition.
        repeats: (N,) how many rows have this condition.
        spread: the largest summed pixel deviation over conditions [photons]; diversity times this is in photons.
    """

    diversity: np.ndarray
    photon_sum: np.ndarray
    peak: np.ndarray
    repeats: np.ndarray
    spread: float


def repeat_statistics(responses: np.ndarray, condition: np.ndarray, repeats: np.ndarray,
                      log: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How much the responses that share a condition vary, how bright they are on average and where they peak.

    D_c = sum_ij sqrt(mean_s R_s[i,j]^2 - (mean_s R_s[i,j])^2) of the responses s to condition c

    Arguments:
        responses: (N, nx, ny).
        condition: (N,) number c of each row's condition, 0 to C - 1.
        repeats: (C,) how many rows have condition c, at least one.
        log: take R = ln(1 + n) of responses n.

    Returns:
        (C,) population standard deviations D summed over cells, (C,) mean sums of the responses, (C,) flat index of the
        cell that is brightest on average.

    Example:
        >>> images = np.zeros((3, 2, 2)); images[1, 1, 0] = 2.0; images[2, 0, 1] = 5.0
        >>> [found.tolist() for found in repeat_statistics(images, np.array([0, 0, 1]), np.array([2, 1]))]
        [[1.0, 0.0], [1.0, 5.0], [2, 1]]
    """
    rows, conditions = len(condition), len(repeats)
    order = np.argsort(condition, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(repeats)])
    members = csr_array((np.ones(rows), order, offsets), shape=(conditions, rows))
    flat, n = responses.reshape(rows, -1), repeats[:, None].astype("float64")
    deviation, photons, highest = np.zeros(conditions), np.zeros(conditions), np.full(conditions, -1.0)
    peak = np.zeros(conditions, "int64")
    for start in range(0, flat.shape[1], CELLS_AT_ONCE):
        block = flat[:, start : start + CELLS_AT_ONCE].astype("float64")
        block = np.log1p(block, out=block) if log else block
        total = members @ block
        block -= block[order[offsets[:-1]]][condition]  # the first of its condition: equal responses vary by exactly 0
        away = members @ block
        np.square(block, out=block)
        variance = np.maximum(n * (members @ block) - away**2, 0.0)
        deviation += np.sqrt(variance).sum(axis=1)
        photons += total.sum(axis=1)
        brightest = total.argmax(axis=1)
        value = np.take_along_axis(total, brightest[:, None], axis=1)[:, 0]
        higher = value > highest
        highest[higher], peak[higher] = value[higher], start + brightest[higher]
    return deviation / repeats, photons / repeats, peak


def condition_statistics(showers: Showers, detector: str | None = None) -> ConditionStatistics:
    """Diversity, mean photon sum and peak position of every condition, from the rows that share it.

    Diversity is d_c = D_c / max_c' D_c', with D_c the summed deviation of the cells, see `repeat_statistics`.

    A condition that occurs once has no deviation. Its diversity is the mean over the 8 nearest conditions of the
    same species that occur at least twice, near in (log energy, expected impact in half sizes of the detector);
    a species with fewer than 8 of those borrows from all species.

    Arguments:
        showers: `Showers`.
        detector: name; may be left out where there is only one.

    Returns:
        `ConditionStatistics`.

    Raises:
        ValueError: if no condition occurs twice, so that diversity is undefined for all.

    Source: preprocessing of SDI-GAN, arXiv:2207.01561, as used for the proton ZDC; the imputation is ours.
    """
    detector = showers.detector(detector)
    condition, first, repeats = _numbered(showers)
    repeated = repeats > 1
    if not repeated.any():
        raise ValueError(f"Diversity is undefined: none of the {len(repeats)} conditions occurs twice.")
    deviation, photon_sum, peak = repeat_statistics(showers.response_of(detector.name), condition, repeats)
    spread = float(deviation[repeated].max())
    diversity = deviation / (spread or 1.0)
    particles, pdg = showers.particles[first], showers.pdg[first]
    energy = np.log(np.maximum(particles[:, COLUMN["energy"]], 1e-6))
    impact = np.clip(impact_from_centre(particles, detector) / detector.half_size, -FARTHEST, FARTHEST)
    _impute(diversity, np.column_stack([energy, impact]), pdg, repeated)
    rows = np.column_stack(np.divmod(peak, detector.shape[1]))
    return ConditionStatistics(
        diversity[condition], photon_sum[condition], rows[condition], repeats[condition], spread
    )


def log_diversity(showers: Showers, detector: str | None = None) -> np.ndarray:
    """Output variability of the row's condition as the neutron study has it, of images ln(1 + n).

    d_c = (L_c - min L) / (max L - min L),  L_c the summed deviation of the cells of ln(1 + n), 0 where c occurs once

    Arguments:
        showers, detector: as in `condition_statistics`.

    Returns:
        (N,) float64 in [0, 1]; 0 where no condition varies.

    Source: m-wojnar/zdc, `zdc/models/gan/sdi_gan.py`.

    Example:
        >>> from zdckeras.data.particles import conditions_of
        >>> pdg = np.array([22, 22, 2112])
        >>> particles = conditions_of(pdg, np.array([[0.0, 0.0, 90.0], [0.0, 0.0, 90.0], [0.0, 0.0, 2500.0]]))
        >>> log_diversity(Showers(particles, pdg, {"zn": np.arange(3 * 1936).reshape(3, 44, 44)})).tolist()
        [1.0, 1.0, 0.0]
    """
    condition, _, repeats = _numbered(showers)
    deviation, *_ = repeat_statistics(showers.response_of(detector), condition, repeats, log=True)
    return ((deviation - deviation.min()) / (np.ptp(deviation) or 1.0))[condition]


def repeated(showers: Showers) -> np.ndarray:
    """Mask (N,) of the rows whose condition occurs more than once."""
    condition, _, repeats = _numbered(showers)
    return repeats[condition] > 1


def repeated_pairs(showers: Showers, seed: int = 0) -> tuple[Showers, Showers]:
    """Two responses to the same particle, row by row, from rows that share a condition (a floor).

    Within every condition the rows are shuffled, and the first half of them is paired with the second: no response is
    on both sides. The odd row of a condition, and rows whose condition occurs once, are left out.

    Arguments:
        showers: `Showers`.
        seed: of the shuffling.

    Returns:
        (first, second): `Showers` of equal particles, row by row, those of the first in the order of the data.

    Raises:
        ValueError: if no condition occurs twice.

    Example:
        >>> from zdckeras.data.particles import conditions_of
        >>> from zdckeras.data.showers import Showers
        >>> pdg = np.array([22, 22, 2112])
        >>> particles = conditions_of(pdg, np.array([[0.0, 0.0, 90.0], [0.0, 0.0, 90.0], [0.0, 0.0, 2500.0]]))
        >>> first, second = repeated_pairs(Showers(particles, pdg, {"zn": np.eye(44)[None].repeat(3, axis=0)}))
        >>> len(first), bool((first.particles == second.particles).all())
        (1, True)
    """
    condition, _, repeats = _numbered(showers)
    rows = np.random.default_rng(seed).permutation(len(condition))
    rows = rows[np.argsort(condition[rows], kind="stable")]
    place = np.arange(len(rows)) - np.repeat(np.cumsum(repeats) - repeats, repeats)  # within its condition
    half = np.repeat(repeats // 2, repeats)
    first, second = rows[place < half], rows[(place >= half) & (place < 2 * half)]
    if not len(first):
        raise ValueError(f"No floor: none of the {len(repeats)} conditions occurs twice.")
    order = np.argsort(first)
    return showers[first[order]], showers[second[order]]


def with_floor(showers: Showers, seed: int = 0) -> tuple[Showers, list[Showers]]:
    """Showers to judge by, and further responses to their particles: `repeated_pairs`.

    Where fewer than a quarter of the rows share their condition with another, these few would stand for all: then the
    showers are judged by as they are, without a floor.

    Arguments:
        showers, seed: as in `repeated_pairs`.

    Returns:
        `Showers`, and a list of at most one `Showers` of the same particles.
    """
    if not len(showers) or repeated(showers).mean() < LEAST_SHARE:
        return showers, []
    first, second = repeated_pairs(showers, seed)
    return first, [second]


def _numbered(showers):
    """The number of each row's condition (N,), and the first row of each condition and how many have it, (C,) each."""
    _, first, condition, repeats = np.unique(showers.particles, axis=0, return_index=True, return_inverse=True,
                                             return_counts=True)
    return condition.reshape(-1), first, repeats


def _impute(diversity, features, pdg, repeated):
    """Fill the diversity of conditions that occur once, in place, from their nearest repeated conditions."""
    for code in np.unique(pdg[~repeated]):
        alone, known = ~repeated & (pdg == code), repeated & (pdg == code)
        if known.sum() < NEAREST_CONDITIONS:
            known = repeated
        nearest = KNeighborsRegressor(min(NEAREST_CONDITIONS, int(known.sum()))).fit(features[known], diversity[known])
        diversity[alone] = nearest.predict(features[alone])

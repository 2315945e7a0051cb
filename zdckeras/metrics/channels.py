"""Distances between real and generated responses in their five channel sums and cell by cell, in photons.

Two named conventions exist for MAE and RMSE: "zdc" (m-wojnar/zdc) and "faster-zdc" (m-wojnar/faster_zdc). WS is the
same in both. MAE_w is our definition of the weighted error in the flow distillation study.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import wasserstein_distance

from zdckeras.data.detectors import CHANNEL_COUNT, channel_sums
from zdckeras.data.particles import SPECIES
from zdckeras.mapped import in_blocks

ERROR_CONVENTIONS = ("zdc", "faster-zdc")
ALL = "all"


def wasserstein(real: np.ndarray, generated: np.ndarray) -> np.ndarray:
    """One-dimensional Wasserstein-1 distance of each column, W = integral |F_real(t) - F_generated(t)| dt.

    For samples of equal size that is the mean distance of the sorted values, as computed here; other sizes go to
    `scipy.stats.wasserstein_distance`.

    Arguments:
        real: (N, K) values.
        generated: (M, K) values.

    Returns:
        (K,) distances in the unit of the values.

    Raises:
        ValueError: unless both have two axes, as many columns, at least one row, and only finite values.

    Example:
        >>> wasserstein(np.array([[0.0], [2.0]]), np.array([[5.0], [1.0]])).tolist()
        [2.0]
    """
    real, generated = two_tables(real, generated)
    if len(real) == len(generated):
        return np.abs(np.sort(real, axis=0) - np.sort(generated, axis=0)).mean(axis=0)
    return np.array([wasserstein_distance(r, g) for r, g in zip(real.T, generated.T, strict=True)])


def spreads(values: np.ndarray) -> np.ndarray:
    """Standard deviations (K,) of columns (N, K); 0 where all values are one, up to rounding.

    Example:
        >>> spreads(np.full((3, 1), 0.1)).tolist(), spreads(np.array([[1.0], [3.0]])).tolist()
        ([0.0], [1.0])
    """
    values = np.asarray(values, "float64")
    spread = values.std(axis=0)
    return np.where(spread > 1e-12 * np.abs(values).max(axis=0), spread, 0.0)


def two_tables(real: np.ndarray, generated: np.ndarray, rows: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Real and generated values (N, K) and (M, K) as float64; ValueError for what cannot be compared column by column.

    Arguments:
        real, generated: the tables.
        rows: of each, at least.

    Raises:
        ValueError: unless both have two axes, as many columns, so many rows, and only finite values.

    Example:
        >>> two_tables(np.ones((2, 3)), np.full((1, 3), np.nan))
        Traceback (most recent call last):
        ValueError: Expected finite values, received NaN or infinity.
    """
    real, generated = np.asarray(real, "float64"), np.asarray(generated, "float64")
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1] or (
            min(len(real), len(generated)) < rows):
        raise ValueError(f"Expected (N, K) and (M, K) values of at least {rows} row{'s' * (rows > 1)}, received "
                         f"{real.shape} and {generated.shape}.")
    if not (np.isfinite(real).all() and np.isfinite(generated).all()):
        raise ValueError("Expected finite values, received NaN or infinity.")
    return real, generated


@dataclass(frozen=True, eq=False)
class Residuals:
    """Real and generated responses of the same conditions, reduced to what the metrics need of each sample.

    Arguments:
        real: (N, 5) channel sums [photons].
        generated: (N, 5) channel sums [photons].
        squared: (N,) squared difference summed over cells, sum_ij (R[i,j] - G[i,j])^2.
        cells: number of cells D.
    """

    real: np.ndarray
    generated: np.ndarray
    squared: np.ndarray
    cells: int

    @classmethod
    def between(cls, real: np.ndarray, generated: np.ndarray, channels: str = "papers") -> "Residuals":
        """Reduce two arrays of responses, a block of rows at a time.

        Arguments:
            real: (N, nx, ny) photon counts.
            generated: (N, nx, ny) photon counts of the same conditions in the same order, not necessarily whole.
            channels: convention of the five channels, see `zdckeras.data.detectors.channel_masks`.

        Returns:
            `Residuals`.

        Raises:
            ValueError: for shapes that differ or are not (N, nx, ny), no rows, and values that are not finite.

        Example:
            >>> r = Residuals.between(np.ones((1, 4, 4)), np.zeros((1, 4, 4)))
            >>> r.squared.tolist(), r.real.tolist()
            ([16.0], [[2.0, 2.0, 2.0, 2.0, 8.0]])
        """
        real, generated = np.asarray(real), np.asarray(generated)
        if real.shape != generated.shape or real.ndim != 3 or not len(real):
            raise ValueError(
                f"Expected real and generated responses of one shape (N, nx, ny), received {real.shape} and "
                f"{generated.shape}."
            )
        rows = len(real)
        sums, squared = np.empty((2, rows, CHANNEL_COUNT)), np.empty(rows)
        for (part, r), (_, g) in zip(in_blocks(real), in_blocks(generated), strict=True):
            r, g = r.astype("float64"), g.astype("float64")
            if not (np.isfinite(r).all() and np.isfinite(g).all()):
                raise ValueError(f"Expected finite photon counts, received NaN or infinity from row {part.start} on.")
            sums[0, part], sums[1, part] = channel_sums(r, channels), channel_sums(g, channels)
            r -= g
            squared[part] = np.einsum("nxy,nxy->n", r, r)
        return cls(sums[0], sums[1], squared, real[0].size)

    def __len__(self):
        return len(self.squared)

    def __getitem__(self, rows):
        return Residuals(self.real[rows], self.generated[rows], self.squared[rows], self.cells)

    @property
    def absolute(self) -> np.ndarray:
        """(N,) mean absolute difference of the channel sums of each sample, sum_k |S_k - G_k| / 5."""
        return np.abs(self.real - self.generated).mean(axis=1)


def ws(residuals: Residuals) -> float:
    """WS = (1/5) sum_k W(real S_k, generated S_k), the mean over channels of the Wasserstein-1 distance [photons].

    Example:
        >>> ws(Residuals.between(np.ones((1, 4, 4)), np.zeros((1, 4, 4))))
        3.2
    """
    return float(wasserstein(residuals.real, residuals.generated).mean())


def mae(residuals: Residuals, convention: str = "zdc") -> float:
    """Mean absolute error of the channel sums [photons].

    "zdc": MAE = mean_n sum_k |S_nk - G_nk| / 5. "faster-zdc": that divided by 5 once more.

    Arguments:
        residuals: `Residuals`.
        convention: "zdc" or "faster-zdc".

    Returns:
        A number.

    Raises:
        ValueError: for an unknown convention.

    Example:
        >>> mae(Residuals.between(np.ones((1, 4, 4)), np.zeros((1, 4, 4))))
        3.2
    """
    return float(residuals.absolute.mean()) / _divisor(convention, CHANNEL_COUNT)


def rmse(residuals: Residuals, convention: str = "zdc") -> float:
    """Root mean squared error of the cells [photons].

    "zdc": RMSE = sqrt(mean_n sum_ij (R_n[i,j] - G_n[i,j])^2), a sum over cells. "faster-zdc": a mean over cells.
    Arguments and errors are those of `mae`.

    Example:
        >>> r = Residuals.between(np.ones((1, 4, 4)), np.zeros((1, 4, 4)))
        >>> rmse(r), rmse(r, "faster-zdc")
        (4.0, 1.0)
    """
    return float(np.sqrt(residuals.squared.mean() / _divisor(convention, residuals.cells)))


def mae_weighted(residuals: Residuals, diversity: np.ndarray) -> float:
    """MAE_w = sum_n w_n MAE_n / sum_n w_n with w_n = 1 - d_n and MAE_n = sum_k |S_nk - G_nk| / 5 [photons].

    d_n in [0, 1] is the output variability of the sample's condition: an error counts fully where the answer is
    determined by the particle, and not at all where it is most random. The flow distillation study reports a weighted
    MAE without giving the weights; this is our definition of it.

    Arguments:
        residuals: `Residuals` of N samples.
        diversity: (N,) in [0, 1], see `zdckeras.data.repeats.condition_statistics`.

    Returns:
        A number; NaN if every weight is 0.

    Raises:
        ValueError: for another shape, or values outside [0, 1].

    Example:
        >>> r = Residuals.between(np.ones((2, 4, 4)), np.array([np.zeros((4, 4)), np.ones((4, 4))]))
        >>> mae_weighted(r, np.array([0.0, 0.0])), mae_weighted(r, np.array([0.0, 1.0]))
        (1.6, 3.2)
    """
    diversity = np.asarray(diversity, "float64")
    if diversity.shape != (len(residuals),):
        raise ValueError(f"Expected diversity of shape ({len(residuals)},), received {diversity.shape}.")
    if not np.all((diversity >= 0) & (diversity <= 1)):
        raise ValueError(f"Expected diversity in [0, 1], received {diversity.min()} to {diversity.max()}.")
    weight = 1.0 - diversity
    return float(weight @ residuals.absolute / weight.sum()) if weight.any() else float("nan")


def species_rows(pdg: np.ndarray) -> dict[str, np.ndarray | slice]:
    """Rows of each of `SPECIES` and of all: name -> index into the N rows.

    Example:
        >>> rows = species_rows(np.array([22, 2112, 310]))
        >>> {name: rows[name].tolist() for name in ("gamma", "K0S", "Lambda")}
        {'gamma': [0], 'K0S': [2], 'Lambda': []}
    """
    pdg = np.asarray(pdg)
    return {name: np.flatnonzero(pdg == code) for name, code in SPECIES.items()} | {ALL: slice(None)}


def channel_metrics(residuals: Residuals, pdg: np.ndarray, diversity: np.ndarray,
                    convention: str = "zdc") -> dict[str, dict[str, float]]:
    """All metrics of one generation, for each species and for all particles together.

    The Monte-Carlo floor is this same function applied to a second simulation in the place of the generated responses.

    Arguments:
        residuals: `Residuals` of N samples.
        pdg: (N,) PDG ids.
        diversity: (N,) output variability in [0, 1].
        convention: of MAE and RMSE, "zdc" or "faster-zdc".

    Returns:
        species -> {"WS", "MAE", "RMSE", "MAE_w", "WS1", ..., "WS5"} -> number; NaN for a species without rows.

    Raises:
        ValueError: for an unknown convention, or `pdg` and `diversity` that are not of shape (N,).
    """
    pdg, diversity = np.asarray(pdg), np.asarray(diversity, "float64")
    if pdg.shape != (len(residuals),) or diversity.shape != pdg.shape:
        raise ValueError(
            f"Expected pdg and diversity of shape ({len(residuals)},), received {pdg.shape} and {diversity.shape}."
        )
    result = {}
    for name, rows in species_rows(pdg).items():
        part = residuals[rows]
        if len(part):
            distances = wasserstein(part.real, part.generated)
            values = [distances.mean(), mae(part, convention), rmse(part, convention)]
            values += [mae_weighted(part, diversity[rows]), *distances]
        else:
            values = [np.nan] * (4 + CHANNEL_COUNT)
        keys = ["WS", "MAE", "RMSE", "MAE_w", *(f"WS{k + 1}" for k in range(CHANNEL_COUNT))]
        result[name] = {key: float(value) for key, value in zip(keys, values, strict=True)}
    return result


def over_runs(runs: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, tuple[float, float]]]:
    """Mean and standard deviation over repeated generations of every metric.

    Arguments:
        runs: results of `channel_metrics`, one for each generation.

    Returns:
        species -> metric -> (mean, deviation); the deviation is the sample standard deviation, 0 for one run.

    Raises:
        ValueError: for no runs.

    Example:
        >>> over_runs([{"all": {"WS": 1.0}}, {"all": {"WS": 3.0}}])["all"]["WS"]
        (2.0, 1.4142135623730951)
    """
    if not runs:
        raise ValueError("Expected at least one generation, received none.")
    result = {}
    for name, metrics in runs[0].items():
        table = np.array([[run[name][key] for key in metrics] for run in runs])
        deviation = table.std(axis=0, ddof=1) if len(runs) > 1 else 0.0 * table[0]
        result[name] = {k: (float(m), float(d)) for k, m, d in zip(metrics, table.mean(axis=0), deviation, strict=True)}
    return result


def _divisor(convention, count):
    """What an error is divided by: 1, or `count` under "faster-zdc", which takes one mean more."""
    if convention not in ERROR_CONVENTIONS:
        raise ValueError(f"Unknown convention {convention!r}; expected one of {', '.join(ERROR_CONVENTIONS)}.")
    return 1 if convention == "zdc" else count

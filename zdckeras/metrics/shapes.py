"""Shower-shape observables: how bright, where, how wide, how concentrated each response is."""

import numpy as np

from zdckeras.data.moments import Moments, cell_places, moment_weights
from zdckeras.mapped import in_blocks
from zdckeras.metrics.channels import spreads, two_tables, wasserstein

CORE_CELLS = 5  # cells whose share of the photons is the core fraction

# Symbols and units of the observables, in column order.
SHAPE_OBSERVABLES = {
    "photons": "photon sum",
    "centre_x": "centre of gravity x [cells]",
    "centre_y": "centre of gravity y [cells]",
    "width": "width (rms) [cells]",
    "lit": "lit cells",
    "brightest": "brightest cell [photons]",
    "core": f"share of the {CORE_CELLS} brightest cells",
    "asymmetry_x": "right-left asymmetry",
    "asymmetry_y": "up-down asymmetry",
    "parity": "even-odd asymmetry",
    "sparsity": "Hoyer sparsity",
}


def observables_in(unit: str) -> dict[str, str]:
    """`SHAPE_OBSERVABLES` of responses in another unit, as detectors have it.

    Example:
        >>> observables_in("MeV")["photons"], observables_in("MeV")["brightest"], observables_in("MeV")["lit"]
        ('sum [MeV]', 'brightest cell [MeV]', 'lit cells')
    """
    names = {"photons": f"sum [{unit}]", "brightest": f"brightest cell [{unit}]"}
    return SHAPE_OBSERVABLES | (names if unit != "photons" else {})


def shapes(responses: np.ndarray) -> np.ndarray:
    """Eleven shower-shape observables of each response.

    With counts R[i,j], D cells, S = sum_ij R, and positions x_i = i - (nx-1)/2, y_j = j - (ny-1)/2 in cells from the
    detector's centre:
    photons S; centre_x = sum R x / S and centre_y = sum R y / S; width = sqrt(sum R ((x-centre_x)^2 +
    (y-centre_y)^2) / S); lit = number of cells with R > 0; brightest = max R; core = sum of the 5 largest R / S;
    asymmetry_x = sum R sign(x) / S and asymmetry_y likewise; parity = sum R (-1)^(i+j) / S, the balance between
    the two groups of fibres that are read out apart; sparsity = (sqrt(D) - S / sqrt(sum R^2)) / (sqrt(D) - 1), which
    is 0 for equal light everywhere and 1 for a single lit cell (Hoyer 2004).
    A response without photons has sparsity 1 and 0 elsewhere.

    Arguments:
        responses: (N, nx, ny) photon counts, whole or not.

    Returns:
        (N, 11) float64, columns in the order of `SHAPE_OBSERVABLES`.

    Raises:
        ValueError: for another shape, or values that are negative or not finite.

    Example:
        >>> image = np.zeros((1, 4, 4))
        >>> image[0, 3, 0] = 7
        >>> dict(zip(SHAPE_OBSERVABLES, shapes(image)[0].tolist()))["centre_x"]
        1.5
    """
    responses = np.asarray(responses)
    if responses.ndim != 3:
        raise ValueError(f"Expected responses of shape (N, nx, ny), received {responses.shape}.")
    rows, nx, ny = responses.shape
    cells = nx * ny
    parity = 1.0 - 2.0 * (np.indices((nx, ny)).sum(axis=0) % 2)
    weights = moment_weights((nx, ny), *np.sign(cell_places((nx, ny))), parity.reshape(-1))
    core = min(CORE_CELLS, cells)
    table = np.empty((rows, len(SHAPE_OBSERVABLES)))
    for part, block in in_blocks(responses):
        counts = block.reshape(-1, cells)
        lit = np.count_nonzero(counts, axis=1)
        counts = counts.astype("float64")
        if not (np.isfinite(counts).all() and (counts >= 0).all()):
            raise ValueError(f"Expected finite, non-negative photon counts in rows {part.start} to "
                             f"{part.start + len(counts)}.")
        top = np.sort(counts, axis=1)[:, cells - core :]  # a whole sort is faster than NumPy's partition
        moments = Moments(counts, weights, least=np.finfo("float64").tiny)
        photons, some = moments.total[:, 0], moments.some[:, 0]
        empty = photons == 0
        norm = np.sqrt(np.einsum("nd,nd->n", counts, counts)) + empty
        sparsity = (np.sqrt(cells) - photons / norm) / (np.sqrt(cells) - 1.0)
        sparsity = np.where(empty, 1.0, sparsity)
        table[part] = np.column_stack([
            photons, moments.centre, np.sqrt(moments.variance()), lit, top.max(axis=1), top.sum(axis=1) / some,
            moments.more / moments.some, sparsity])
    return table


def separation_power(real: np.ndarray, generated: np.ndarray, bins: int = 30) -> np.ndarray:
    """Separation power of each column, S = (1/2) sum_b (p_b - q_b)^2 / (p_b + q_b): 0 for equal histograms, at most 1.

    p and q are the normalised histograms of real and generated values in bins that hold equally many real ones, with
    everything beyond in the outer bins; equal values stay in one bin. Photon counts are judged by this one; energies by
    `zdckeras.metrics.directional.separation_power`, whose bins are equally wide, so that their numbers do not compare.

    Arguments:
        real: (N, K) values.
        generated: (M, K) values.
        bins: number of bins, fewer where values are equal.

    Returns:
        (K,) numbers from 0 to 1.

    Raises:
        ValueError: for tables without rows, with different columns, or with values that are not finite.

    Source: CaloChallenge, arXiv:2410.21611, section 5.

    Example:
        >>> x = np.arange(8.0)[:, None]
        >>> separation_power(x, x, 4).tolist(), separation_power(x, x + 4, 2).tolist()
        ([0.0], [0.3333333333333333])
    """
    real, generated, powers = *two_tables(real, generated), []
    for x, y in zip(real.T, generated.T, strict=True):
        inner = np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf"))
        p, q = (np.bincount(np.searchsorted(inner, values), minlength=len(inner) + 1) / len(values)
                for values in (x, y))
        either = p + q > 0
        powers.append(0.5 * np.sum((p - q)[either] ** 2 / (p + q)[either]))
    return np.array(powers)


def shape_table(real: np.ndarray, generated: np.ndarray) -> dict[str, dict[str, float]]:
    """Mean and deviation of every observable, real and generated, and how far apart the two distributions are.

    The distance is the Wasserstein-1 distance divided by the real standard deviation (by 1 where that is 0), so that
    0.1 means that the photons, cells, ... are on average a tenth of the natural spread away.

    Arguments:
        real: (N, 11) from `shapes`.
        generated: (M, 11) from `shapes`.

    Returns:
        observable -> {"real", "real_std", "generated", "generated_std", "distance", "separation"} -> number, the last
        from `separation_power`.

    Raises:
        ValueError: unless both have a column for every observable.
    """
    real, generated = np.asarray(real, "float64"), np.asarray(generated, "float64")
    if real.shape[1:] != (len(SHAPE_OBSERVABLES),) or generated.shape[1:] != real.shape[1:]:
        raise ValueError(f"Expected two tables (N, {len(SHAPE_OBSERVABLES)}) of `shapes`, received {real.shape} and "
                         f"{generated.shape}.")
    spread = spreads(real)
    distance = wasserstein(real, generated) / np.where(spread > 0, spread, 1.0)
    columns = [real.mean(axis=0), spread, generated.mean(axis=0), generated.std(axis=0), distance,
               separation_power(real, generated)]
    keys = ("real", "real_std", "generated", "generated_std", "distance", "separation")
    return {
        name: {key: float(column[k]) for key, column in zip(keys, columns, strict=True)}
        for k, name in enumerate(SHAPE_OBSERVABLES)
    }

"""Does a model vary for one particle as much as nature does: diversity per condition, generated against real."""

import numpy as np

from zdckeras.data.showers import ROWS_AT_ONCE


def draw_diversity(draws):
    """Diversity of repeated responses to each particle, D = sum_ij sqrt(mean_s R_s[i,j]^2 - (mean_s R_s[i,j])^2).

    Arguments:
        draws: list of R arrays (N, nx, ny): the s-th responses to the same N particles.

    Returns:
        (N,) population standard deviations over draws, summed over cells [photons].

    Raises:
        ValueError: for fewer than two draws, or ones of different shapes.

    Source: SDI-GAN, arXiv:2207.01561, before its division by the largest.

    Example:
        >>> draw_diversity([np.zeros((1, 2, 2)), np.full((1, 2, 2), 2)]).tolist()
        [4.0]
    """
    shapes = {np.shape(draw) for draw in draws}
    if len(draws) < 2 or len(shapes) != 1:
        raise ValueError(f"Expected at least two draws of one shape, received {len(draws)} of shapes {sorted(shapes)}.")
    result = np.empty(len(draws[0]))
    for start in range(0, len(result), ROWS_AT_ONCE):
        block = np.stack([draw[start : start + ROWS_AT_ONCE] for draw in draws]).astype("float32")
        result[start : start + ROWS_AT_ONCE] = block.std(axis=0).sum(axis=(1, 2))
    return result


def diversity_ratios(real, generated, pdg, codes):
    """Generated over real diversity, each averaged over the particles of a species; 1 is right, 0 a mean image.

    Arguments:
        real, generated: lists of equally many draws (N, nx, ny) for the same particles.
        pdg: (N,) PDG ids.
        codes: name -> PDG id of the species wanted.

    Returns:
        Name -> ratio; NaN for a species that does not occur, or whose real draws are all alike.

    Raises:
        ValueError: for different numbers of draws (the deviation of few draws is biased, alike on both sides only if
            they are equally many).
    """
    if len(real) != len(generated):
        raise ValueError(f"Expected as many real as generated draws, received {len(real)} and {len(generated)}.")
    true, made, pdg = draw_diversity(real), draw_diversity(generated), np.asarray(pdg)
    result = {}
    for name, code in codes.items():
        rows = pdg == code
        result[name] = float(made[rows].sum() / true[rows].sum()) if true[rows].any() else float("nan")
    return result

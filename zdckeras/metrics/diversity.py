"""Does a model vary for one particle as much as nature does: diversity per condition, generated against real."""

from collections.abc import Sequence

import numpy as np

from zdckeras.data.repeats import repeat_statistics
from zdckeras.mapped import in_blocks

DIVERSITY_SPECIES = {"gamma": 22, "n": 2112, "K0S": 310, "Lambda": 3122}  # from one that varies little to much


def draw_diversity(draws: Sequence[np.ndarray]) -> np.ndarray:
    """Diversity of repeated responses to each particle, D of `zdckeras.data.repeats.repeat_statistics`.

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
    for parts in zip(*map(in_blocks, draws), strict=True):
        (rows, *_), blocks = zip(*parts, strict=True)
        particle, repeats = np.arange(len(blocks[0])), np.full(len(blocks[0]), len(draws))
        deviation, _, _ = repeat_statistics(np.concatenate(blocks), np.tile(particle, len(draws)), repeats)
        result[rows] = deviation
    return result


def diversity_ratios(real: Sequence[np.ndarray], generated: Sequence[np.ndarray], pdg: np.ndarray,
                     codes: dict[str, int | None] = DIVERSITY_SPECIES) -> dict[str, float]:
    """Generated over real diversity, each averaged over the particles of a species; 1 is right, 0 a mean image.

    Arguments:
        real, generated: lists of equally many draws (N, nx, ny) for the same particles.
        pdg: (N,) PDG ids.
        codes: name -> PDG id of the species wanted; None for all particles together.

    Returns:
        Name -> ratio; NaN for a species that does not occur, or whose real draws are all alike, and where the generated
        draws are the real ones themselves, of which it would be 1.

    Raises:
        ValueError: for different numbers of draws (the deviation of few draws is biased, alike on both sides only if
            they are equally many).
    """
    if len(real) != len(generated):
        raise ValueError(f"Expected as many real as generated draws, received {len(real)} and {len(generated)}.")
    if all(a is b for a, b in zip(real, generated, strict=True)):
        return dict.fromkeys(codes, float("nan"))
    true, made, pdg = draw_diversity(real), draw_diversity(generated), np.asarray(pdg)
    result = {}
    for name, code in codes.items():
        rows = slice(None) if code is None else pdg == code
        result[name] = float(made[rows].sum() / true[rows].sum()) if true[rows].any() else float("nan")
    return result

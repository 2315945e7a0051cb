"""Proper scores of responses: of channel sums, of shapes, of blocks of cells and of single cells."""

from collections.abc import Sequence

from keras import ops

from zdckeras import backend
from zdckeras.backend import Tensor
from zdckeras.gan.losses import absolute

BLOCK_CELLS = 4  # cells along each side of a block whose light is compared
BLOCK_WEIGHT, CELL_WEIGHT = 0.25, 0.1  # weights of the scores of blocks and of single cells


def energy_score(real: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Per-sample energy score, ES = (|x - x'| + |x - x''|) / 2 - |x' - x''| / 2 with Euclidean distances.

    A strictly proper score: its expectation over x is least when x' and x'', two independent draws of a model, have the
    distribution of x. So one real response to each particle is enough to learn the whole conditional distribution.

    Arguments:
        real, first, second: (B, F) features of a real response and of two generated ones to the same particle.

    Returns:
        (B,).

    Source:
        Gneiting and Raftery, J. Am. Stat. Assoc. 102 (2007) 359, eq. 22.

    Example:
        >>> x = ops.zeros((1, 2))
        >>> round(float(energy_score(x, x + 1.0, x + 1.0)[0]), 3)
        1.414
    """
    def distance(a, b):
        return ops.sqrt(ops.sum(ops.square(a - b), axis=-1) + 1e-6)

    return 0.5 * (distance(real, first) + distance(real, second) - distance(first, second))


def block_features(photons: Tensor) -> Tensor:
    """ln(1 + n) of blocks of 4 x 4 cells, (B, blocks); cells beyond the last whole block are left out."""
    _, nx, ny = photons.shape
    across, along = nx // BLOCK_CELLS, ny // BLOCK_CELLS
    photons = backend.cropped(photons, across * BLOCK_CELLS, along * BLOCK_CELLS)
    blocks = ops.sum(ops.reshape(photons, (-1, across, BLOCK_CELLS, along, BLOCK_CELLS)), axis=(2, 4))
    return ops.reshape(ops.log1p(blocks), (-1, across * along))


def ranked_probability(real: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Per-sample sum over numbers of the energy score of each, (B,), from (B, ...) values of any kind."""
    score = 0.5 * (absolute(real - first) + absolute(real - second) - absolute(first - second))
    return ops.sum(score, axis=tuple(range(1, len(score.shape))))


def cell_score(real: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Per-sample sum of the energy scores of all single cells, on the scale of even Poisson noise.

    sum_ij (|y - y'| + |y - y''|) / 2 - |y' - y''| / 2, y = sqrt(n + 3/8): the continuous ranked probability score of
    every cell. The score of a whole image hardly notices cells that vary too much together; this one sees nothing else,
    and with it the diversity of photons in ZN is right (README, `recipes/sdi_gan.py --detector zn`).

    Arguments:
        real, first, second: (B, nx, ny) photons of a real response and of two generated ones to the same particle.

    Returns:
        (B,).

    Source:
        Anscombe, Biometrika 35 (1948) 246; Gneiting and Raftery, J. Am. Stat. Assoc. 102 (2007) 359, eq. 21.

    Example:
        >>> n = ops.zeros((1, 2, 2))
        >>> round(float(cell_score(n, n + 1.0, n + 1.0)[0]), 3)  # 4 (sqrt(1.375) - sqrt(0.375))
        2.241
    """
    return ranked_probability(*(ops.sqrt(n + 0.375) for n in (real, first, second)))


def sums_score(summaries: Sequence, real: Sequence[Tensor], *generated: Sequence[Tensor]) -> Tensor:
    """Per-sample energy score of channel sums and their total, as they are and as logarithms, averaged over detectors.

    Arguments:
        summaries: `SummaryFeatures` of each detector.
        real: (B, 5) real sums of each detector.
        generated: two draws, each with (B, 5) sums of each detector.

    Returns:
        (B,).
    """
    scores = [energy_score(*map(summary.of_sums, draws))
              for summary, *draws in zip(summaries, real, *generated, strict=True)]
    return sum(scores) / len(scores)


def shape_score(summaries: Sequence, conditions: Tensor, real: Sequence[Tensor], generated: Sequence[Tensor]) -> Tensor:
    """Per-sample score ES(`SummaryFeatures`) + ES(`block_features`) / 4 + `cell_score` / 10, averaged over detectors.

    Arguments:
        summaries: `SummaryFeatures` of each detector.
        conditions: (B, 9).
        real: (B, nx, ny) photons of each detector.
        generated: (2 B, nx, ny) photons of each detector, two draws one after the other.

    Returns:
        (B,).
    """
    loss = 0.0
    for summary, true, photons in zip(summaries, real, generated, strict=True):
        draws = [ops.cast(true, "float32"), *ops.split(photons, 2)]
        loss = loss + energy_score(*(summary(n, conditions) for n in draws))
        loss = loss + BLOCK_WEIGHT * energy_score(*map(block_features, draws)) + CELL_WEIGHT * cell_score(*draws)
    return loss / len(real)

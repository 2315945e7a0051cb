"""Rank of real responses among generated ones of the same particle: a test of every distribution at once."""

import numpy as np
from scipy.stats import kstest


def ranks(real: np.ndarray, generated: np.ndarray, rng: int | np.random.Generator) -> np.ndarray:
    """Where each real value stands among the generated ones of its particle, r = (below + u (equal + 1)) / (M + 1).

    Uniform in (0, 1) if real and generated values have one distribution given the particle, whatever the particles
    are; equal values are ordered by chance, u.

    Arguments:
        real: (N, K) values of K observables.
        generated: (N, M, K), M responses to each particle.
        rng: seed or NumPy generator, of u.

    Returns:
        (N, K) in (0, 1).

    Raises:
        ValueError: for shapes that do not belong together, or values that are not finite.

    Source:
        rank histograms; Talagrand et al., ECMWF workshop on predictability (1997); Hamill, Mon. Wea. Rev. 129 (2001).

    Example:
        >>> real, made = np.random.default_rng(0).normal(size=(2, 500, 40, 1))
        >>> values = ranks(real[:, 0], made, 1)
        >>> bool(abs(values.mean() - 0.5) < 0.03), bool(ranks(real[:, 0] + 9, made, 1).min() > 0.95)
        (True, True)
    """
    real, generated = np.asarray(real), np.asarray(generated)
    if real.ndim != 2 or generated.ndim != 3 or (len(generated), generated.shape[2]) != real.shape:
        raise ValueError(f"Expected real values (N, K) and generated ones (N, M, K), received {real.shape} and "
                         f"{generated.shape}.")
    if not (np.isfinite(real).all() and np.isfinite(generated).all()):
        raise ValueError("Expected finite values, received NaN or infinity.")
    below = (generated < real[:, None]).sum(axis=1)
    equal = (generated == real[:, None]).sum(axis=1)
    return (below + np.random.default_rng(rng).random(real.shape) * (equal + 1)) / (generated.shape[1] + 1)


def rank_pulls(values: np.ndarray) -> np.ndarray:
    """How far ranks are from uniform, in standard errors, (3, K): their mean, their spread, and the KS probability.

    (m - 1/2) sqrt(12 N);   (v - 1/12) sqrt(180 N), v the mean of (r - 1/2)^2, negative where real values lie in the
    middle of the generated ones (these vary too much);   p of Kolmogorov and Smirnov.

    Arguments:
        values: (N, K) from `ranks`.

    Raises:
        ValueError: for another shape, no rows, or values outside [0, 1].

    Example:
        >>> rank_pulls(np.random.default_rng(0).random((900, 2))).shape
        (3, 2)
    """
    centred = np.asarray(values, "float64") - 0.5
    if centred.ndim != 2 or not len(centred) or not (np.abs(centred) <= 0.5).all():
        raise ValueError(f"Expected ranks (N, K) from 0 to 1, received shape {centred.shape} with "
                         f"{(~(np.abs(centred) <= 0.5)).sum()} values outside.")
    mean = centred.mean(axis=0) * np.sqrt(12 * len(centred))
    spread = ((centred**2).mean(axis=0) - 1 / 12) * np.sqrt(180 * len(centred))
    return np.stack([mean, spread, [kstest(column + 0.5, "uniform").pvalue for column in centred.T]])

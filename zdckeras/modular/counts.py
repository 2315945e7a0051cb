"""Over-dispersed photon counts: how likely they are, and how they are drawn from uniform numbers."""

import numpy as np
from keras import ops
from scipy.stats import norm, poisson

from zdckeras import backend
from zdckeras.backend import Tensor
from zdckeras.layers.photon_drawing import CERTAIN, normal_quantile

SMALL = 8.0  # mean from which on Poisson counts are drawn by their expansion in normal quantiles
TERMS = 28  # of the cumulative sum below; P(n > 28 | 8) = 1e-8


def _log_gamma(x):
    """ln Gamma(x) for x > 0 by Stirling's series at x + 3, to 1e-6 of the value; the constant ln(2 pi) / 2 left out."""
    y = x + 3.0
    return (y - 0.5) * ops.log(y) - y + 1.0 / (12.0 * y) - ops.log(x * (x + 1.0) * (x + 2.0))


def negative_binomial_loss(counts: Tensor, log_mean: Tensor, log_shape: Tensor) -> Tensor:
    """-ln P(n | m, r) of counts that are Poisson around m times a Gamma variable of mean 1 and shape r, without ln n!.

    -ln P = (r + n) ln(r + m) - r ln r - n ln m - ln Gamma(n + r) + ln Gamma(r)

    The variance is m + m^2 / r: single fibres are lumpier than Poisson.

    Arguments:
        counts: (B, D) photons n.
        log_mean: (B, D) ln m.
        log_shape: (B, D) ln r.

    Returns:
        (B, D) [nats].

    Example:
        >>> import math
        >>> n, m, r = (ops.convert_to_tensor([[v]]) for v in (3.0, math.log(2.0), math.log(5.0)))
        >>> p = math.gamma(8) / math.gamma(5) * (5 / 7) ** 5 * (2 / 7) ** 3  # without 1 / n!
        >>> abs(float(negative_binomial_loss(n, m, r)[0, 0]) + math.log(p)) < 1e-4
        True
    """
    mean, shape = ops.exp(log_mean), ops.exp(log_shape)
    rising = ops.where(counts > 0.0, _log_gamma(counts + shape) - _log_gamma(shape), 0.0)
    return shape * ops.log1p(mean / shape) + counts * (ops.log(shape + mean) - log_mean) - rising


def poisson_quantile(uniform: Tensor, mean: Tensor) -> Tensor:
    """Poisson counts from uniform numbers: the smallest n with P(N <= n) > u.

    For means below 8 the cumulative sum itself; above, an expansion in the normal quantile z,
    n = floor(m + z sqrt(m) + 1/3 + z^2/6 - (z/36 + z^3/72) / sqrt(m) + (-8/405 + 7 z^2/810 + z^4/270) / m).

    Arguments:
        uniform: (B, D) numbers in (0, 1).
        mean: (B, D) non-negative.

    Returns:
        (B, D) whole numbers, float32.

    Source:
        Giles, ACM Trans. Math. Softw. 42 (2016) 7, "Algorithm 955", eq. 12.

    Example:
        >>> u = ops.convert_to_tensor([0.1, 0.5, 0.9])
        >>> [ops.convert_to_numpy(poisson_quantile(u, ops.full_like(u, m))).tolist() for m in (2.0, 100.0)]
        [[0.0, 2.0, 4.0], [87.0, 100.0, 113.0]]
    """
    return ops.where(mean < SMALL, _summed(uniform, ops.minimum(mean, SMALL)), _expanded(uniform, mean))


def _summed(uniform, mean):
    """Poisson quantiles by the cumulative sum, of means up to 8."""
    term = ops.exp(-mean)
    below, count = term, ops.zeros_like(term)
    for k in range(1, TERMS + 1):
        count = count + ops.cast(uniform > below, "float32")
        term = term * mean * (1.0 / k)
        below = below + term
    return count


def _expanded(uniform, mean):
    """Poisson quantiles by the expansion in normal ones, of means from 8 on."""
    z, large = normal_quantile(uniform), ops.maximum(mean, SMALL)
    root, square = ops.sqrt(large), z * z
    far = ops.floor(large + z * root + 1.0 / 3.0 + square / 6.0 - z * (2.0 + square) / (72.0 * root)
                    + (square * (7.0 + 3.0 * square) / 810.0 - 8.0 / 405.0) / large)
    return ops.maximum(far, 0.0)


def gamma_quantile(first: Tensor, second: Tensor, shape: Tensor) -> Tensor:
    """Gamma variables of mean 1 from two uniform numbers each: G = (Q(u_1; r + 1) / r) u_2^(1 / r).

    A Gamma variable of shape r is one of shape r + 1 times a power of a uniform number, which is exact; that of shape
    r + 1 > 1 comes from Wilson and Hilferty's cube of a normal variable. Over all r the mean is within 0.5 %.

    Arguments:
        first, second: (B, D) numbers in (0, 1).
        shape: (B, D) positive, r.

    Returns:
        (B, D).

    Source:
        Wilson and Hilferty, PNAS 17 (1931) 684; Marsaglia and Tsang, ACM Trans. Math. Softw. 26 (2000) 363.

    Example:
        >>> import numpy as np
        >>> u = np.random.default_rng(0).random((2, 200_000), "float32")
        >>> g = ops.convert_to_numpy(gamma_quantile(*u, np.full(200_000, 2.0, "float32")))
        >>> round(float(g.mean()), 2), round(float(g.var()), 2)
        (1.0, 0.5)
    """
    first, second, shape = (ops.convert_to_tensor(part) for part in (first, second, shape))
    more = shape + 1.0
    return more / shape * _cube(first, more) * ops.exp(ops.log(second) / shape)


def _cube(uniform, shape):
    """Wilson and Hilferty's Gamma variables of mean 1."""
    root = 1.0 - 1.0 / (9.0 * shape) + normal_quantile(uniform) / (3.0 * ops.sqrt(shape))
    return root * root * root


def draw_counts(mean: Tensor, shape: Tensor, uniform: Tensor, edge: float = CERTAIN) -> Tensor:
    """Photons in every cell: Poisson around m G, G a Gamma variable of mean 1 and shape r.

    Arguments:
        mean, shape: (B, D) m and r.
        uniform: (B, 3 D) numbers in (0, 1).
        edge: least distance of these from 0 and 1.

    Returns:
        (B, D) whole numbers, float32.
    """
    first, second, third = ops.split(uniform, 3, axis=-1)
    if backend.is_compact():
        return _draw_possible(mean, shape, first, second, third, edge)
    return poisson_quantile(third, mean * ops.maximum(gamma_quantile(first, second, shape), 0.0))


def _draw_possible(mean, shape, first, second, third, edge):
    """`draw_counts` of the cells that may get a photon, some tenth of them: elsewhere u < exp(-m G) for any u_1.

    As -ln u > 1 - u and Wilson and Hilferty's cube is below (1 + z / 3)^3, z the normal quantile of 1 - `edge`, cells
    with 1 - u above m (r + 1) / r u_2^(1 / r) times that stay empty.
    """
    more = shape + 1.0
    scale = mean * (more / shape * ops.exp(ops.log(second) / shape))
    flags = 1.0 - third < scale * (1.01 + norm.isf(edge) / 3.0) ** 3
    index = backend.positions(ops.reshape(flags, (-1,)))
    more, scale, first, third = (backend.rows_at(ops.reshape(values, (-1,)), index)
                                 for values in (more, scale, first, third))
    mean = scale * ops.maximum(_cube(first, more), 0.0)
    count = ops.where(mean < SMALL, _compared(third, ops.minimum(mean, SMALL), edge), _expanded(third, mean))
    return ops.reshape(backend.added_rows(ops.size(flags), index, count), ops.shape(flags))


def _compared(uniform, mean, edge):
    """`_summed` of (M,) numbers with all terms side by side, those that numbers up to 1 - `edge` can reach."""
    factors = 1.0 / np.arange(1, poisson.isf(edge, SMALL), dtype="float32")
    term = ops.exp(-mean)[None]
    below = [term]
    for factor in ops.split(factors[:, None] * mean[None], len(factors), axis=0):
        term = term * factor
        below.append(below[-1] + term)
    return ops.sum(ops.cast(uniform > ops.concatenate(below, axis=0), "float32"), axis=0)

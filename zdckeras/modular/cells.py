"""What cells hold, photons or energies: how likely it is, how it adds up over arrivals, and how it is drawn."""

import math

from keras import ops

from zdckeras.backend import Tensor
from zdckeras.layers.photon_drawing import CERTAIN, normal_quantile
from zdckeras.modular.counts import draw_counts, gamma_quantile, negative_binomial_loss

FAINTEST = 1e-12
SHARPEST = 1e-6  # relative variance of the energy of a lit cell, at least
LEAST = 1e-3  # MeV in a lit cell, half of the faintest point of a shower in the embedded libraries
FAR = 4.0  # ln of the energy over its mean, beyond which the loss of a lit cell goes on as a straight line


class PhotonCells:
    """Over-dispersed photons: Poisson around m times a Gamma variable of mean 1 and shape r.

    m and r are what a decoder says of a cell, by their logarithms. The lumpy light of several arrivals has the sum of
    their means m_i and of their variances m_i^2 / r_i.
    """

    DRAWS, DRAWN = 3, 0  # uniform numbers that a cell, and beside them a response, takes
    PARTS, SHARED = 2, 0  # numbers of a cell, and of all its cells together, that add up over arrivals

    @staticmethod
    def loss(photons: Tensor, log_mean: Tensor, log_shape: Tensor) -> Tensor:
        """-ln P(n | m, r) without ln n!, (B, D) from three of that shape."""
        return negative_binomial_loss(photons, log_mean, log_shape)

    @staticmethod
    def parts(log_mean: Tensor, log_shape: Tensor) -> Tensor:
        """m and m^2 / r side by side, (B, 2 D)."""
        light = ops.exp(log_mean)
        return ops.concatenate([light, light * light * ops.exp(-log_shape)], axis=-1)

    @staticmethod
    def whole(parts: Tensor) -> tuple[Tensor, Tensor]:
        """m and r, (B, D) each, of added `parts`."""
        mean, extra = ops.split(parts, 2, axis=-1)
        return mean, ops.square(mean) / ops.maximum(extra, FAINTEST) + FAINTEST

    @staticmethod
    def draw(mean: Tensor, shape: Tensor, uniform: Tensor, edge: float = CERTAIN) -> Tensor:
        """Photons (B, D) from uniform numbers (B, 3 D), see `zdckeras.modular.counts.draw_counts`."""
        return draw_counts(mean, shape, uniform, edge)


class EnergyCells:
    """Energies of cells that are empty or hold a Gamma variable: h hits on average leave the mean energy m.

    P(0) = exp(-h),   e ~ Gamma of mean m / (1 - exp(-h)) and shape k otherwise,   ln S ~ N(ln M + d, s^2)

    m, k and h are what a decoder says of a cell, by their logarithms; m is the mean over empty and lit cells. S is the
    sum over all cells and M that of their means: what one cell has is not left for another, so that S is known better
    than cells that fluctuate by themselves would leave it. Cells are drawn, then scaled to have the sum S. Over several
    arrivals m and h add up, and so do the variances v = m^2 ((1 + 1 / k) / (1 - exp(-h)) - 1), the medians of S and the
    squares of s times them.
    """

    DRAWS, DRAWN = 3, 1
    PARTS, SHARED = 3, 2

    @staticmethod
    def loss(energy: Tensor, log_mean: Tensor, log_shape: Tensor, log_hits: Tensor, shift: Tensor,
             log_spread: Tensor) -> Tensor:
        """h of an empty cell; of a lit one, -ln of the density of ln e, with t the energy over its mean:

        k (t - 1 - ln t) + ln Gamma(k) - k ln k + k - ln(1 - exp(-h)),   and of the sum  (ln S / M - d)^2 / 2 s^2 + ln s

        Arguments:
            energy: (B, D) e [MeV].
            log_mean, log_shape, log_hits: (B, D) ln m, ln k, ln h.
            shift, log_spread: (B, 1) d, ln s.

        Returns:
            (B, D + 1) [nats], the sum last. Beyond t = exp(4), exp is continued by its tangent, so that no gradient is
            without bounds. The sum of an empty response counts nothing.

        Example:
            >>> e, m, k, h = (ops.convert_to_tensor([[v]]) for v in (3.0, math.log(2.0), math.log(5.0), math.log(20.0)))
            >>> p = 7.5**5 * math.exp(-7.5) / math.gamma(5)  # of k t = 7.5; h = 20 leaves no cell empty
            >>> cell, total = ops.unstack(EnergyCells.loss(e, m, k, h, 0.0 * m, 0.0 * m)[0])
            >>> abs(float(cell) + math.log(p)) < 1e-4, abs(float(total) - math.log(1.5) ** 2 / 2) < 1e-4
            (True, True)
        """
        hits, shape, lit = ops.exp(log_hits), ops.exp(log_shape), energy > 0.0
        log_lit = ops.log(-ops.expm1(-hits))
        ratio = ops.where(lit, ops.log(ops.where(lit, energy, 1.0)) - log_mean + log_lit, 0.0)
        near = ops.minimum(ratio, FAR)
        above = ops.expm1(near) + ops.exp(near) * (ratio - near) - ratio
        cells = ops.where(lit, shape * above + _gamma_norm(shape) - log_lit, hits)
        held, mean = (ops.sum(values, axis=-1, keepdims=True) for values in (energy, ops.exp(log_mean)))
        off = (ops.log(ops.maximum(held, LEAST)) - ops.log(ops.maximum(mean, FAINTEST)) - shift) * ops.exp(-log_spread)
        near = ops.clip(off, -FAR, FAR)
        total = near * (off - 0.5 * near) + log_spread
        return ops.concatenate([cells, ops.where(held > 0.0, total, 0.0)], axis=-1)

    @staticmethod
    def parts(log_mean: Tensor, log_shape: Tensor, log_hits: Tensor, shift: Tensor, log_spread: Tensor) -> Tensor:
        """m, v and h side by side, then M exp(d) and the square of s times it, (B, 3 D + 2)."""
        mean, hits = ops.exp(log_mean), ops.exp(log_hits)
        variance = mean * mean * ((1.0 + ops.exp(-log_shape)) / -ops.expm1(-hits) - 1.0)
        total = ops.sum(mean, axis=-1, keepdims=True) * ops.exp(shift)
        return ops.concatenate([mean, variance, hits, total, ops.square(total * ops.exp(log_spread))], axis=-1)

    @staticmethod
    def whole(parts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """m, k and h, (B, D) each, of added `parts`: 1 / k = v (1 - exp(-h)) / m^2 - exp(-h); and M exp(d) and s."""
        mean, variance, hits = ops.split(parts[:, :-2], 3, axis=-1)
        lit, total = -ops.expm1(-hits), parts[:, -2:-1]
        spread = variance * lit / ops.maximum(mean * mean, FAINTEST) - (1.0 - lit)
        return (mean, 1.0 / ops.maximum(spread, SHARPEST), hits, total,
                ops.sqrt(parts[:, -1:]) / ops.maximum(total, FAINTEST))

    @staticmethod
    def alone(mean: Tensor, shape: Tensor, hits: Tensor, uniform: Tensor) -> Tensor:
        """Energies (B, D) [MeV] of cells that fluctuate by themselves, from uniform numbers (B, 3 D).

        u_1 says whether a cell is lit, and `zdckeras.modular.counts.gamma_quantile` makes its energy of the others:
        Wilson and Hilferty's approximation for shape k + 1, at least 1 keV.
        """
        first, second, third = ops.split(uniform, 3, axis=-1)
        lit = -ops.expm1(-hits)
        energy = ops.maximum(mean / ops.maximum(lit, FAINTEST) * gamma_quantile(second, third, shape), LEAST)
        return ops.where(first < lit, energy, ops.zeros_like(energy))

    @staticmethod
    def draw(mean: Tensor, shape: Tensor, hits: Tensor, total: Tensor, spread: Tensor, uniform: Tensor,
             edge: float = CERTAIN) -> Tensor:
        """Energies (B, D) [MeV]: those of `alone`, scaled to the sum S, from uniform numbers (B, 3 D + 1) at least
        `edge` from 0 and 1, of which the last is that of S."""
        energy = EnergyCells.alone(mean, shape, hits, uniform[:, :-1])
        wanted = total * ops.exp(spread * normal_quantile(uniform[:, -1:]))
        return energy * (wanted / ops.maximum(ops.sum(energy, axis=-1, keepdims=True), LEAST))


def _gamma_norm(shape):
    """ln Gamma(k) - k ln k + k by Stirling's series at k + 3, without the cancellation of large terms."""
    y = shape + 3.0
    series = 0.5 * math.log(2.0 * math.pi) - 3.0 + 1.0 / (12.0 * y) - 1.0 / (360.0 * y * y * y)
    return shape * ops.log1p(3.0 / shape) + 2.5 * ops.log(y) + series - ops.log(shape * (shape + 1.0) * (shape + 2.0))

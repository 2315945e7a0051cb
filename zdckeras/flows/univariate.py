"""Monotone maps of one variable, applied elementwise with parameters from a network; zero parameters: identity."""

import math

import keras
import numpy as np
from keras import ops

from zdckeras import backend


@keras.saving.register_keras_serializable("zdckeras")
class Affine:
    """Shift and softly bounded scale.

        y = t + x exp(s),  s = r / (1 + |r| / s_max)

    Arguments:
        bound: s_max, the largest |log scale|.

    Returns:
        An object with `parameters` = 2 (t and r) and the two maps.

    Raises:
        ValueError: if `bound` is not positive.

    Source:
        G. Papamakarios et al., arXiv:1705.07057, eq. 4.

    Example:
        >>> y, log_slope = Affine().transform_and_log_det(ops.ones((1,)), ops.convert_to_tensor([[2.0, 0.0]]))
        >>> float(y[0]), float(log_slope[0])
        (3.0, 0.0)
    """

    parameters = 2

    def __init__(self, bound=7.0):
        if not bound > 0:
            raise ValueError(f"Expected a positive bound of the log scale, received {bound}.")
        self.bound = float(bound)

    def _shift_and_log_scale(self, params):
        shift, raw = ops.unstack(params, 2, axis=-1)
        return shift, raw / (1.0 + ops.abs(raw) / self.bound)

    def transform_and_log_det(self, x, params):
        """y and log dy/dx, both of the shape of x, for params of shape x.shape + (2,)."""
        shift, log_scale = self._shift_and_log_scale(params)
        return shift + x * ops.exp(log_scale), log_scale

    def inverse_and_log_det(self, y, params):
        """x and log dx/dy, both of the shape of y, for params of shape y.shape + (2,)."""
        shift, log_scale = self._shift_and_log_scale(params)
        return (y - shift) * ops.exp(-log_scale), -log_scale

    def get_config(self):
        return {"bound": self.bound}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable("zdckeras")
class RationalQuadraticSpline:
    """Monotone rational-quadratic spline on [-B, B] with K bins, identity outside.

        y = y_k + h_k (s theta^2 + d_k theta (1 - theta)) / (s + (d_{k+1} + d_k - 2 s) theta (1 - theta))

    with theta = (x - x_k) / w_k and s = h_k / w_k; w and h are softmax shares of 2B, the inner slopes d are softplus,
    the outer ones 1. The inverse is exact to rounding, but rounding y moves x by that over the slope: flat places limit
    a round trip in float32.

    Arguments:
        bins: number K of bins, at least 2.
        bound: B, in units of the variable.
        min_share: smallest width and height of a bin, as a share of 2B.
        min_slope: smallest slope at a knot.

    Returns:
        An object with `parameters` = 3K - 1 (K widths, K heights, K - 1 slopes, all unconstrained) and the two maps.

    Raises:
        ValueError: for fewer than 2 bins, a bound that is not positive, or minima out of reach.

    Source:
        C. Durkan et al., Neural spline flows, arXiv:1906.04032, eqs. 4 to 8.

    Example:
        >>> spline = RationalQuadraticSpline(bins=4)
        >>> y, log_slope = spline.transform_and_log_det(ops.ones((1,)), ops.zeros((1, spline.parameters)))
        >>> abs(float(y[0]) - 1.0) < 1e-6 and abs(float(log_slope[0])) < 1e-6
        True
    """

    def __init__(self, bins=8, bound=5.0, min_share=1e-3, min_slope=1e-3):
        if bins < 2 or not bound > 0 or not 0 < min_share < 1 / bins or not 0 < min_slope < 1:
            raise ValueError(
                "Expected bins >= 2, bound > 0, 0 < min_share < 1 / bins and 0 < min_slope < 1, received "
                f"{bins}, {bound}, {min_share} and {min_slope}."
            )
        self.bins, self.bound, self.min_share, self.min_slope = int(bins), float(bound), min_share, min_slope
        self.parameters = 3 * self.bins - 1
        self._slope_offset = math.log(math.expm1(1.0 - min_slope))  # zero parameters: slope 1

    def knots(self, params):
        """Widths (..., K), heights (..., K) and slopes (..., K + 1) from unconstrained (..., 3K - 1)."""
        widths, heights, inner = ops.split(params, [self.bins, 2 * self.bins], axis=-1)
        outer = ops.ones_like(inner[..., :1])
        return self._shares(widths), self._shares(heights), ops.concatenate([outer, self._slope(inner), outer], axis=-1)

    def _shares(self, raw):
        """Widths or heights (..., K) from unconstrained numbers."""
        share = 1.0 - self.min_share * self.bins
        return 2.0 * self.bound * (self.min_share + share * ops.softmax(raw, axis=-1))

    def _slope(self, raw):
        return self.min_slope + ops.softplus(raw + self._slope_offset)

    def _bin(self, value, params, by_height):
        """Left knot, width, height and slopes at both ends of the bin that holds `value`.

        Slopes are picked before they are made of their numbers, and parts are split off rather than sliced: the
        gradient of a slice is as long as what it was cut from.
        """
        k = self.bins
        *raw, inner = ops.split(params, [k, 2 * k], axis=-1)
        widths, heights = map(self._shares, raw)
        precise = "float64" if keras.backend.standardize_dtype(value.dtype) == "float64" else "float32"
        compared = ops.cast(ops.reshape(heights if by_height else widths, (-1, k)), precise)
        knots = backend.exact_matmul(compared, np.triu(np.ones((k, k - 1), precise))) - self.bound
        knots = ops.cast(ops.reshape(knots, ops.shape(inner)), value.dtype)
        passed = ops.cast(ops.expand_dims(value, -1) >= knots, value.dtype)
        one = ops.ones_like(passed[..., :1])
        zero = 0.0 * one
        below = ops.concatenate([passed, zero], axis=-1)  # bins that lie below it
        chosen = ops.concatenate([one, passed], axis=-1) - below
        left, bottom = (ops.sum(below * part, axis=-1) - self.bound for part in (widths, heights))
        ends = ops.concatenate([zero, inner], axis=-1), ops.concatenate([inner, zero], axis=-1)  # outer slopes: 1
        width, height, *slopes = (ops.sum(chosen * part, axis=-1) for part in (widths, heights, *ends))
        return left, width, bottom, height, *map(self._slope, slopes)

    def transform_and_log_det(self, x, params):
        """y and log dy/dx, both of the shape of x, for params of shape x.shape + (3K - 1,)."""
        inside = ops.abs(x) < self.bound
        clipped = ops.clip(x, -self.bound, self.bound)
        left, width, bottom, height, d0, d1 = self._bin(clipped, params, by_height=False)
        theta = ops.clip((clipped - left) / width, 0.0, 1.0)
        s, mixed = height / width, theta * (1.0 - theta)
        denominator = s + (d1 + d0 - 2.0 * s) * mixed
        y = bottom + height * (s * ops.square(theta) + d0 * mixed) / denominator  # eq. 4
        return ops.where(inside, y, x), ops.where(inside, self._log_slope(theta, s, d0, d1, denominator), 0.0)

    def inverse_and_log_det(self, y, params):
        """x and log dx/dy, both of the shape of y, for params of shape y.shape + (3K - 1,)."""
        inside = ops.abs(y) < self.bound
        clipped = ops.clip(y, -self.bound, self.bound)
        left, width, bottom, height, d0, d1 = self._bin(clipped, params, by_height=True)
        s, rise = height / width, clipped - bottom
        curve = d1 + d0 - 2.0 * s
        a = height * (s - d0) + rise * curve  # eqs. 6 to 8
        b = height * d0 - rise * curve
        c = -s * rise
        root = ops.sqrt(ops.maximum(ops.square(b) - 4.0 * a * c, keras.config.epsilon() ** 2))
        falls = b < 0.0  # of the two forms of the root, that in which nothing cancels
        theta = ops.where(falls, root - b, 2.0 * c) / ops.where(falls, 2.0 * a, -b - root)
        theta = ops.clip(theta, 0.0, 1.0)
        denominator = s + curve * theta * (1.0 - theta)
        x = left + theta * width
        return ops.where(inside, x, y), ops.where(inside, -self._log_slope(theta, s, d0, d1, denominator), 0.0)

    @staticmethod
    def _log_slope(theta, s, d0, d1, denominator):
        rest = 1.0 - theta
        slope = d1 * ops.square(theta) + 2.0 * s * theta * rest + d0 * ops.square(rest)
        return 2.0 * ops.log(s) + ops.log(slope) - 2.0 * ops.log(denominator)  # eq. 5

    def get_config(self):
        return {"bins": self.bins, "bound": self.bound, "min_share": self.min_share, "min_slope": self.min_slope}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

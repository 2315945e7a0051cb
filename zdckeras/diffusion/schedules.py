"""Schedules: how data become noise, and what a network may be asked of what lies between."""

import math
from types import ModuleType
from typing import Any

import numpy as np
from keras import ops

from zdckeras.backend import Tensor

KINDS = ("straight", "linear", "cosine")
LAWS = ("uniform", "logit-normal")  # of the times of training
TARGETS = ("velocity", "noise", "data")
OFFSET = 0.008  # of the cosine schedule: the first of a thousand steps is not too small
LEAST = 1e-3  # of a coefficient that is divided by
REMAINS = 0.05  # alpha(1) / sigma(1), at most
SEEN = 0.02  # alpha with which data can be told from a noise that is known to a percent


class Schedule:
    """A path x_t = alpha(t) x + sigma(t) e from data x at t = 0 to standard normal noise e at t = 1.

    straight:  alpha = 1 - t,  sigma = t                                                             flow matching
    linear:    ln alpha = -(b_0 t + (b_1 - b_0) t^2 / 2) / 2,  alpha^2 + sigma^2 = 1                 diffusion
    cosine:    alpha = cos(w) / cos(w_0),  w = pi/2 (t + s) / (1 + s),  s = 0.008,  alpha^2 + sigma^2 = 1

    The clock c is t on the straight path, and the angle c = arccos(alpha) on the other two. Along it the velocity
    v = alpha' x + sigma' e is e - x, or alpha e - sigma x, and data and noise follow from it without a division:
    x = sigma' x_t - sigma v,  e = alpha v - alpha' x_t.

    Arguments:
        kind: "straight", "linear" or "cosine".
        beta: (b_0, b_1) of the linear schedule: a thousand times the first and last beta of a thousand steps.

    Raises:
        ValueError: for another kind, or betas with which the path does not reach noise.

    Source:
        straight: Lipman et al., arXiv:2210.02747; linear: Ho et al., arXiv:2006.11239, in the limit of many steps of
        Song et al., arXiv:2011.13456, eq. 33; cosine: Nichol and Dhariwal, arXiv:2102.09672, eq. 17. The papers on
        flows count time the other way.

    Example:
        >>> [round(float(c), 3) for c in Schedule("straight").coefficients(0.25)]
        [0.75, 0.25, -1.0, 1.0]
    """

    def __init__(self, kind: str = "straight", beta: tuple[float, float] = (0.1, 20.0)) -> None:
        if kind not in KINDS:
            raise ValueError(f"Expected a schedule {', '.join(KINDS)}; received {kind!r}.")
        self.kind, self.beta = kind, tuple(map(float, beta))
        alpha, sigma, *_ = self.coefficients(1.0)
        if not alpha <= REMAINS * sigma:
            raise ValueError(f"Expected a schedule that ends in noise, alpha(1) at most {REMAINS} sigma(1); received "
                             f"{alpha:.3g} and {sigma:.3g} of {kind} with beta {self.beta}.")

    def coefficients(self, t: Any, xp: ModuleType = np) -> tuple:
        """alpha, sigma and their slopes along the clock, alpha' and sigma', at times t.

        Arguments:
            t: times of any shape.
            xp: `numpy`, or `keras.ops` for tensors.
        """
        if self.kind == "straight":
            one = xp.ones_like(t)
            return one - t, one * t, -one, one
        if self.kind == "linear":
            first, last = self.beta
            log = -0.5 * t * (first + 0.5 * (last - first) * t)
        else:
            angle = 0.5 * math.pi * (t + OFFSET) / (1.0 + OFFSET)
            log = xp.log(xp.maximum(xp.cos(angle) / math.cos(0.5 * math.pi * OFFSET / (1.0 + OFFSET)), 1e-12))
        alpha, sigma = xp.exp(log), xp.sqrt(xp.maximum(-xp.expm1(2.0 * log), 0.0))
        return alpha, sigma, -sigma, alpha

    def start(self) -> float:
        """Where samplers by the noise begin: at 1, or, if alpha vanishes there, at the last time at which it is `SEEN`.

        On the cosine schedule any error in the noise would be divided by alpha(1), 0: Nichol and Dhariwal clip their
        betas for that.

        Example:
            >>> round(Schedule("cosine").start(), 4), Schedule("linear").start()
            (0.9872, 1.0)
        """
        times = np.linspace(0.0, 1.0, 100_001)
        alpha, *_ = self.coefficients(times)
        return 1.0 if alpha[-1] > LEAST else float(times[alpha >= SEEN][-1])

    def clock(self, t: Any) -> np.ndarray:
        """c at times t."""
        alpha, sigma, *_ = self.coefficients(np.asarray(t, "float64"))
        return np.asarray(t, "float64") if self.kind == "straight" else np.arctan2(sigma, alpha)

    def mix(self, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t of data and noise (B, ...) at times (B,)."""
        alpha, sigma, *_ = self._beside(t, data)
        return alpha * data + sigma * noise

    def wanted(self, target: str, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What a network of a target has to answer: the velocity, the noise or the data.

        Arguments:
            target: "velocity", "noise" or "data".
            data, noise: (B, ...).
            t: (B,) times.
        """
        if target != "velocity":
            return noise if target == "noise" else data
        *_, alpha, sigma = self._beside(t, data)
        return alpha * data + sigma * noise

    def estimates(self, target: str, output: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Data and noise that belong to a network's answer: `wanted` the other way round.

        Arguments:
            target: as in `wanted`.
            output, x: (B, ...) answer, and what was seen.
            t: (B,) times.
        """
        alpha, sigma, alpha_slope, sigma_slope = self._beside(t, x)
        if target == "velocity":
            return sigma_slope * x - sigma * output, alpha * output - alpha_slope * x
        if target == "noise":
            return (x - sigma * output) / ops.maximum(alpha, LEAST), output
        return output, (x - alpha * output) / ops.maximum(sigma, LEAST)

    def _beside(self, t, x):
        """The coefficients as (B, 1, ...) beside x."""
        t = ops.reshape(ops.cast(t, "float32"), (-1, *(1,) * (len(x.shape) - 1)))
        return self.coefficients(t, ops)

    def get_config(self) -> dict[str, Any]:
        """Arguments that make this schedule again."""
        return {"kind": self.kind, "beta": list(self.beta)}


def times_of(uniform: Tensor, law: str = "uniform", levels: int = 0) -> Tensor:
    """Times of training in (0, 1] from uniform numbers in [0, 1).

    Arguments:
        uniform: (B,).
        law: "uniform", or "logit-normal": the sigmoid of a normal number, which has most times in the middle.
        levels: whole steps that a path is cut into, 1000 in the papers on diffusion; 0: any time.

    Raises:
        ValueError: for another law.

    Source:
        logit-normal: Esser et al., arXiv:2403.03206, section 3.1.

    Example:
        >>> ops.convert_to_numpy(times_of(np.array([0.0, 0.5, 0.9], "float32"), levels=4)).tolist()
        [0.25, 0.75, 1.0]
    """
    if law not in LAWS:
        raise ValueError(f"Expected a law {' or '.join(LAWS)}; received {law!r}.")
    t = ops.clip(uniform, 1e-5, 1.0 - 1e-5)
    if law == "logit-normal":
        t = ops.sigmoid(math.sqrt(2.0) * ops.erfinv(2.0 * t - 1.0))
    return (ops.floor(levels * t) + 1.0) / levels if levels else t

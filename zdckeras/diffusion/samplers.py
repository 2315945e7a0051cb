"""Samplers: from noise back to data along a `Schedule`, plain functions of one signature.

sampler(predict, noise, schedule, times) -> data

    predict: function (x (B, ...), t) -> (data, noise), each (B, ...): what a trained network makes of x at the time t;
        t is a number, or a scalar tensor inside a loop.
    noise: (K, B, ...) standard normal numbers: the first is where the path starts, the others are added on the way;
        `draws` says how many a sampler takes.
    schedule: `zdckeras.diffusion.schedules.Schedule`.
    times: (steps + 1,) falling from 1 to 0, see `even_times`.

All noise comes in, so that backends agree and graphs export. What depends on times alone is worked out before the loop;
up to 4 steps are written out one after another, more are one compiled loop.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from zdckeras.backend import Tensor
from zdckeras.diffusion.schedules import Schedule

WRITTEN_OUT = 4  # steps that are not put into a loop


def even_times(steps: int) -> np.ndarray:
    """Times of a sampler, (steps + 1,), evenly from 1 to 0.

    Raises:
        ValueError: for less than one step, or no whole number of them.

    Example:
        >>> even_times(4).tolist()
        [1.0, 0.75, 0.5, 0.25, 0.0]
    """
    if isinstance(steps, bool) or int(steps) != steps or steps < 1:
        raise ValueError(f"Expected at least one step and a whole number of them, received {steps}.")
    return np.linspace(1.0, 0.0, int(steps) + 1)


def draws(sampler: str, steps: int, eta: float = 0.0) -> int:
    """Arrays of noise that a sampler takes: one, or one for every step where noise is added on the way.

    Example:
        >>> draws("heun", 8), draws("ddpm", 8), draws("ddim", 8, eta=0.6)
        (1, 8, 8)
    """
    return len(even_times(steps)) - 1 if sampler == "ddpm" or (sampler == "ddim" and eta) else 1


def _run(step, x, rows):
    """x after step(k, x, *rows[k]) for k = 0, 1, ..."""
    rows = np.asarray(rows, "float32")
    if len(rows) <= WRITTEN_OUT:
        for k, row in enumerate(rows.tolist()):
            x = step(k, x, *row)
        return x
    x = keras.tree.map_structure(ops.convert_to_tensor, x)
    return ops.fori_loop(0, len(rows), lambda k, x: step(k, x, *ops.unstack(ops.take(rows, k, axis=0), rows.shape[1])),
                         x)


def _added(noise, k):
    """Noise that step k adds."""
    return ops.take(noise, ops.minimum(k + 1, noise.shape[0] - 1), axis=0)


def posterior(schedule: Schedule, times: Sequence[float]) -> np.ndarray:
    """Coefficients (steps, 3) of x_s given x_t and data: x_s ~ N(a x_t + b x, d^2), times s < t being neighbours.

    a = alpha sigma_s^2 / sigma_t^2,  b = alpha_s q^2 / sigma_t^2,  d = q sigma_s / sigma_t,
    alpha = alpha_t / alpha_s,  q^2 = sigma_t^2 - alpha^2 sigma_s^2

    Source:
        Ho et al., arXiv:2006.11239, eqs. 6 and 7.
    """
    alpha, sigma, *_ = schedule.coefficients(np.asarray(times, "float64"))
    ratio, before, after = alpha[:-1] / alpha[1:], sigma[:-1], sigma[1:]
    spread = np.maximum(before**2 - (ratio * after) ** 2, 0.0)
    return np.column_stack([ratio * (after / before) ** 2, alpha[1:] * spread / before**2,
                            np.sqrt(spread) * after / before])


def ddpm(predict: Callable, noise: Tensor, schedule: Schedule, times: Sequence[float]) -> Tensor:
    """Ancestral sampling, x_s = a x_t + b x + d z with fresh noise z (see `posterior`).

    Source:
        Ho et al., arXiv:2006.11239, algorithm 2.
    """
    def step(k, x, t, a, b, d):
        data, _ = predict(x, t)
        return a * x + b * data + d * _added(noise, k)

    return _run(step, noise[0], np.column_stack([np.asarray(times)[:-1], posterior(schedule, times)]))


def ddim(predict: Callable, noise: Tensor, schedule: Schedule, times: Sequence[float], eta: float = 0.0) -> Tensor:
    """x_s = alpha_s x + sqrt(sigma_s^2 - d^2) e + d z with d = eta times the deviation of `ddpm`.

    With eta = 0 nothing but the first noise is random; eta = 1 is `ddpm`.

    Raises:
        ValueError: for eta outside [0, 1].

    Source:
        Song et al., arXiv:2010.02502, eqs. 12 and 16.
    """
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"Expected eta in [0, 1], received {eta}.")
    alpha, sigma, *_ = schedule.coefficients(np.asarray(times, "float64"))
    d = eta * posterior(schedule, times)[:, 2]
    kept = np.sqrt(np.maximum(sigma[1:] ** 2 - d**2, 0.0))

    def step(k, x, t, a, b, d):
        data, found = predict(x, t)
        x = a * data + b * found
        return x + d * _added(noise, k) if eta else x

    return _run(step, noise[0], np.column_stack([np.asarray(times)[:-1], alpha[1:], kept, d]))


def euler(predict: Callable, noise: Tensor, schedule: Schedule, times: Sequence[float]) -> Tensor:
    """x_s = x_t + (c_s - c_t) v(x_t, t), v the velocity along the clock c of the schedule; first order.

    Source:
        flow matching in 11 such steps: arXiv:2507.18811.
    """
    _, _, *slopes = schedule.coefficients(np.asarray(times, "float64"))
    rows = np.column_stack([np.asarray(times), *slopes])[:-1]

    def step(k, x, t, alpha_slope, sigma_slope, length):
        data, found = predict(x, t)
        return x + length * (alpha_slope * data + sigma_slope * found)

    return _run(step, noise[0], np.column_stack([rows, np.diff(schedule.clock(times))]))


def heun(predict: Callable, noise: Tensor, schedule: Schedule, times: Sequence[float],
         euler_last: bool = False) -> Tensor:
    """An `euler` step, and again with the mean of the velocities at both its ends; second order, 2 evaluations.

    With `euler_last` the last step stays one of `euler`, of 1 evaluation, as in the source: without noise at its end,
    what the data leave of x says nothing of a velocity there. A network that is asked for the velocity itself has one.

    Source:
        Karras et al., arXiv:2206.00364, algorithm 1, along the clock of the schedule.
    """
    _, _, *slopes = schedule.coefficients(np.asarray(times, "float64"))
    rows = np.column_stack([np.asarray(times), *slopes])
    rows = np.column_stack([rows[:-1], rows[1:], np.diff(schedule.clock(times))])

    def step(k, x, t, a, b, s, a_after, b_after, length):
        data, found = predict(x, t)
        velocity = a * data + b * found
        data, found = predict(x + length * velocity, s)
        return x + 0.5 * length * (velocity + a_after * data + b_after * found)

    if not euler_last:
        return _run(step, noise[0], rows)
    x, (t, a, b, *_, length) = _run(step, noise[0], rows[:-1]), rows[-1].tolist()
    data, found = predict(x, t)
    return x + length * (a * data + b * found)


def dpm_solver(predict: Callable, noise: Tensor, schedule: Schedule, times: Sequence[float]) -> Tensor:
    """DPM-Solver++(2M): x_s = (sigma_s / sigma_t) x_t + alpha_s (1 - e^-h) D, D the data extrapolated; second order.

    D = x + (x - x_before) h / (2 h_before),  h the step of ln(alpha / sigma); first and last step have D = x.

    Source:
        Lu et al., arXiv:2211.01095, algorithm 2.
    """
    alpha, sigma, *_ = schedule.coefficients(np.asarray(times, "float64"))
    kept = sigma[1:] / sigma[:-1]
    with np.errstate(divide="ignore"):
        length = np.diff(np.log(alpha) - np.log(sigma))
    more = np.zeros(len(length))
    more[1:-1] = 0.5 * length[1:-1] / length[:-2]
    rows = np.column_stack([np.asarray(times)[:-1], kept, alpha[1:] - kept * alpha[:-1], more])

    def step(k, carry, t, kept, gained, more):
        x, before = carry
        data, _ = predict(x, t)
        return kept * x + gained * (data + more * (data - before)), data

    return _run(step, (noise[0], ops.zeros_like(noise[0])), rows)[0]


SAMPLERS = {sampler.__name__: sampler for sampler in (ddpm, ddim, euler, heun, dpm_solver)}
EVALUATIONS = {name: 2 if name == "heun" else 1 for name in SAMPLERS}  # of the network in a step

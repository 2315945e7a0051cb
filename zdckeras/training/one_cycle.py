"""Optimizers as studies tuned them: Adam and its kin with given constants, on one cycle of the learning rate."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from zdckeras.arguments import whole_number


@keras.saving.register_keras_serializable("zdckeras")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Half a cosine from r / a up to r, then half a cosine down to r / (a b).

    Arguments:
        rate: r, the highest.
        steps: in all.
        rise: share of the steps that go up.
        start, end: a and b.

    Source:
        Smith and Topin, arXiv:1708.07120, as in `optax.cosine_onecycle_schedule`.

    Example:
        >>> cycle = OneCycle(1.0, 100, rise=0.2, start=10.0, end=100.0)
        >>> [round(float(cycle(step)), 4) for step in (0, 10, 20, 60, 100)]
        [0.1, 0.55, 1.0, 0.5005, 0.001]
    """

    def __init__(self, rate: float, steps: int, rise: float, start: float, end: float):
        if not (rate > 0.0 and 0.0 <= rise < 1.0 and start >= 1.0 and end >= 1.0):
            raise ValueError("Expected a rate above 0, a rise of 0 to 1, start and end of at least 1; received "
                             f"{rate}, {rise}, {start} and {end}.")
        self.settings = dict(rate=rate, steps=whole_number(steps, "steps"), rise=rise, start=start, end=end)
        self.top = int(rise * steps)

    def __call__(self, step):
        step, s = ops.cast(step, "float32"), self.settings
        low, high, last = s["rate"] / s["start"], s["rate"], s["rate"] / (s["start"] * s["end"])

        def between(first, then, share):
            return then + (first - then) * 0.5 * (1.0 + ops.cos(math.pi * ops.clip(share, 0.0, 1.0)))

        up = between(low, high, step / max(self.top, 1))
        down = between(high, last, (step - self.top) / max(s["steps"] - self.top, 1))
        return ops.where(step < self.top, up, down)

    def get_config(self):
        return self.settings


def tuned(steps: int, rate: float, cycle: Mapping[str, float] | None = None, nesterov: bool = False,
          weight_decay: float | None = None, warmup: float | None = None, falls: Sequence[float] = (),
          fall: float = 0.1, **adam: Any) -> keras.optimizers.Optimizer:
    """Adam as a study tuned it; Nadam where momentum is Nesterov's, AdamW's decay where there is one.

    Keras's Nadam lets the momentum rise from half of `beta_1` over its first hundred steps, which optax's does not.

    Arguments:
        steps: of the whole training.
        rate: highest learning rate.
        cycle: `rise`, `start` and `end` of `OneCycle`; the rate is constant by default.
        warmup: share of the steps in which the rate rises from 0 in a line; half a cosine down to 0 follows.
        falls: shares of the steps, in order, after each of which the rate falls.
        fall: factor of the rate at each of these, between 0 and 1.
        nesterov: whether momentum is Nesterov's.
        weight_decay: share of each weight and of the rate that a step takes away, biases and scales included.
        adam: `beta_1`, `beta_2`, `epsilon`, `global_clipnorm`.

    Raises:
        ValueError: for more than one of cycle, warm-up and falls, shares that do not rise between 0 and 1, or a factor
            outside.

    Example:
        >>> one = tuned(10, 1e-3, dict(rise=0.3, start=20.0, end=40.0), beta_1=0.7, weight_decay=0.03)
        >>> type(one).__name__, one.beta_1, round(float(one.learning_rate), 6)
        ('AdamW', 0.7, 5e-05)
    """
    if sum((cycle is not None, warmup is not None, bool(falls))) > 1:
        raise ValueError("Expected one of cycle, warm-up and falls, received more.")
    if not 0.0 < fall < 1.0:
        raise ValueError(f"fall: expected a factor between 0 and 1, received {fall}.")
    shares = [*falls, *([warmup] if warmup is not None else [])]
    if not all(a < b for a, b in zip([0.0, *shares], [*shares, 1.0], strict=True)):
        raise ValueError(f"Expected shares of the steps that rise between 0 and 1, received {shares}.")
    if cycle is not None:
        rate = OneCycle(rate, steps, **cycle)
    elif warmup is not None:
        first = max(int(warmup * steps), 1)
        rate = keras.optimizers.schedules.CosineDecay(0.0, max(steps - first, 1), warmup_target=rate,
                                                      warmup_steps=first)
    elif falls:
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(
            [int(share * steps) for share in falls], [rate * fall**k for k in range(len(falls) + 1)])
    if nesterov:
        return keras.optimizers.Nadam(rate, weight_decay=weight_decay, **adam)
    return keras.optimizers.AdamW(rate, weight_decay=weight_decay or 0.0, **adam)

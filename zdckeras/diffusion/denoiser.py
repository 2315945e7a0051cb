"""What diffusion and flow matching share, whatever they make: the loss of a network, and samples from it."""

from pathlib import Path
from typing import Any, Self

import keras
from keras import ops

from zdckeras.arguments import whole_number
from zdckeras.backend import Tensor
from zdckeras.diffusion.samplers import EVALUATIONS, SAMPLERS, draws, even_times
from zdckeras.diffusion.schedules import LAWS, TARGETS, Schedule, times_of
from zdckeras.training.batches import Batches
from zdckeras.training.loop import SampleLoss, annealed, fit_adam


class Denoiser(SampleLoss):
    """Base of models around a network that tells what is data and what is noise in x_t = alpha(t) x + sigma(t) e.

    L = mean_d (network(x_t, t, k) - wanted)^2,  wanted the velocity, the noise or the data

    Subclasses set `field`, called with (x (B, ...), times (B, 1), context k (B, C)), and `settings`, their whole
    configuration. Flow matching is the straight schedule with the velocity; DDPM the linear or the cosine schedule with
    the noise, in a thousand levels; v-prediction one of these with the velocity. Where the noise is the target,
    samplers begin at `Schedule.start` and not at 1, where the data that belong to a noise cannot be told.

    Arguments:
        schedule: kind of `Schedule`, or its configuration.
        target: "velocity", "noise" or "data".
        law, levels: of the times of training, see `zdckeras.diffusion.schedules.times_of`.
        sampler: "ddpm", "ddim", "euler", "heun" or "dpm_solver", see `zdckeras.diffusion.samplers`.
        steps: of the sampler: the dial between quality and time.
        eta: of "ddim", noise added on the way, 0 to 1.
        limit: data are clipped to +-limit while sampling; None for no limit.

    Raises:
        ValueError: for a target or a sampler that does not exist, less than one step or 0 levels, eta outside [0, 1],
            or noise as the target of a straight path, which says nothing of the data at its end.

    Source:
        Ho et al., arXiv:2006.11239; Salimans and Ho, arXiv:2202.00512 (v); Lipman et al., arXiv:2210.02747 (flow
        matching).
    """

    def __init__(self, schedule: str | dict = "straight", target: str = "velocity", law: str = "uniform",
                 levels: int = 0, sampler: str = "heun", steps: int = 8, eta: float = 0.0, limit: float | None = None,
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if target not in TARGETS or sampler not in SAMPLERS:
            raise ValueError(f"Expected a target {', '.join(TARGETS)} and a sampler {', '.join(SAMPLERS)}; received "
                             f"{target!r} and {sampler!r}.")
        if not 0.0 <= eta <= 1.0 or law not in LAWS:
            raise ValueError(f"Expected eta in [0, 1] and a law {' or '.join(LAWS)}; received {eta} and {law!r}.")
        self.schedule = Schedule(schedule) if isinstance(schedule, str) else Schedule(**schedule)
        if target == "noise" and self.schedule.kind == "straight":
            raise ValueError("Expected the velocity or the data as target of a straight path, received the noise.")
        self.target, self.law, self.levels, self.limit = target, law, whole_number(levels, "levels", 0), limit
        self.sampler, self.eta = sampler, float(eta)
        self.times = even_times(steps) * (self.schedule.start() if target == "noise" else 1.0)
        self.settings = dict(schedule=self.schedule.get_config(), target=target, law=law, levels=levels,
                             sampler=sampler, steps=steps, eta=eta, limit=limit)

    @property
    def draws(self) -> int:
        """Arrays of noise that a sample takes."""
        return draws(self.sampler, len(self.times) - 1, self.eta)

    @property
    def evaluations(self) -> int:
        """Of the network, for a sample."""
        return (len(self.times) - 1) * EVALUATIONS[self.sampler] - (self.sampler == "heun" and self.euler_last)

    @property
    def euler_last(self) -> bool:
        """Whether the last step of "heun" is one of "euler"."""
        return self.target == "data" or self.limit is not None

    def answer(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """What the network says of x (B, ...) at times (B,)."""
        return self.field(x, t[:, None], context)

    def denoising_loss(self, data: Tensor, noise: Tensor, uniform: Tensor, context: Tensor) -> Tensor:
        """Per-sample loss (B,) of data and noise (B, ...), uniform numbers (B,) for the times, and context (B, C)."""
        t = times_of(uniform, self.law, self.levels)
        found = self.answer(self.schedule.mix(data, noise, t), t, context)
        wrong = ops.square(found - self.schedule.wanted(self.target, data, noise, t))
        return ops.mean(ops.reshape(wrong, (-1, _size(data))), axis=1)

    def estimates(self, x: Tensor, t: Any, context: Tensor) -> tuple[Tensor, Tensor]:
        """Data and noise in x (B, ...) at a time t, as the network sees them: what samplers ask for."""
        t = ops.broadcast_to(ops.cast(t, "float32"), (ops.shape(x)[0],))
        data, noise = self.schedule.estimates(self.target, self.answer(x, t, context), x, t)
        if self.limit is None:
            return data, noise
        data = ops.clip(data, -self.limit, self.limit)
        return self.schedule.estimates("data", data, x, t)

    def draw(self, noise: Tensor, context: Tensor) -> Tensor:
        """Samples (B, ...) from noise (`draws`, B, ...) and context (B, C)."""
        noise, context = ops.cast(noise, "float32"), ops.cast(context, "float32")
        settings = {"eta": self.eta} if self.sampler == "ddim" else {}
        if self.sampler == "heun":
            settings["euler_last"] = self.euler_last
        return SAMPLERS[self.sampler](lambda x, t: self.estimates(x, t, context), noise, self.schedule, self.times,
                                      **settings)

    def sampled_by(self, sampler: str, steps: int, eta: float = 0.0) -> Self:
        """A copy with the same weights that samples otherwise."""
        copy = type(self).from_config({**self.get_config(), "sampler": sampler, "steps": steps, "eta": eta})
        copy.set_weights(self.get_weights())
        return copy

    def get_config(self):
        return {**self.settings, "name": self.name}


def _size(x):
    """Numbers in one row of x."""
    size = 1
    for n in x.shape[1:]:
        size *= n
    return size


def fit_averaged(model: keras.Model, batches: Batches, path: str | Path, epochs: int, rate: float,
                 momentum: float = 0.999) -> dict[str, list]:
    """`fit_adam`, after which the model has the moving average of its weights: noisy losses want it.

    Arguments:
        model: with its loss in `compute_loss`; compiled anew where it is compiled.
        batches: `Batches`.
        path: of the state file, which keeps weights and averages.
        epochs, rate: as in `fit_adam`.
        momentum: of the average, w' <- m w' + (1 - m) w after every step; at most 1 - 4 / steps, or a short training
            would answer with the weights that it began with.

    Returns:
        History, name -> list over epochs.
    """
    optimizer = keras.optimizers.Adam(annealed(rate, batches, epochs), clipnorm=1.0, use_ema=True,
                                      ema_momentum=min(momentum, max(1.0 - 4.0 / (epochs * len(batches)), 0.0)))
    return fit_adam(model, batches, path, epochs, rate, optimizer=optimizer)

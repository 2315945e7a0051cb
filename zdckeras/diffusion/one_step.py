"""One evaluation in place of many: average velocities (MeanFlow), and students of where a teacher's paths end."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from zdckeras.arguments import non_negative, of_kind
from zdckeras.diffusion.denoiser import fit_averaged
from zdckeras.diffusion.latent import DiffusionPrior
from zdckeras.diffusion.schedules import times_of
from zdckeras.flow_distill.distiller import channel_loss
from zdckeras.modular.model import ArrivalVAE
from zdckeras.modular.training import channel_light
from zdckeras.training.batches import Batches
from zdckeras.training.loop import SampleLoss

BLOCK = 8192  # codes that a teacher draws at once


@keras.saving.register_keras_serializable("zdckeras")
class MeanFlowPrior(DiffusionPrior):
    """A `DiffusionPrior` whose field is the average velocity u(x, s, t) of the straight path from t down to s.

    x_s = x_t - (t - s) u(x_t, s, t),   so that   data = noise - u(noise, 0, 1)   in one evaluation

    The field is told t and t - s. More steps go through as many average velocities.

    Arguments:
        width, latent, hidden, depth, context, seed: as in `DiffusionPrior`.
        steps: evaluations.

    Raises:
        ValueError: as `DiffusionPrior`, or for another sampler than "euler", a schedule that is not straight, a target
            that is not the velocity, or a limit: average velocities know no other way.

    Source:
        Geng et al., arXiv:2505.13447.
    """

    TIMES = 2

    def __init__(self, width: int, latent: int = 16, hidden: int = 192, depth: int = 4, context: int = 64,
                 seed: int = 0, steps: int = 1, **kwargs: Any) -> None:
        if kwargs.get("sampler", "euler") != "euler":
            raise ValueError(f"Expected the sampler euler for average velocities, received {kwargs['sampler']!r}.")
        super().__init__(width, latent, hidden, depth, context, seed, steps=steps, **{**kwargs, "sampler": "euler"})
        if (self.schedule.kind, self.target, self.limit) != ("straight", "velocity", None):
            raise ValueError("Expected a straight path, the velocity and no limit for average velocities, received "
                             f"{self.schedule.kind!r}, {self.target!r} and {self.limit}.")

    def average_velocity(self, x, s, t, context):
        """u(x, s, t) (B, latent) for times s <= t, (B,) each."""
        return self.field(x, ops.stack([t, t - s], axis=-1), context)

    def answer(self, x, t, context):
        return self.average_velocity(x, t, t, context)

    def draw(self, noise, context):
        x, ones = noise[0], ops.ones_like(noise[0][:, 0])
        for t, s in zip(self.times[:-1].tolist(), self.times[1:].tolist(), strict=True):
            x = x - (t - s) * self.average_velocity(x, s * ones, t * ones, context)
        return x


class MeanFlowTrainer(SampleLoss):
    """Trains a `MeanFlowPrior` to satisfy the identity of average velocities, from data or from a teacher.

    u(x_t, s, t) = v - (t - s) (v du/dx + du/dt),   v = e - x,  or the teacher's velocity at x_t

    The right side, found by one Jacobian-vector product, is a constant of the loss. In a share of the rows s = t, which
    is plain flow matching. Rows are weighed by 1 / (d^2 + 0.001)^p, d^2 being their squared error.

    Arguments:
        student: `MeanFlowPrior`.
        teacher: trained `DiffusionPrior` on a straight path, or None; its weights stay as they are.
        same: share of the rows with s = t.
        power: p.

    Returns:
        call with what `DiffusionPrior` takes, and "s" (B,) and "same" (B,) uniform numbers, gives the loss (B,).

    Source:
        Geng et al., arXiv:2505.13447, eqs. 10 and 22; the teacher's velocity in place of e - x takes the noise of
        single pairs away.
    """

    def __init__(self, student: MeanFlowPrior, teacher: DiffusionPrior | None = None, same: float = 0.5,
                 power: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        of_kind(student, MeanFlowPrior, "student")
        self.student, self.teacher, self.same, self.power = student, teacher, same, power
        if teacher is not None:
            of_kind(teacher, DiffusionPrior, "teacher")
            if teacher.schedule.kind != "straight":
                raise ValueError(f"Expected a teacher on a straight path, received a {teacher.schedule.kind} schedule.")
        self.built = True

    @property
    def constants(self) -> tuple[keras.Layer, ...]:
        """Layers whose weights stay as they are."""
        return () if self.teacher is None else (self.teacher,)

    def identity(self, inputs):
        """Both sides of the identity, (B, latent) each; no gradient passes through the second."""
        inputs = {name: ops.convert_to_tensor(values) for name, values in inputs.items()}
        student, data, noise = self.student, self.student.code(inputs), inputs["noise"]
        one, other = (times_of(inputs[name], "logit-normal") for name in ("t", "s"))
        t, s = ops.maximum(one, other), ops.minimum(one, other)
        s = ops.where(inputs["same"] < self.same, t, s)
        context, x = student.embed(inputs["features"]), student.schedule.mix(data, noise, t)
        velocity = noise - data
        if self.teacher is not None:
            found = self.teacher.estimates(x, t, self.teacher.embed(inputs["features"]))
            velocity = ops.stop_gradient(found[1] - found[0])
        _, slope = ops.jvp(lambda x, s, t: student.average_velocity(x, s, t, context), (x, s, t),
                           (velocity, ops.zeros_like(s), ops.ones_like(t)))
        mine = student.average_velocity(x, s, t, context)  # once more: run eagerly, the above has no gradient
        return mine, ops.stop_gradient(velocity - (t - s)[:, None] * slope)

    def call(self, inputs):
        mine, wanted = self.identity(inputs)
        error = ops.mean(ops.square(mine - wanted), axis=-1)
        return error * ops.stop_gradient((error + 1e-3) ** -self.power)


class PairDistiller(SampleLoss):
    """Trains a `MeanFlowPrior` to reach in one step where a teacher's path from the same noise ends.

    L = mean_d (z' - z)^2 + lambda sum_k |S_k(z') - S_k(z)| / N ("ch"),   z = teacher(e, f),  z' = student(e, f)

    S_k are the channel sums of the light that the decoder makes of a code, N the photons of the teacher's; codes are
    compared in units of their deviation.

    Arguments:
        student: `MeanFlowPrior`.
        decoder: `LightDecoder` for "ch", or None; its weights stay as they are.
        channels: lambda.

    Returns:
        call({"noise", "code" (B, latent), "features" (B, width), "cell" (B, 2)}) gives the loss (B,), "code" being the
        teacher's.

    Source:
        Luhman and Luhman, arXiv:2101.02388; channel sums: arXiv:2512.20346.
    """

    def __init__(self, student: MeanFlowPrior, decoder: keras.layers.Layer | None = None, channels: float = 0.0,
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        of_kind(student, MeanFlowPrior, "student")
        non_negative(channels, "channels")
        self.student, self.decoder, self.channels = student, decoder if channels else None, channels
        self.built = True

    @property
    def constants(self) -> tuple[keras.Layer, ...]:
        """Layers whose weights stay as they are."""
        return () if self.decoder is None else (self.decoder,)

    def call(self, inputs):
        features = inputs["features"]
        made = self.student.generate(inputs["noise"], features)
        loss = ops.mean(ops.square((made - inputs["code"]) / self.student.scale), axis=-1)
        if self.decoder is None:
            return loss
        cell = ops.cast(inputs["cell"], "int32")
        mine, real = (channel_light(self.decoder, code, features, cell) for code in (made, inputs["code"]))
        return loss + self.channels * channel_loss(mine, real, ops.sum(real, axis=-1, keepdims=True))


def fresh_student(teacher: DiffusionPrior, seed: int = 0, embedded: bool = True) -> MeanFlowPrior:
    """A `MeanFlowPrior` of the sizes of a `DiffusionPrior`, with its scales.

    Arguments:
        teacher: of which it begins with the embedding of features, too, if `embedded`; else with a fresh one.
        seed: of the other weights.
        embedded: see above.
    """
    of_kind(teacher, DiffusionPrior, "teacher")
    sizes = {name: teacher.settings[name] for name in ("width", "latent", "hidden", "depth", "context")}
    student = MeanFlowPrior(**sizes, seed=seed)
    if embedded:
        student.embed.set_weights(teacher.embed.get_weights())
    student.mean.assign(ops.convert_to_numpy(teacher.mean))  # a copy: two variables must not share a buffer
    student.scale.assign(ops.convert_to_numpy(teacher.scale))
    return student


def fit_mean_flow(teacher: DiffusionPrior, codes: dict[str, np.ndarray], path: str | Path, epochs: int, batch: int,
                  rate: float, seed: int = 0, distilled: bool = True) -> tuple[MeanFlowPrior, dict]:
    """A `MeanFlowPrior` trained by `MeanFlowTrainer`, and its history.

    Arguments:
        teacher: trained `DiffusionPrior`, which gives the sizes and, if `distilled`, velocities and the
            embedding of features to begin with.
        codes: from `zdckeras.diffusion.latent.code_posteriors`.
        path, epochs, batch, rate, seed: as in `zdckeras.diffusion.latent.fit_prior`.
        distilled: whether velocities come from the teacher, or from data.
    """
    student, latent = fresh_student(teacher, seed, embedded=distilled), (teacher.settings["latent"],)
    given = {name: codes[name] for name in ("code_mean", "code_deviation", "features")}
    batches = Batches(given, batch, seed, uniform=dict.fromkeys(("t", "s", "same"), ()),
                      normal={"z": latent, "noise": latent})
    trainer = MeanFlowTrainer(student, teacher if distilled else None)
    return student, fit_averaged(trainer, batches, path, epochs, rate)


def fit_pairs(teacher: DiffusionPrior, vae: ArrivalVAE, codes: dict[str, np.ndarray], path: str | Path, epochs: int,
              batch: int, rate: float, seed: int = 0, channels: float = 0.0,
              start: MeanFlowPrior | None = None) -> tuple[MeanFlowPrior, dict]:
    """A `MeanFlowPrior` trained by `PairDistiller` on paths of a teacher, one for each arrival, and its history.

    Arguments:
        teacher, codes, path, epochs, batch, rate, seed: as in `fit_mean_flow`; the teacher samples as it is set.
        vae: whose decoder the physics loss asks.
        channels: lambda of the physics loss.
        start: student to go on from.
    """
    student = fresh_student(teacher, seed)
    if start is not None:
        student.set_weights(start.get_weights())
    given = {name: codes[name] for name in ("features", "cell")}
    given["noise"] = np.random.default_rng([seed, 76]).standard_normal((len(codes["cell"]), vae.latent), "float32")
    given["code"] = drawn_codes(teacher, given["noise"], given["features"])
    trainer = PairDistiller(student, vae.decoder, channels)
    return student, fit_averaged(trainer, Batches(given, batch, seed), path, epochs, rate)


def drawn_codes(prior: DiffusionPrior, noise: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Codes (N, latent) that a prior makes of noise (N, latent) and features (N, width), block by block."""
    class Drawn(keras.Model):
        """`generate` compiled."""

        def __init__(self):
            super().__init__()
            self.prior, self.built = prior, True

        def call(self, inputs):
            return self.prior.generate(inputs["noise"], inputs["features"])

    return np.asarray(Drawn().predict({"noise": noise, "features": features}, batch_size=BLOCK, verbose=0))

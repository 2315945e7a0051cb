"""Warm start of a GAN's generator: channel sums first, then shapes, each on its proper score and without a critic."""

import numpy as np
from keras import ops

from zdckeras.data.detectors import channel_sums
from zdckeras.data.showers import Showers
from zdckeras.gan.model import ResponseGAN, training_arrays
from zdckeras.gan.scores import shape_score, sums_score
from zdckeras.training.loop import SampleLoss


def score_stages(gan: ResponseGAN, showers: Showers, sums: dict, shape: dict) -> dict[str, tuple]:
    """The stages of `warm_start_scores` for a `ResponseGAN`: `SumsScoreFit`, then `ShapeScoreFit`.

    Arguments:
        gan: fresh `ResponseGAN`.
        showers: training `Showers`.
        sums, shape: {"epochs", "batch", "rate"} of each stage, and "rows", how many showers it uses (all if left out).

    Returns:
        Stage -> (model, arrays, settings).
    """
    some = showers[: sums.get("rows")]
    counts = np.concatenate([channel_sums(some.responses[name]) for name in gan.names], axis=1)
    images = training_arrays(showers[: shape.get("rows")], diversity=False)
    return {"sums": (SumsScoreFit(gan), {"conditions": some.particles, "sums": counts}, sums),
            "shape": (ShapeScoreFit(gan), images, shape)}


class SumsScoreFit(SampleLoss):
    """Trains the channel sums of a generator on `sums_score`; dense layers only, so thousands of steps a minute.

    Arguments:
        gan: `ResponseGAN`, whose generator is trained and whose critic lends its summary features.

    Returns:
        call({"conditions": (B, 9), "sums": (B, 5 K), "z": (B, d), "z2": (B, d)}), with the sums of all K detectors side
        by side, gives the per-sample loss (B,).
    """

    def __init__(self, gan, **kwargs):
        super().__init__(**kwargs)
        self.network, self.summaries = gan.generator.sums, gan.critic.summaries
        self.built = True

    def call(self, inputs):
        conditions = ops.cast(inputs["conditions"], "float32")
        real = ops.split(ops.cast(inputs["sums"], "float32"), len(self.summaries), axis=-1)
        return sums_score(self.summaries, real, *(self.network(inputs[z], conditions) for z in ("z", "z2")))


class ShapeScoreFit(SampleLoss):
    """Trains the shapes of a generator on energy scores, given the real channel sums.

    L = E `shape_score`

    No critic, no balance to keep: where the light is and how wide gets its spread in some hundred steps.

    Arguments:
        gan: `ResponseGAN`, whose generator is trained and whose critic lends its summary features.

    Returns:
        call of a batch of `training_arrays` with codes "z" and "z2" gives the per-sample loss (B,).
    """

    def __init__(self, gan, **kwargs):
        super().__init__(**kwargs)
        self.network, self.names, self.summaries = gan.generator.shape, gan.names, gan.critic.summaries
        self.built = True

    def call(self, inputs):
        conditions = ops.cast(inputs["conditions"], "float32")
        real = [ops.cast(inputs[f"responses_{name}"], "float32") for name in self.names]
        sums = [summary.sums(n) for summary, n in zip(self.summaries, real, strict=True)]
        generated = self.network(ops.concatenate([inputs["z"], inputs["z2"]]), ops.concatenate([conditions] * 2),
                                 tuple(ops.concatenate([s, s]) for s in sums))
        return shape_score(self.summaries, conditions, real, generated)

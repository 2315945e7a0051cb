"""A generator of codes against a critic: one evaluation on the decoder of the flows, learnt without a teacher."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from zdckeras.arguments import non_negative, of_kind, whole_number
from zdckeras.diffusion.latent import DiffusionPrior
from zdckeras.diffusion.one_step import MeanFlowPrior, fresh_student
from zdckeras.gan import losses
from zdckeras.gan.scores import energy_score
from zdckeras.layers.dense import linear, seeds_of, silu_layers
from zdckeras.training.adversarial import AdversarialModel, train_adversarially, warm_start_scores
from zdckeras.training.loop import SampleLoss
from zdckeras.training.phases import Phase


@keras.saving.register_keras_serializable("zdckeras")
class CodeGAN(AdversarialModel):
    """A `MeanFlowPrior` in one step against a critic that sees a code and the features of its arrival.

    L = L_adv + lambda ES,   ES = (|x - x'| + |x - x''|) / 2 - |x' - x''| / 2

    x is a code of the data, x' and x'' two of the generator for the same arrival, in units of their deviation; L_adv is
    `zdckeras.gan.losses.generator_loss`, and the critic has `critic_loss` with the penalty E |grad D|^2 at data.

    Arguments:
        like: `DiffusionPrior` that lends sizes and scales; the embedding of features is fresh.
        hidden, depth: of the critic.
        energy: lambda.
        penalty: weight of the critic's gradient.
        seed: of all weights.

    Returns:
        call({"z" (B, latent) normal numbers, "features" (B, width)}) gives the averaged generator's codes (B, latent).

    Raises:
        ValueError: for a model of another kind, sizes below 1, or negative weights.

    Source:
        Goodfellow et al., arXiv:1406.2661; Mescheder et al., arXiv:1801.04406 (penalty); Gneiting and Raftery, J. Am.
        Stat. Assoc. 102 (2007) 359, eq. 22 (energy score).
    """

    def __init__(self, like: DiffusionPrior, hidden: int = 192, depth: int = 3, energy: float = 1.0,
                 penalty: float = 0.1, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        of_kind(like, DiffusionPrior, "like")
        for name, size in (("hidden", hidden), ("depth", depth)):
            whole_number(size, name)
        for name, weight in (("energy", energy), ("penalty", penalty)):
            non_negative(weight, name)
        self.settings = dict(hidden=hidden, depth=depth, energy=energy, penalty=penalty, seed=seed)
        self.generator, self.average = (fresh_student(like, seed, embedded=False) for _ in range(2))
        self.average.trainable = False
        self.latent, seeds = like.settings["latent"], seeds_of([seed, 65])
        self.embed = silu_layers((128, like.settings["context"]), like.settings["width"], seeds)
        self.judge = silu_layers((hidden,) * depth, self.latent + like.settings["context"], seeds)
        self.read = linear(hidden, 1, seeds)
        self.energy, self.penalty, self.built = energy, penalty, True

    def standardised(self, code):
        """Codes in units of their deviation."""
        return (code - self.generator.mean) / self.generator.scale

    def logit(self, code, context):
        """(B, 1) of standardised codes (B, latent) and what the critic's embedding makes of features."""
        return self.read(self.judge(ops.concatenate([code, context], axis=-1)))

    def made(self, noise, features):
        """Standardised codes (B, latent) of the generator."""
        return self.generator.draw(noise[None], self.generator.embed(features))

    def call(self, inputs):
        return self.average.generate(inputs["z"], inputs["features"])

    def get_config(self):
        return {**super().get_config(), "like": keras.saving.serialize_keras_object(self.generator)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "like": keras.saving.deserialize_keras_object(config["like"])})

    def phases(self) -> dict[str, Phase]:
        seen = ("adversarial", *["penalty"] * bool(self.penalty))
        terms = ("adversarial", *["energy"] * bool(self.energy))
        return {"critic": Phase(self._critic_loss, (self.embed, self.judge, self.read), seen, watched=("accuracy",)),
                "generator": Phase(self._generator_loss, (self.generator,), terms)}

    def _critic_loss(self, batch, training):
        real, context = self.standardised(batch["code"]), self.embed(batch["features"])
        logits = self.logit(real, context), self.logit(self.made(batch["z"], batch["features"]), context)
        terms = {"adversarial": losses.critic_loss(*logits), "accuracy": losses.accuracy(*logits)}
        if self.penalty:
            norm = losses.gradient_norm(lambda code: self.logit(code, context), real)
            terms["penalty"] = self.penalty * ops.mean(ops.square(norm))
        return terms

    def _generator_loss(self, batch, training):
        first = self.made(batch["z"], batch["features"])
        terms = {"adversarial": losses.generator_loss(self.logit(first, self.embed(batch["features"])))}
        if self.energy:
            second = self.made(batch["z2"], batch["features"])
            terms["energy"] = self.energy * ops.mean(energy_score(self.standardised(batch["code"]), first, second))
        return terms


class CodeScore(SampleLoss):
    """Trains the generator of a `CodeGAN` on the energy score alone, the lambda term of its loss.

    Arguments:
        gan: `CodeGAN`.

    Returns:
        call({"code" (B, latent), "features" (B, width), "z", "z2" (B, latent)}) gives the per-sample loss (B,).
    """

    def __init__(self, gan: CodeGAN, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        of_kind(gan, CodeGAN, "gan")
        self.network, self.built = gan.generator, True
        self.standardised, self.made = gan.standardised, gan.made

    def call(self, inputs):
        made = (self.made(inputs[z], inputs["features"]) for z in ("z", "z2"))
        return energy_score(self.standardised(inputs["code"]), *made)


def fit_code_gan(like: DiffusionPrior, codes: dict[str, np.ndarray], states: str | Path, score: Mapping[str, Any],
                 adversarial: Mapping[str, Any], seed: int = 0,
                 **settings: Any) -> tuple[dict[str, MeanFlowPrior], dict]:
    """Priors trained on the energy score, and then against a critic as well, and their histories.

    Arguments:
        like: as in `CodeGAN`.
        codes: from `zdckeras.diffusion.latent.code_posteriors`; one code is drawn from each posterior, once.
        states: folder of the state files.
        score: {"epochs", "batch", "rate"} of the first stage.
        adversarial: {"epochs", "batch", "generator", "critic"} of the second, the last two being learning rates.
        seed: of codes, weights, order and noise.
        settings: of `CodeGAN`.

    Returns:
        {"energy score", "GAN": `MeanFlowPrior`}, and name -> history.
    """
    gan, rng = CodeGAN(like, seed=seed, **settings), np.random.default_rng([seed, 77])
    drawn = codes["code_mean"] + codes["code_deviation"] * rng.standard_normal(codes["code_mean"].shape, "float32")
    arrays, states = {"code": drawn, "features": codes["features"]}, Path(states)
    histories = warm_start_scores(gan, {"energy score": (CodeScore(gan), arrays, score)}, states, seed)
    scored = fresh_student(like, seed)
    scored.set_weights(gan.generator.get_weights())
    histories["GAN"] = train_adversarially(gan, arrays, states / "GAN.npz", seed=seed, **adversarial)
    return {"energy score": scored, "GAN": gan.average}, histories

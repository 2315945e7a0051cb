"""Wasserstein GAN with gradient penalty, conditional by a pretrained regressor: model, warm start, generator."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from zdckeras import backend
from zdckeras.arguments import non_negative, of_kind, plain, whole_number
from zdckeras.backend import Tensor
from zdckeras.data.impact import expected_centre
from zdckeras.data.particles import Scaler
from zdckeras.data.showers import Showers
from zdckeras.data.transforms import BoxCox
from zdckeras.gan.scores import BLOCK_WEIGHT, block_features, energy_score, ranked_probability
from zdckeras.generators import RangedSampler, WithParts, one_detector
from zdckeras.training.adversarial import AdversarialModel, term_weights, with_average
from zdckeras.training.loop import SampleLoss
from zdckeras.training.phases import Phase
from zdckeras.wgan_gp import losses
from zdckeras.wgan_gp.losses import centre_loss
from zdckeras.wgan_gp.networks import EnergyNetwork
from zdckeras.wgan_gp.published import ImageNetwork
from zdckeras.wgan_gp.regressor import EnergyCritic, ParameterRegressor
from zdckeras.wgan_gp.response_features import EnergySummary

WGAN_TERMS = ("adversarial", "energy", "centre")

CELL_SCORE_WEIGHT = 0.02  # of the scores of single cells in network space
NUMBER_SCORE_WEIGHT = 0.2  # of the scores of single summary numbers


@keras.saving.register_keras_serializable("zdckeras")
class ResponseWGAN(AdversarialModel):
    """Generator against critic: L_D = E D(x') - E D(x) + 10 E (|grad D| - 1)^2, L_G = -E D(x') w_adv + other terms.

    The critic sees a Box-Cox image, the particle, and what the regressor, trained before and frozen, reads from the
    image minus the truth; so the generator's gradient passes through the regressor. Real, generated and interpolated
    responses of a row belong to one particle, and are scored with it. Five critic steps go with one generator step: a
    batch is cut into five parts. Other terms of the generator:
    "energy", a proper score of summaries, blocks and cells (`zdckeras.gan.scores`), and "centre", the squared
    distance of the centre of gravity from where it is expected (`centre_loss`).

    Arguments:
        detector: name.
        scaler: {"mean": (9,), "scale": (9,)} of the conditions.
        boxcox: {"power", "shift"} of the network space.
        weights: of "adversarial", "energy" and "centre"; 0 leaves a term and its cost out.
        generator, critic, regressor: sizes, as in `EnergyNetwork`, `EnergyCritic`, `ParameterRegressor`.
        summary: {"mean", "scale"} of `EnergySummary`.
        depth: how deep in the detector the centre of gravity is expected [cm], for the "centre" term.
        penalty: weight of the gradient penalty.
        critic_steps: critic steps for one of the generator.
        seed: of all weights.
        momentum: of the averaged generator, see `PhasedModel`.

    Returns:
        call({"conditions": (B, 9), "z": (B, d)}) gives the averaged generator's responses (B, nx, ny) [MeV].

    Raises:
        ValueError: for an unknown or negative weight, a negative penalty, critic steps below 1, or a network where its
            sizes are wanted; `fit_scales` for a regressor of another kind or detector.

    Source:
        LHCb study, arXiv:1812.01319, eq. 5 and section 3.3.
    """

    def __init__(self, detector: str, scaler: dict[str, Any], boxcox: dict[str, Any],
                 weights: Mapping[str, float] | None = None, generator: dict[str, Any] | None = None,
                 critic: dict[str, Any] | None = None, regressor: dict[str, Any] | None = None,
                 summary: dict[str, Any] | None = None, depth: float = 0.0, penalty: float = 10.0,
                 critic_steps: int = 5, seed: int = 0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.weights_of = term_weights(weights, {"adversarial": 1.0, "energy": 0.0, "centre": 0.0})
        generator, critic, regressor, summary = (dict(of_kind(sizes or {}, Mapping, name)) for name, sizes in (
            ("generator", generator), ("critic", critic), ("regressor", regressor), ("summary", summary)))
        whole_number(critic_steps, "critic_steps")
        non_negative(penalty, "penalty")
        self.settings = dict(detector=detector, scaler=plain(scaler), boxcox=boxcox, weights=self.weights_of,
                             generator=generator, critic=critic, regressor=regressor, summary=summary, depth=depth,
                             penalty=penalty, critic_steps=critic_steps, seed=seed)
        self.boxcox, self.penalty, self.critic_steps, self.depth = BoxCox(**boxcox), penalty, critic_steps, depth
        self.generator, self.average = with_average(
            lambda: EnergyNetwork(detector, scaler, seed=seed, **generator))
        self.detector = self.generator.detector
        self.critic = EnergyCritic(detector, scaler, seed=seed, **critic)
        self.regressor = ParameterRegressor(detector, seed=seed, **regressor)
        self.regressor.trainable = False
        self.features = EnergySummary(detector, **summary)
        self.latent = self.generator.latent
        self.built = True

    @classmethod
    def fit_scales(cls, showers: Showers, regressor: ParameterRegressor, boxcox: dict[str, Any],
                   generator: dict[str, Any] | None = None, **settings) -> "ResponseWGAN":
        """A fresh model for the one detector of training `Showers`, around a trained `ParameterRegressor`."""
        of_kind(regressor, ParameterRegressor, "regressor")
        detector = one_detector(showers=showers.detector(), regressor=regressor.detector).name
        scaler = Scaler.fit(showers.particles)
        fraction = float(np.mean(showers.photon_sums() / (1000.0 * showers.particles[:, 0])))
        config = {k: v for k, v in regressor.settings.items() if k not in ("detector", "seed")}
        model = cls(detector, scaler.get_config(), boxcox,
                    generator={**(generator or {}), "fraction": fraction}, regressor=config,
                    summary=EnergySummary.fit(showers, detector), **settings)
        model.regressor.set_weights(regressor.get_weights())
        return model

    def phases(self) -> dict[str, Phase]:
        terms = tuple(name for name in WGAN_TERMS if self.weights_of[name])
        critic = Phase(self._critic_loss, (self.critic,), ("distance", "penalty"), self.critic_steps,
                       ("accuracy",))
        first = {"critic": critic} if self.weights_of["adversarial"] else {}
        return {**first, "generator": Phase(self._generator_loss, (self.generator,), terms)}

    def critic_scores(self, image: Tensor, conditions: Tensor) -> Tensor:
        """The critic's scores (B, 1) of responses in network space."""
        wrong = self.regressor(image) - self.regressor.truth(conditions)
        return self.critic(image, conditions, wrong)

    def proper_score(self, conditions: Tensor, real: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Per-sample proper score of two generated responses: summaries + blocks / 4 + cells / 50.

        To the energy score of all summary numbers together that of each is added, / 5: alone, the former hardly sees
        the spread of one number, such as the energy resolution.
        """
        draws = (real, first, second)
        numbers = [self.features(e, conditions) for e in draws]
        found = energy_score(*numbers) + NUMBER_SCORE_WEIGHT * ranked_probability(*numbers)
        found = found + BLOCK_WEIGHT * energy_score(*map(block_features, draws))
        return found + CELL_SCORE_WEIGHT * ranked_probability(*map(self.boxcox.forward, draws))

    def expected(self, conditions: Tensor) -> Tensor:
        """Where the centre of gravity is expected, (B, 2) [cells from the detector's centre]."""
        return expected_centre(conditions, self.detector, self.depth, ops)

    def _critic_loss(self, batch, training):
        if tuple(batch["responses"].shape[1:]) != self.detector.shape:
            raise ValueError(f"responses: expected shape (B, {self.detector.shape[0]}, {self.detector.shape[1]}), "
                             f"received {tuple(batch['responses'].shape)}.")
        conditions = batch["conditions"]
        real = self.boxcox.forward(batch["responses"])
        made = self.boxcox.forward(ops.stop_gradient(self.generator(batch["z"], conditions)))
        both = ops.concatenate([conditions, conditions])
        scores = ops.split(self.critic_scores(ops.concatenate([real, made]), both), 2)
        penalty = losses.gradient_penalty(lambda y: self.critic_scores(y, conditions), real, made, batch["share"])
        return {"distance": losses.wasserstein_loss(*scores), "penalty": self.penalty * penalty,
                "accuracy": losses.ranking(*scores)}

    def _generator_loss(self, batch, training):
        weights, conditions, terms = self.weights_of, batch["conditions"], {}
        first = self.generator(batch["z"], conditions)
        if weights["adversarial"]:
            scores = self.critic_scores(self.boxcox.forward(first), conditions)
            terms["adversarial"] = -weights["adversarial"] * ops.mean(scores)
        if weights["energy"]:
            second = self.generator(batch["z2"], conditions)
            score = self.proper_score(conditions, batch["responses"], first, second)
            terms["energy"] = weights["energy"] * ops.mean(score)
        if weights["centre"]:
            terms["centre"] = weights["centre"] * losses.centre_loss(first, self.expected(conditions))
        return terms


@keras.saving.register_keras_serializable("zdckeras")
class EnergyGenerator(WithParts, RangedSampler):
    """The shipped generator of responses in energy: normal numbers and a particle to MeV in cells.

    Arguments:
        network: trained `EnergyNetwork` (of a `ResponseWGAN`, its `average`) or `ImageNetwork` (of an `ImageWGAN`).
        low, high: see `RangedSampler`.

    Raises:
        ValueError: for a network of another kind.
    """

    PARTS = ("network",)

    def __init__(self, network: EnergyNetwork | ImageNetwork, low: ArrayLike, high: ArrayLike, **kwargs):
        super().__init__(low, high, **kwargs)
        of_kind(network, (EnergyNetwork, ImageNetwork), "network")
        self.network, self.detectors = network, [network.detector]
        self.noise_width = network.latent
        self.jit_compile = backend.jit_compile()
        self.built = True

    def generate(self, noise: Tensor, conditions: Tensor) -> Tensor:
        return self.network(noise, conditions)

    def operations(self) -> int:
        """Multiplications with a weight for one response."""
        return self.network.operations()

    def get_config(self):
        return {**super().get_config(), **self.parts_config()}


class EnergyScoreFit(SampleLoss):
    """Trains a generator of energies on its proper score alone: no critic, no balance to keep.

    Arguments:
        gan: `ResponseWGAN`, whose generator is trained on E `proper_score`, plus its "centre" term if
            that has a weight.

    Returns:
        call of a batch with codes "z" and "z2" gives the per-sample loss (B,).
    """

    def __init__(self, gan, **kwargs):
        super().__init__(**kwargs)
        of_kind(gan, ResponseWGAN, "gan")
        self.network, self.score, self.expected = gan.generator, gan.proper_score, gan.expected
        self.weight = gan.weights_of["centre"]
        self.built = True

    def call(self, inputs):
        conditions = ops.cast(inputs["conditions"], "float32")
        first, second = ops.split(self.network(ops.concatenate([inputs["z"], inputs["z2"]]),
                                               ops.concatenate([conditions, conditions])), 2)
        loss = self.score(conditions, ops.cast(inputs["responses"], "float32"), first, second)
        if self.weight:
            loss = loss + self.weight * centre_loss(first, self.expected(conditions))
        return loss

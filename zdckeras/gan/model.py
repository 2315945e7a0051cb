"""Conditional GANs of one or several detectors: GAN, SDI-GAN, with intensity, auxiliary-regressor and L2 terms."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from zdckeras.arguments import non_negative, of_kind, plain
from zdckeras.backend import Tensor
from zdckeras.data.detectors import Detector, channel_sums
from zdckeras.data.particles import Scaler
from zdckeras.data.repeats import condition_statistics
from zdckeras.data.showers import Showers
from zdckeras.gan import losses
from zdckeras.gan.networks import Critic, PeakRegressor, ResponseNetwork
from zdckeras.gan.scores import shape_score, sums_score
from zdckeras.layers.response_features import SummaryFeatures
from zdckeras.training.adversarial import AdversarialModel, term_weights, with_average
from zdckeras.training.loop import SampleLoss
from zdckeras.training.phases import Phase

GAN_TERMS = ("diversity", "intensity", "auxiliary", "l2", "energy")


def training_arrays(showers: Showers, diversity: bool = True) -> dict[str, np.ndarray]:
    """What the GANs train on, by name, for `Batches`.

    Arguments:
        showers: `Showers` of one or more detectors.
        diversity: with the diversity of each row's condition, for which conditions must repeat.

    Returns:
        "conditions" (N, 9) and, for each detector d, "responses_d" (N, nx, ny), "peak_d" (N, 2), the brightest cell of
        the row's own response, (-1, -1) of an empty one, and "diversity_d" (N,).

    Raises:
        ValueError: if no condition occurs twice, so that there is no diversity.
    """
    arrays = {"conditions": showers.particles.astype("float32")}
    for name, counts in showers.responses.items():
        arrays[f"responses_{name}"] = counts
        flat = counts.reshape(len(counts), -1)
        peak = np.column_stack(np.divmod(flat.argmax(axis=1), counts.shape[2])).astype("float32")
        arrays[f"peak_{name}"] = np.where(flat.any(axis=1)[:, None], peak, np.float32(-1.0))
        if diversity:
            arrays[f"diversity_{name}"] = condition_statistics(showers, name).diversity.astype("float32")
    return arrays


def columns_of(names: Sequence[str], batch: Mapping[str, Tensor], kind: str) -> list[Tensor]:
    """One array of a batch of `training_arrays` for each detector; ValueError, naming them, where some are missing."""
    wanted = [f"{kind}_{name}" for name in names]
    if not set(wanted) <= set(batch):
        raise ValueError(f"Expected the columns {', '.join(wanted)} in a batch (see `training_arrays`); "
                         f"received {', '.join(batch)}.")
    return [batch[name] for name in wanted]


def responses_of(detectors: Sequence[Detector], batch: Mapping[str, Tensor]) -> list[Tensor]:
    """Responses of each detector in a batch of `training_arrays`; ValueError where they are missing or of a shape that
    is not the detector's."""
    found = columns_of([detector.name for detector in detectors], batch, "responses")
    for detector, responses in zip(detectors, found, strict=True):
        if tuple(responses.shape[1:]) != detector.shape:
            raise ValueError(f"responses_{detector.name}: expected shape (B, {detector.shape[0]}, "
                             f"{detector.shape[1]}), received {tuple(responses.shape)}.")
    return found


def critic_terms(critic: Critic, real: list[Tensor], generated: Sequence[Tensor], conditions: Tensor,
                 penalty: float = 0.0) -> dict[str, Tensor]:
    """What a `Critic` minimises: eq. 1 over real and generated responses to the same particles, and its penalty.

    The penalty is E |grad_e D(e, c)|^2 at the critic's embeddings e of both, the real and the generated responses: the
    logits are kept smooth where the dense layers read them. (The R1 penalty of arXiv:1801.04406 is that at the real
    images themselves; here the gradient is not taken through the convolutions.)

    Arguments:
        critic: `Critic`.
        real, generated: (B, nx, ny) photons of each detector.
        conditions: (B, 9).
        penalty: weight of the gradient penalty; 0 leaves it out.

    Returns:
        {"adversarial": scalar, "accuracy": scalar, only to be watched, "penalty": scalar if there is one}.
    """
    both = ops.concatenate([conditions, conditions])
    pairs = [ops.concatenate([r, ops.stop_gradient(g)]) for r, g in zip(real, generated, strict=True)]
    embedding = critic.embed(pairs, both)
    logits = ops.split(critic.logits(embedding, both), 2)
    terms = {"adversarial": losses.critic_loss(*logits), "accuracy": losses.accuracy(*logits)}
    if penalty:
        norm = losses.gradient_norm(lambda e: critic.logits(e, both), embedding)
        terms["penalty"] = penalty * ops.mean(ops.square(norm))
    return terms


@keras.saving.register_keras_serializable("zdckeras")
class ResponseGAN(AdversarialModel):
    """Generator against critic, and the terms that the proton and neutron studies add; one detector or several.

    L = L_adv + lambda_div L_div + lambda_in L_in + lambda_aux L_aux + lambda_l2 L_l2        (eq. 5, and L2)

    Every term compares a generated response with the real one to the same particle. With the energy score, the channel
    sums learn from it and the intensity alone, and the shape, given the sums, from all terms: a critic that pulls at
    the sums as well makes them worse. Without it all learn from all terms. With several detectors each
    response has its own logit and its own terms, and terms are averaged. Phases of a step: critic, regressor (where
    lambda_aux > 0; it learns from real responses only), generator.

    Arguments:
        detector: name, or several for a joint model.
        scaler: {"mean": (9,), "scale": (9,)} of the conditions, from `fit_scales`.
        weights: lambda of "diversity", "intensity" (per photon), "auxiliary" (per squared cell), "l2" and "energy"
            (energy scores, see `zdckeras.gan.scores`); 0 leaves a term and its cost out.
        generator, critic: sizes, as in `ResponseNetwork` and `Critic`; their "dtype" is kept in the configuration.
        penalty: weight of E |grad_e D(e, c)|^2 at the critic's embeddings e of real and generated responses (see
            `critic_terms`); 0 leaves it out.
        seed: of all weights.
        momentum: of the averaged generator, see `PhasedModel`.

    Returns:
        call({"conditions": (B, 9), "z": (B, d)}) gives the averaged generator's responses, a tuple of (B, nx, ny).

    Raises:
        ValueError: for an unknown or negative weight, a negative penalty, or a network where its sizes are wanted.

    Source:
        proton ZDC study, section 3; SDI-GAN, arXiv:2207.01561; gradient penalty after arXiv:1801.04406.

    Example:
        >>> small = dict(hidden=8, widths=(8,), channels=(4, 4, 2), spots=2)
        >>> tiny = dict(hidden=(8,), channels=(2, 2, 2))
        >>> gan = ResponseGAN("zp", {"mean": [0.0] * 9, "scale": [1.0] * 9}, generator=small, critic=tiny)
        >>> list(gan.phases())
        ['critic', 'generator']
    """

    def __init__(self, detector: str | Sequence[str], scaler: dict[str, Any],
                 weights: Mapping[str, float] | None = None, generator: dict[str, Any] | None = None,
                 critic: dict[str, Any] | None = None, penalty: float = 0.0, seed: int = 0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        names = (detector,) if isinstance(detector, str) else tuple(detector)
        self.weights_of = term_weights(weights, dict.fromkeys(GAN_TERMS, 0.0))
        generator, critic = ({"dtype": keras.config.dtype_policy().name, **of_kind(sizes or {}, Mapping, name)}
                             for name, sizes in (("generator", generator), ("critic", critic)))
        non_negative(penalty, "penalty")
        self.settings = dict(detector=names, scaler=plain(scaler), weights=self.weights_of, generator=generator,
                             critic=critic, penalty=penalty, seed=seed)
        self.names, self.penalty = names, penalty
        self.generator, self.average = with_average(
            lambda: ResponseNetwork(names, scaler, seed=seed, **generator))
        self.critic = Critic(names, scaler, seed=seed, **critic)
        self.regressors = [PeakRegressor(name, seed=seed, dtype=critic["dtype"]) for name in names
                           if self.weights_of["auxiliary"]]
        self.latent = self.generator.latent
        self.built = True

    @classmethod
    def fit_scales(cls, showers: Showers, critic: dict[str, Any] | None = None, **settings) -> "ResponseGAN":
        """A fresh model for the detectors of training `Showers`, its scalers fitted on them."""
        scaler = Scaler.fit(showers.particles)
        summary = [SummaryFeatures.fit(showers, name) for name in showers.responses]
        return cls(tuple(showers.responses), scaler.get_config(),
                   critic={**(critic or {}), "summary": summary}, **settings)

    def phases(self) -> dict[str, Phase]:
        weights = self.weights_of
        terms = ("adversarial", *(name for name in GAN_TERMS if weights[name]))
        seen = ("adversarial", "penalty") if self.penalty else ("adversarial",)
        found = {"critic": Phase(self._critic_loss, (self.critic,), seen, watched=("accuracy",))}
        if self.regressors:
            found["regressor"] = Phase(self._regressor_loss, tuple(self.regressors), ("auxiliary",))
        return {**found, "generator": Phase(self._generator_loss, (self.generator,), terms)}

    def _critic_loss(self, batch, training):
        real, conditions = responses_of(self.generator.detectors, batch), batch["conditions"]
        generated = self.generator(batch["z"], conditions)
        return critic_terms(self.critic, real, generated, conditions, self.penalty)

    def _regressor_loss(self, batch, training):
        columns = (columns_of(self.names, batch, kind) for kind in ("responses", "peak"))
        pairs = zip(self.regressors, *columns, strict=True)
        return {"auxiliary": sum(losses.auxiliary_loss(r(n), peak) for r, n, peak in pairs) / len(self.names)}

    def _generator_loss(self, batch, training):
        weights, conditions = self.weights_of, batch["conditions"]
        codes = [batch["z"], batch["z2"]] if weights["diversity"] or weights["energy"] else [batch["z"]]
        pairs = ops.concatenate([conditions] * len(codes))
        noise, parts, summaries = ops.concatenate(codes), len(codes), self.critic.summaries
        sums = self.generator.sums(noise, pairs)
        given = [ops.stop_gradient(s) for s in sums] if weights["energy"] else sums
        generated = self.generator.shape(noise, pairs, given)
        terms = {"adversarial": losses.generator_loss(self.critic(generated, pairs))}
        first = [ops.split(n, parts)[0] for n in generated]
        real = columns_of(self.names, batch, "responses")
        true = [summary.sums(n) for summary, n in zip(summaries, real, strict=True)]
        if weights["diversity"]:
            terms["diversity"] = weights["diversity"] * sum(
                losses.diversity_loss(*ops.split(ops.log1p(n), 2), *codes, d)
                for n, d in zip(generated, columns_of(self.names, batch, "diversity"), strict=True)) / len(real)
        if weights["intensity"]:
            terms["intensity"] = weights["intensity"] * sum(losses.intensity_loss(s, ops.split(t, parts)[0])
                                                            for s, t in zip(true, sums, strict=True)) / len(real)
        if weights["auxiliary"]:
            terms["auxiliary"] = weights["auxiliary"] * sum(
                losses.auxiliary_loss(r(n), peak) for r, n, peak in
                zip(self.regressors, first, columns_of(self.names, batch, "peak"), strict=True)) / len(real)
        if weights["l2"]:
            terms["l2"] = weights["l2"] * sum(losses.l2_loss(ops.log1p(n), ops.log1p(m))
                                              for n, m in zip(real, first, strict=True)) / len(real)
        if weights["energy"]:
            draws = [[ops.split(s, 2)[k] for s in sums] for k in range(2)]
            score = sums_score(summaries, true, *draws) + shape_score(summaries, conditions, real, generated)
            terms["energy"] = weights["energy"] * ops.mean(score)
        return terms


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
        of_kind(gan, ResponseGAN, "gan")
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
        of_kind(gan, ResponseGAN, "gan")
        self.network, self.names, self.summaries = gan.generator.shape, gan.names, gan.critic.summaries
        self.built = True

    def call(self, inputs):
        conditions = ops.cast(inputs["conditions"], "float32")
        real = [ops.cast(inputs[f"responses_{name}"], "float32") for name in self.names]
        sums = [summary.sums(n) for summary, n in zip(self.summaries, real, strict=True)]
        generated = self.network(ops.concatenate([inputs["z"], inputs["z2"]]), ops.concatenate([conditions] * 2),
                                 tuple(ops.concatenate([s, s]) for s in sums))
        return shape_score(self.summaries, conditions, real, generated)

"""The variational autoencoder of single arrivals, whose prior over latent codes is a conditional flow: the teacher."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from zdckeras.data.detectors import get_detector
from zdckeras.flows.flow import Flow
from zdckeras.layers.dense import multiplications, seeds_of, silu_layers
from zdckeras.modular.energies import EnergyDecoder, EnergyEncoder
from zdckeras.modular.networks import LightDecoder, ResponseEncoder
from zdckeras.training.loop import SampleLoss


@keras.saving.register_keras_serializable("zdckeras")
class LatentPrior(keras.Model):
    """Distribution p(z | arrival) of latent codes: a flow whose context is read from the features of the arrival.

    Arguments:
        width: of the features.
        latent: numbers of the code.
        kind: "maf", the teacher, whose density is one pass, or "iaf", the student, which samples in one pass.
        steps, hidden: autoregressive steps and their hidden widths; orders between steps are random, and the same for
            teacher and student.
        context: width of what the flow is told.
        seed: of weights and orders.

    Returns:
        call((B, latent) codes, (B, width) features) gives ln p (B,).

    Raises:
        ValueError: for another kind.
    """

    def __init__(self, width: int, latent: int = 16, kind: str = "maf", steps: int = 4,
                 hidden: Sequence[int] = (96, 96), context: int = 64, seed: int = 0, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})
        if kind not in ("maf", "iaf"):
            raise ValueError(f"Expected kind='maf' or 'iaf', received {kind!r}.")
        self.settings = dict(width=width, latent=latent, kind=kind, steps=steps, hidden=tuple(hidden), context=context,
                             seed=seed)
        self.embed = silu_layers((128, context), width, seeds_of([seed, 53]))
        self.flow = getattr(Flow, kind)(latent, context, steps, permutation_seed=7, seed=seed, hidden=tuple(hidden))
        self.built = True

    def student(self, **settings: Any) -> "LatentPrior":
        """A fresh "iaf" of the same layout."""
        return LatentPrior(**{**self.settings, "kind": "iaf", **settings})

    def call(self, code, features):
        return self.flow.log_prob(code, self.embed(features))

    def generate(self, noise, features):
        """Codes (B, latent) from standard normal noise (B, latent) and features (B, width)."""
        return self.flow.generate(noise, self.embed(features))

    def operations(self) -> int:
        """Multiplications with a weight for one code."""
        return multiplications(self)

    def get_config(self):
        return {**self.settings, "name": self.name}


@keras.saving.register_keras_serializable("zdckeras")
class ArrivalVAE(SampleLoss):
    """Variational autoencoder of the response to a single arrival, with over-dispersed photon counts, or energies.

    L = -ln P(n | m(z, f), r(z, f)) + beta (ln q(z | n, f) - ln p(z | f)),   z ~ q

    P is the negative binomial of every cell on the detector, q a normal distribution from `ResponseEncoder`, m and r
    from `LightDecoder`, p the `LatentPrior`, trained with the rest. beta comes in with the batch: it starts low, or the
    codes say nothing. Of a detector that is read out in energy, P is that of `EnergyCells`, with `EnergyEncoder` and
    `EnergyDecoder`.

    Arguments:
        detector: name.
        latent: numbers of the code.
        encoder, decoder, prior: settings of the parts.
        seed: of all weights.

    Returns:
        call({"kind", "energy", "x", "y" (B,), "responses" (B, nx, ny), "z" (B, latent), "beta" (B,)}), with the slopes
        of a gun's particles, gives the per-sample loss (B,).

    Source:
        Kingma and Welling, arXiv:1312.6114; flow priors: Chen et al., arXiv:1611.02731; over-dispersed counts: the
        negative binomial of Hilbe, Negative Binomial Regression, Cambridge 2011.
    """

    def __init__(self, detector: str, latent: int = 16, encoder: dict[str, Any] | None = None,
                 decoder: dict[str, Any] | None = None, prior: dict[str, Any] | None = None, seed: int = 0,
                 **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.settings = dict(detector=detector, latent=latent, encoder=encoder or {}, decoder=decoder or {},
                             prior=prior or {}, seed=seed)
        energies = get_detector(detector).unit == "MeV"
        self.encoder = (EnergyEncoder if energies else ResponseEncoder)(detector, latent, seed=seed, **(encoder or {}))
        self.decoder = (EnergyDecoder if energies else LightDecoder)(detector, latent, seed=seed, **(decoder or {}))
        self.features, self.detector = self.decoder.features, self.decoder.detector
        self.prior = LatentPrior(self.features.width, latent, seed=seed, **(prior or {}))
        self.latent = latent
        self.built = True

    def fit_scales(self, arrivals: dict[str, np.ndarray], responses: np.ndarray) -> "ArrivalVAE":
        """Set what the parts begin with from training arrivals and their responses (N, nx, ny); returns the model."""
        known = self.features(**arrivals)
        self.decoder.fit_mean(responses, *known)
        self.encoder.fit_scales(responses, *known)
        return self

    def encode(self, inputs):
        """Codes (B, latent) drawn with the noise "z", their ln q (B,), and the features and cells of the arrivals."""
        features, cell = self.features(*(inputs[name] for name in self.features.INPUTS))
        mean, log_deviation = self.encoder(inputs["responses"], features, cell)
        noise = inputs["z"]
        constant = 0.5 * self.latent * math.log(2.0 * math.pi)
        log_q = -ops.sum(0.5 * ops.square(noise) + log_deviation, axis=-1) - constant
        return mean + noise * ops.exp(log_deviation), log_q, features, cell

    def call(self, inputs):
        code, log_q, features, cell = self.encode(inputs)
        held = ops.reshape(ops.cast(inputs["responses"], "float32"), (-1, self.detector.cells))
        wrong = ops.sum(self.decoder.CELLS.loss(held, *self.decoder(code, features, cell)), axis=-1)
        return wrong + inputs["beta"] * (log_q - self.prior(code, features))

    def get_config(self):
        return {**self.settings, "name": self.name}


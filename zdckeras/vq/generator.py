"""The generator of vector quantisation that ships, tokens to light to whole photons, and how its prior is trained."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from zdckeras import backend
from zdckeras.arguments import random_numbers, seed_numbers, whole_number
from zdckeras.backend import Tensor
from zdckeras.data.detectors import CHANNEL_COUNT, channel_sums
from zdckeras.data.particles import CONDITION_COUNT
from zdckeras.data.showers import Showers
from zdckeras.flow_distill.sums import PhotonSums
from zdckeras.generators import RangedSampler, WithParts, one_detector
from zdckeras.training.batches import Batches
from zdckeras.training.cost import Passes, passes_of_loss
from zdckeras.training.loop import fit_adam
from zdckeras.vq.prior import TokenPrior
from zdckeras.vq.vq_vae import PhotonVQVAE, encode


@keras.saving.register_keras_serializable("zdckeras")
class TokenGenerator(WithParts, RangedSampler):
    """Tokens from the prior, light from the decoder, photons by `PhotonScatter`; channel sums first, if they are known.

    k ~ p(k | c),  n = scatter(decoder(k, c))      or      S ~ p(S | c),  k ~ p(k | c, S),  n with these channel sums.

    Arguments:
        model: trained `PhotonVQVAE`.
        prior: trained `TokenPrior` of its tokens.
        low, high: see `RangedSampler`.
        sums: trained `PhotonSums` of the five channels, if the prior knows sums.
        temperature, top_k, top_p: as in `draw`; fixed when the graph is compiled.

    Returns:
        call({"conditions": (B, 9), "noise": (B, noise_width)}) gives (B, nx, ny) photon counts as float32.

    Raises:
        ValueError: if the prior is made for other tokens or codes, or just one of the two knows channel sums, or parts
            are of different detectors.
    """

    PARTS = ("model", "prior", "sums")

    def __init__(self, model: PhotonVQVAE, prior: TokenPrior, low: ArrayLike, high: ArrayLike,
                 sums: PhotonSums | None = None, temperature: float = 1.0, top_k: int | None = None,
                 top_p: float = 1.0, **kwargs):
        super().__init__(low, high, **kwargs)
        if (prior.tokens, prior.codes) != (model.tokens, model.codebook.codes):
            raise ValueError(f"Expected a prior of {model.tokens} tokens of {model.codebook.codes} codes, received one "
                             f"of {prior.tokens} of {prior.codes}.")
        if (sums is not None) != bool(prior.sums):
            raise ValueError(f"Expected {'no model' if sums is not None else 'a model'} of channel sums beside a prior "
                             f"that {'knows' if prior.sums else 'does not know'} them.")
        drawn = {} if sums is None else {"sums": sums.features.detector}
        self.detectors = [one_detector(model=model.detector, prior=prior.features.detector, **drawn)]
        self.model, self.prior, self.sums = model, prior, sums
        self.draw = dict(temperature=temperature, top_k=top_k, top_p=top_p)
        self.given = CHANNEL_COUNT if sums is not None else 0
        self.noise_width = self.given + prior.tokens + model.scatter.latent
        self.jit_compile = backend.jit_sampling()
        self.built = True

    def generate(self, noise: Tensor, conditions: Tensor) -> Tensor:
        """Photon counts (B, nx, ny) from standard normal noise (B, noise_width) and physical conditions (B, 9)."""
        sums = self.sums.generate(noise[:, : self.given], conditions) if self.given else None
        rest = noise[:, self.given :]
        uniform = 0.5 + 0.5 * ops.erf(rest[:, : self.prior.tokens] / math.sqrt(2.0))
        tokens = self.prior.sample(conditions, uniform, **self.draw, sums=sums)
        light = self.model.light(tokens, conditions)
        return self.model.scatter(light, rest[:, self.prior.tokens :], sums)

    def operations(self) -> int:
        """Multiplications for one response, without those of the channel sums."""
        return self.prior.operations() + self.model.decoder.operations()

    def get_config(self):
        return {**super().get_config(), **self.parts_config(), **self.draw}


def fit_prior(model: PhotonVQVAE, training: tuple[Showers, np.ndarray], path: str | Path, epochs: int, batch: int,
              rate: float, sums: bool = False, validation: tuple[Showers, np.ndarray] | None = None, seed: int = 0,
              kind: type = TokenPrior, adam: Mapping[str, Any] | None = None, **sizes: Any) -> tuple[TokenPrior, dict]:
    """A trained `TokenPrior`, or one of another kind, of the tokens that a trained model gives to showers.

    Arguments:
        model: `PhotonVQVAE`.
        training: `Showers`, and their tokens (N, T) from `encode`.
        path: of the state file.
        epochs, batch, rate: of the training, see `fit_adam`.
        sums: whether the prior knows the channel sums.
        validation: `Showers` and tokens on which the loss is told after every epoch.
        seed: of weights and order.
        kind: `TokenPrior` or `ParticleTokenPrior`.
        adam: as in `fit_adam`.
        sizes: of the prior.

    Returns:
        The prior and its history.
    """
    def batches(showers, tokens, rows, shuffle):
        arrays = {"conditions": showers.particles, "tokens": tokens}
        if sums:
            arrays["sums"] = channel_sums(showers.response)
        return Batches(arrays, rows, seed, shuffle=shuffle)

    prior = kind.fit_scales(training[0], codes=model.codebook.codes, tokens=model.tokens, seed=seed,
                            sums=CHANNEL_COUNT if sums else 0, **sizes)
    held = batches(*validation, min(batch, len(validation[1])), False) if validation is not None else None
    return prior, fit_adam(prior, batches(*training, batch, True), path, epochs, rate, validation=held, adam=adam)


def prior_passes(model: PhotonVQVAE, showers: Showers, sizes: dict, kind: type = TokenPrior) -> dict[str, Passes]:
    """What a step of a prior of the model's tokens runs, for `zdckeras.training.cost`.

    Arguments:
        model: `PhotonVQVAE`.
        showers: training `Showers`, for scales.
        sizes: settings of `fit_prior`.
        kind: as there.
    """
    sizes = {name: size for name, size in sizes.items() if name not in ("epochs", "batch", "rate", "adam")}
    prior = kind.fit_scales(showers, codes=model.codebook.codes, tokens=model.tokens, **sizes)
    return passes_of_loss("prior", prior, conditions=(CONDITION_COUNT,), tokens=(model.tokens,))


def token_generators(model: PhotonVQVAE, training: Showers, validation: Showers, states: str | Path, prior: dict,
                     sums: dict, temperatures: Sequence[float] = (1.0,), seed: int = 0) -> tuple[dict, dict]:
    """Generators of a trained model: from tokens alone, or with channel sums drawn first; at several temperatures.

    The spread of cells around the light is fitted on the validation showers (`PhotonScatter.fit`).

    Arguments:
        model: trained `PhotonVQVAE`.
        training, validation: `Showers`; they are encoded once for all priors.
        states: folder of the state files.
        prior: settings of `fit_prior`.
        sums: name of each prior -> trained `PhotonSums`, or None for tokens alone.
        temperatures: of the tokens.
        seed: of weights and order.

    Returns:
        Name -> temperature -> `TokenGenerator`, and name -> history of the prior.
    """
    tokens, light = encode(model, validation)
    model.scatter.fit(light, validation.response)
    pairs = dict(training=(training, encode(model, training)[0]), validation=(validation, tokens))
    reach = training.particles.min(axis=0), training.particles.max(axis=0)
    generators, histories = {}, {}
    for name, drawn in sums.items():
        fitted, histories[name] = fit_prior(model, path=Path(states) / f"{name}.npz", sums=drawn is not None, seed=seed,
                                            **pairs, **prior)
        generators[name] = {t: TokenGenerator(model, fitted, *reach, sums=drawn, temperature=t) for t in temperatures}
    return generators, histories


def reconstruction(model: PhotonVQVAE, light: np.ndarray, rows: int = 256) -> Callable:
    """What is left of responses after tokens: a function of (conditions, seed) for `judge`, of those very showers.

    Arguments:
        model: trained `PhotonVQVAE`.
        light: (N, nx, ny) of the tokens of each response, from `encode`.
        rows: drawn at once, at least 1; part of the meaning of the seed.
    """
    whole_number(rows, "rows")

    def sample(conditions, seed):
        made = np.empty(light.shape, "uint16")
        for block, start in enumerate(range(0, len(light), rows)):
            rng = random_numbers([*seed_numbers(seed), block], 3)
            part = light[start : start + rows]
            noise = rng.standard_normal((len(part), model.scatter.latent), "float32")
            made[start : start + rows] = ops.convert_to_numpy(model.scatter(part, noise))
        return made

    return sample

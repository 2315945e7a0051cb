"""How the priors of a trained codebook are trained, with and without channel sums, and how well it reconstructs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zdckeras.data.detectors import CHANNEL_COUNT, channel_sums
from zdckeras.data.showers import Showers
from zdckeras.training.batches import Batches
from zdckeras.training.loop import fit_adam
from zdckeras.vq.generator import TokenGenerator
from zdckeras.vq.prior import TokenPrior
from zdckeras.vq.vq_vae import PhotonVQVAE, encode


def fit_prior(model: PhotonVQVAE, training: tuple[Showers, np.ndarray], path: str | Path, epochs: int, batch: int,
              rate: float, sums: bool = False, validation: tuple[Showers, np.ndarray] | None = None, seed: int = 0,
              **sizes: Any) -> tuple[TokenPrior, dict]:
    """A trained `TokenPrior` of the tokens that a trained model gives to showers.

    Arguments:
        model: `PhotonVQVAE`.
        training: `Showers`, and their tokens (N, T) from `encode`.
        path: of the state file.
        epochs, batch, rate: of the training, see `fit_adam`.
        sums: whether the prior knows the channel sums.
        validation: `Showers` and tokens on which the loss is told after every epoch.
        seed: of weights and order.
        sizes: of the prior.

    Returns:
        The prior and its history.
    """
    def batches(showers, tokens, rows, shuffle):
        arrays = {"conditions": showers.particles, "tokens": tokens}
        if sums:
            arrays["sums"] = channel_sums(showers.response)
        return Batches(arrays, rows, seed, shuffle=shuffle)

    prior = TokenPrior.fit_scales(training[0], codes=model.codebook.codes, tokens=model.tokens, seed=seed,
                                  sums=CHANNEL_COUNT if sums else 0, **sizes)
    held = batches(*validation, min(batch, len(validation[1])), False) if validation is not None else None
    return prior, fit_adam(prior, batches(*training, batch, True), path, epochs, rate, validation=held)


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
        rows: drawn at once; part of the meaning of the seed.
    """

    def sample(conditions, seed):
        made = np.empty(light.shape, "uint16")
        for block, start in enumerate(range(0, len(light), rows)):
            rng = np.random.default_rng([*np.atleast_1d(seed).tolist(), block])
            part = light[start : start + rows]
            noise = rng.standard_normal((len(part), model.scatter.latent), "float32")
            made[start : start + rows] = np.asarray(model.scatter(part, noise))
        return made

    return sample

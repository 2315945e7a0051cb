"""How the prior of a trained codebook is trained, with or without channel sums."""

from pathlib import Path

import numpy as np

from zdckeras.data.detectors import CHANNEL_COUNT, channel_sums
from zdckeras.training.batches import Batches
from zdckeras.training.loop import fit_adam
from zdckeras.vq.generator import TokenGenerator
from zdckeras.vq.prior import TokenPrior
from zdckeras.vq.vq_vae import encode


def fit_prior(model, showers, path, epochs, batch, rate, sums=False, validation=None, seed=0, **sizes):
    """A trained `TokenPrior` of the tokens that a trained model gives to `Showers`.

    Arguments:
        model: `PhotonVQVAE`.
        showers: training `Showers`.
        path: of the state file.
        epochs, batch, rate: of the training, see `fit_adam`.
        sums: whether the prior knows the channel sums.
        validation: `Showers` on which the loss is told after every epoch.
        seed: of weights and order.
        sizes: of the prior.

    Returns:
        The prior and its history.
    """
    def batches(some, rows, shuffle):
        arrays = {"conditions": some.particles, "tokens": encode(model, some)[0]}
        if sums:
            arrays["sums"] = channel_sums(some.response)
        return Batches(arrays, rows, seed, shuffle=shuffle)

    prior = TokenPrior.fit_scales(showers, codes=model.codebook.codes, tokens=model.tokens, seed=seed,
                                  sums=CHANNEL_COUNT if sums else 0, **sizes)
    seen = batches(validation, min(batch, len(validation)), False) if validation is not None else None
    return prior, fit_adam(prior, batches(showers, batch, True), path, epochs, rate, validation=seen)


def token_generators(model, training, validation, states, prior, sums=None, temperatures=(1.0,), seed=0):
    """Generators of a trained model at several temperatures: from tokens alone, or with channel sums drawn first.

    The spread of cells around the light is fitted on the validation showers (`PhotonScatter.fit`).

    Arguments:
        model: trained `PhotonVQVAE`.
        training, validation: `Showers`.
        states: folder of the state files.
        prior: settings of `fit_prior`.
        sums: trained `PhotonSums`, or None.
        temperatures: of the tokens.
        seed: of weights and order.

    Returns:
        Temperature -> `TokenGenerator`, and the history of the prior.
    """
    model.scatter.fit(encode(model, validation)[1], validation.response)
    reach = training.particles.min(axis=0), training.particles.max(axis=0)
    path = Path(states) / ("prior.npz" if sums is None else "prior with sums.npz")
    fitted, history = fit_prior(model, training, path, sums=sums is not None, validation=validation, seed=seed, **prior)
    return {t: TokenGenerator(model, fitted, *reach, sums=sums, temperature=t) for t in temperatures}, history


def reconstruction(model, showers):
    """What is left of responses after tokens: a function of (conditions, seed) for `compare`, of those very showers.

    Arguments:
        model: trained `PhotonVQVAE`.
        showers: `Showers`, whose particles the function is called with.
    """
    _, light = encode(model, showers)
    rows = 256

    def sample(conditions, seed):
        made = np.empty(light.shape, "uint16")
        for block, start in enumerate(range(0, len(light), rows)):
            rng = np.random.default_rng([*np.atleast_1d(seed).tolist(), block])
            part = light[start : start + rows]
            noise = rng.standard_normal((len(part), model.scatter.latent), "float32")
            made[start : start + rows] = np.asarray(model.scatter(part, noise))
        return made

    return sample

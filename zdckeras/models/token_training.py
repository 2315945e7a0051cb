"""How the prior of a trained codebook is trained, with or without channel sums."""

from pathlib import Path

import numpy as np

from zdckeras.detectors import channel_sums
from zdckeras.models.photon_sums import PhotonSums
from zdckeras.models.prior import TokenPrior
from zdckeras.models.token_generator import TokenGenerator
from zdckeras.models.vq_vae import encode
from zdckeras.training import Batches, fit_adam


def fit_sums(showers, path, epochs, batch, rate, seed=0, **sizes):
    """A trained `PhotonSums` of the five channels of one detector's `Showers`.

    Arguments:
        showers: training `Showers`.
        path: of the state file.
        epochs, batch, rate: of the training, see `fit_adam`.
        seed: of weights, order and noise.
        sizes: of the model.
    """
    conditions = showers.particles.astype("float32")
    sums = channel_sums(showers.response).astype("float32")
    model = PhotonSums.fit_scales(showers.detector().name, conditions, sums, seed=seed, **sizes)
    batches = Batches({"conditions": conditions, "sums": sums}, batch, seed, uniform={"u_sums": (sums.shape[1],)})
    fit_adam(model, batches, path, epochs, rate)
    return model


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
                                  sums=5 if sums else 0, **sizes)
    seen = batches(validation, min(batch, len(validation)), False) if validation is not None else None
    return prior, fit_adam(prior, batches(showers, batch, True), path, epochs, rate, validation=seen)


def token_generators(model, training, validation, states, prior, sums, temperatures=(1.0,), seed=0):
    """Generators of a trained model: from tokens alone at several temperatures, and with channel sums drawn first.

    The spread of cells around the light is fitted on the validation showers (`PhotonScatter.fit`).

    Arguments:
        model: trained `PhotonVQVAE`.
        training, validation: `Showers`.
        states: folder of the state files.
        prior: settings of `fit_prior`.
        sums: settings of `fit_sums`.
        temperatures: of the tokens.
        seed: of weights, order and noise.

    Returns:
        Name -> `TokenGenerator`, and stage -> history.
    """
    states = Path(states)
    model.scatter.fit(encode(model, validation)[1], validation.response)
    reach = training.particles.min(axis=0), training.particles.max(axis=0)
    alone, history = fit_prior(model, training, states / "prior.npz", validation=validation, seed=seed, **prior)
    knows, other = fit_prior(model, training, states / "prior with sums.npz", validation=validation, seed=seed,
                             sums=True, **prior)
    first = fit_sums(training, states / "sums.npz", seed=seed, **sums)
    made = {f"prior, T = {t:g}": TokenGenerator(model, alone, *reach, temperature=t) for t in temperatures}
    made |= {f"sums and prior, T = {t:g}": TokenGenerator(model, knows, *reach, sums=first, temperature=t)
             for t in temperatures}
    return made, {"prior": history, "prior with sums": other}


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

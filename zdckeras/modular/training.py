"""Training of the modular generator: the autoencoder of single arrivals, then students of its prior."""

from pathlib import Path

import keras
import numpy as np

from zdckeras import backend
from zdckeras.flow_distill.distiller import variability_weight
from zdckeras.modular.arrivals import ARRIVAL, ArrivalBatches, respond
from zdckeras.modular.distiller import PriorDistiller, pair_diversity
from zdckeras.modular.model import ArrivalVAE, LatentPrior
from zdckeras.training.batches import Batches
from zdckeras.training.loop import annealed, fit_adam


def fit_vae(detector: str, path: str | Path, rows: int, epochs: int, batch: int, rate: float, seed: int = 0, own=None,
            showers=None, **sizes) -> tuple[ArrivalVAE, dict]:
    """An `ArrivalVAE` trained on single arrivals, and its history.

    Arguments:
        detector: "zn" or "zp".
        path: of the state file.
        rows: fresh arrivals of every epoch.
        epochs, batch, rate: of the training.
        seed: of weights, arrivals, order and noise.
        own: (arrivals, responses) in place of fresh draws, see `zdckeras.modular.arrivals.single_arrivals`.
        showers: `FrozenShowers` of another library than the packaged one.
        sizes: of `ArrivalVAE`.
    """
    model = ArrivalVAE(detector, seed=seed, **sizes)
    batches = ArrivalBatches(detector, rows, epochs, batch, seed, model.latent, own, showers)
    model.fit_scales({name: batches.arrays[name] for name in ARRIVAL}, batches.arrays["responses"])
    model.compile(keras.optimizers.Adam(annealed(rate, batches, epochs), clipnorm=50.0),
                  jit_compile=backend.jit_compile())
    return model, fit_adam(model, batches, path, epochs, rate)


def distil(vae: ArrivalVAE, path: str | Path, rows: int, epochs: int, batch: int, rate: float, channels: float = 1.0,
           scaled: bool = True, seed: int = 0, own=None, showers=None) -> tuple[LatentPrior, dict]:
    """A student of the prior of a trained autoencoder, and its history.

    Arguments:
        vae: trained `ArrivalVAE`.
        path: of the state file.
        rows: arrivals, the same in every epoch.
        epochs, batch, rate: of the training.
        channels: lambda of the physics loss ("ch").
        scaled: whether samples count less where responses vary much ("div"); needs the reference simulation, which
            answers every arrival a second time.
        seed: of weights, arrivals, order and noise.
        own, showers: as in `fit_vae`.
    """
    name, latent = vae.detector.name, vae.latent
    draws = ArrivalBatches(name, rows, 1, min(batch, rows), seed + 1000, latent, own, showers)
    arrays = {**draws.arrays, "channels": np.full(draws.rows, channels)}
    weight = np.ones(draws.rows)
    if scaled and own is None:
        again = respond(name, {key: arrays[key] for key in ARRIVAL}, [seed, 72], showers)
        weight = variability_weight(pair_diversity(arrays["responses"], again))
    student = vae.prior.student(seed=seed + 1)
    batches = Batches({**arrays, "weight": weight}, batch, seed, normal={"z": (latent,), "u": (latent,)})
    return student, fit_adam(PriorDistiller(vae, student), batches, path, epochs, rate)

"""Diffusion and flow matching of the latent codes of single arrivals: priors of few steps for the modular generator."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from zdckeras.diffusion.denoiser import Denoiser, fit_averaged
from zdckeras.diffusion.networks import DenseField
from zdckeras.layers.dense import products, seeds_of, silu_layers
from zdckeras.layers.photon_drawing import CellNoise, normal_quantile
from zdckeras.modular.arrivals import ArrivalBatches
from zdckeras.modular.model import ArrivalVAE
from zdckeras.training.batches import Batches

BLOCK = 10_000  # arrivals that are drawn and encoded at once


@keras.saving.register_keras_serializable("zdckeras")
class DiffusionPrior(Denoiser):
    """Distribution of latent codes given the features of an arrival, drawn in few steps from noise.

    It stands where `zdckeras.modular.model.LatentPrior`, a flow, stands in a `ModularGenerator`: the decoder, and all
    that is around it, are the same. Codes are standardised first (`fit_scales`).

    Arguments:
        width: of the features.
        latent: numbers of the code.
        hidden, depth: of the `DenseField`.
        context: width of what the field is told.
        seed: of the weights.
        kwargs: of `Denoiser`; by default flow matching, drawn by Heun's method.

    Returns:
        call({"code_mean", "code_deviation" (B, latent), "features" (B, width), "z", "noise" (B, latent) normal
        numbers, "t" (B,) uniform numbers}) gives the per-sample loss (B,).

    Raises:
        ValueError: as `Denoiser`.

    Source:
        Rombach et al., arXiv:2112.10752; latent flow matching for this detector: arXiv:2507.18811.
    """

    TIMES = 1  # numbers that say the time

    def __init__(self, width: int, latent: int = 16, hidden: int = 192, depth: int = 4, context: int = 64,
                 seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settings |= dict(width=width, latent=latent, hidden=hidden, depth=depth, context=context, seed=seed)
        self.embed = silu_layers((128, context), width, seeds_of([seed, 63]))
        self.field = DenseField(latent, context, hidden, depth, self.TIMES, seed)
        self.mean = self.add_weight(shape=(latent,), initializer="zeros", trainable=False, name="mean")
        self.scale = self.add_weight(shape=(latent,), initializer="ones", trainable=False, name="scale")
        more = (self.draws - 1) * latent
        self.added = CellNoise(more, latent, 23) if more else None
        self.built = True

    def fit_scales(self, mean: np.ndarray, deviation: np.ndarray) -> "DiffusionPrior":
        """Set mean and deviation of the codes from those of their posteriors (N, latent); returns the model."""
        self.mean.assign(mean.mean(axis=0))
        self.scale.assign(np.sqrt(mean.var(axis=0) + np.square(deviation).mean(axis=0)))
        return self

    def code(self, inputs: dict) -> Any:
        """Standardised codes (B, latent) of a batch, drawn from their posteriors."""
        drawn = inputs["code_mean"] + inputs["code_deviation"] * inputs["z"]
        return (drawn - self.mean) / self.scale

    def call(self, inputs):
        return self.denoising_loss(self.code(inputs), inputs["noise"], inputs["t"], self.embed(inputs["features"]))

    def generate(self, noise, features):
        """Codes (B, latent) from standard normal noise (B, latent) and features (B, width).

        Noise that a sampler adds on the way is made from that it starts with, see `CellNoise`.
        """
        noise, features = ops.cast(noise, "float32"), ops.cast(features, "float32")
        given = noise[None]
        if self.added is not None:
            more = ops.reshape(normal_quantile(self.added(noise)), (-1, self.draws - 1, noise.shape[1]))
            given = ops.concatenate([given, ops.transpose(more, (1, 0, 2))], axis=0)
        return self.mean + self.scale * self.draw(given, self.embed(features))

    def operations(self) -> int:
        """Multiplications with a weight for one code."""
        return products(self.embed) + self.evaluations * self.field.operations()


def code_posteriors(vae: ArrivalVAE, rows: int, seed: int = 0, own: tuple | None = None,
                    showers: Any = None) -> dict[str, np.ndarray]:
    """Single arrivals and the posteriors of their codes, drawn and encoded block by block.

    Arguments:
        vae: trained `ArrivalVAE`.
        rows: arrivals; of own ones, all are taken.
        seed: of the arrivals.
        own: (arrivals, responses) in place of fresh draws, see `zdckeras.modular.arrivals.single_arrivals`.
        showers: `FrozenShowers` of another library than the packaged one.

    Returns:
        "code_mean", "code_deviation" (N, latent), "features" (N, width) and "cell" (N, 2), float32.
    """
    rows, parts = len(own[1]) if own else rows, []
    for block, start in enumerate(range(0, rows, BLOCK)):
        some = slice(start, min(start + BLOCK, rows))
        mine = ({name: values[some] for name, values in own[0].items()}, own[1][some]) if own else None
        size = some.stop - start
        own_seed = int(np.random.SeedSequence([seed, 3000, block]).generate_state(1)[0])
        drawn = ArrivalBatches(vae.detector.name, size, 1, size, own_seed, vae.latent, mine, showers).arrays
        features, cell = vae.features(*(np.asarray(drawn[name], "float32") for name in vae.features.INPUTS))
        mean, log_deviation = vae.encoder(np.asarray(drawn["responses"], "float32"), features, cell)
        found = {"code_mean": mean, "code_deviation": ops.exp(log_deviation), "features": features, "cell": cell}
        parts.append({name: np.asarray(ops.convert_to_numpy(v), "float32") for name, v in found.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def fit_prior(vae: ArrivalVAE, codes: dict[str, np.ndarray], path: str | Path, epochs: int, batch: int, rate: float,
              seed: int = 0, **settings: Any) -> tuple[DiffusionPrior, dict]:
    """A `DiffusionPrior` of the codes of a trained autoencoder, and its history.

    Arguments:
        vae: trained `ArrivalVAE`.
        codes: from `code_posteriors`.
        path: of the state file.
        epochs, batch, rate: of the training.
        seed: of weights, order and noise.
        settings: of `DiffusionPrior`.
    """
    prior = DiffusionPrior(vae.features.width, vae.latent, seed=seed, **settings)
    prior.fit_scales(codes["code_mean"], codes["code_deviation"])
    given = {name: codes[name] for name in ("code_mean", "code_deviation", "features")}
    batches = Batches(given, batch, seed, uniform={"t": ()}, normal={"z": (vae.latent,), "noise": (vae.latent,)})
    return prior, fit_averaged(prior, batches, path, epochs, rate)

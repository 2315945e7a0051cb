"""Training of the modular generator: the autoencoder of single arrivals, then students of its prior."""

from pathlib import Path

import keras
import numpy as np
from keras import ops

from zdckeras import backend
from zdckeras.data.detectors import CHANNEL_COUNT, channel_masks
from zdckeras.flow_distill.distiller import channel_loss, path_loss, variability_weight
from zdckeras.modular.arrivals import ARRIVAL, ArrivalBatches, respond
from zdckeras.modular.model import ArrivalVAE, LatentPrior
from zdckeras.training.batches import Batches
from zdckeras.training.loop import annealed, fit_adam


@keras.saving.register_keras_serializable("zdckeras")
class PriorDistiller(keras.Model):
    """Trains a student `LatentPrior` (IAF) to do what the teacher (MAF) of an `ArrivalVAE` does, in both directions.

    data direction:    response -> encoder -> z -> teacher -> u -> student -> z',   compare states and networks
    latent direction:  u -> student -> z' -> teacher -> u',                         compare states and networks
    L = L_data + L_latent ("bs")  + lambda L_channels(light(z'), n) ("ch"),  times the sample's weight ("div")

    As in `zdckeras.flow_distill.distiller.Distiller`, but over 16 codes in place of the cells: L_channels compares the
    channel sums of the light that the decoder makes of the student's code with those of the real response.

    Arguments:
        vae: trained `ArrivalVAE`; its weights stay as they are.
        student: `vae.prior.student()`.

    Returns:
        call gives the per-sample loss (B,) of a batch of `ArrivalBatches` with "u" (B, latent), "weight" (B,) and
        "channels" (B,), the lambda of the physics loss.

    Source:
        flow distillation for the Zero Degree Calorimeter, arXiv:2512.20346; CaloFlow II, arXiv:2110.11377.
    """

    def __init__(self, vae, student, **kwargs):
        super().__init__(**kwargs)
        self.vae, self.student = vae, student
        self.vae.trainable = False
        self.masks = channel_masks(vae.detector.shape).reshape(CHANNEL_COUNT, -1).astype("float32").T
        self.built = True

    def call(self, inputs):
        code, _, features, cell = self.vae.encode(inputs)
        told, mine = self.vae.prior.embed(features), self.student.embed(features)
        teacher, student = self.vae.prior.flow, self.student.flow
        states, parameters = teacher.inverse_path(code, told)
        made, own = student.transform_path(states[0], mine)
        loss = path_loss(made, own, states, parameters, range(1, len(states)))
        made_again, own = student.transform_path(inputs["u"], mine)
        states, parameters = teacher.inverse_path(made_again[-1], told)
        loss = loss + path_loss(made_again, own, states, parameters, range(len(states) - 1))
        log_mean, _ = self.vae.decoder(made[-1], features, cell)
        photons = ops.reshape(ops.cast(inputs["responses"], "float32"), (-1, self.vae.detector.cells))
        real = ops.matmul(photons, self.masks)
        light = ops.matmul(ops.exp(log_mean), self.masks)
        return loss + inputs["channels"] * channel_loss(light, real, ops.sum(real, axis=-1, keepdims=True))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Weighted mean over the batch."""
        return ops.mean(ops.multiply(x["weight"], y_pred))


def pair_diversity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How much two responses to each arrival differ, D = sum_ij |n - n'| / 2 over its largest value, (N,) in [0, 1].

    Two draws are enough for the weight "div": |n - n'| / 2 is the population deviation of the pair in every cell.

    Arguments:
        first, second: (N, nx, ny) photons.

    Example:
        >>> pair_diversity(np.array([[[4, 0]], [[1, 0]]]), np.array([[[0, 0]], [[0, 0]]])).tolist()
        [1.0, 0.25]
    """
    deviation = [np.abs(a.astype("int64") - b).sum() / 2 for a, b in zip(first, second, strict=True)]
    return np.asarray(deviation, "float64") / max(max(deviation), 1e-9)


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

"""Training of the modular generator: the autoencoder of single arrivals, then students of its prior."""

from pathlib import Path

import keras
import numpy as np
from keras import ops

from zdckeras import backend
from zdckeras.backend import Tensor
from zdckeras.data.detectors import channel_sums, flat_masks
from zdckeras.flow_distill.distiller import channel_loss, path_loss, variability_weight
from zdckeras.modular.arrivals import ArrivalBatches, respond
from zdckeras.modular.model import ArrivalVAE, LatentPrior
from zdckeras.modular.networks import LightDecoder
from zdckeras.training.batches import Batches
from zdckeras.training.constants import WithConstants
from zdckeras.training.loop import annealed, fit_adam


def channel_light(decoder: LightDecoder, code: Tensor, features: Tensor, cell: Tensor) -> Tensor:
    """Channel sums (B, 5) of the light that a decoder makes of codes (B, latent)."""
    log_mean, *_ = decoder(code, features, cell)
    return backend.exact_matmul(ops.exp(log_mean), flat_masks(decoder.detector.shape).T)


@keras.saving.register_keras_serializable("zdckeras")
class PriorDistiller(WithConstants):
    """Trains a student `LatentPrior` (IAF) to do what the teacher (MAF) of an `ArrivalVAE` does, in both directions.

    data direction:    response -> encoder -> z -> teacher -> u -> student -> z',   compare states and networks
    latent direction:  u -> student -> z' -> teacher -> u',                         compare states and networks
    L = L_data + L_latent ("bs")  + lambda L_channels(light(z'), n) ("ch"),  times the sample's weight ("div")

    As in `zdckeras.flow_distill.distiller.Distiller`, but over 16 codes in place of the cells: L_channels compares the
    channel sums of the light that the decoder makes of the student's code with those of the real response.

    Arguments:
        teacher: `LatentPrior` of the autoencoder.
        decoder: its `LightDecoder`; the weights of both stay as they are.
        student: `teacher.student()`.
        channels: lambda, weight of the physics loss.

    Returns:
        call({"kind", "energy", "x", "y" (B,), "code", "u" (B, latent), "sums" (B, 5)}) gives the per-sample loss (B,):
        of codes and channel sums of real responses, and standard normal noise.

    Source:
        flow distillation for the Zero Degree Calorimeter, arXiv:2512.20346; CaloFlow II, arXiv:2110.11377.
    """

    def __init__(self, teacher, decoder, student, channels=1.0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.teacher, self.decoder, self.student, self.channels = teacher, decoder, student, channels
        self.built = True

    @property
    def constants(self) -> tuple[keras.Layer, ...]:
        """Layers whose weights stay as they are."""
        return (self.teacher, self.decoder)

    def call(self, inputs):
        features, cell = self.decoder.features(*(inputs[name] for name in self.decoder.features.INPUTS))
        told, mine = self.teacher.embed(features), self.student.embed(features)
        teacher, student = self.teacher.flow, self.student.flow
        states, parameters = teacher.inverse_path(inputs["code"], told)
        made, own = student.transform_path(states[0], mine)
        loss = path_loss(made, own, states, parameters, range(1, len(states)))
        made_again, own = student.transform_path(inputs["u"], mine)
        states, parameters = teacher.inverse_path(made_again[-1], told)
        loss = loss + path_loss(made_again, own, states, parameters, range(len(states) - 1))
        if not self.channels:
            return loss
        light, real = channel_light(self.decoder, made[-1], features, cell), inputs["sums"]
        return loss + self.channels * channel_loss(light, real, ops.sum(real, axis=-1, keepdims=True))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Weighted mean over the batch."""
        return backend.per_replica(ops.mean(ops.multiply(x["weight"], y_pred)))


def pair_diversity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How much two responses to each arrival differ, D = sum_ij |n - n'| / 2 over its largest value, (N,) in [0, 1].

    Two draws are enough for the weight "div": |n - n'| / 2 is the population deviation of the pair in every cell.

    Arguments:
        first, second: (N, nx, ny) photons or energies.

    Example:
        >>> pair_diversity(np.array([[[4, 0]], [[1, 0]]]), np.array([[[0, 0]], [[0, 0]]])).tolist()
        [1.0, 0.25]
    """
    deviation = [np.abs(a.astype("float64") - b).sum() / 2 for a, b in zip(first, second, strict=True)]
    return np.asarray(deviation, "float64") / max(max(deviation), 1e-9)


def fit_vae(detector: str, path: str | Path, rows: int, epochs: int, batch: int, rate: float, seed: int = 0, own=None,
            showers=None, **sizes) -> tuple[ArrivalVAE, dict]:
    """An `ArrivalVAE` trained on single arrivals, and its history.

    Arguments:
        detector: name.
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
    known = {name: batches.arrays[name] for name in model.features.INPUTS}
    model.fit_scales(known, batches.arrays["responses"])
    optimizer = keras.optimizers.Adam(annealed(rate, batches, epochs), clipnorm=50.0)
    return model, fit_adam(model, batches, path, epochs, rate, optimizer=optimizer)


def encoded_arrivals(vae: ArrivalVAE, rows: int, seed: int = 0, own=None, showers=None) -> dict[str, np.ndarray]:
    """What students of one autoencoder are trained on: arrivals, the codes of their responses, channel sums, weights.

    Arguments:
        vae: trained `ArrivalVAE`.
        rows: arrivals; of own ones, all are taken.
        seed: of arrivals, responses and the noise of the codes.
        own, showers: as in `fit_vae`.

    Returns:
        "kind", "energy", "x", "y" (N,), "code" (N, latent), "sums" (N, 5) and "variability" (N,), the weight of "div";
        that is 1 for own arrivals: the reference simulation answers an arrival a second time, own data do not.
    """
    name, latent = vae.detector.name, vae.latent
    rows = rows if own is None else len(own[1])
    draws, coder = ArrivalBatches(name, rows, 1, min(1024, rows), seed + 1000, latent, own, showers), Coder(vae)
    arrays = {key: draws.arrays[key] for key in (*vae.features.INPUTS, "responses")}
    rows, noise = draws.rows, np.random.default_rng([seed, 73]).standard_normal((draws.rows, latent), "float32")
    blocks = [np.minimum(np.arange(start, start + 1024), rows - 1) for start in range(0, rows, 1024)]
    codes = [backend.predicted(coder, {"z": noise[block]} | {key: np.asarray(values[block], "float32") for key, values
                                                             in arrays.items()}) for block in blocks]
    weight = np.ones(rows)
    if own is None:
        again = respond(name, arrays, [seed, 72], showers)
        weight = variability_weight(pair_diversity(arrays["responses"], again))
    responses = arrays.pop("responses")
    return {**arrays, "code": np.concatenate(codes)[:rows], "sums": channel_sums(responses), "variability": weight}


class Coder(keras.Model):
    """An autoencoder's code of a response, as the prediction of a model."""

    def __init__(self, vae, **kwargs):
        super().__init__(**kwargs)
        self.vae, self.built = vae, True

    def call(self, inputs):
        return self.vae.encode(inputs)[0]


def distil(vae: ArrivalVAE, arrays: dict[str, np.ndarray], path: str | Path, epochs: int, batch: int, rate: float,
           channels: float = 1.0, scaled: bool = True, seed: int = 0) -> tuple[LatentPrior, dict]:
    """A student of the prior of a trained autoencoder, and its history.

    Arguments:
        vae: trained `ArrivalVAE`.
        arrays: from `encoded_arrivals`.
        path: of the state file.
        epochs, batch, rate: of the training.
        channels: lambda of the physics loss ("ch").
        scaled: whether samples count less where responses vary much ("div").
        seed: of weights, order and noise.
    """
    student, rows = vae.prior.student(seed=seed + 1), dict(arrays)
    variability = rows.pop("variability")
    rows["weight"] = variability if scaled else np.ones_like(variability)
    batches = Batches(rows, batch, seed, normal={"u": (vae.latent,)})
    return student, fit_adam(PriorDistiller(vae.prior, vae.decoder, student, channels), batches, path, epochs, rate)

"""Teacher to student on latent codes: an inverse autoregressive flow learns the prior of a trained autoencoder."""

import keras
import numpy as np
from keras import ops

from zdckeras.data.detectors import CHANNEL_COUNT, channel_masks
from zdckeras.flow_distill.distiller import channel_loss, path_loss


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

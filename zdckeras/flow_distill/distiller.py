"""Teacher to student: an inverse autoregressive flow learns from a frozen masked autoregressive one."""

from collections.abc import Iterable, Sequence

import keras
import numpy as np
from keras import ops

from zdckeras import backend
from zdckeras.arguments import of_kind
from zdckeras.backend import Tensor
from zdckeras.flow_distill.shape import CellFlow, ShapeFlow
from zdckeras.generators import WithParts
from zdckeras.training.constants import WithConstants


def path_loss(states: Sequence[Tensor], parameters: Sequence[Tensor], others: Sequence[Tensor],
              other_parameters: Sequence[Tensor], compared: Iterable[int]) -> Tensor:
    """Per-sample mean squared error between two flows' states and network outputs along the way.

    L = 1/n sum_k mean_d (u_k - u'_k)^2 + 1/n sum_k mean_{d,p} (theta_k - theta'_k)^2

    Arguments:
        states, others: n + 1 arrays (B, D), the states u_0 = z, ..., u_n = x of each flow.
        parameters, other_parameters: n arrays (B, D, P) of the networks inside.
        compared: indices of the states that enter.

    Returns:
        (B,) loss.

    Source:
        probability density distillation, arXiv:1711.10433; Krause and Shih, CaloFlow II, arXiv:2110.11377, eq. 3.

    Example:
        >>> zero, one = np.zeros((2, 3), "float32"), np.ones((2, 3), "float32")
        >>> ops.convert_to_numpy(path_loss([zero, one], [zero], [zero, zero], [zero], [1])).tolist()
        [1.0, 1.0]
    """
    def distance(a, b):
        return ops.mean(ops.square(a - b), axis=list(range(1, len(a.shape))))

    outputs = sum(distance(states[k], others[k]) for k in compared) / len(compared)
    networks = sum(distance(a, b) for a, b in zip(parameters, other_parameters, strict=True)) / len(parameters)
    return outputs + networks


def channel_loss(generated: Tensor, real: Tensor, total: Tensor) -> Tensor:
    """Per-sample L1 distance of channel sums in units of the shower's photons, sum_k |S_k - S'_k| / N.

    Arguments:
        generated, real: (B, 5) channel sums in photons.
        total: (B, 1) photon sums N.

    Example:
        >>> s = np.array([[10.0, 0, 0, 0, 10.0]], "float32")
        >>> float(channel_loss(s, s + 1.0, np.array([[20.0]], "float32"))[0])
        0.25
    """
    return ops.sum(ops.abs(generated - real), axis=-1) / ops.maximum(total[:, 0], 1.0)


def variability_weight(diversity: np.ndarray) -> np.ndarray:
    """Loss weights 1 / (1 + d / <d>) of samples, mean 1: conditions with variable outputs count less.

    Our reading of the study's "div", whose formula is not published.

    Arguments:
        diversity: (N,) output variability of each sample's condition in [0, 1].

    Returns:
        (N,) float32.

    Raises:
        ValueError: for values outside [0, 1].

    Example:
        >>> variability_weight(np.array([0.0, 1.0])).round(2).tolist()
        [1.5, 0.5]
    """
    diversity = np.asarray(diversity, "float64")
    if not ((diversity >= 0) & (diversity <= 1)).all():
        raise ValueError(f"Expected diversities in [0, 1], received {diversity.min()} to {diversity.max()}.")
    weight = 1.0 / (1.0 + diversity / max(diversity.mean(), 1e-9))
    return (weight / weight.mean()).astype("float32")


@keras.saving.register_keras_serializable("zdckeras")
class Distiller(WithParts, WithConstants):
    """Trains a student `ShapeFlow` (IAF) to do what a frozen teacher (MAF) does, in both directions.

    data direction:    x -> teacher -> z -> student -> x',   compare u_1..u_n and the networks;
    latent direction:  z -> student -> x' -> teacher -> z',  compare u_0..u_{n-1} and the networks
    L = L_data + L_latent ("bs")  + lambda L_channels(x', x) ("ch"),  times the sample's weight ("div")

    Every pass is the fast one of its flow. The first half of a batch goes in the data direction, the second half in
    the latent direction.

    Arguments:
        teacher: trained MAF `ShapeFlow`; its weights stay as they are.
        student: its `student()`.

    Returns:
        call gives the per-sample loss (B,) of {"conditions" (B, 9), "responses" (B, nx, ny), "u_cells" (B, D),
        "z" (B, D), "weight" (B,), "channels" (B,)}. A weight of 1 everywhere leaves "div" out, and channels, the
        lambda of the physics loss, of 0 leaves "ch" out: all variants are one compiled step.

    Source:
        flow distillation for the Zero Degree Calorimeter, arXiv:2512.20346; CaloFlow II, arXiv:2110.11377.
    """

    PARTS = ("teacher", "student")

    def __init__(self, teacher: ShapeFlow, student: ShapeFlow, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        for name, flow in (("teacher", teacher), ("student", student)):
            of_kind(flow, CellFlow, name)
        self.teacher, self.student, self.xla = teacher, student, student.xla
        self.built = True

    @property
    def constants(self) -> tuple[keras.Layer, ...]:
        """Layers whose weights stay as they are."""
        return (self.teacher, *self.student.kept)

    def _data_direction(self, inputs):
        teacher, student = self.teacher, self.student
        sums = teacher.sums(inputs["responses"])
        conditions = inputs["conditions"]
        context = teacher.context(conditions, sums)
        x, _ = teacher.encode(inputs["responses"], inputs["u_cells"], conditions, context)
        states, parameters = teacher.flow.inverse_path(x, context)
        own = student.context(conditions, sums)
        mine, my_parameters = student.flow.transform_path(states[0], own)
        loss = path_loss(mine, my_parameters, states, parameters, range(1, len(states)))
        total = ops.sum(sums, axis=-1, keepdims=True)
        made = student.code.soft_sums(student.decode(mine[-1], conditions, total, own), total, student.masks)
        return loss + inputs["channels"] * channel_loss(made, sums, total)

    def _latent_direction(self, inputs):
        teacher, student = self.teacher, self.student
        sums = teacher.sums(inputs["responses"])
        own = student.context(inputs["conditions"], sums)
        mine, my_parameters = student.flow.transform_path(inputs["z"], own)
        context = teacher.context(inputs["conditions"], sums)
        states, parameters = teacher.flow.inverse_path(mine[-1], context)
        return path_loss(mine, my_parameters, states, parameters, range(len(states) - 1))

    def call(self, inputs):
        half = inputs["conditions"].shape[0] or ops.shape(inputs["conditions"])[0]
        half = half // 2
        first = {name: values[:half] for name, values in inputs.items()}
        second = {name: values[half:] for name, values in inputs.items()}
        return ops.concatenate([self._data_direction(first), self._latent_direction(second)])

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Weighted mean over the batch; both directions have the same weight."""
        return backend.per_replica(2.0 * ops.mean(ops.multiply(x["weight"], y_pred)))

    def get_config(self):
        return {"name": self.name, **self.parts_config()}

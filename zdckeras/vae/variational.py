"""What autoencoders share: the loss of a reconstruction, and variational codes with their divergence."""

from keras import ops

from zdckeras.backend import Tensor
from zdckeras.training.loop import SampleLoss, hand_on

LEAST_LOG_DEVIATION, MOST_LOG_DEVIATION = -6.0, 2.0  # of a code


def kl_of_normal(mean: Tensor, log_deviation: Tensor) -> Tensor:
    """KL(N(m, s^2) | N(0, 1)) = sum_k (m_k^2 + s_k^2 - 1) / 2 - ln s_k, per sample.

    Arguments:
        mean, log_deviation: (B, d).

    Returns:
        (B,).

    Example:
        >>> float(kl_of_normal(ops.ones((1, 2)), ops.zeros((1, 2)))[0])
        1.0
    """
    return ops.sum(0.5 * (ops.square(mean) + ops.exp(2.0 * log_deviation) - 1.0) - log_deviation, axis=-1)


def normal_of(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """The normal distribution of a code, m and ln s, from what an encoder reads; s is kept within e^-6 to e^2.

    Arguments:
        numbers: (B, 2 d).

    Returns:
        Two (B, d).

    Example:
        >>> [ops.convert_to_numpy(n).tolist() for n in normal_of(ops.convert_to_tensor([[3.0, 9.0]]))]
        [[[3.0]], [[2.0]]]
    """
    mean, log_deviation = ops.split(numbers, 2, axis=-1)
    return mean, ops.clip(log_deviation, LEAST_LOG_DEVIATION, MOST_LOG_DEVIATION)


def reparametrise(mean: Tensor, log_deviation: Tensor, z: Tensor) -> Tensor:
    """A code m + s z, with gradients by m and ln s, from standard normal z; all (B, d).

    Source:
        Kingma and Welling, arXiv:1312.6114, section 2.4.

    Example:
        >>> code = reparametrise(ops.ones((1, 2)), ops.zeros((1, 2)), ops.convert_to_tensor([[0.5, -3.0]]))
        >>> ops.convert_to_numpy(code).tolist()
        [[1.5, -2.0]]
    """
    return mean + ops.exp(log_deviation) * z


class Autoencoder(SampleLoss):
    """Base: L = mismatch(x, x') + rest, x' decoded from a code of x; the parts are what subclasses define.

    Returns:
        call({"conditions": (B, 9), "responses": (B, nx, ny), "z": (B, d)}) gives the per-sample loss (B,).
    """

    def reconstruct(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What is decoded from the codes of a batch, (B, nx, ny), and the rest of the loss, (B,)."""
        raise NotImplementedError

    def mismatch(self, inputs: dict[str, Tensor], made: Tensor) -> Tensor:
        """How badly what is decoded, (B, nx, ny), agrees with the responses of a batch, (B,)."""
        raise NotImplementedError

    def call(self, inputs, training=False):
        return hand_on(self._each, {**inputs, "conditions": ops.cast(inputs["conditions"], "float32")}, training)

    def _each(self, inputs):
        made, rest = self.reconstruct(inputs)
        return self.mismatch(inputs, made) + rest


class Variational:
    """Mixin before an `Autoencoder`: x' = decode(m + s z, c), and rest = w_KL KL(N(m, s^2) | N(0, 1)).

    A subclass has `kl`, that is w_KL, `posterior(inputs)`, which gives m and ln s, and `decode(code, conditions)`.

    Source:
        Kingma and Welling, arXiv:1312.6114; Sohn et al., NIPS 2015 (conditional).
    """

    def reconstruct(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        mean, log_deviation = self.posterior(inputs)
        made = self.decode(reparametrise(mean, log_deviation, inputs["z"]), inputs["conditions"])
        return made, self.kl * kl_of_normal(mean, log_deviation)

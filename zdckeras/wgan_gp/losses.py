"""The losses of the Wasserstein GAN with gradient penalty, and of where a shower ought to be."""

from collections.abc import Callable

from keras import ops

from zdckeras import backend
from zdckeras.backend import Tensor
from zdckeras.data.moments import Moments, moment_weights
from zdckeras.gan.losses import gradient_norm


def wasserstein_loss(real: Tensor, generated: Tensor) -> Tensor:
    """Critic's estimate of the distance, to be minimised by the critic: E D(x') - E D(x) (eq. 5, first half).

    Arguments:
        real, generated: (B, K) scores.

    Source: LHCb study, arXiv:1812.01319; Wasserstein GAN, arXiv:1701.07875.

    Example:
        >>> float(wasserstein_loss(ops.ones((2, 1)), 3.0 * ops.ones((2, 1))))
        2.0
    """
    return ops.mean(generated) - ops.mean(real)


def ranking(real: Tensor, generated: Tensor) -> Tensor:
    """Share of pairs in which the real response scores higher than the generated one to the same particle.

    Arguments:
        real, generated: (B, 1) scores, row by row.

    Example:
        >>> float(ranking(ops.convert_to_tensor([[1.0], [0.0]]), ops.convert_to_tensor([[0.5], [3.0]])))
        0.5
    """
    return ops.stop_gradient(ops.mean(ops.cast(real > generated, "float32")))


def gradient_penalty(function: Callable[[Tensor], Tensor], real: Tensor, generated: Tensor, share: Tensor) -> Tensor:
    """E (|grad_y D(y)| - 1)^2 at y = u x + (1 - u) x', each between the two responses to one particle (eq. 5).

    Arguments:
        function: y -> scores (B, K); rows independent of one another, each judged with the particle it belongs to.
        real, generated: (B, nx, ny) responses in network space to the same particles, row by row.
        share: (B, 1, 1) uniform numbers u.

    Source: arXiv:1704.00028, eq. 3.

    Example:
        >>> x = ops.ones((2, 1, 2))
        >>> round(float(gradient_penalty(lambda y: 3.0 * y[:, :, 0], x, 0.0 * x, 0.5 * ops.ones((2, 1, 1)))), 3)
        4.0
    """
    between = ops.stop_gradient(share * real + (1.0 - share) * generated)
    return ops.mean(ops.square(gradient_norm(function, between) - 1.0))


def centre_loss(energy: Tensor, expected: Tensor) -> Tensor:
    """E |g - g_0|^2, the squared distance of a response's centre of gravity from where it ought to be [cells^2].

    g = sum_ij (i, j) e_ij / sum e_ij; an empty response counts as centred on the detector.

    Arguments:
        energy: (B, nx, ny) responses of any generator, in photon space.
        expected: (B, 2) expected centre of gravity [cells from the detector's centre], see
            `zdckeras.data.impact.expected_centre`.

    Source: ALICE FoCal study, "theory-inspired approach".

    Example:
        >>> import numpy as np
        >>> e = np.zeros((1, 5, 5), "float32"); e[0, 4, 2] = 7.0
        >>> round(float(centre_loss(ops.convert_to_tensor(e), ops.convert_to_tensor([[1.0, 0.0]]))), 4)
        1.0
    """
    _, nx, ny = energy.shape
    weights = moment_weights((nx, ny), dtype="float32")
    flat = ops.reshape(energy, (-1, nx * ny))
    moments = Moments(flat, weights, added=1e-6, xp=ops, matmul=backend.exact_matmul)
    return ops.mean(ops.sum(ops.square(moments.centre - expected), axis=-1))

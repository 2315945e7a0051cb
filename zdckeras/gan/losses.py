"""The losses of the adversarial family, each a plain function of tensors with its equation.

Equation numbers are those of the proton ZDC study (Bedkowski et al., "Deep generative models for proton Zero Degree
Calorimeter simulations in ALICE, CERN"). All are means over the batch, so that weights do not depend on its size.
"""

from collections.abc import Callable

from keras import ops

from zdckeras import backend
from zdckeras.backend import Tensor

SMALLEST = 1e-2  # added to the ratio of distances in eq. 3, which would have no bound


def absolute(x: Tensor) -> Tensor:
    """|x| with gradient 0 at 0, where JAX takes 1: whole photon counts are often equal."""
    return x * ops.stop_gradient(ops.sign(x))


def critic_loss(real: Tensor, generated: Tensor) -> Tensor:
    """Critic's half of eq. 1, to be minimised: -E log D(x, c) - E log(1 - D(G(z, c), c)) with D = sigmoid(logit).

    Arguments:
        real, generated: (B, K) logits of real and generated responses.

    Returns:
        Scalar.

    Example:
        >>> zero = ops.zeros((4, 1))
        >>> round(float(critic_loss(zero, zero)), 4)  # 2 ln 2: it cannot tell
        1.3863
    """
    return ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(generated))


def generator_loss(generated: Tensor) -> Tensor:
    """Generator's half of eq. 1 in the form that does not saturate, -E log D(G(z, c), c) (arXiv:1406.2661, section 3).

    Arguments:
        generated: (B, K) logits of generated responses.

    Example:
        >>> round(float(generator_loss(ops.zeros((4, 1)))), 4)
        0.6931
    """
    return ops.mean(ops.softplus(-generated))


def accuracy(real: Tensor, generated: Tensor) -> Tensor:
    """Share of logits on the right side, above 0 for real and below for generated responses; 1/2 is to guess.

    Arguments:
        real, generated: (B, K) logits.

    Example:
        >>> one = ops.ones((4, 1))
        >>> float(accuracy(one, one))
        0.5
    """
    right = ops.mean(ops.cast(real > 0.0, "float32")) + ops.mean(ops.cast(generated < 0.0, "float32"))
    return ops.stop_gradient(0.5 * right)


def auxiliary_loss(predicted: Tensor, peak: Tensor) -> Tensor:
    """Eq. 2, E (k' - k)^2 + (l' - l)^2: squared distance of predicted and true brightest cell [cells^2].

    Arguments:
        predicted: (B, 2) coordinates that the regressor reads from a response.
        peak: (B, 2) brightest cell of the real response to the same particle; negative where that is empty, in rows
            that do not count (the study's responses all have light).

    Example:
        >>> peak = ops.convert_to_tensor([[0.0, 0.0], [-1.0, -1.0]])
        >>> float(auxiliary_loss(ops.convert_to_tensor([[3.0, 4.0], [9.0, 9.0]]), peak))
        25.0
    """
    lit = ops.cast(peak[:, 0] >= 0.0, predicted.dtype)
    distance = ops.sum(ops.square(predicted - ops.cast(peak, predicted.dtype)), axis=-1)
    return ops.sum(lit * distance) / ops.maximum(ops.sum(lit), 1.0)


def diversity_loss(first: Tensor, second: Tensor, z1: Tensor, z2: Tensor, diversity: Tensor,
                   added: float = SMALLEST) -> Tensor:
    """Eq. 3, E d(c) / (d_I(G(c, z_1), G(c, z_2)) / d_z(z_1, z_2)): two codes must differ as the data do.

    d_I and d_z are mean absolute differences.

    Arguments:
        first, second: (B, ...) responses in network space, ln(1 + n), to the same particles, or a critic's embeddings
            of them, which the codes of both studies compare.
        z1, z2: (B, d) their latent codes.
        diversity: (B,) diversity of each particle's responses in [0, 1].
        added: to the ratio of distances; 1e-5 in the code of the proton study.

    Example:
        >>> a, z = ops.zeros((1, 2, 2)), ops.zeros((1, 3))
        >>> round(float(diversity_loss(a, a + 1.0, z, z + 0.5, ops.convert_to_tensor([0.5]))), 3)
        0.249
    """
    images = ops.mean(absolute(first - second), axis=list(range(1, len(first.shape))))
    codes = ops.mean(ops.abs(z1 - z2), axis=-1)
    return ops.mean(diversity / (images / ops.maximum(codes, 1e-6) + added))


def intensity_loss(real: Tensor, generated: Tensor) -> Tensor:
    """Eq. 4, E |f(x) - f(x')| with f the photon sum of one response, in photons.

    Arguments:
        real, generated: (B, ...) photons of responses to the same particles, cell by cell or summed up in channels.

    Example:
        >>> float(intensity_loss(ops.ones((2, 3, 3)), ops.zeros((2, 3, 3))))
        9.0
    """
    real, generated = (ops.sum(n, axis=list(range(1, len(n.shape)))) for n in (real, generated))
    return ops.mean(absolute(real - generated))


def l2_loss(real: Tensor, generated: Tensor) -> Tensor:
    """E mean_ij (y_ij - y'_ij)^2, pixel by pixel in network space, for the same particles.

    Arguments:
        real, generated: (B, nx, ny) responses as ln(1 + n).

    Example:
        >>> float(l2_loss(ops.ones((2, 3, 3)), ops.zeros((2, 3, 3))))
        1.0
    """
    return ops.mean(ops.square(real - generated))


def gradient_norm(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """|grad_x f| of each sample, differentiable once more: what gradient penalties are made of.

    E |grad f|^2 at real responses is the penalty of arXiv:1801.04406 (R1), E (|grad f| - 1)^2 between real and
    generated ones that of arXiv:1704.00028.

    Arguments:
        function: (B, ...) -> (B, ...), rows independent of one another; outputs of a row are summed.
        x: (B, ...) where.

    Returns:
        (B,).

    Example:
        >>> norm = gradient_norm(lambda x: ops.sum(x * ops.convert_to_tensor([3.0, 4.0]), axis=-1), ops.ones((2, 2)))
        >>> [round(float(n), 4) for n in norm]
        [5.0, 5.0]
    """
    gradient = backend.steps().grad(function, x)
    return ops.sqrt(ops.sum(ops.square(gradient), axis=list(range(1, len(gradient.shape)))) + 1e-12)

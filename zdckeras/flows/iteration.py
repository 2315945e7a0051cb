"""Sampling all autoregressive steps of a flow at once, by iteration: few large operations for many small ones."""

import keras
import numpy as np
from keras import ops

from zdckeras import backend
from zdckeras.backend import Tensor
from zdckeras.flows.autoregressive import MaskedAutoregressive
from zdckeras.flows.bijections import Bijection, Permutation

SETTLED = {"float32": 1e-11, "float64": 1e-27}  # squared changes of a row, summed, below which it moves no more


def can_iterate(parts: list[Bijection]) -> bool:
    """Whether bijections are MAF steps of one layout, with nothing but permutations between."""
    steps = [part for part in parts if isinstance(part, MaskedAutoregressive)]
    layouts = {repr({name: value for name, value in step.network.get_config().items() if name not in ("name", "seed")})
               + repr(step.univariate.get_config()) for step in steps}
    return len(layouts) == 1 and all(isinstance(part, (MaskedAutoregressive, Permutation)) for part in parts)


def generate_at_once(parts: list[Bijection], noise: Tensor, context: Tensor | None) -> Tensor:
    """Data from the noise of a chain of MAF steps, all steps and all variables at once, iterated until nothing moves.

    x^(s) <- f(x^(s-1); theta_s(x^(s), c))   for s = 1..S at the same time, x^(0) = z, from x^(s) = z

    theta_s of a variable depends on the variables before it, so what stands still in front makes the next one stand
    still: D S iterations are exact for any weights. Trained flows take some ten, because the shift of a change is small
    and its shift smaller. An iteration is one pass of S small networks, side by side in one product for each layer.
    A row that has settled stays as it is, so none depends on the others; one with NaN takes all D S iterations.

    Arguments:
        parts: bijections for which `can_iterate`, the first next to the latent space.
        noise: (B, D).
        context: (B, C) or None.

    Returns:
        (B, D), that of `Flow.generate` up to rounding.

    Source:
        Y. Song, C. Meng, R. Liao and S. Ermon, Accelerating feedforward computation via parallel nonlinear equation
        solving, arXiv:2002.03629.

    Example:
        >>> step = MaskedAutoregressive(3, hidden=(8,), seed=1)
        >>> ops.convert_to_numpy(generate_at_once([step], np.ones((1, 3), "float32"), None)).tolist()
        [[1.0, 1.0, 1.0]]
    """
    orders, steps = [np.arange(noise.shape[1])], []
    for part in parts:
        if isinstance(part, Permutation):
            orders[-1] = orders[-1][part.order]
        else:
            steps.append(part)
            orders.append(orders[-1])
    places = [np.argsort(order) for order in orders]  # of the variables of the noise in the order of each step
    networks, update = [step.network for step in steps], steps[0].univariate.transform_and_log_det
    kernels, offsets = zip(*(_layer(networks, index, places, context) for index in range(len(networks[0].masked))),
                           strict=True)
    shape = len(steps), -1, noise.shape[1], networks[0].outputs_per_variable
    noise = ops.expand_dims(noise, 0)

    def again(count, x, moved):
        theta = x
        for index, (kernel, offset) in enumerate(zip(kernels, offsets, strict=True)):
            theta = backend.exact_matmul(networks[0].activation(theta) if index else theta, kernel) + offset
        before = ops.concatenate([noise, x[:-1]], axis=0)
        new, _ = update(before, ops.reshape(theta, shape))
        going = moves(moved)
        new = ops.where(going[:, None], new, x)
        return count + 1, new, ops.where(going, ops.sum(ops.square(new - x), axis=(0, 2)), moved)

    most, settled = len(steps) * noise.shape[2], SETTLED[keras.backend.standardize_dtype(noise.dtype)]

    def moves(moved):  # NaN does
        return ops.logical_not(moved <= settled)

    *_, x, _ = ops.while_loop(
        lambda count, x, moved: ops.any(moves(moved)) & (count < most), again,
        (ops.zeros((), "int32"), ops.concatenate([noise] * len(steps), axis=0), ops.ones_like(noise[0, :, 0])))
    return ops.take(x[-1], orders[-1], axis=1)


def _layer(networks, index, places, context):
    """Masked kernels (S, I, J) of one layer of all steps, variables as in the noise, and what is added, (S, ., J)."""
    last, kernels, offsets = len(networks[0].masked) - 1, [], []
    for network, place in zip(networks, places, strict=False):
        layer, p = network.masked[index], network.outputs_per_variable
        columns = (place[:, None] * p + np.arange(p)).reshape(-1).astype("int32")
        kernel, added = layer.masked_kernel(), [ops.expand_dims(layer.bias, 0)]
        if index < len(network.conditioned):
            added.append(network.conditioned[index].kernel.value)
        if index == 0:
            kernel = backend.rows_at(kernel, place.astype("int32"))
        if index == last:
            kernel, *added = (ops.take(values, columns, axis=1) for values in (kernel, *added))
        kernels.append(kernel)
        offsets.append(added)
    biases, *told = (ops.stack(values) for values in zip(*offsets, strict=True))
    return ops.stack(kernels), backend.exact_matmul(ops.expand_dims(context, 0), told[0]) + biases if told else biases

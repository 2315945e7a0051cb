"""Distance of two batches as distributions: entropic optimal transport without its bias, for losses."""

import numpy as np
from keras import ops

from zdckeras import backend
from zdckeras.backend import Tensor

RATIO = 0.25  # of the blurs of successive iterations on the way down, in units of cost


def _costs(x, y, p):
    """|x_i - y_j|^p, (n, m)."""
    squares = ops.sum(ops.square(x), axis=-1)[:, None] + ops.sum(ops.square(y), axis=-1)[None, :]
    squares = squares - 2.0 * backend.exact_matmul(x, ops.transpose(y))
    return ops.maximum(squares, 0.0) if p == 2 else ops.sqrt(ops.maximum(squares, 1e-10))


def _transport(cost, epsilon, iterations):
    """Entropic cost of even weights, min_P <P, C> + eps KL(P | 1 / nm), with the gradient of <P, C> at fixed P."""
    still = ops.stop_gradient(cost)
    sizes, largest = [ops.cast(size, "float32") for size in ops.shape(still)], ops.max(still)

    def soften(values, axis, blur):
        return -blur * (ops.logsumexp(values / blur, axis=axis) - ops.log(sizes[axis]))

    def iterate(index, potentials):
        f, g = potentials
        blur = ops.maximum(epsilon, largest * RATIO ** ops.cast(index, "float32"))
        f = soften(g[None, :] - still, 1, blur)
        return f, soften(f[:, None] - still, 0, blur)

    f, g = ops.fori_loop(0, iterations, iterate, (ops.zeros_like(still[:, 0]), ops.zeros_like(still[0])))
    plan = ops.exp((f[:, None] + g[None, :] - still) / epsilon) / (sizes[0] * sizes[1])
    return ops.mean(f) + ops.mean(g) + ops.sum(plan * (cost - still))


def sinkhorn_divergence(x: Tensor, y: Tensor, blur: float = 0.05, iterations: int = 50, p: float = 2,
                        relative: bool = False) -> Tensor:
    """Debiased entropic transport between two batches of features, S = T(x, y) - (T(x, x) + T(y, y)) / 2.

    T(x, y) = min_P sum_ij P_ij |x_i - y_j|^p + eps sum_ij P_ij ln(n m P_ij),  rows of P sum to 1/n, columns to 1/m,
    eps = blur^p. S is 0 for equal batches, tends to the transport distance (Wasserstein, to the power p) for a small
    blur and to a kernel distance for a large one.

    Solved for the two potentials in logarithms, with the blur falling from the largest cost by a factor of four an
    iteration: so `iterations` must exceed ln(largest cost / eps) / ln 4, and about twice that many usually do. The
    gradient is that of the costs at the plan found (envelope theorem: at the optimum the plan's own change does not
    matter), so that no gradient runs through the iterations and memory does not grow with them.

    Arguments:
        x: (n, F).
        y: (m, F).
        blur: a distance in feature space; below it points are not told apart.
        iterations: of both potentials.
        p: 1 for distances, 2 for squares.
        relative: blur in units of the root (p = 2) mean of the costs between x and y, taken as a constant.

    Returns:
        Scalar, differentiable by x and y on every backend.

    Raises:
        ValueError: for features of different width, or settings out of range.

    Source:
        Feydy et al., arXiv:1810.08278, eq. 3 and section 3.2; Genevay, Peyre, Cuturi, arXiv:1706.00292.

    Example:
        >>> x = ops.convert_to_tensor([[0.0, 0.0]])
        >>> y = ops.convert_to_tensor([[3.0, 4.0]])
        >>> round(float(sinkhorn_divergence(x, y)), 3), round(float(sinkhorn_divergence(x, x)), 3)
        (25.0, 0.0)
    """
    x, y = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
    if len(x.shape) != 2 or len(y.shape) != 2 or x.shape[1] != y.shape[1]:
        raise ValueError("Expected two batches (n, F) and (m, F) of one width, received shapes "
                         f"{tuple(x.shape)} and {tuple(y.shape)}.")
    if p not in (1, 2) or not blur > 0.0 or iterations < 1:
        raise ValueError("Expected p of 1 or 2, a blur above 0 and at least one iteration; received "
                         f"p {p}, blur {blur}, iterations {iterations}.")
    middle = ops.stop_gradient(ops.mean(x, axis=0))  # float32 keeps small differences of centred numbers only
    x, y = x - middle, y - middle
    between, within = _costs(x, y, p), [_costs(points, points, p) for points in (x, y)]
    epsilon = blur**p * (ops.stop_gradient(ops.mean(between)) if relative else 1.0)
    return _transport(between, epsilon, iterations) - 0.5 * sum(_transport(c, epsilon, iterations) for c in within)


def published_divergence(x: Tensor, y: Tensor, diameter: float = 1e-2, blur: float = 1e-5,
                         scaling: float = 0.95) -> Tensor:
    """The divergence of the neutron study's noise generator, half of `sinkhorn_divergence` for so small a blur.

    eps falls from diameter^2 to blur^2 by scaling^2 an iteration; each of the four potentials becomes the average of
    what it was and of soft minima of |x_i - y_j|^2 / 2. Gradients run through the last soft minima. At eps = 1e-10
    these are minima in float32, so that rounding decides to which of nearly equal points a gradient leads, and 137
    iterations need not converge: it is what was published, not the transport distance.

    Arguments:
        x, y: (n, F) and (m, F).
        diameter, blur, scaling: as published.

    Returns:
        Scalar, differentiable by x and y on every backend.

    Source:
        neutron ZDC study, "AE + Sinkhorn NG"; from the authors' code, m-wojnar/zdc, utils/losses.py.

    Example:
        >>> x, y = ops.convert_to_tensor([[0.0, 0.0]]), ops.convert_to_tensor([[3.0, 4.0]])
        >>> round(float(published_divergence(x, y)), 3), round(float(published_divergence(x, x)), 3)
        (12.5, 0.0)
    """
    falling = np.exp(np.arange(2 * np.log(diameter), 2 * np.log(blur), 2 * np.log(scaling)))
    blurs = np.array([diameter**2, *falling, blur**2], "float32")
    pairs = ((x, y), (y, x), (x, x), (y, y))  # potentials f of the first, softened over the second
    costs = [0.5 * _costs(a, ops.stop_gradient(b), 2) for a, b in pairs]
    still, other = [ops.stop_gradient(cost) for cost in costs], (1, 0, 2, 3)

    def soften(cost, potential, eps):
        """Soft minima over each row, and the weights in them; exponents are differences from the least, at most 0."""
        far = cost - potential[None]
        least, size = ops.min(far, axis=1), ops.cast(ops.shape(cost)[1], "float32")
        shares = ops.exp(ops.minimum((least[:, None] - far) / eps, 0.0))
        total = ops.maximum(ops.sum(shares, axis=1), 1.0)
        return least - eps * (ops.log(total) - ops.log(size)), shares / total[:, None]

    def iterate(index, potentials):
        eps = ops.take(blurs, index)
        return tuple(0.5 * (potentials[k] + soften(still[k], potentials[other[k]], eps)[0]) for k in range(4))

    first = tuple(soften(cost, ops.zeros_like(cost[0]), float(blurs[0]))[0] for cost in still)
    found, terms = ops.fori_loop(0, len(blurs), iterate, first), []
    for k in range(4):
        value, shares = soften(still[k], found[other[k]], float(blurs[-1]))
        terms.append(ops.mean(value) + ops.mean(ops.sum(shares * (costs[k] - still[k]), axis=1)))
    xy, yx, xx, yy = terms
    return xy - xx + yx - yy

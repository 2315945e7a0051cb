"""Responses to numbers that a network likes, and exactly back: dequantise, logit, imposed sums, Box-Cox."""

import math
from typing import Any

import numpy as np
from keras import ops
from scipy import stats

from zdckeras.mapped import selected

MARGIN = 0.02
LARGEST_LN_ENERGY = 16.0  # ln of the largest energy that Box-Cox gives back, in units of its shift


def _log(x):
    return ops.log(ops.maximum(x, 1e-30))


class Dequantise:
    """v = n + r t(u), which spreads an integer count n over [n, n + r); the inverse is the floor.

    t(u) = u, the uniform noise of the literature, or, with a width w > 0, the bell 1/2 + w Phi^{-1}(u). Affine maps
    of a Gaussian can only place the step between no photon and one where a Gaussian tail has it; the bell with r = 1
    is meant to bring that tail near the probability of a photon. Noise is kept
    within [0.02, 0.98] r so that rounding in float32 cannot carry a value over an integer.

    Arguments:
        noise: range r in (0, 1]; with uniform noise the neutron study found 0.5 best (Wasserstein distance 12.6,
            4.6 and 7.1 for r = 1, 0.5 and 0.1).
        bell: width w, 0 for uniform noise.

    Raises:
        ValueError: for a range outside (0, 1] or a negative width.

    Example:
        >>> d = Dequantise(0.5)
        >>> v = d.forward(np.array([[0.0, 3.0]]), np.array([[0.0, 1.0]]))
        >>> [[round(float(x), 2) for x in row] for row in v], ops.convert_to_numpy(d.inverse(v)).tolist()
        ([[0.01, 3.49]], [[0.0, 3.0]])
    """

    def __init__(self, noise: float = 0.5, bell: float = 0.0) -> None:
        if not 0.0 < noise <= 1.0:
            raise ValueError(f"Expected a dequantisation range in (0, 1], received {noise}.")
        if bell < 0.0:
            raise ValueError(f"Expected a width of the noise of at least 0, received {bell}.")
        self.noise, self.bell = noise, bell

    def forward(self, counts: Any, uniform: Any) -> Any:
        """Counts and uniform numbers of one shape to positive reals."""
        uniform = MARGIN + (1.0 - 2.0 * MARGIN) * ops.cast(uniform, "float32")
        if self.bell:
            uniform = 0.5 + self.bell * math.sqrt(2.0) * ops.erfinv(2.0 * uniform - 1.0)
            uniform = ops.clip(uniform, MARGIN, 1.0 - MARGIN)
        return ops.cast(counts, "float32") + self.noise * uniform

    def inverse(self, values: Any) -> Any:
        """Largest integer not above each value, never negative."""
        return ops.maximum(ops.floor(values), 0.0)


class Logit:
    """y = logit(alpha + (1 - 2 alpha) x) for x in [0, 1], with log|dy/dx| summed over the last axis.

    Arguments:
        alpha: keeps x = 0 and x = 1 finite; 1e-6 in the literature.

    Example:
        >>> y, log_det = Logit(1e-6).forward(np.array([[0.5]]))
        >>> abs(round(float(y[0, 0]), 6)), round(float(log_det[0]), 4)
        (0.0, 1.3863)
    """

    def __init__(self, alpha: float = 1e-6) -> None:
        if not 0.0 < alpha < 0.5:
            raise ValueError(f"Expected alpha in (0, 0.5), received {alpha}.")
        self.alpha = alpha

    def forward(self, x: Any) -> tuple[Any, Any]:
        """Unit interval to the real line: (y, log-determinant)."""
        s = self.alpha + (1.0 - 2.0 * self.alpha) * x
        y = _log(s) - ops.log1p(-s)
        return y, ops.sum(math.log(1.0 - 2.0 * self.alpha) - _log(s) - ops.log1p(-s), axis=-1)

    def inverse(self, y: Any) -> Any:
        """Real line to the unit interval, clipped at 0 where alpha was added."""
        return ops.clip((ops.sigmoid(y) - self.alpha) / (1.0 - 2.0 * self.alpha), 0.0, 1.0)


class ShapeCode:
    """A response as its shape: dequantise, divide by the sum, logit, standardise.

    y = (logit(v / sum v) - m) / s with v = n + r u. The code has one number per cell; the photon sums travel
    beside it, and `decode` finds the one integer image with those sums (see `impose_sums`), so that
    decode(encode(n), sums(n)) = n.

    Arguments:
        noise, bell: range and width of the dequantisation noise.
        alpha: of the logit.
        mean, scale: (D,) standardisation per cell, from `ShapeCode.fit`; 0 and 1 by default.

    Source:
        neutron study, normalizing flows (noise range); Krause and Shih, CaloFlow, arXiv:2106.05285, section III.

    Example:
        >>> n = np.array([[0, 3, 1, 12]])
        >>> code = ShapeCode()
        >>> y = code.encode(n, np.full((1, 4), 0.4))
        >>> ops.convert_to_numpy(code.decode(y, np.array([[16]]), np.ones((1, 4)))).tolist()
        [[0.0, 3.0, 1.0, 12.0]]
    """

    def __init__(self, noise: float = 1.0, bell: float = 0.13, alpha: float = 1e-6, mean: float = 0.0,
                 scale: float = 1.0) -> None:
        self.dequantise, self.logit = Dequantise(noise, bell), Logit(alpha)
        self.mean, self.scale = np.asarray(mean, "float32"), np.asarray(scale, "float32")

    @classmethod
    def fit(cls, responses: np.ndarray, noise: float = 1.0, bell: float = 0.13, alpha: float = 1e-6, seed: int = 0,
            sample: int = 10_000) -> "ShapeCode":
        """Mean and deviation of every cell's code over (at most `sample`) training responses (N, nx, ny)."""
        rng = np.random.default_rng(seed)
        chosen = rng.permutation(len(responses))[:sample]
        counts = selected(np.asarray(responses), np.sort(chosen)).reshape(len(chosen), -1)
        y = cls(noise, bell, alpha).encode_blocks(counts, rng.random(counts.shape, "float32"))
        return cls(noise, bell, alpha, y.mean(axis=0), y.std(axis=0) + 1e-3)

    def get_config(self) -> dict[str, float]:
        """Numbers that rebuild this object (plain lists, for a model's configuration)."""
        return {"noise": self.dequantise.noise, "bell": self.dequantise.bell, "alpha": self.logit.alpha,
                "mean": self.mean.tolist(), "scale": self.scale.tolist()}

    def encode(self, counts: Any, uniform: Any) -> Any:
        """Counts (B, D) and uniform noise (B, D) to the code y (B, D)."""
        v = self.dequantise.forward(counts, uniform)
        y, _ = self.logit.forward(v / ops.sum(v, axis=-1, keepdims=True))
        return ops.divide(ops.subtract(y, self.mean), self.scale)

    def encode_blocks(self, counts: np.ndarray, uniform: np.ndarray, rows: int = 1000) -> np.ndarray:
        """As `encode`, of many rows, so many at once: (N, D) float32."""
        parts = (slice(start, start + rows) for start in range(0, len(counts), rows))
        return np.concatenate([ops.convert_to_numpy(self.encode(counts[part], uniform[part])) for part in parts])

    def fractions(self, y: Any) -> Any:
        """Code (B, D) to fractions (B, D) that sum to one."""
        x = self.logit.inverse(ops.add(ops.multiply(y, self.scale), self.mean))
        return x / (ops.sum(x, axis=-1, keepdims=True) + 1e-12)

    def decode(self, y: Any, sums: Any, masks: Any, together: bool = False) -> Any:
        """Code (B, D) and integer sums (B, K) over the K masks to integer photon counts (B, D), see `impose_sums`."""
        return impose_sums(self.fractions(y), sums, masks, together=together)

    def soft_sums(self, y: Any, total: Any, masks: Any) -> Any:
        """Differentiable sums over masks, S_k = V f_k - r D_k / 2 with V = N + r D / 2: (B, K).

        Arguments:
            y: code (B, D).
            total: photon sums N, (B, 1).
            masks: (K, D).
        """
        masks = ops.convert_to_tensor(masks, dtype="float32")
        half = 0.5 * self.dequantise.noise
        volume = ops.cast(total, "float32") + half * y.shape[-1]
        return volume * ops.matmul(self.fractions(y), ops.transpose(masks)) - half * ops.sum(masks, axis=-1)


def impose_sums(fractions: Any, sums: Any, masks: Any, iterations: int = 28, together: bool = False) -> Any:
    """Integer image n_i = floor(T_k p_i), i in mask k, with the scale T_k found so that sum_i n_i = S_k exactly.

    The sum is a rising step function of T_k, bracketed by S/P <= T <= (S + D_k)/P with P the mask's share of p, and
    bisected. It equals the response itself when p is proportional to a dequantised response. Where two cells cross
    an integer at the same float32 T, the missing photons (one, rarely two) go to the mask's brightest cell; so do all
    photons of a mask whose fractions are 0.

    Arguments:
        fractions: (B, D) non-negative.
        sums: (B, K) integers.
        masks: (K, D), disjoint, covering every cell.
        iterations: halvings of the bracket; 28 exhaust float32.
        together: all masks side by side, the smaller ones filled up, and halvings written out: for few rows.

    Returns:
        (B, D) float32 of integers.

    Example:
        >>> p = np.array([[0.1, 0.2, 0.3, 0.4]], "float32")
        >>> masks = np.array([[1, 1, 0, 0], [0, 0, 1, 1]])
        >>> n = ops.convert_to_numpy(impose_sums(p, np.array([[4, 2]]), masks))
        >>> n.tolist()
        [[1.0, 3.0, 1.0, 1.0]]
    """
    member = np.argmax(np.asarray(masks), axis=0)
    order, cells = np.argsort(member, kind="stable"), np.bincount(member, minlength=len(masks))
    sums, p = ops.cast(sums, "float32"), ops.cast(fractions, "float32")
    if together:
        place = np.full((len(masks), cells.max()), len(member))  # of cells, and of the nothing behind them
        place[np.arange(cells.max()) < cells[:, None]] = order
        p = ops.take(ops.concatenate([p, ops.zeros_like(p[:, :1])], axis=1), place.reshape(-1), axis=1)
        counts = _scaled_to_sum(ops.reshape(p, (-1, *place.shape)), sums[:, :, None], cells[:, None], iterations, True)
        return ops.take(ops.reshape(counts, (-1, place.size)), np.argsort(place.reshape(-1))[: len(member)], axis=1)
    by_mask, parts, start = ops.take(p, order, axis=1), [], 0
    for k, size in enumerate(cells.tolist()):
        parts.append(_scaled_to_sum(by_mask[:, start : start + size], sums[:, k : k + 1], size, iterations))
        start += size
    return ops.take(ops.concatenate(parts, axis=1), np.argsort(order), axis=1)


def _scaled_to_sum(p, total, cells, iterations, written_out=False):
    """floor(T p) with sums `total` (..., 1) of masks' cells p (..., n), of which `cells` are some."""
    share = ops.maximum(ops.sum(p, axis=-1, keepdims=True), 1e-12)

    def halve(_, bracket):
        low, high = bracket
        middle = 0.5 * (low + high)
        fits = ops.sum(ops.floor(middle * p), axis=-1, keepdims=True) <= total
        return ops.where(fits, middle, low), ops.where(fits, high, middle)

    bracket = total / share, ops.add(total, np.asarray(cells, "float32")) / share
    if written_out:
        for k in range(iterations):
            bracket = halve(k, bracket)
    else:
        bracket = ops.fori_loop(0, iterations, halve, bracket)
    counts = ops.floor(bracket[0] * p)
    missing = total - ops.sum(counts, axis=-1, keepdims=True)
    brightest = ops.squeeze(ops.top_k(p, 1)[1], axis=-1)  # exchange formats do not know Keras' argmax of floats
    return counts + missing * ops.one_hot(brightest, p.shape[-1])


class BoxCox:
    """y = (((x + d) / d)^lambda - 1) / lambda for energies x >= 0, ln((x + d) / d) for lambda = 0: 0 stays 0, exactly.

    Arguments:
        power: lambda.
        shift: d [MeV], so that empty cells have a finite image; what is fainter is nearly proportional.

    Raises:
        ValueError: unless the shift is positive.

    Source:
        Box and Cox, J. R. Stat. Soc. B 26 (1964) 211, eq. 2, on the scale of d.

    Example:
        >>> b = BoxCox(0.5, 1.0)
        >>> y = b.forward(np.array([0.0, 3.0], "float32"))
        >>> ops.convert_to_numpy(y).tolist(), ops.convert_to_numpy(b.inverse(y)).round(5).tolist()
        ([0.0, 2.0], [0.0, 3.0])
    """

    def __init__(self, power: float = 0.0, shift: float = 0.1) -> None:
        if not (shift > 0 and math.isfinite(power)):
            raise ValueError(f"Expected a finite power and a positive shift, received {power} and {shift}.")
        self.power, self.shift = float(power), float(shift)

    @classmethod
    def fit(cls, energies: np.ndarray, shift: float = 0.1, sample: int = 1_000_000) -> "BoxCox":
        """The power of greatest likelihood for the lit cells of training responses, of at most `sample` spread evenly.

        Raises:
            ValueError: if fewer than two different energies are above 0.
        """
        lit = np.asarray(energies)
        lit = lit[lit > 0]
        lit = lit[np.linspace(0, len(lit) - 1, sample).astype("int64") if len(lit) > sample else slice(None)]
        lit = lit.astype("float64")
        if not len(lit) or lit.min() == lit.max():
            raise ValueError(f"Expected cells of different energy to fit a Box-Cox transform, received {len(lit)} lit "
                             f"cells that are all alike.")
        return cls(float(stats.boxcox_normmax((lit + shift) / shift, method="mle")), shift)

    def get_config(self) -> dict[str, float]:
        """Numbers that rebuild this object."""
        return {"power": self.power, "shift": self.shift}

    def forward(self, x: Any) -> Any:
        """Energies to network space."""
        log = ops.log1p(x / self.shift)
        return ops.expm1(self.power * log) / self.power if abs(self.power) > 1e-6 else log

    def inverse(self, y: Any) -> Any:
        """Network space to energies, at least 0 and at most d e^16 (for d = 0.1 MeV 0.9 TeV)."""
        y = ops.maximum(y, 0.0)
        log = ops.log1p(ops.maximum(self.power * y, -0.999999)) / self.power if abs(self.power) > 1e-6 else y
        return self.shift * ops.expm1(ops.minimum(log, LARGEST_LN_ENERGY))

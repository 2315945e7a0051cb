"""Sum, centre of gravity and second moments of responses, for NumPy arrays and for Keras tensors alike."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

MOMENT_COUNT = 6  # sums with 1, x, y, x^2, xy, y^2


def cell_places(shape: tuple[int, int]) -> np.ndarray:
    """Places x and y of all cells, row by row, from the detector's centre: (2, D) float64 [cells].

    Example:
        >>> cell_places((2, 3)).tolist()
        [[-0.5, -0.5, -0.5, 0.5, 0.5, 0.5], [-1.0, 0.0, 1.0, -1.0, 0.0, 1.0]]
    """
    return np.stack([axis.reshape(-1) - (n - 1) / 2 for axis, n in zip(np.indices(shape), shape, strict=True)])


def moment_weights(shape: tuple[int, int], *more: np.ndarray, dtype: str = "float64") -> np.ndarray:
    """Weights of the sums that `Moments` is made of: 1, x, y, x^2, xy, y^2 of every cell, and what else is asked for.

    Arguments:
        shape: cells along x and y.
        more: weights (D,) of further sums.
        dtype: of the result.

    Returns:
        (D, 6 + len(more)).
    """
    x, y = cell_places(shape)
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y, *more], axis=1).astype(dtype)


class Moments:
    """Moments of responses e_ij of cells at r_ij = (x_i, y_j), from one matrix product.

    S = sum e_ij,  g = sum e_ij r_ij / S',  V = sum e_ij r_ij r_ij^T / S' - g g^T,  with S' = max(S + added, least)

    `added` and `least` say how an empty response, which has g = 0 and V = 0, is kept from a division by zero.

    Arguments:
        flat: (B, D) responses, array or tensor, cells row by row.
        weights: (D, 6 + K) `moment_weights`.
        added, least: in the unit of the responses.
        xp: `numpy` or `keras.ops`, whose functions are called.
        matmul: in place of `xp.matmul`, where that rounds.

    Attributes:
        total: (B, 1) sums S; some: (B, 1) divisors S'.
        centre: (B, 2) centres of gravity g [cells].
        more: (B, K) sums with the further weights.

    Example:
        >>> image = np.zeros((1, 4, 4)); image[0, 0, 3], image[0, 2, 3] = 3.0, 1.0
        >>> m = Moments(image.reshape(1, -1), moment_weights((4, 4)))
        >>> m.total.tolist(), m.centre.tolist(), m.variance().tolist(), m.along(1.0, 0.0).tolist()
        ([[4.0]], [[-1.0, 1.5]], [[0.75]], [[0.75]])
    """

    def __init__(self, flat: Any, weights: np.ndarray, added: float = 0.0, least: float = 1e-12,
                 xp: ModuleType = np, matmul: Callable | None = None) -> None:
        sums, self.xp = (matmul or xp.matmul)(flat, weights), xp
        self.total, self._square = sums[:, :1], sums[:, 3:MOMENT_COUNT]
        self.more = sums[:, MOMENT_COUNT:]
        self.some = xp.maximum(self.total + added, least)
        self.centre = sums[:, 1:3] / self.some

    def variance(self) -> Any:
        """tr V, the squared rms width (B, 1) [cells^2], at least 0."""
        x, y = self.centre[:, :1], self.centre[:, 1:]
        return self.xp.maximum((self._square[:, :1] + self._square[:, 2:]) / self.some - x * x - y * y, 0.0)

    def along(self, ux: Any, uy: Any) -> Any:
        """u^T V u, the squared rms (B, 1) [cells^2] along a unit vector, at least 0; across it is along(-uy, ux).

        Arguments:
            ux, uy: its components, numbers or (B, 1).
        """
        x, y = self.centre[:, :1], self.centre[:, 1:]
        xx, xy, yy = (self._square[:, k : k + 1] / self.some for k in range(3))
        xx, xy, yy = xx - x * x, xy - x * y, yy - y * y
        return self.xp.maximum(ux * ux * xx + 2.0 * ux * uy * xy + uy * uy * yy, 0.0)

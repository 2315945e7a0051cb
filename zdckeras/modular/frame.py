"""The frame around the struck cell: light maps twice as wide as the detector, cut where the detector ends."""

import numpy as np
from keras import ops

from zdckeras.data.detectors import get_detector


class StruckFrame:
    """Cells of a frame centred on the struck cell, and how they lie on the detector.

    The frame has 2 n_x x 2 n_y cells, so that whatever cell is struck, every cell of the detector is in it. Its inner
    part, where most of the light is, is told apart from its rim: a network may give the one in full and the other by
    few numbers. Maps are stored as [inner cells, rim cells].

    Arguments:
        detector: name.
        inner: (a, b) cells of the inner part; at most the detector's.

    Example:
        >>> frame = StruckFrame("zn", inner=(44, 44))
        >>> frame.inner_cells, frame.rim_cells
        (1936, 5808)
    """

    def __init__(self, detector, inner=None):
        self.detector = get_detector(detector)
        nx, ny = self.detector.shape
        self.inner = tuple(inner or (min(nx, ny),) * 2)
        if not all(1 <= a <= n for a, n in zip(self.inner, (nx, ny), strict=True)):
            raise ValueError(f"Expected an inner part of 1 x 1 to {nx} x {ny} cells, received {self.inner}.")
        self.shape = 2 * nx, 2 * ny
        x, y = (np.arange(2 * n) - n for n in (nx, ny))  # from the struck cell
        within = [(i >= -(a // 2)) & (i < a - a // 2) for i, a in zip((x, y), self.inner, strict=True)]
        inside = np.outer(*within).reshape(-1)
        self.inner_cells, self.rim_cells = int(inside.sum()), int((~inside).sum())
        self.order = np.concatenate([np.flatnonzero(inside), np.flatnonzero(~inside)]).astype("int32")
        self.stored = np.empty(len(self.order), "int32")  # where in a stored map a cell of the frame is
        self.stored[self.order] = np.arange(len(self.order), dtype="int32")
        self.offset = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)  # cells from the struck one
        cx, cy = np.indices((nx, ny)).reshape(2, -1)
        self._cells = ((cx + nx) * 2 * ny + cy + ny).astype("int32")

    def stored_index(self, cell):
        """Where in stored maps (B, 4 D) the cells of the detector are, (B, D) int32, for struck cells (B, 2)."""
        first = cell[:, :1] * self.shape[1] + cell[:, 1:]
        return ops.take(self.stored, self._cells[None, :] - first, axis=0)

    @staticmethod
    def crop(maps, index):
        """Maps (B, S) read at an index (B, D) of each row: (B, D)."""
        start = ops.arange(ops.shape(maps)[0], dtype="int32")[:, None] * maps.shape[1]
        return ops.take(ops.reshape(maps, (-1,)), index + start, axis=0)

    def spread(self, responses, cell):
        """Responses (B, nx, ny) in the frame, (B, 2 nx, 2 ny), 0 beyond the detector, for struck cells (B, 2)."""
        rows, columns = (ops.one_hot(np.arange(n, dtype="int32")[None, :] + n - cell[:, k : k + 1], 2 * n,
                                     dtype="float32") for k, n in enumerate(self.detector.shape))
        return ops.matmul(ops.matmul(ops.transpose(rows, (0, 2, 1)), responses), columns)

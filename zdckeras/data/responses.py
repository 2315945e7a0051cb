"""Responses as detectors read them out, checked: whole photon counts, or finite energies."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from zdckeras.data.detectors import Detector
from zdckeras.mapped import in_blocks, kept

MAXIMUM_COUNT = int(np.iinfo("uint16").max)
MAXIMUM_ENERGY = np.finfo("float32").max
ROUNDING = 1e-4, 1e-6  # by which a whole number in floating point may be off: in photons, and relative


def photon_counts(values: ArrayLike, what: str = "responses") -> np.ndarray:
    """Photon counts as uint16, refused unless every value n is one of 0, 1, ..., 65535.

    Arguments:
        values: (N, nx, ny) numbers, whole even if stored as floating point, up to rounding (1e-4, or a millionth).
        what: name of the array in error messages.

    Returns:
        uint16 array (N, nx, ny); the array itself if it already is one.

    Raises:
        ValueError: for values that are not numbers, or the first one that is negative, fractional, too large, or
            not finite, with its position.

    Example:
        >>> photon_counts([[[0.0, 3.0]]]).dtype
        dtype('uint16')
    """
    def whole(block):
        if block.dtype.kind != "f":
            if block.min(initial=0) >= 0 and block.max(initial=0) <= MAXIMUM_COUNT:  # half the time of comparing all
                return np.True_
            return (block >= 0) & (block <= MAXIMUM_COUNT)
        block = block.astype("float64")  # float16 cannot hold the largest count
        near = np.rint(block)
        inside = (near >= 0) & (near <= MAXIMUM_COUNT)
        off = np.abs(np.subtract(block, near, where=inside, out=np.zeros_like(block)))
        return inside & (off <= ROUNDING[0] + ROUNDING[1] * np.abs(near))

    values = np.asarray(values)
    expected = f"whole, non-negative photon counts up to {MAXIMUM_COUNT}"
    allowed = None if values.dtype == np.uint16 else whole
    _checked(values, what, "photon counts", allowed, expected)
    if values.dtype.kind != "f":
        return values.astype("uint16", copy=False)
    return kept((np.rint(block) for _, block in in_blocks(values)), values.shape, "uint16")


def energies(values: ArrayLike, what: str = "responses") -> np.ndarray:
    """Deposited energies [MeV] as float32, refused unless all are finite and non-negative.

    Arguments:
        values: (N, nx, ny) numbers.
        what: name of the array in error messages.

    Returns:
        float32 array (N, nx, ny); the array itself if it already is one.

    Raises:
        ValueError: for values that are not numbers, or the first one that is negative or not finite.

    Example:
        >>> energies([[[0.0, 2.5]]]).tolist()
        [[[0.0, 2.5]]]
    """
    def finite(block):
        return (block >= 0) & (block <= MAXIMUM_ENERGY)

    found = _checked(np.asarray(values), what, "energies", finite, "finite, non-negative energies in MeV")
    return found.astype("float32", copy=False)


def measured(values: ArrayLike, detector: Detector, what: str = "responses") -> np.ndarray:
    """What a detector reads out, checked: `photon_counts` (uint16) or `energies` (float32), as its unit says."""
    return photon_counts(values, what) if detector.unit == "photons" else energies(values, what)


def as_images(values: np.ndarray, detector: Detector) -> np.ndarray:
    """Responses with the axes of a detector, (N, nx, ny), if only that is missing; anything else as it is.

    Example:
        >>> from zdckeras.data.detectors import get_detector
        >>> as_images(np.zeros((2, 1936)), get_detector("zn")).shape
        (2, 44, 44)
    """
    axes = tuple(n for n in values.shape[1:] if n != 1)
    return values.reshape(len(values), *detector.shape) if axes in (detector.shape, (detector.cells,)) else values


def _checked(values: np.ndarray, what: str, noun: str, allowed: Callable | None, expected: str) -> np.ndarray:
    """The array itself; ValueError for another shape or type, or naming the first value that is not allowed."""
    if values.ndim != 3:
        raise ValueError(f"{what}: expected an array of shape (N, nx, ny), received shape {values.shape}.")
    if values.dtype.kind not in "buif":
        raise ValueError(f"{what}: expected numbers ({noun}), received dtype {values.dtype}.")
    for rows, block in in_blocks(values) if allowed else ():
        good = allowed(block)
        if not good.all():
            row, x, y = np.argwhere(~good)[0].tolist()
            raise ValueError(f"{what}[{rows.start + row}, {x}, {y}] = {block[row, x, y]}: expected {expected}.")
    return values

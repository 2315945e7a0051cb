"""What arguments have to be, checked once and told in one line."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def whole_number(value: int, name: str, least: int = 1) -> int:
    """A whole number of at least `least`; ValueError for anything else.

    Example:
        >>> whole_number(0, "batch_size")
        Traceback (most recent call last):
        ValueError: batch_size: expected a whole number of at least 1, received 0.
    """
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, received {value!r}.")
    return int(value)


def seed_numbers(seed: int | Sequence[int]) -> list[int]:
    """The integers of a seed; ValueError unless it is one, or some, of at least 0.

    Example:
        >>> seed_numbers(3), seed_numbers((3, 1))
        ([3], [3, 1])
    """
    several = isinstance(seed, (list, tuple)) or isinstance(seed, np.ndarray) and seed.ndim > 0
    numbers = list(seed) if several else [seed]
    if not numbers or not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 0 for n in numbers):
        raise ValueError(f"Expected a seed of one or more whole numbers of at least 0, received {seed!r}.")
    return [int(n) for n in numbers]


def real_numbers(values: ArrayLike, name: str) -> np.ndarray:
    """An array as float64; ValueError for what does not consist of real numbers.

    Example:
        >>> real_numbers([["a"]], "conditions")
        Traceback (most recent call last):
        ValueError: conditions: expected an array of real numbers, received list.
    """
    try:
        found = np.asarray(values)
        if found.dtype.kind not in "iuf":
            raise TypeError
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected an array of real numbers, received {type(values).__name__}.") from None
    return found.astype("float64")

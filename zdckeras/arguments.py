"""What arguments have to be, checked once and told in one line."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

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


def plain(arrays: Mapping[str, ArrayLike]) -> dict[str, list]:
    """Arrays by name, such as those of a scaler, as lists: what the configuration of a saved model can hold.

    Example:
        >>> plain({"mean": np.zeros(2), "low": None})
        {'mean': [0.0, 0.0], 'low': None}
    """
    return {name: None if values is None else np.asarray(values, "float64").tolist() for name, values in arrays.items()}


def divided(size: int, divide: int) -> int:
    """A published size divided by a whole number, at least 1; ValueError unless that is one of at least 1.

    Example:
        >>> divided(128, 4), divided(2, 4)
        (32, 1)
    """
    return max(size // whole_number(divide, "divide"), 1)


def non_negative(value: float, name: str) -> float:
    """A finite number of at least 0, such as the weight of a term; ValueError for anything else.

    Example:
        >>> non_negative(-1.0, "penalty")
        Traceback (most recent call last):
        ValueError: penalty: expected a finite number of at least 0, received -1.0.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0.0 <= value < np.inf:
        raise ValueError(f"{name}: expected a finite number of at least 0, received {value!r}.")
    return float(value)


def of_kind(value: Any, kind: type | tuple[type, ...], name: str) -> Any:
    """A value of a class, or of one of several; ValueError for anything else.

    Example:
        >>> of_kind(3, Mapping, "generator")
        Traceback (most recent call last):
        ValueError: generator: expected Mapping, received int.
    """
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        raise ValueError(f"{name}: expected {' or '.join(one.__name__ for one in kinds)}, received "
                         f"{type(value).__name__}.")
    return value


def own_names(models: Mapping[str, Any], *taken: str) -> Mapping[str, Any]:
    """Models, or what is of them, by names; ValueError for "real", or a name that is taken by something else.

    Example:
        >>> own_names({"floor": 1}, "floor")
        Traceback (most recent call last):
        ValueError: Expected a name of its own for every model, received 'floor', which is taken.
    """
    for name in ("real", *taken):
        if name in models:
            raise ValueError(f"Expected a name of its own for every model, received {name!r}, which is taken.")
    return models


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


def random_numbers(numbers: Sequence[int], length: int) -> np.random.Generator:
    """NumPy's generator of random numbers from several whole ones, of which each sequence has a stream of its own.

    NumPy fills a short seed up with zeros and cuts a long number in pieces of 32 bits, so that to it [5], [5, 0] and
    [5, 0, 0] are one seed, and 2^32 is [0, 1]. Here the pieces of every number are counted into the seed. Sequences of
    `length` numbers below 2^32, which are a use's common ones, do without the count and are what NumPy makes of them.

    Arguments:
        numbers: whole numbers of at least 0.
        length: how many there usually are.

    Example:
        >>> [random_numbers(numbers, 2).integers(1000).item() for numbers in ([5, 0], [5], [5, 0, 0], [5 + 2**32, 0])]
        [670, 538, 998, 961]
    """
    pieces = [max(1, -(-int(number).bit_length() // 32)) for number in numbers]
    usual = pieces == [1] * length
    return np.random.default_rng(np.random.SeedSequence(list(numbers), spawn_key=() if usual else tuple(pieces)))


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

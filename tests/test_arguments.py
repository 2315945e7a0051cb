"""Arguments: what seeds of several numbers give, and which weights, sizes and kinds are taken."""

from itertools import product

import numpy as np
import pytest

from zdckeras.arguments import divided, non_negative, of_kind, random_numbers

pytestmark = pytest.mark.neutral


def test_every_sequence_of_numbers_has_a_stream_of_its_own():
    """NumPy fills seeds up with zeros, and takes numbers of more than 32 bits for several."""
    several = [numbers for length in range(1, 7) for numbers in product((0, 1, 2**32, 2**33 + 1), repeat=length)]
    first = {tuple(random_numbers(numbers, 2).integers(2**63, size=2)) for numbers in several}
    assert len(first) == len(several) == sum(4**length for length in range(1, 7))


@pytest.mark.parametrize("numbers", [[3], [3, 0], [7, 2, 0], [7, 3, 0, 1]])
def test_sequences_of_the_usual_length_are_numpys(numbers):
    draws = [rng.random(5) for rng in (random_numbers(numbers, len(numbers)), np.random.default_rng(numbers))]
    assert np.array_equal(*draws)


def test_weights_are_finite_numbers_from_0():
    assert [non_negative(value, "energy") for value in (0, 2.5, np.float32(0.5), np.int64(3))] == [0.0, 2.5, 0.5, 3.0]
    for wrong in (-1e-9, np.nan, np.inf, True, "1", None, [1.0], 1j):
        with pytest.raises(ValueError, match="energy: expected a finite number of at least 0, received"):
            non_negative(wrong, "energy")


def test_sizes_are_divided_by_whole_numbers():
    assert [divided(100, divide) for divide in (1, 3, 100, 101, np.int64(7))] == [100, 33, 1, 1, 14]
    for wrong in (0, -4, 1.5, "2", None, True):
        with pytest.raises(ValueError, match="divide: expected a whole number of at least 1, received"):
            divided(100, wrong)


def test_kinds_are_named():
    assert of_kind(3, (str, int), "size") == 3
    with pytest.raises(ValueError, match="^size: expected str or int, received float.$"):
        of_kind(3.0, (str, int), "size")

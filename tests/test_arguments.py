"""Arguments: what seeds of several numbers give."""

from itertools import product

import numpy as np
import pytest

from zdckeras.arguments import random_numbers

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

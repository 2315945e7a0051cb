"""The published schedule at the edges of its parts, and that shorter trainings have the same parts."""

import numpy as np
import pytest

from zdckeras.corr_vae.schedule import STEPS, shares_at


def study(step):
    """As the study counts, one step after the other: (sparsity, divergence, temperature) in batches of 3,699."""
    epoch = (step - 1) // 3699
    begun = step <= 100_000
    divergence = 0.0 if begun else min(100 + step - 100_000, 100_000) / 100_000
    return float(begun), divergence, 0.1 ** ((epoch + 1) // 10)


@pytest.mark.parametrize("step", [1, 9 * 3699, 9 * 3699 + 1, 19 * 3699, 19 * 3699 + 1, 100_000, 100_001, 150_000,
                                  199_899, 199_900, 200_001])
def test_every_edge_is_the_study_s(step):
    assert STEPS == 250 * 3699
    found = {name: float(share) for name, share in shares_at(step).items()}
    expected = dict(zip(("sparsity", "divergence", "temperature"), study(step), strict=True))
    assert found == pytest.approx(expected | {"temperature": max(expected["temperature"], 1e-6)}, rel=1e-5)


def test_a_shorter_training_has_the_same_parts():
    """A hundredth of the steps: each is a hundred of the study's."""
    for step in (1, 332, 335, 999, 1001, 1500, 1998, 5000, 9247):
        short, long = (np.array([float(share) for share in shares_at(*at).values()])
                       for at in ((step, 9247), (step * STEPS / 9247, STEPS)))
        np.testing.assert_allclose(short, long, rtol=1e-4)


def test_temperatures_end_at_a_millionth():
    assert float(shares_at(STEPS)["temperature"]) == pytest.approx(1e-6)
    assert float(shares_at(0)["temperature"]) == 1.0

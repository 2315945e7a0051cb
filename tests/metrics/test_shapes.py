import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from zdckeras.metrics.shapes import SHAPE_OBSERVABLES, separation_power, shape_table, shapes


def named(responses):
    return dict(zip(SHAPE_OBSERVABLES, shapes(responses).T, strict=True))


def random_responses(rows=50, shape=(9, 7), seed=0):
    return np.random.default_rng(seed).poisson(0.8, (rows, *shape)).astype("uint16")


def test_by_hand():
    image = np.zeros((1, 4, 4), "uint16")
    image[0, 0, 0], image[0, 3, 0], image[0, 0, 1] = 6, 2, 4  # x = -1.5, 1.5, -1.5; y = -1.5, -1.5, -0.5
    found = {name: column[0] for name, column in named(image).items()}
    centre_x, centre_y = (-9 + 3 - 6) / 12, (-9 - 3 - 2) / 12
    square = (6 * 4.5 + 2 * 4.5 + 4 * 2.5) / 12
    assert found == pytest.approx(
        {
            "photons": 12,
            "centre_x": centre_x,
            "centre_y": centre_y,
            "width": np.sqrt(square - centre_x**2 - centre_y**2),
            "lit": 3,
            "brightest": 6,
            "core": 1.0,
            "asymmetry_x": (2 - 10) / 12,
            "asymmetry_y": -1.0,
            "parity": (6 - 2 - 4) / 12,
            "sparsity": (4 - 12 / np.sqrt(56)) / 3,
        },
        abs=1e-12,
    )


def test_core_and_extremes():
    flat = named(np.full((1, 5, 4), 3, "uint16"))
    assert flat["core"][0] == pytest.approx(5 / 20)
    assert flat["sparsity"][0] == pytest.approx(0, abs=1e-12)
    assert flat["asymmetry_x"][0] == 0
    single = np.zeros((1, 5, 4), "uint16")
    single[0, 1, 1] = 9
    found = named(single)
    assert (found["sparsity"][0], found["width"][0], found["core"][0]) == (1.0, 0.0, 1.0)


def test_empty_response():
    found = {name: column.tolist() for name, column in named(np.zeros((2, 44, 44), "uint16")).items()}
    assert found == {name: [1.0, 1.0] if name == "sparsity" else [0.0, 0.0] for name in SHAPE_OBSERVABLES}


@pytest.mark.parametrize(
    "flip, changed",
    [
        (lambda r: r[:, ::-1], {"centre_x", "asymmetry_x"}),
        (lambda r: r[:, :, ::-1], {"centre_y", "asymmetry_y"}),
    ],
)
def test_mirrors_change_only_signs(flip, changed):
    """Odd numbers of cells keep the parity of a cell under a mirror."""
    responses = random_responses()
    before, after = named(responses), named(flip(responses))
    for name in SHAPE_OBSERVABLES:
        np.testing.assert_allclose(after[name], (-1 if name in changed else 1) * before[name], atol=1e-12)


def test_transposition_swaps_the_axes():
    responses = random_responses()
    before, after = named(responses), named(responses.transpose(0, 2, 1))
    for name in SHAPE_OBSERVABLES:
        partner = {"_x": "_y", "_y": "_x"}.get(name[-2:])
        np.testing.assert_allclose(after[name], before[name[:-2] + partner if partner else name], atol=1e-12)


def test_brighter_by_a_factor():
    responses = random_responses()
    before, after = named(responses), named(7 * responses)
    for name in SHAPE_OBSERVABLES:
        factor = 7 if name in ("photons", "brightest") else 1
        np.testing.assert_allclose(after[name], factor * before[name], rtol=1e-9, atol=1e-12)


def test_shift_moves_the_centre_and_nothing_else():
    image = np.zeros((1, 20, 20))
    image[0, 2:5, 3:6] = np.arange(9).reshape(3, 3)
    before, after = named(image), named(np.roll(image, (2, 4), axis=(1, 2)))
    assert after["centre_x"] - before["centre_x"] == pytest.approx(2)
    assert after["centre_y"] - before["centre_y"] == pytest.approx(4)
    for name in ("photons", "width", "lit", "brightest", "core", "parity", "sparsity"):
        np.testing.assert_allclose(after[name], before[name], rtol=1e-12)


def test_blocks_and_types_do_not_show():
    responses = random_responses(4500, (4, 3))
    whole = shapes(responses)
    np.testing.assert_array_equal(whole[4096:], shapes(responses[4096:]))
    np.testing.assert_array_equal(whole, shapes(responses.astype("float32")))


def test_table():
    real, generated = random_responses(seed=0), random_responses(seed=1, rows=40)
    real[:, 8, 6] = 30
    generated[:, 8, 6] = 33
    a, b = shapes(real), shapes(generated)
    table = shape_table(a, b)
    assert list(table) == list(SHAPE_OBSERVABLES)
    for k, name in enumerate(SHAPE_OBSERVABLES):
        spread = a[:, k].std()
        distance = wasserstein_distance(a[:, k], b[:, k]) / (spread if spread else 1)
        expected = {"real": a[:, k].mean(), "real_std": spread, "generated": b[:, k].mean()}
        expected |= {"generated_std": b[:, k].std(), "distance": distance}
        expected["separation"] = separation_power(a[:, k : k + 1], b[:, k : k + 1])[0]
        assert table[name] == pytest.approx(expected)
    assert table["brightest"]["distance"] == 3  # no spread: photons


def test_rounding_is_no_spread():
    """One response a hundred times: its centre differs by 1e-16 from row to row of the sum."""
    image = np.random.default_rng(0).poisson(3.0, (1, 44, 44))
    real, made = shapes(np.repeat(image, 100, axis=0)), shapes(np.repeat(np.roll(image, 1, axis=1), 100, axis=0))
    found = shape_table(real, made)
    assert real[:, 1].std() > 0 and all(row["distance"] < 100 for row in found.values())
    assert found["centre_x"]["distance"] == pytest.approx(abs(made[0, 1] - real[0, 1]))


@pytest.mark.parametrize(("real", "generated", "message"), [
    (np.ones((4, 2)), np.ones((4, 3)), r"received \(4, 2\) and \(4, 3\)"),
    (np.ones(4), np.ones(4), r"received \(4,\) and \(4,\)"),
    (np.ones((4, 2)), np.ones((0, 2)), r"received \(4, 2\) and \(0, 2\)"),
    (np.ones((0, 2)), np.ones((4, 2)), r"received \(0, 2\) and \(4, 2\)"),
    (np.ones((4, 2)), np.full((4, 2), np.nan), "finite values"),
    (np.full((4, 2), np.inf), np.ones((4, 2)), "finite values"),
])
def test_tables_that_cannot_be_compared(real, generated, message):
    with pytest.raises(ValueError, match=message):
        separation_power(real, generated)


@pytest.mark.parametrize(
    "responses, message",
    [
        (np.zeros((4, 4)), r"received \(4, 4\)"),
        (np.full((1, 4, 4), np.nan), "finite, non-negative"),
        (np.full((1, 4, 4), np.inf), "finite, non-negative"),
        (np.full((1, 4, 4), -1), "finite, non-negative"),
    ],
)
def test_bad_responses(responses, message):
    with pytest.raises(ValueError, match=message):
        shapes(responses)


def test_bad_table():
    with pytest.raises(ValueError, match=r"received \(3, 4\) and \(3, 11\)"):
        shape_table(np.zeros((3, 4)), np.zeros((3, 11)))

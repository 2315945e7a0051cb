import numpy as np
import pytest

from zdckeras.data.detectors import get_detector
from zdckeras.data.particles import conditions_of
from zdckeras.metrics.channels import wasserstein
from zdckeras.metrics.directional import (
    FLIGHT_OBSERVABLES,
    directional_shapes,
    directional_table,
    energy_resolution,
    separation_power,
    sparsity,
)

PITCH = 2.0  # of the electromagnetic calorimeter [cm]


def electrons(momentum, impact=(0.0, 0.0), side=1.0):
    """Electrons that start on the front face, where they hit it [cells from the centre]."""
    momentum = np.atleast_2d(np.asarray(momentum, "float64")) * (1.0, 1.0, side)
    vertex = np.column_stack([PITCH * np.broadcast_to(impact, (len(momentum), 2)),
                              np.full(len(momentum), 1250.0 * side)])
    return conditions_of(np.full(len(momentum), 11), momentum, vertex)


def named(responses, conditions, **settings):
    return dict(zip(FLIGHT_OBSERVABLES, directional_shapes(responses, conditions, "ecal", **settings).T, strict=True))


@pytest.fixture
def random():
    """Twelve images lit away from the edges, with directions and impacts of all kinds."""
    rng = np.random.default_rng(0)
    images = np.zeros((12, 30, 30))
    images[:, 9:21, 9:21] = rng.exponential(2.0, (12, 12, 12)) * (rng.random((12, 12, 12)) < 0.4)
    momentum = np.column_stack([rng.normal(0.0, 1.0, (12, 2)), rng.uniform(5.0, 50.0, 12)])
    return images, momentum, rng.uniform(-3.0, 3.0, (12, 2))


def test_by_hand():
    """Three lit cells at (-0.5, 0.5), (2.5, 0.5) and (-0.5, -2.5), a particle that flies along u = (3, 4) / 5."""
    image = np.zeros((1, 30, 30))
    image[0, 14, 15], image[0, 17, 15], image[0, 14, 12] = 3.0, 1.0, 0.5
    found = {name: column[0] for name, column in named(image, electrons([3.0, 4.0, 12.0])).items()}
    e = np.array([3.0, 1.0, 0.5])
    along, across = np.array([0.1, 1.9, -2.3]), np.array([0.7, -1.7, -1.1])  # r . u and r . v with v = (-4, 3) / 5
    rms = lambda a: np.sqrt((e * a**2).sum() / 4.5 - ((e * a).sum() / 4.5) ** 2)  # noqa: E731
    assert found == pytest.approx({
        "total": 4.5,
        "response": 4.5 / 13000.0,
        "centre_x": (-1.5 + 2.5 - 0.25) / 4.5,
        "centre_y": (1.5 + 0.5 - 1.25) / 4.5,
        "longitudinal": (3.0 + 1.0 - 0.5) / 4.5,
        "transverse": (3.0 - 1.0 - 0.5) / 4.5,
        "length": rms(along),
        "width": rms(across),
        "cells": 1.0,  # 1 MeV is not above 1 MeV
        "sparsity": 1.0 - 1.0 / 900.0,
        "brightest": 3.0 / 4.5,
    }, rel=1e-6, abs=1e-12)


def test_without_a_direction_it_is_the_x_axis():
    image = np.zeros((1, 30, 30))
    image[0, 13:18, 14] = 2.0, 2.0, 2.0, 2.0, 8.0
    found = named(image, electrons([0.0, 0.0, 9.0]))
    assert found["longitudinal"] == pytest.approx(8.0 / 16.0) and found["transverse"] == pytest.approx(-1.0)
    assert found["width"] == pytest.approx(0.0, abs=1e-6) and found["length"] > 1.0


def test_an_empty_image():
    found = named(np.zeros((2, 30, 30)), electrons([[3.0, 4.0, 12.0], [0.0, 0.0, 1.0]], (1.5, -2.0)))
    assert {name: values.tolist() for name, values in found.items()} == {
        name: [1.0, 1.0] if name == "sparsity" else [0.0, 0.0] for name in FLIGHT_OBSERVABLES}


def test_shifts_of_image_and_impact_together_do_not_show(random):
    images, momentum, impact = random
    before = directional_shapes(images, electrons(momentum, impact), "ecal")
    moved = directional_shapes(np.roll(images, (4, -3), axis=(1, 2)), electrons(momentum, impact + (4.0, -3.0)), "ecal")
    np.testing.assert_allclose(moved, before, rtol=1e-9, atol=1e-9)


def test_shifts_of_the_image_alone_move_the_centre_only(random):
    images, momentum, impact = random
    before, after = (named(r, electrons(momentum, impact)) for r in (images, np.roll(images, (4, -3), axis=(1, 2))))
    np.testing.assert_allclose(after["centre_x"] - before["centre_x"], 4.0)
    np.testing.assert_allclose(after["centre_y"] - before["centre_y"], -3.0)
    for name in ("total", "response", "length", "width", "cells", "sparsity", "brightest"):
        np.testing.assert_allclose(after[name], before[name], rtol=1e-9)
    assert (after["longitudinal"] != before["longitudinal"]).any()


@pytest.mark.parametrize(("flip", "signs", "centre"), [
    (lambda r: r[:, ::-1], (-1.0, 1.0), "centre_x"),
    (lambda r: r[:, :, ::-1], (1.0, -1.0), "centre_y"),
], ids=["x", "y"])
def test_mirrors_change_the_sign_of_the_transverse_asymmetry(random, flip, signs, centre):
    images, momentum, impact = random
    before = named(images, electrons(momentum, impact))
    after = named(flip(images), electrons(momentum * (*signs, 1.0), impact * signs))
    for name in FLIGHT_OBSERVABLES:
        np.testing.assert_allclose(after[name], (-1 if name in ("transverse", centre) else 1) * before[name],
                                   rtol=1e-9, atol=1e-9)


def test_rotation_by_a_right_angle(random):
    """(x, y) -> (-y, x) of everything."""
    images, momentum, impact = random
    before = named(images, electrons(momentum, impact))
    turned = np.column_stack([-momentum[:, 1], momentum[:, 0], momentum[:, 2]])
    after = named(np.rot90(images, axes=(1, 2)), electrons(turned, np.column_stack([-impact[:, 1], impact[:, 0]])))
    before["centre_x"], before["centre_y"] = -before["centre_y"], before["centre_x"]
    for name in FLIGHT_OBSERVABLES:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_flight_the_other_way_turns_the_asymmetries(random):
    images, momentum, impact = random
    before = named(images, electrons(momentum, impact))
    after = named(images, electrons(momentum * (-1.0, -1.0, 1.0), impact))
    for name in FLIGHT_OBSERVABLES:
        sign = -1 if name in ("longitudinal", "transverse") else 1
        np.testing.assert_allclose(after[name], sign * before[name], rtol=1e-9, atol=1e-9)


def test_both_sides_are_seen_alike(random):
    """A particle towards negative z flies along (px, py) just as well."""
    images, momentum, impact = random
    here, there = (directional_shapes(images, electrons(momentum, impact, side), "ecal") for side in (1.0, -1.0))
    np.testing.assert_allclose(there, here, rtol=1e-9, atol=1e-9)


def test_more_energy_by_a_factor(random):
    images, momentum, impact = random
    before = named(images, electrons(momentum, impact))
    after = named(7.0 * images, electrons(momentum, impact), threshold=7.0)
    for name in FLIGHT_OBSERVABLES:
        np.testing.assert_allclose(after[name], (7.0 if name in ("total", "response") else 1.0) * before[name],
                                   rtol=1e-9, atol=1e-9)


def test_threshold_counts_cells(random):
    images, momentum, impact = random
    counts = [named(images, electrons(momentum, impact), threshold=t)["cells"] for t in (0.0, 1.5, 1e3)]
    np.testing.assert_array_equal(counts, [(images > t).sum(axis=(1, 2)) for t in (0.0, 1.5, 1e3)])
    assert counts[0].min() > counts[1].max() > counts[2].max() == 0


def test_beam_protons_hit_the_centre_of_zp():
    """The detector's own place and the bend of a charge enter the impact."""
    images = np.ones((1, *get_detector("zp").shape))
    found = directional_shapes(images, conditions_of(np.array([2212]), np.array([[0.0, 0.0, 2680.0]])), "zp")[0]
    row = dict(zip(FLIGHT_OBSERVABLES, found, strict=True))
    assert row["centre_x"] == pytest.approx(0.0, abs=1e-9) and row["longitudinal"] == pytest.approx(0.0, abs=1e-9)
    assert row["length"] == pytest.approx(np.sqrt((56**2 - 1) / 12)) and row["cells"] == 0


@pytest.mark.parametrize(("responses", "conditions", "message"), [
    (np.zeros((2, 30, 29)), np.ones((2, 9)), r"\(N, 30, 30\) and .*received \(2, 30, 29\)"),
    (np.zeros((30, 30)), np.ones((1, 9)), r"received \(30, 30\)"),
    (np.zeros((2, 30, 30)), np.ones((1, 9)), r"received \(2, 30, 30\) and \(1, 9\)"),
    (np.zeros((2, 30, 30)), np.ones((2, 8)), r"and \(2, 8\)"),
    (np.full((1, 30, 30), -1.0), np.ones((1, 9)), "non-negative"),
    (np.full((1, 30, 30), np.nan), np.ones((1, 9)), "finite"),
    (np.zeros((1, 30, 30)), np.full((1, 9), np.inf), "finite conditions"),
])
def test_what_is_refused(responses, conditions, message):
    with pytest.raises(ValueError, match=message):
        directional_shapes(responses, conditions, "ecal")


def test_sparsity_by_hand():
    responses = np.array([[[0.0, 1.0], [2.0, 5.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert sparsity(responses, [0.0, 1.0, 4.0, 9.0]).tolist() == [[0.75, 0.5, 0.25, 0.0], [0.0] * 4]


def test_sparsity_is_one_minus_that_of_the_shapes(random):
    images, momentum, impact = random
    thresholds = [0.3, 1.0, 3.0]
    found = sparsity(images, thresholds)
    assert (np.diff(found, axis=1) < 0).all()
    for k, t in enumerate(thresholds):
        column = named(images, electrons(momentum, impact), threshold=t)["sparsity"]
        np.testing.assert_allclose(found[:, k], 1.0 - column, rtol=1e-12)


def test_separation_power_by_hand():
    """p = (3/4, 1/4), q = (1/4, 3/4): (1/2)^2 / 1 twice, halved; then q = (0, 1)."""
    real = np.array([[0.0], [0.0], [0.0], [1.0]])
    assert separation_power(real, 1.0 - real, bins=2) == pytest.approx([0.25])
    assert separation_power(real, real + 5.0, bins=2) == pytest.approx([0.5 * (0.75 + 0.75**2 / 1.25)])


def test_separation_power_of_equal_disjoint_and_symmetric_samples():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(20_000, 3)), rng.normal(0.4, 1.0, (10_000, 3))
    assert separation_power(a, a).tolist() == [0.0] * 3 == separation_power(a, a[::-1]).tolist()
    assert separation_power(a, b + 50.0) == pytest.approx([1.0] * 3, abs=0.01)
    there, back = separation_power(a, b), separation_power(b, a)
    assert there.shape == (3,) and ((there > 0.02) & (there < 0.06)).all()
    np.testing.assert_allclose(there, back, rtol=0.1)
    scaled = separation_power(3.0 * a - 7.0, 3.0 * b - 7.0)
    np.testing.assert_allclose(scaled, there, rtol=1e-9)


def test_separation_power_of_one_distribution_is_its_statistical_floor():
    """bins / (2 N): every bin differs by its Poisson noise."""
    draws = np.random.default_rng(2).uniform(size=(2, 2000, 100))
    assert separation_power(*draws).mean() == pytest.approx(50 / 4000, rel=0.05)


def test_separation_power_of_a_constant():
    five = np.full((10, 1), 5.0)
    assert separation_power(five, five).tolist() == [0.0] and separation_power(five, five + 3).tolist() == [1.0]


@pytest.mark.parametrize(("real", "generated", "message"), [
    (np.ones((4, 2)), np.ones((4, 3)), r"\(4, 2\) and \(4, 3\)"),
    (np.ones(4), np.ones(4), r"\(4,\) and \(4,\)"),
    (np.ones((4, 2)), np.ones((0, 2)), r"received \(4, 2\) and \(0, 2\)"),
    (np.ones((4, 2)), np.full((4, 2), np.nan), "finite values"),
])
def test_tables_that_cannot_be_compared(real, generated, message):
    with pytest.raises(ValueError, match=message):
        separation_power(real, generated)


def test_table(random):
    images, momentum, impact = random
    images[:, 20, 20] = 40.0
    real = directional_shapes(images, electrons(momentum, impact), "ecal", threshold=0.0)
    generated = directional_shapes(images[::-1, ::-1], electrons(momentum, impact), "ecal", threshold=0.0)
    table = directional_table(real, generated)
    assert list(table) == list(FLIGHT_OBSERVABLES)
    power, distance = separation_power(real, generated), wasserstein(real, generated) / real.std(axis=0)
    for k, name in enumerate(FLIGHT_OBSERVABLES):
        assert table[name] == pytest.approx({"separation": power[k], "distance": distance[k]})
    assert table["total"]["separation"] == 0.0 < table["centre_x"]["separation"]


def test_distances_of_constants_are_in_their_own_unit():
    real = np.ones((8, len(FLIGHT_OBSERVABLES)))
    assert {row["distance"] for row in directional_table(real, real + 0.5).values()} == {0.5}


@pytest.mark.parametrize(("a", "b"), [(0.3, 0.0), (0.0, 0.05), (0.2, 0.02)])
def test_energy_resolution_in_closed_form(a, b):
    """S / E evenly spread over 0.17 (1 +- s), s^2 = a^2 / E + b^2: the central 68.3 % have the half width 0.683 s."""
    energies, even = np.array([1.0, 3.0, 10.0, 30.0, 50.0, 100.0]), np.linspace(-1.0, 1.0, 1001)
    s = np.sqrt(a**2 / energies + b**2)[:, None]
    total = 170.0 * energies[:, None] * (1.0 + s * even)
    energy = np.repeat(energies, 1001)
    order = np.random.default_rng(3).permutation(len(energy))
    found = energy_resolution(total.ravel()[order], energy[order], bins=6)
    np.testing.assert_allclose(found["energy"], energies, rtol=1e-9)
    np.testing.assert_allclose(found["response"], 0.17, rtol=1e-9)
    np.testing.assert_allclose(found["resolution"], 0.683 * s[:, 0], rtol=1e-6)
    assert (found["stochastic"], found["constant"]) == (pytest.approx(0.683 * a, abs=1e-4),
                                                        pytest.approx(0.683 * b, abs=1e-4))


def test_energies_of_a_bin_are_taken_by_their_inverse():
    """sigma^2 = a^2 / E is averaged: 1 and 4 GeV in equal parts count as 1.6, 10 and 90 as 18."""
    energy = np.repeat([1.0, 4.0, 10.0, 90.0], 20)
    found = energy_resolution(170.0 * energy, energy, bins=2)
    np.testing.assert_allclose(found["energy"], [1.6, 18.0], rtol=1e-12)


def test_energy_resolution_of_empty_responses_is_finite():
    found = energy_resolution(np.zeros(80), np.linspace(1.0, 100.0, 80))
    assert found["resolution"].tolist() == [0.0] * 8 and found["stochastic"] == found["constant"] == 0.0


@pytest.mark.parametrize(("sums", "energies"), [(79, 79), (100, 99), (0, 0)])
def test_too_few_showers_for_a_resolution(sums, energies):
    with pytest.raises(ValueError, match=f"at least 80 showers, received {sums} and {energies}"):
        energy_resolution(np.ones(sums), np.ones(energies))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0, 0.0])
def test_resolution_of_what_is_no_energy(wrong):
    ones, broken = np.ones(100), np.where(np.arange(100) == 7, wrong, 1.0)
    for pair in ((ones, broken), (broken, ones))[: 1 if wrong == 0.0 else 2]:
        with pytest.raises(ValueError, match="Expected finite sums of at least 0 and finite energies above 0"):
            energy_resolution(*pair)

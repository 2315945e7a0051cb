import keras
import numpy as np
import pytest
from keras import ops

from zdckeras.layers.response_features import SummaryFeatures

# What each row saw, as (row, column, photons) of cells of ZN: one cell, some light over several, and nothing.
CELLS = [[(30, 11, 7.0)],
         [(10, 5, 3.0), (10, 6, 1.0), (12, 4, 4.0), (40, 34, 2.0), (21, 22, 5.0), (5, 39, 6.0), (33, 9, 1.0)], []]
SUMS = [[0, 0, 0, 0, 7.0], [5.0, 6.0, 1.0, 2.0, 8.0], [0.0] * 5]  # even cells in four quadrants, odd ones; by hand
IMPACT = np.array([[8.0, -2.5], [-3.0, 6.0], [33.0, 0.0]])  # cells; the last is cut at 1.5 half sizes
ADDED = 1e-3  # photons, to divide by
numpy = ops.convert_to_numpy


@pytest.fixture(scope="module")
def photons():
    found = np.zeros((3, 44, 44), "float32")
    for image, cells in zip(found, CELLS, strict=True):
        for row, column, number in cells:
            image[row, column] = number
    return found


@pytest.fixture(scope="module")
def conditions():
    """Photons from the interaction point that fly to `IMPACT`, 11260.6 cm away; the second to the other side."""
    found = np.zeros((3, 9), "float32")
    found[:, 6] = 1000.0, -500.0, 200.0
    found[:, 4:6] = np.array([[8.0, -2.5], [-3.0, 6.0], [100.0, 0.0]]) * 0.16 / 11260.6 * np.abs(found[:, 6:7])
    found[:, 0] = np.abs(found[:, 6])
    return found


def expected():
    """The columns, (3, 19), cell by cell."""
    rows = []
    for cells, sums, impact in zip(CELLS, SUMS, IMPACT, strict=True):
        light = np.array([number for *_, number in cells])
        place = np.array([[row - 21.5, column - 21.5] for row, column, _ in cells]).reshape(-1, 2)
        total = light.sum()
        centre = light @ place / (total + ADDED)
        variance = light @ (place**2).sum(axis=1) / (total + ADDED) - (centre**2).sum()
        lit = (1.0 - np.exp(-light)).sum() / np.sqrt(total + 1.0)
        rows.append([*np.log1p(sums), np.log1p(total), *(centre - impact), 0.5 * np.log(variance + 1.0), lit,
                     np.log1p(max(light, default=0.0)), *centre, *sums, total])
    return np.array(rows)


def test_columns_by_hand(photons, conditions):
    found = numpy(SummaryFeatures("zn")(photons, conditions))
    assert found.shape == (3, SummaryFeatures.WIDTH) == SummaryFeatures("zn").compute_output_shape((3, 44, 44), (3, 9))
    np.testing.assert_allclose(found, expected(), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found[0, [6, 7, 11, 12]], [0.5, -8.0, 8.5, -10.5], atol=5e-3)  # the cell (30, 11) alone


def test_columns_are_standardised(photons, conditions):
    rng = np.random.default_rng(0)
    mean, scale = rng.normal(size=19).astype("float32"), rng.uniform(0.5, 2.0, 19).astype("float32")
    summary = SummaryFeatures("zn", mean, scale)
    found = numpy(summary(photons, conditions))
    np.testing.assert_allclose(found, (expected() - mean) / scale, rtol=1e-4, atol=2e-3)
    sums = numpy(summary.sums(photons))
    assert sums.tolist() == SUMS
    decided = [*range(6), *range(13, 19)]  # by the sums
    np.testing.assert_allclose(numpy(summary.of_sums(sums)), found[:, decided], rtol=1e-5, atol=1e-5)


def test_fitted_columns_have_the_mean_and_the_deviation_of_the_first_rows(showers):
    """0.05 is added to the deviations, so that no column is blown up."""
    fitted = SummaryFeatures.fit(showers, "ecal", rows=20)
    some = showers.response[:20].astype("float32"), showers.particles[:20].astype("float32")
    table = numpy(SummaryFeatures("ecal")(*some)).astype("float64")
    np.testing.assert_allclose(fitted["mean"], table.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(fitted["scale"], table.std(axis=0) + 0.05, rtol=1e-6)


def test_survives_its_config():
    layer = SummaryFeatures("zp", np.arange(19), np.arange(1, 20))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config() and again.detector.name == "zp"
    assert again.mean.tolist() == list(range(19)) and again.scale.tolist() == list(range(1, 20))

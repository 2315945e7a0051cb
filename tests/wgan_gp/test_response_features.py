import keras
import numpy as np
import pytest

from zdckeras import backend
from zdckeras.data.impact import expected_impact
from zdckeras.data.particles import conditions_of
from zdckeras.data.showers import Showers
from zdckeras.metrics.directional import FLIGHT_OBSERVABLES, directional_shapes
from zdckeras.wgan_gp.response_features import IMPACT_RADII, LIT_THRESHOLDS, EnergySummary

ROWS = 16


@pytest.fixture(scope="module")
def showers():
    """Electrons that hit around the centre, and random energies around them."""
    rng = np.random.default_rng(0)
    pz = rng.choice([-1.0, 1.0], ROWS) * rng.uniform(5.0, 100.0, ROWS)
    momentum = np.column_stack([rng.normal(0.0, 0.2, (ROWS, 2)) * np.abs(pz)[:, None], pz])
    vertex = np.column_stack([rng.normal(0.0, 6.0, (ROWS, 2)), 1250.0 * np.sign(pz)])
    energy = np.zeros((ROWS, 30, 30))
    energy[:, 5:25, 5:25] = rng.exponential(30.0, (ROWS, 20, 20)) * (rng.random((ROWS, 20, 20)) < 0.3)
    return Showers(conditions_of(np.full(ROWS, 11), momentum, vertex), np.full(ROWS, 11), {"ecal": energy})


@pytest.fixture(scope="module")
def columns(showers, evaluate):
    """What it says of real energies, rows of noughts last, by name."""
    energy = np.concatenate([showers.response, np.zeros((2, 30, 30))])
    conditions = np.concatenate([showers.particles, showers.particles[:2]])
    table = evaluate(EnergySummary("ecal", response=0.1), energy, conditions)
    assert table.shape == (ROWS + 2, EnergySummary.WIDTH) and np.isfinite(table).all()
    names = ["ln S", "response", "centre_x", "centre_y", "longitudinal", "transverse", "length", "width",
             *(f"lit {t}" for t in LIT_THRESHOLDS), "brightest", *(f"within {r}" for r in IMPACT_RADII)]
    return dict(zip(names, table.T.astype("float64"), strict=True))


def test_columns_are_those_of_directional_shapes(showers, columns):
    found = directional_shapes(showers.response, showers.particles, "ecal")
    known = dict(zip(FLIGHT_OBSERVABLES, found.T, strict=True))
    real = {name: values[:ROWS] for name, values in columns.items()}
    energy = showers.particles[:, 0]
    np.testing.assert_allclose(real["ln S"], np.log1p(known["total"]), rtol=1e-5)
    np.testing.assert_allclose(real["response"], (known["response"] - 0.1) * np.sqrt(energy), rtol=1e-4, atol=1e-5)
    for name in ("centre_x", "centre_y", "longitudinal", "transverse"):
        np.testing.assert_allclose(real[name], known[name], atol=2e-4, err_msg=name)
        assert np.ptp(known[name]) > 0.1
    for name in ("length", "width"):
        np.testing.assert_allclose(real[name], 0.5 * np.log(known[name] ** 2 + 0.05), atol=1e-3)
    np.testing.assert_allclose(real["brightest"], np.log1p(known["brightest"] * known["total"]), rtol=1e-5)


def test_soft_cells_and_shares_by_formula(showers, columns):
    e = showers.response.astype("float64")
    for t in LIT_THRESHOLDS:
        expected = np.log1p((1.0 - np.exp(-e / t)).sum(axis=(1, 2)))
        np.testing.assert_allclose(columns[f"lit {t}"][:ROWS], expected, rtol=1e-4)
    impact = expected_impact(showers.particles, "ecal") / 2.0
    x, y = (np.indices((30, 30)) - 14.5)[:, None] - impact.T[:, :, None, None]
    for radius in IMPACT_RADII:
        share = (e * (x**2 + y**2 < radius**2)).sum(axis=(1, 2)) / e.sum(axis=(1, 2))
        np.testing.assert_allclose(columns[f"within {radius}"][:ROWS], share, atol=1e-4)


def test_empty_responses(columns):
    empty = {name: values[ROWS:] for name, values in columns.items()}
    for name in ("ln S", "longitudinal", "transverse", "brightest", *(f"lit {t}" for t in LIT_THRESHOLDS)):
        assert empty[name].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(empty["width"], 0.5 * np.log(0.05), rtol=1e-5)


@pytest.mark.compiles_long
def test_fitted_columns_are_standardised(showers, evaluate):
    fitted = EnergySummary.fit(showers, "ecal")
    table = evaluate(EnergySummary("ecal", **fitted), showers.response, showers.particles)
    np.testing.assert_allclose(table.mean(axis=0), 0.0, atol=2e-3)
    assert (table.std(axis=0) < 1.0).all() and np.median(table.std(axis=0)) > 0.8
    response = showers.photon_sums() / (1000.0 * showers.particles[:, 0])
    assert fitted["response"] == pytest.approx(response.mean(), rel=1e-6)


@pytest.mark.compiles_long
def test_fit_uses_the_first_rows(showers):
    assert EnergySummary.fit(showers, "ecal", rows=5) == EnergySummary.fit(showers[:5], "ecal")


@pytest.mark.compiles_long
@pytest.mark.parametrize("fill", [0.0, 0.7])
def test_gradients_are_finite(fill, showers, evaluate):
    summary, conditions = EnergySummary("ecal"), showers.particles[:3]
    gradient = evaluate(lambda e, c: backend.steps().grad(lambda e: summary(e, c), e), np.full((3, 30, 30), fill),
                        conditions)
    assert np.isfinite(gradient).all() and (np.abs(gradient).max(axis=(1, 2)) > 0.0).all()


def test_survives_its_config():
    width = EnergySummary.WIDTH
    layer = EnergySummary("focalh", np.arange(width), np.arange(1, width + 1), 0.03)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config() and again.response == 0.03 and again.mean[-1] == width - 1
    assert layer.compute_output_shape((5, 36, 36), (5, 9)) == (5, width)


def test_statistics_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"mean and scale of shape \(\d+,\), received \(3,\)"):
        EnergySummary("ecal", mean=np.zeros(3))

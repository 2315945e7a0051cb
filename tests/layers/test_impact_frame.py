import numpy as np
import pytest
from keras import ops

from zdckeras.data.detectors import DETECTORS
from zdckeras.data.particles import conditions_of
from zdckeras.layers.impact_frame import ImpactFrame


def frame(detector, seed=0):
    layer = ImpactFrame(detector, context=3, maps=2)
    rng = np.random.default_rng(seed)
    layer.tables.assign(rng.normal(size=layer.tables.shape).astype("float32"))
    return layer


def photon_at(detector, x, y):
    """A photon whose straight line ends in the middle of cell (x, y)."""
    place = DETECTORS[detector]
    point = (np.array([x, y]) + 0.5 - np.array(place.shape) / 2) * place.pitch + [place.centre_x, 0.0]
    momentum = np.array([[*(point / place.distance * 1000.0), 1000.0]])
    return conditions_of(np.array([22]), momentum).astype("float32")


def maps(layer, conditions, context=None, photons=100.0):
    context = np.full((len(conditions), 3), 0.7, "float32") if context is None else context
    photons = np.full((len(conditions), 1), photons, "float32")
    nx, ny = layer.detector.shape
    return [ops.convert_to_numpy(part).reshape(-1, nx, ny) for part in layer(conditions, photons, context)]


@pytest.mark.parametrize("detector", ["zn", "zp"])
def test_maps_move_with_the_impact(detector):
    layer = frame(detector)
    for a, b in zip(maps(layer, photon_at(detector, 10, 12)), maps(layer, photon_at(detector, 13, 8)), strict=True):
        np.testing.assert_allclose(b[:, 3:, :-4], a[:, :-3, 4:], rtol=1e-5, atol=1e-6)
        assert np.abs(a - b).max() > 0.1


@pytest.mark.parametrize("detector", ["zn", "zp"])
def test_impacts_outside_take_the_cell_at_the_edge(detector):
    layer, nx = frame(detector), DETECTORS[detector].shape[0]
    inside, outside = maps(layer, photon_at(detector, nx - 1, 0)), maps(layer, photon_at(detector, nx + 5, -7))
    for a, b in zip(inside, outside, strict=True):
        assert np.array_equal(a, b)


def test_maps_are_mixed_by_context_species_and_light():
    layer, photon = frame("ecal"), photon_at("ecal", 15, 15)
    neutron = photon.copy()
    neutron[:, 7] = 939.6
    zero, one, two = (maps(layer, photon, np.array([[size, 0, 0]], "float32"))[0] for size in (0.0, 1.0, 2.0))
    np.testing.assert_allclose(two - zero, 2 * (one - zero), rtol=1e-4, atol=1e-5)
    for other in (maps(layer, neutron)[0], maps(layer, photon, photons=500.0)[0], one):
        assert np.abs(other - zero).max() > 0.1


def test_log_scale_is_bounded():
    layer = frame("ecal")
    shift, log_scale = maps(layer, photon_at("ecal", 15, 15), np.full((1, 3), 100.0, "float32"))
    assert np.abs(log_scale).max() <= 3.0 < np.abs(shift).max()


def test_fitted_maps_standardise_the_code():
    """Codes whose mean and deviation are profiles around the impact have mean 0 and deviation 1 in the frame."""
    rng, rows = np.random.default_rng(1), 600
    x0, y0 = rng.integers(10, 20, (2, rows))
    conditions = np.concatenate([photon_at("ecal", x, y) for x, y in zip(x0, y0, strict=True)])
    i, j = np.indices((30, 30))[:, None]
    distance = np.hypot(i - x0[:, None, None], j - y0[:, None, None])
    code = (3.0 - 0.3 * distance + np.exp(-0.05 * distance) * rng.normal(size=distance.shape)).reshape(rows, -1)
    photons = rng.integers(50, 300, (rows, 1))
    layer = ImpactFrame("ecal", context=3, maps=1)
    layer.adapt(conditions, photons, code, ridge=0.01)
    shift, log_scale = (ops.convert_to_numpy(part) for part in layer(
        conditions, photons.astype("float32"), np.zeros((rows, 3), "float32")))
    residuals = ((code - shift) * np.exp(-log_scale)).reshape(rows, 30, 30)[:, 5:25, 5:25]
    assert residuals.mean() == pytest.approx(0.0, abs=0.05) and residuals.std() == pytest.approx(1.0, abs=0.1)
    assert np.abs(residuals.mean(axis=0)).max() < 0.4
    assert code.std() > 1.5


def test_untrained_frame_is_the_identity():
    shift, log_scale = maps(ImpactFrame("ecal", context=3), photon_at("ecal", 3, 3))
    assert (shift == 0).all() and (log_scale == 0).all()


def test_survives_its_config():
    layer = frame("zp")
    again = ImpactFrame.from_config(layer.get_config())
    again.set_weights(layer.get_weights())
    for a, b in zip(maps(layer, photon_at("zp", 30, 3)), maps(again, photon_at("zp", 30, 3)), strict=True):
        assert np.array_equal(a, b)

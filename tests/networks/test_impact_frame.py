import numpy as np
import pytest
from keras import ops

from zdckeras.detectors import DETECTORS
from zdckeras.networks.impact_frame import ImpactFrame
from zdckeras.particles import conditions_of


def frame(where, seed=0):
    layer = ImpactFrame(where, context=3, maps=2)
    rng = np.random.default_rng(seed)
    layer.tables.assign(rng.normal(size=layer.tables.shape).astype("float32"))
    return layer


def photon_at(where, x, y):
    """A photon whose straight line ends in the middle of cell (x, y)."""
    place = DETECTORS[where]
    point = (np.array([x, y]) + 0.5 - np.array(place.shape) / 2) * place.pitch + [place.centre_x, 0.0]
    momentum = np.array([[*(point / place.distance * 1000.0), 1000.0]])
    return conditions_of(np.array([22]), momentum).astype("float32")


def maps(layer, conditions, context=None):
    context = np.full((len(conditions), 3), 0.7, "float32") if context is None else context
    nx, ny = layer.detector.shape
    return [ops.convert_to_numpy(part).reshape(-1, nx, ny) for part in layer(conditions, context)]


@pytest.mark.parametrize("where", ["zn", "zp"])
def test_maps_move_with_the_impact(where):
    layer = frame(where)
    for a, b in zip(maps(layer, photon_at(where, 10, 12)), maps(layer, photon_at(where, 13, 8)), strict=True):
        np.testing.assert_allclose(b[:, 3:, :-4], a[:, :-3, 4:], rtol=1e-5, atol=1e-6)
        assert np.abs(a - b).max() > 0.1


@pytest.mark.parametrize("where", ["zn", "zp"])
def test_impacts_outside_take_the_cell_at_the_edge(where):
    layer, (nx, ny) = frame(where), DETECTORS[where].shape
    inside, outside = maps(layer, photon_at(where, nx - 1, 0)), maps(layer, photon_at(where, nx + 5, -7))
    for a, b in zip(inside, outside, strict=True):
        assert np.array_equal(a, b)


def test_maps_are_mixed_by_the_context():
    layer, particle = frame("ecal"), photon_at("ecal", 15, 15)
    zero = maps(layer, particle, np.zeros((1, 3), "float32"))
    one = maps(layer, particle, np.array([[1.0, 0, 0]], "float32"))
    two = maps(layer, particle, np.array([[2.0, 0, 0]], "float32"))
    assert all((part == 0).all() for part in zero)
    np.testing.assert_allclose(two[0], 2 * one[0], rtol=1e-5)


def test_log_scale_is_bounded():
    layer = frame("ecal")
    shift, log_scale = maps(layer, photon_at("ecal", 15, 15), np.full((1, 3), 100.0, "float32"))
    assert np.abs(log_scale).max() <= 3.0 < np.abs(shift).max()


def test_untrained_frame_is_the_identity():
    shift, log_scale = maps(ImpactFrame("ecal", context=3), photon_at("ecal", 3, 3))
    assert (shift == 0).all() and (log_scale == 0).all()


def test_survives_its_config():
    layer = frame("zp")
    again = ImpactFrame.from_config(layer.get_config())
    again.set_weights(layer.get_weights())
    for a, b in zip(maps(layer, photon_at("zp", 30, 3)), maps(again, photon_at("zp", 30, 3)), strict=True):
        assert np.array_equal(a, b)

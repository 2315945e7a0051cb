import numpy as np
import pytest
from keras import ops

from zdckeras.data.particles import COLUMN, conditions_of
from zdckeras.modular.arrivals import draw_arrivals, respond, simulated_arrivals, single_arrivals, single_scores
from zdckeras.modular.guns import TILTED, StraightFlight, gun_arrivals, gun_particles
from zdckeras.simulation import reference
from zdckeras.simulation.gun import PointShowers, draw_gun
from zdckeras.simulation.reference import load

GUN_DETECTORS = ("ecal", "focalh")


def flown(layer, conditions, pdg=None):
    uniform = np.full((len(conditions), layer.numbers), 0.5, "float32")
    return [ops.convert_to_numpy(v)[:, 0] for v in layer(conditions.astype("float32"), uniform, pdg)]


@pytest.mark.parametrize("detector", GUN_DETECTORS)
def test_layer_does_what_the_arrays_say(detector):
    conditions, pdg = draw_gun(detector, 2000, 1)
    found, true = flown(StraightFlight(detector), conditions), gun_arrivals(detector, conditions, pdg)
    assert np.array_equal(found[0], true["kind"]) and len(set(found[0].tolist())) == len(set(pdg.tolist()))
    for name, values in zip(TILTED[1:], found[1:], strict=True):
        np.testing.assert_allclose(values, true[name], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("detector", GUN_DETECTORS)
def test_particles_on_the_face_are_those_of_the_arrivals(detector):
    conditions, pdg = draw_gun(detector, 500, 2)
    arrivals = gun_arrivals(detector, conditions, pdg)
    again, ids = gun_particles(detector, arrivals)
    assert np.array_equal(ids, pdg)
    np.testing.assert_allclose(again[:, COLUMN["energy"]], conditions[:, COLUMN["energy"]], rtol=1e-9)
    np.testing.assert_allclose(again[:, 4:], conditions[:, 4:], rtol=1e-9, atol=1e-9)
    back = gun_arrivals(detector, again, ids)
    for name in TILTED:
        np.testing.assert_allclose(back[name], arrivals[name], rtol=1e-9, atol=1e-9)


def test_what_misses_the_face_or_has_no_shower_leaves_nothing():
    momentum = np.array([[0, 0, 20.0], [1.0, 0, 20.0], [0, 0, 20.0], [0, 0, -20.0]])
    vertex = np.array([[0, 0, 0.0], [0, 0, 0], [0, 0, 0], [2.0, 0, 0]])
    particles = conditions_of(np.array([211, 211, 13, 211]), momentum, vertex)
    kind, _, x, *_ = flown(StraightFlight("focalh"), particles)
    assert kind.tolist() == [4, 4, -1, -1] and x[1] == pytest.approx(35.0)
    far = conditions_of(np.array([211]), np.array([[2.0, 0, 20.0]]))
    assert flown(StraightFlight("focalh"), far)[0].tolist() == [-1]  # 70 cm from the centre of 45 cm


def test_layer_and_simulation_agree_on_what_arrives():
    """From before the face and on it, not from behind it or backwards."""
    momentum = np.array([[0, 0, 20.0], [0, 0, 20.0], [0, 0, 20.0], [0, 0, -20.0]])
    vertex = np.array([[0, 0, 0.0], [0, 0, 700.0], [0, 0, 900.0], [0, 0, 0.0]])
    particles, pdg = conditions_of(np.full(4, 211), momentum, vertex), np.full(4, 211)
    seen = [flown(StraightFlight("focalh"), particles)[0] >= 0,
            PointShowers("focalh").respond(particles, pdg, 1).sum(axis=(1, 2)) > 0]
    assert seen[0].tolist() == seen[1].tolist() == [True, True, False, False]


def test_layer_comes_back_from_its_configuration():
    layer = StraightFlight.from_config(StraightFlight("ecal").get_config())
    assert layer.detector.name == "ecal" and layer.slots == layer.numbers == 1
    assert StraightFlight.from_config(StraightFlight("ecal", short=0.1).get_config()).short == 0.1


def test_kick_and_shift_are_not_taken_for_nothing():
    with pytest.raises(ValueError, match="Expected a straight flight to focalh without kick and shift, received"):
        StraightFlight("focalh", shift=(10.0, 0.0))


@pytest.mark.parametrize(("detector", "low", "high"), [("ecal", 0.14, 0.20), ("focalh", 0.005, 0.06)])
def test_arrivals_are_the_guns_and_get_its_responses(detector, low, high):
    arrivals = draw_arrivals(detector, 300, 4)
    responses = respond(detector, arrivals, 1)
    share = responses.sum(axis=(1, 2)) / arrivals["energy"] / 1000.0
    assert low < np.median(share) < high
    other = simulated_arrivals(detector, 300, 4)
    assert list(other) == list(TILTED) and all(np.array_equal(arrivals[name], other[name]) for name in TILTED)
    again = respond(detector, arrivals, 2)
    same, double = (single_scores(arrivals, responses, r, pairs=32) for r in (again, 2 * again))
    assert abs(same["AUC"] - 0.5) < 0.15 < double["AUC"] - 0.5


def test_own_particles_of_a_gun_are_all_arrivals(monkeypatch):
    monkeypatch.setattr(reference, "PRIMARIES_AT_ONCE", 100)
    showers = load("focalh", "train", 40)
    arrivals, responses = single_arrivals(showers)
    assert np.array_equal(responses, showers.response)
    np.testing.assert_allclose(arrivals["slope_y"], showers.particles[:, 5] / showers.particles[:, 6])
    assert set(arrivals["kind"]) == {2, 4}

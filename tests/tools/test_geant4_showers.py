import numpy as np
import pytest


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("geant4_showers")


def test_no_light_below_threshold(tool):
    assert tool.photons(np.array([0.3, 1 / tool.INDEX]), np.array([0.7, 0.7]), 1.0, 1.0).tolist() == [0, 0]


def test_light_of_a_fast_particle(tool):
    """Against the cone sampled by Monte Carlo: photons within asin(NA / n) of the fibre, forwards."""
    beta, axis = 0.99, np.cos(np.radians(40.0))
    cosine = 1 / (tool.INDEX * beta)
    phi = np.random.default_rng(0).uniform(0, 2 * np.pi, 200_000)
    along = axis * cosine + np.sqrt((1 - axis**2) * (1 - cosine**2)) * np.cos(phi)
    trapped = (along >= np.sqrt(1 - (tool.APERTURE / tool.INDEX) ** 2)).mean()
    per_mm = 36.98 * 2 * tool.EFFICIENCY * (1 - cosine**2)
    value = tool.photons(np.array([beta]), np.array([axis]), 2.0, 0.5)[0]
    assert value == pytest.approx(4 * 0.5 * per_mm * trapped, rel=0.02)


def test_light_goes_one_way_and_near_the_cone_only(tool):
    axis = np.cos(np.radians([0.0, 20.0, 47.0, 80.0, 133.0]))
    light = tool.photons(np.full(5, 0.9999), axis, 1.0, 1.0)
    assert light[2] > 0 and not light[[0, 1, 3, 4]].any()

import json
from dataclasses import replace

import numpy as np
import pytest

from zdckeras.data.detectors import get_detector
from zdckeras.simulation.points import PointLibrary, save_points

ECAL = get_detector("ecal")


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("check_points")


def test_points_land_in_their_cells(tool):
    points = np.array([[0.1, 0.1, 1, 2.0], [0.1, -0.1, 1, 3.0], [29.0, 0.1, 1, 9.0], [0.1, 0.1, 40, 9.0],
                       [-2.1, 0.1, 39, 4.0]])
    cells = tool.in_cells(points, np.array([4, 1]), np.array([[2.0, 0.0], [0.0, 0.0]]), ECAL)
    assert {tuple(detector.tolist()): cells[tuple(detector)] for detector in np.argwhere(cells)} == {
        (0, 16, 15): 2.0, (0, 16, 14): 3.0, (1, 13, 15): 4.0}


def test_observables_by_hand(tool):
    """3 and 1 MeV at x = 1 and 5 cm, y = -1 cm; impact 0.5 cm off the centre; 2 GeV."""
    response = np.zeros((2, 30, 30))
    response[0, 15, 14], response[0, 17, 14] = 3.0, 1.0
    values = tool.point_observables(response, np.array([2.0, 1.0]), np.array([[0.5, 0.0], [0.0, 0.0]]), ECAL)
    np.testing.assert_allclose(values, [[2.0, 1.5, np.sqrt(3), 0.0, 0.75], [0.0] * 5], atol=1e-9)


def showers(size, seed, widths=1.0):
    """Showers of 120 points around the z axis [cm]."""
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.normal(0, widths, (120 * size, 2)), rng.gamma(9.0, 1.5, 120 * size).clip(0.5, 35),
                              rng.exponential(1.0, 120 * size)])
    energy = np.geomspace(2, 50, size)
    points[:, 3] *= np.repeat(energy, 120)
    return energy, points


def files(folder, slope, widths=1.0):
    """A library, and a raw file [mm] of other showers of the same kind that come in at a slope along x."""
    energy, points = showers(300, 1)
    save_points(PointLibrary("ecal", np.full(300, 11), energy, points, np.full(300, 120), {}), folder / "library.npz")
    energy, points = showers(60, 2, widths)
    ahead = np.array([slope, 0.0, 1.0]) / np.hypot(slope, 1.0)
    axes = np.stack([np.cross([0.0, 1.0, 0.0], ahead), [0.0, 1.0, 0.0], ahead])
    points[:, :3] = points[:, :3] @ axes * 10
    np.savez(folder / "raw.npz", points=points, counts=np.full(60, 120),
             primaries=np.column_stack([np.full(60, 11.0), energy]),
             settings=np.array(json.dumps({"detector": "ecal", "slope": slope})))
    return [str(folder / "raw.npz"), "--library", str(folder / "library.npz")]


@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_turned_showers_pass(tool, tmp_path, capsys, slope):
    tool.main(["ecal", *files(tmp_path, slope), "--bins", "2"])
    said = capsys.readouterr().out
    assert f"ecal, slope {slope:g}, library of 300 showers" in said
    beyond, total = (int(word) for word in said.splitlines()[-1].split(" lines")[0].split(" of "))
    assert total == 2 * 5 * 2 and beyond <= 4


def test_wrong_widths_are_noticed(tool, tmp_path):
    raw, _, library = files(tmp_path, 0.25, widths=1.4)
    gun = tool.PointShowers(ECAL, tool.load_points(library))
    _, lines = tool.check(raw, gun, 5, 1, 0)
    pulls = {line.observable: line.pull for line in lines if line.statistic == "mean"}
    assert pulls["rms x [cm]"] > 4 and pulls["rms y [cm]"] > 4 and pulls["brightest"] < -4
    assert abs(pulls["MeV/GeV"]) < 4


def test_other_detectors_are_refused(tool, tmp_path):
    raw, _, library = files(tmp_path, 0.0)
    gun = tool.PointShowers(ECAL, tool.load_points(library))
    gun.detector = replace(ECAL, name="focalh")
    with pytest.raises(SystemExit, match=r"Expected showers of focalh, received .*raw.npz, showers of ecal"):
        tool.check(raw, gun, 2, 1, 0)

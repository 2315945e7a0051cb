import json
import re

import numpy as np
import pytest


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("geant4_points")


def cloud(size=2000):
    rng = np.random.default_rng(0)
    return np.column_stack([rng.normal(0, 1, (size, 2)) * rng.exponential(30, (size, 1)), rng.uniform(0, 390, size),
                            rng.exponential(1.0, size)])


@pytest.mark.parametrize("slope", [0.0, 0.25, -0.6])
def test_merging_keeps_energy_and_its_centre(tool, slope):
    points = cloud()
    merged = tool.merged_along(points, slope, 36.0)
    assert len(merged) < len(points)
    assert merged[:, 3].sum() == pytest.approx(points[:, 3].sum())
    np.testing.assert_allclose(merged[:, 3] @ merged[:, :3], points[:, 3] @ points[:, :3])


def test_merging_follows_the_line_of_flight(tool):
    """A narrow shower along x = slope z is merged as the same shower along z is."""
    straight = cloud() * (0.02, 0.02, 1, 1)
    tilted = straight + straight[:, 2:3] * (0.25, 0, 0, 0)
    along = tool.merged_along(tilted, 0.25, 36.0)
    np.testing.assert_allclose(along - along[:, 2:3] * (0.25, 0, 0, 0), tool.merged(straight, 36.0), atol=1e-9)


@pytest.mark.parametrize("radius, size", [(5.0, 2.5), (40.0, 5.0), (100.0, 10.0), (400.0, 20.0)])
def test_cubes_grow_with_the_distance_from_the_axis(tool, radius, size):
    wall = np.ceil(radius / size) * size
    pair = np.array([[wall + 0.1, 0.1, 1.0, 1.0], [wall + size - 0.1, 0.1, 35.0, 3.0]])
    np.testing.assert_allclose(tool.merged(pair, 36.0), [[wall + 0.75 * size - 0.05, 0.1, 26.5, 4.0]])
    for step in ((size, 0, 0, 0), (0, 0, 36.0, 0)):
        assert len(tool.merged(pair + np.array([[0, 0, 0, 0], step]), 36.0)) == 2


def test_a_slope_is_a_number(tool, capsys, tmp_path):
    with pytest.raises(SystemExit):
        tool.main(["ecal", str(tmp_path / "a.npz"), "--showers", "1", "--slope", "steep"])
    assert "invalid float value: 'steep'" in capsys.readouterr().err


def test_another_slope_is_another_setting(tool, tmp_path, monkeypatch):
    """Going on with a file of another slope is refused before Geant4 is looked for."""
    monkeypatch.delenv("GEANT4_DATA_DIR", raising=False)
    shoot = ["ecal", str(tmp_path / "a.npz"), "--showers", "2", "--slope", "0.25"]
    np.savez(tmp_path / "a.npz", settings=np.array("others"))
    with pytest.raises(SystemExit) as stop:
        tool.main(shoot)
    wanted = re.search("made with the settings (.*); received", str(stop.value))[1]
    assert json.loads(wanted)["slope"] == 0.25
    np.savez(tmp_path / "a.npz", points=cloud(3), counts=np.array([3]), primaries=np.ones((1, 2)), seconds=np.ones(1),
             settings=np.array(wanted))
    with pytest.raises(SystemExit, match="GEANT4_DATA_DIR"):
        tool.main(shoot)
    with pytest.raises(SystemExit, match="Expected a new file"):
        tool.main(shoot[:-2])

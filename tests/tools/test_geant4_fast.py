from types import SimpleNamespace

import numpy as np
import pytest

import zdckeras as zdc
from zdckeras.campaign.answers import open_answer
from zdckeras.data.impact import expected_impact
from zdckeras.data.particles import species


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("geant4_fast")


@pytest.mark.parametrize(("name", "pdg"), [("zn", 2112), ("zp", 2212)])
def test_particles_are_told_where_they_are_stopped(tool, name, pdg):
    """On the way from where it is said to start to the face there is neither field nor time for a decay."""
    detector, kind = zdc.detector(name), species(pdg)
    momentum = np.array([0.03, -0.02, 900.0])
    told = tool.particle_at_face(detector, (1.5, -0.7), momentum, kind.mass, kind.charge)
    assert told.dtype == np.float32 and told[0] == pytest.approx(np.sqrt(momentum @ momentum + (1e-3 * kind.mass) ** 2))
    layer = zdc.Transport(name)
    arrived = layer(told[None], np.full((1, layer.numbers), 0.9, "float32"))
    assert [float(arrived.x[0, 0]), float(arrived.y[0, 0])] == pytest.approx([1.5, -0.7], abs=1e-3)
    if kind.charge == 0:
        assert expected_impact(told[None].astype("float64"), detector)[0, 1] == pytest.approx(-0.7, abs=1e-3)


def test_summary_ranks_each_primary_among_its_own(tool):
    rng = np.random.default_rng(0)
    light = rng.exponential(2.0, (60, 1, 8, 8))
    full, fast = rng.poisson(light[:, 0]), rng.poisson(np.repeat(light, tool.DRAWS, axis=1))
    text = tool.summary(full, fast, np.array([120.0, 0.06]), 1)
    assert text.startswith("60 showers: 2.000 s of processor time each with Geant4, 1.00 ms with the hook: 2000 times")
    photons = text.splitlines()[2].split()
    assert photons[0] == "photons" and abs(float(photons[3])) < 3.5
    assert abs(float(tool.summary(full, 2 * fast, np.ones(2), 1).splitlines()[2].split()[3])) > 5


def test_what_is_stopped_is_answered_once_with_its_id(tool):
    """A neutron leaves light; the same mass and charge under an id that no transport knows leave nothing."""
    detector = zdc.detector("zn")
    told = tool.particle_at_face(detector, (0.0, 0.0), np.array([0.0, 0.0, 900.0]), 1e3 * 0.93957, 0.0)
    hook = tool.FaceHook(None, SimpleNamespace(detector=detector), open_answer("zn"))
    light = {}
    for pdg in (2112, 1000010020):
        hook.caught += [(told, pdg)] * 2
        light[pdg] = hook.answer(np.random.default_rng(0), draws=3)
        assert hook.caught == [] and light[pdg].shape == (3, *detector.shape)
    assert light[2112].sum(axis=(1, 2)).min() > 50 and not light[1000010020].any()


def test_wrong_files_are_told_before_geant4(tool, tmp_path):
    with pytest.raises(FileNotFoundError, match="none.onnx"):
        tool.main(["zn", str(tmp_path / "none.onnx"), "--showers", "1"])
    with pytest.raises(ValueError, match="Expected a generator of zp, received one of zn"):
        tool.main(["zp", "zn", "--showers", "1"])

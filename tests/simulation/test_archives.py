import json

import numpy as np
import pytest

from zdckeras.simulation.archives import from_metadata, read_arrays, read_packaged, to_metadata


def test_arrays_come_in_the_order_asked_for(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, one=np.arange(3), two=np.eye(2), three=np.array("x"))
    two, one = read_arrays(path, ("two", "one"))
    assert np.array_equal(two, np.eye(2)) and one.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"a\.npz has no array four, five; expected one, four, five, received"):
        read_arrays(path, ("one", "four", "five"))


def test_files_that_are_missing_or_broken(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No shower file .*none\.npz"):
        read_arrays(tmp_path / "none.npz", ("one",))
    path = tmp_path / "cut.npz"
    np.savez(path, one=np.arange(1000))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"cut\.npz is not a complete npz file"):
        read_arrays(path, ("one",))


def test_the_library_names_its_detector_whatever_the_metadata_said():
    metadata, name = from_metadata(to_metadata({"source": "Geant4", "detector": "zp"}, "zn"), "file")
    assert metadata == {"source": "Geant4", "detector": "zn"} and name == "zn"


@pytest.mark.parametrize("text", ["{}", "[1]", "3", "no JSON", json.dumps({"source": "Geant4"})])
def test_other_metadata(text):
    with pytest.raises(ValueError, match=r"here\.npz: expected metadata in JSON that names the detector"):
        from_metadata(np.array(text), "here.npz")


@pytest.mark.parametrize("kind, has, lacks", [("showers", "zn, zp", "ecal"), ("points", "ecal, focalh", "zp")])
def test_what_is_shipped(kind, has, lacks):
    for name in has.split(", "):
        assert read_packaged(kind, name, lambda path: path.name) == f"{kind}_{name}.npz"
    message = f"No library of {kind} is shipped for '{lacks}'; tools/geant4_{kind}.py makes one. Expected one of {has}"
    with pytest.raises(ValueError, match=message):
        read_packaged(kind, lacks, str)

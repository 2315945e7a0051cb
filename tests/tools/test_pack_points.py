import json

import numpy as np
import pytest

from zdckeras.simulation.gun import PointShowers, draw_gun
from zdckeras.simulation.points import load_points, read_points


@pytest.fixture(scope="module")
def main(load_tool):
    return load_tool("pack_points").main


def raw(path, energies, seed=0, detector="ecal", slope=0.0):
    """A file as tools/geant4_points.py writes it: wide showers of 200 points each [mm]."""
    rng, count = np.random.default_rng(seed), len(energies)
    points = np.column_stack([rng.normal(0, 30, (200 * count, 2)), rng.uniform(0, 390, 200 * count),
                              rng.exponential(5.0, 200 * count)])
    np.savez(path, points=points.astype("float32"), counts=np.full(count, 200),
             primaries=np.column_stack([np.full(count, 11.0), energies]),
             settings=np.array(json.dumps({"detector": detector, "slope": slope})))
    return path


def test_files_become_one_library(main, tmp_path, capsys):
    paths = [raw(tmp_path / "a.npz", [1.0, 50.0, 100.0]), raw(tmp_path / "b.npz", [2.0, 3.0], seed=1)]
    main(["ecal", *map(str, paths), "--output", str(tmp_path / "new" / "all.npz"), "--source", "a test"])
    packed = load_points(tmp_path / "new" / "all.npz")
    parts = [read_points(path, "ecal") for path in paths]
    assert packed.energy.tolist() == [1.0, 50.0, 100.0, 2.0, 3.0]
    assert packed.metadata == {"source": "a test", "detector": "ecal"}
    np.testing.assert_array_equal(packed.counts, np.concatenate([part.counts for part in parts]))
    np.testing.assert_allclose(packed.deposited, np.concatenate([part.deposited for part in parts]), rtol=1e-6)
    said = capsys.readouterr().out
    size = (tmp_path / "new" / "all.npz").stat().st_size / 1e6
    assert f"all.npz: 5 showers, {size:.2f} MB, {packed.counts.mean():.0f} points each" in said
    assert "energies 1.0 to 100.0 GeV; packing moved widths by" in said
    assert sorted(path.name for path in tmp_path.rglob("*.npz")) == ["a.npz", "all.npz", "b.npz"]


def test_said_change_of_widths_is_that_of_the_file(main, tmp_path, capsys):
    path = raw(tmp_path / "a.npz", [5.0, 6.0, 7.0, 8.0])
    main(["ecal", str(path), "--output", str(tmp_path / "all.npz")])

    def width(library):
        owner = np.repeat(np.arange(len(library)), library.counts)
        x, y, _, value = library.points.T.astype("float64")
        return np.sqrt(np.bincount(owner, value * (x**2 + y**2)) / np.bincount(owner, value))

    packed = load_points(tmp_path / "all.npz")
    change = (width(packed) / width(read_points(path, "ecal"))).mean() - 1
    assert f"packing moved widths by {change:+.2%} on average" in capsys.readouterr().out
    assert abs(change) < 0.02 and "Geant4" in packed.metadata["source"]


def test_packed_showers_can_be_shot(main, tmp_path):
    main(["ecal", str(raw(tmp_path / "a.npz", np.geomspace(1, 100, 8))), "--output", str(tmp_path / "all.npz")])
    library = load_points(tmp_path / "all.npz")
    conditions, pdg = draw_gun("ecal", 50, 1)
    total = PointShowers("ecal", library).respond(conditions, pdg, 1).sum(axis=(1, 2)) / conditions[:, 0]
    per_gev = library.deposited / library.energy
    assert 0.8 * per_gev.min() < total.min() and total.max() < 1.0001 * per_gev.max()


@pytest.mark.parametrize("changes, message", [
    ({"detector": "focalh"}, "b.npz: expected showers of ecal, received focalh"),
    ({"slope": 0.25}, "b.npz: expected showers at a right angle"),
    ({"energies": [0.0]}, "positive energies"),
])
def test_files_that_do_not_belong_leave_nothing(main, tmp_path, changes, message):
    paths = [raw(tmp_path / "a.npz", [1.0]), raw(tmp_path / "b.npz", **{"energies": [1.0], **changes})]
    with pytest.raises(ValueError, match=message):
        main(["ecal", *map(str, paths), "--output", str(tmp_path / "all.npz")])
    assert not (tmp_path / "all.npz").exists()


def test_showers_are_added_to_a_library(main, tmp_path):
    output = str(tmp_path / "all.npz")
    main(["ecal", str(raw(tmp_path / "a.npz", [1.0, 50.0])), "--output", output])
    main(["ecal", str(raw(tmp_path / "b.npz", [2.0], seed=1)), "--add", "--output", output])
    assert load_points(output).energy.tolist() == [1.0, 50.0, 2.0]


def test_missing_file_is_named(main, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.npz"):
        main(["ecal", str(tmp_path / "nowhere.npz"), "--output", str(tmp_path / "all.npz")])

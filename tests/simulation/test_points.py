import json

import numpy as np
import pytest

from zdckeras.simulation.frozen import FrozenShowers
from zdckeras.simulation.points import (
    CUBE_RADII,
    CUBE_SIZES,
    DEPTH,
    FAINTEST_POINT,
    LN_ENERGY_STEP,
    REACH,
    SLICE_DEPTHS,
    PointLibrary,
    load_points,
    merge_points,
    packaged_points,
    read_points,
    save_points,
)
from zdckeras.simulation.reference import half_libraries, load, resimulate


def cloud(size, seed=0):
    """Points of one shower: dense near the axis, thin far from it."""
    rng = np.random.default_rng(seed)
    across = rng.normal(size=(size, 2)) * rng.exponential(4.0, (size, 1))
    return np.column_stack([across, rng.gamma(4.0, 3.0, size), rng.exponential(3.0, size) + 0.01])


def small(seed=0, counts=(5, 1, 30)):
    rng = np.random.default_rng(seed)
    points = np.concatenate([cloud(count, seed + k) for k, count in enumerate(counts)])
    return PointLibrary("ecal", np.full(len(counts), 11), rng.uniform(1, 100, len(counts)), points, np.array(counts),
                        {"source": "test"})


def test_showers_are_found_in_the_row_of_points():
    library = small()
    assert len(library) == 3 and library.first.tolist() == [0, 5, 6]
    parts = np.split(library.points, [5, 6])
    np.testing.assert_allclose(library.deposited, [part[:, 3].astype("float64").sum() for part in parts], rtol=1e-12)
    assert library.points.dtype == np.float32 and library.deposited.dtype == np.float64


def changed(**values):
    """Arguments of a library with something wrong: a whole array, or (index, value)."""
    library = small()
    arguments = {name: np.array(getattr(library, name)) for name in ("pdg", "energy", "points", "counts")}
    for name, value in values.items():
        if isinstance(value, tuple):
            arguments[name][value[0]] = value[1]
        else:
            arguments[name] = value
    return {"detector": "ecal", **arguments}


@pytest.mark.parametrize("arguments, message", [
    (changed(points=((3, 0), np.nan)), "received NaN"),
    (changed(points=((3, 3), np.inf)), "received NaN or infinity"),
    (changed(energy=(1, np.nan)), "received NaN"),
    (changed(points=((3, 3), 0.0)), r"Expected positive energies, received .* and 0\.0 MeV"),
    (changed(energy=(1, -2.0)), r"Expected positive energies, received -2\.0 GeV"),
    (changed(points=np.ones((35, 4))), r"'points': \(36, 4\).*received .*'points': \(35, 4\)"),
    (changed(points=np.ones((36, 3))), r"received .*\(36, 3\)"),
    (changed(counts=(1, 0)), r"at least one point each"),
    (changed(counts=np.array([18, 18])), r"'counts': \(3,\).*received .*'counts': \(2,\)"),
    (changed(energy=np.ones(2)), r"'energy': \(2,\)"),
    (changed(pdg=np.zeros(0, int), energy=np.zeros(0), points=np.zeros((0, 4)), counts=np.zeros(0, int)),
     "at least one point each"),
    (changed(pdg=(0, 9999999)), "Unknown PDG"),
    ({**changed(), "detector": "tpc"}, "Unknown detector 'tpc'"),
])
def test_impossible_values_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PointLibrary(**arguments, metadata={})


@pytest.mark.parametrize("seed", range(3))
def test_merging_keeps_energy_and_its_centre(seed):
    points = cloud(3000, seed)
    merged = merge_points(points)
    assert len(merged) < len(points) / 3
    assert merged[:, 3].sum() == pytest.approx(points[:, 3].sum())
    np.testing.assert_allclose(merged[:, 3] @ merged[:, :3], points[:, 3] @ points[:, :3])


def test_merging_widens_nothing_and_keeps_the_width_to_a_cube():
    """Second moments: what is lost is the variance inside a cube, at most size^2 / 4 along each axis."""
    points = cloud(3000)
    merged = merge_points(points)
    square, kept = (p[:, 3] @ p[:, :3] ** 2 / p[:, 3].sum() for p in (points, merged))
    assert (kept < square).all()
    assert (square - kept <= np.array([max(CUBE_SIZES), max(CUBE_SIZES), max(SLICE_DEPTHS)]) ** 2 / 4).all()


@pytest.mark.parametrize("level", range(len(CUBE_SIZES)))
def test_cubes_grow_with_the_distance_from_the_axis(level):
    """Two points in one cube become one, those on either side of its wall stay two: across and along."""
    size, depth = CUBE_SIZES[level], SLICE_DEPTHS[level]
    inner = (0.0, *CUBE_RADII)[level]
    x = (np.floor(inner / size) + 1) * size  # a wall beyond the inner radius
    y, z, eps = 0.1, depth, 1e-3
    assert inner < x - eps and (level == len(CUBE_RADII) or np.hypot(x + size, y) < CUBE_RADII[level] + size)
    wall = np.array([[x - eps, y, z + eps, 1.0], [x + eps, y, z + eps, 3.0]])
    slices = np.array([[x + eps, y, z - eps, 1.0], [x + eps, y, z + eps, 3.0]])
    together = np.array([[x + eps, y, z + eps, 1.0], [x + 3 * eps, y, z + depth - eps, 3.0]])
    assert len(merge_points(wall)) == len(merge_points(slices)) == 2
    np.testing.assert_allclose(merge_points(together), [[x + 2.5 * eps, y, z + 0.75 * depth - 0.5 * eps, 4.0]])


def test_merging_has_no_preferred_order():
    points = cloud(200)
    np.testing.assert_allclose(merge_points(points[::-1]), merge_points(points))


def test_file_keeps_sums_and_places(tmp_path):
    library = small()
    save_points(library, tmp_path / "a.npz")
    back = load_points(tmp_path / "a.npz")
    assert back.detector == "ecal" and back.metadata == {"source": "test", "detector": "ecal"}
    assert back.pdg.tolist() == library.pdg.tolist() and back.counts.tolist() == library.counts.tolist()
    np.testing.assert_allclose(back.energy, library.energy, rtol=1e-6)
    np.testing.assert_allclose(back.deposited, library.deposited, rtol=1e-6)
    half = np.sqrt(REACH) / 254  # of a step in sqrt|x|
    across, kept = library.points[:, :2], back.points[:, :2]
    assert (abs(kept - across) <= 2 * half * np.sqrt(abs(across)) + half**2 + 1e-5).all()
    assert (abs(kept - across) > 0).any() and (kept * across >= 0).all()
    assert abs(back.points[:, 2] - library.points[:, 2]).max() <= DEPTH / 510 + 1e-5
    change = np.log(back.points[:, 3] / library.points[:, 3])
    assert abs(change).max() <= LN_ENERGY_STEP  # half a step of its own, half a step for the sum


@pytest.mark.parametrize("point, kept", [
    ([75.0, -80.0, 130.0, 2.0], [REACH, -REACH, DEPTH, 2.0]),
    ([0.0, 0.0, -3.0, 1e-6], [0.0, 0.0, 0.0, 1e-6]),
    ([0.0, 0.0, 0.0, 5e4], [0.0, 0.0, 0.0, 5e4]),
])
def test_points_beyond_the_code_go_to_its_end_and_keep_the_sum(tmp_path, point, kept):
    save_points(PointLibrary("ecal", [11], [1.0], [point], [1], {}), tmp_path / "a.npz")
    np.testing.assert_allclose(load_points(tmp_path / "a.npz").points, [kept], rtol=1e-6)


def test_packing_again_changes_nothing(tmp_path):
    save_points(small(), tmp_path / "a.npz")
    once = load_points(tmp_path / "a.npz")
    save_points(once, tmp_path / "b.npz")
    np.testing.assert_allclose(load_points(tmp_path / "b.npz").points, once.points, rtol=1e-5)


def test_four_bytes_a_point(tmp_path):
    """Before compression, which random points hardly allow."""
    save_points(small(counts=(4000,)), tmp_path / "a.npz")
    assert (tmp_path / "a.npz").stat().st_size < 4 * 4000 + 3000


def test_showers_of_many_points_are_read_back(tmp_path):
    save_points(small(counts=(70_000, 3)), tmp_path / "a.npz")
    assert load_points(tmp_path / "a.npz").counts.tolist() == [70_000, 3]


def rewritten(path, **values):
    """The arrays of a small library file with some replaced, or left out where None."""
    save_points(small(), path)
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(path, **{name: value for name, value in (arrays | values).items() if value is not None})
    return path


@pytest.mark.parametrize("values, message", [
    ({"codes": None, "x": None}, "no array x, codes"),
    ({"x": np.ones(35, "int8")}, r"expected 36 points of 3 showers, received \(35,\)"),
    ({"counts": np.array([5, 1, 31], "uint16")}, "expected 37 points of 3 showers"),
    ({"deposited": np.ones(2)}, r"\(2,\) sums"),
    ({"deposited": np.full(3, np.nan, "float32")}, "NaN"),
    ({"energy": np.full(3, -1.0, "float32")}, "positive energies"),
    ({"pdg": np.full(3, 9999999)}, "Unknown PDG"),
    ({"metadata": np.array("{}")}, "names the detector"),
    ({"metadata": np.array("not json")}, "metadata in JSON"),
    ({"metadata": np.array([{"detector": "ecal"}], dtype=object)}, "allow_pickle"),
])
def test_bad_files_are_refused(tmp_path, values, message):
    with pytest.raises(ValueError, match=message):
        load_points(rewritten(tmp_path / "a.npz", **values))


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_truncated_file_is_refused(tmp_path, keep):
    path = tmp_path / "a.npz"
    save_points(small(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ValueError, match=r"a.npz.*truncated"):
        load_points(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.npz"):
        load_points(tmp_path / "nowhere.npz")


def test_packaged_electrons():
    """Electrons over the energies of the gun, most of them with a sixth of it seen, inside the block."""
    library = packaged_points("ECAL")
    assert set(library.pdg.tolist()) == {11} and "Geant4" in library.metadata["source"]
    assert library.energy.min() < 1.5 and library.energy.max() > 100
    seen = library.deposited / library.energy
    assert 150 < np.median(seen) < 200 and seen.max() < 400
    x, y, z, _ = library.points.T
    assert z.min() >= 0 and z.max() <= 39.6 + DEPTH / 510 and max(abs(x).max(), abs(y).max()) <= REACH


def test_unshipped_detector():
    with pytest.raises(ValueError, match=r"No library of points is shipped for 'zn'; tools/geant4_points.py"):
        packaged_points("zn")


def raw(path, showers, slope=0.0, detector="ecal", **changes):
    """A raw file as tools/geant4_points.py writes it; points in mm."""
    arrays = {"points": np.concatenate(showers).astype("float32"), "counts": np.array([len(s) for s in showers]),
              "primaries": np.array([[11.0, 2.0 + k] for k in range(len(showers))]),
              "settings": np.array(json.dumps({"detector": detector, "slope": slope}))}
    np.savez(path, **arrays | changes)
    return path


def test_raw_files_are_in_millimetres_and_merged(tmp_path):
    shower = cloud(500) * (10, 10, 10, 1)
    library = read_points(raw(tmp_path / "a.npz", [shower, shower[:40]]), "ecal", {"source": "here"})
    assert library.energy.tolist() == [2.0, 3.0] and library.metadata == {"source": "here"}
    np.testing.assert_allclose(library.points[:library.counts[0]],
                               merge_points(shower.astype("float32").astype("float64") * (0.1, 0.1, 0.1, 1)),
                               rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(library.deposited, [shower[:, 3].sum(), shower[:40, 3].sum()], rtol=1e-5)


def test_far_and_faint_points_and_dark_showers_are_dropped(tmp_path):
    good = [1.0, 2.0, 30.0, 5.0]
    showers = [np.array(rows) for rows in (
        [good, [10 * REACH, 0.0, 30.0, 7.0], [0.0, -10 * REACH, 30.0, 7.0], [0.0, 50.0, 9.0, FAINTEST_POINT / 2]],
        [[0.0, 0.0, 1.0, FAINTEST_POINT / 2]], [good])]
    library = read_points(raw(tmp_path / "a.npz", showers), "ecal")
    assert library.energy.tolist() == [2.0, 4.0] and library.counts.tolist() == [1, 1]
    np.testing.assert_allclose(library.points, [[0.1, 0.2, 3.0, 5.0]] * 2)


@pytest.mark.parametrize("changes, message", [
    ({"slope": 0.25}, r"a.npz: expected showers at a right angle, received .*slope 0\.25"),
    ({"detector": "focalh"}, "a.npz: expected showers of ecal, received focalh"),
    ({"counts": np.array([3])}, r"a.npz: expected .* received \(2, 4\) points"),
    ({"primaries": np.array([[11.0, 2.0]] * 2)}, "a.npz: expected"),
    ({"settings": np.array("no")}, "a.npz: expected settings in JSON"),
])
def test_raw_files_that_make_no_library(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        read_points(raw(tmp_path / "a.npz", [np.ones((2, 4))], **changes), "ecal")


def test_raw_file_with_nothing_in_it(tmp_path):
    with pytest.raises(ValueError, match="a.npz: none of 1 showers left a point"):
        read_points(raw(tmp_path / "a.npz", [np.array([[0.0, 0.0, 1.0, 0.0]])]), "ecal")
    with pytest.raises(ValueError, match="no array points"):
        np.savez(tmp_path / "b.npz", counts=np.ones(1))
        read_points(tmp_path / "b.npz", "ecal")


@pytest.mark.parametrize("name", ["ecal", "focalh"])
def test_halves_have_every_shower_once(name):
    library = packaged_points(name)
    halves = library.halves()
    assert sum(map(len, halves)) == len(library) and abs(len(halves[0]) - len(halves[1])) <= 1
    energies = np.concatenate([half.energy for half in halves])
    np.testing.assert_array_equal(np.sort(energies), np.sort(library.energy))
    deposited = np.concatenate([half.deposited for half in halves])
    np.testing.assert_allclose(deposited[np.argsort(energies)], library.deposited[np.argsort(library.energy)])
    with pytest.raises(ValueError, match="Expected at least one shower to select, received none"):
        library.select(np.array([], "int64"))
    test = load(name, "test", size=20)
    first, second = (resimulate(test, 1, {name: half}).response for half in half_libraries(name))
    assert not np.array_equal(first, second) and 0.5 < first.sum() / test.response.sum() < 2.0
    with pytest.raises(ValueError, match=f"Expected PointShowers for {name}, received FrozenShowers"):
        resimulate(test, 1, {name: FrozenShowers("zn")})

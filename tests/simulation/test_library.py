import json
from importlib.resources import files

import numpy as np
import pytest

from zdckeras.simulation.library import (
    FAINTEST_CELL,
    LN_LIGHT_STEP,
    ShowerLibrary,
    load_library,
    merge,
    packaged_library,
    read_geant4,
    save_library,
)


def small(count=3, seed=0):
    """A few random showers in a ZN library block."""
    rng = np.random.default_rng(seed)
    primaries = np.column_stack([rng.choice([22, 2112], count), rng.uniform(20, 2000, count),
                                 rng.uniform(-1.6, 1.6, (count, 2)), rng.normal(0, 2e-4, (count, 2))])
    light = rng.exponential(1.0, (count, 88, 88)) * (rng.random((count, 88, 88)) < 0.05)
    return ShowerLibrary("zn", primaries, light, {"source": "test"})


@pytest.mark.parametrize("name, block, kinds", [
    ("zn", (88, 88), {22, 2112, 2212, 130, 211, -211}),
    ("zp", (112, 60), {22, 2112, 2212, 211, -211}),
])
def test_packaged_library_covers_kinds_and_energies(name, block, kinds):
    library = packaged_library(name)
    assert library.light.shape[1:] == block
    assert set(library.pdg.tolist()) == kinds
    assert 20 <= library.energy.min() < 25 and 3300 < library.energy.max() <= 3400
    pitch = {"zn": 0.16, "zp": 0.4}[name]
    assert np.abs(library.impact).max() <= pitch * (1 + 1e-6)
    assert "Geant4" in library.metadata["source"] and "arbitrary" in library.metadata["source"]


def test_packaged_files_are_small():
    sizes = [(files("zdckeras.simulation") / "data" / f"showers_{name}.npz").stat().st_size for name in ("zn", "zp")]
    assert sum(sizes) < 4e6


def test_file_keeps_sums_and_cells(tmp_path):
    library = small(5)
    save_library(library, tmp_path / "a.npz")
    back = load_library(tmp_path / "a.npz")
    np.testing.assert_allclose(back.light.sum(axis=(1, 2)), library.light.sum(axis=(1, 2)), rtol=1e-5)
    bright = library.light > 2 * FAINTEST_CELL
    np.testing.assert_allclose(back.light[bright], library.light[bright], rtol=LN_LIGHT_STEP / 2 + 0.002)
    assert not back.light[library.light < FAINTEST_CELL].any()
    np.testing.assert_allclose(back.primaries, library.primaries, rtol=1e-6)
    assert back.metadata == {"source": "test", "detector": "zn"}


def test_bright_cells_widen_the_step(tmp_path):
    library = small(1)
    bright = library.light.copy()
    bright[0, 40, 40] = 30_000.0
    save_library(ShowerLibrary("zn", library.primaries, bright, {}), tmp_path / "a.npz")
    assert load_library(tmp_path / "a.npz").light.max() == pytest.approx(30_000.0, rel=0.05)


def test_dark_shower_survives(tmp_path):
    library = small(2)
    light = library.light.copy()
    light[0] = 0
    save_library(ShowerLibrary("zn", library.primaries, light, {}), tmp_path / "a.npz")
    assert load_library(tmp_path / "a.npz").light.sum(axis=(1, 2))[0] == 0


def test_a_shower_of_faint_cells_keeps_its_sum(tmp_path):
    """In its brightest cells; showers beside it are as they were."""
    library = small(3)
    light = library.light.copy()
    light[0] = 0.0045
    light[1] = 0.0
    light[1, 10:12, 7], light[1, 3, 3] = 1e-3, 5e-4
    save_library(ShowerLibrary("zn", library.primaries, light, {}), tmp_path / "a.npz")
    found = load_library(tmp_path / "a.npz").light
    np.testing.assert_allclose(found.sum(axis=(1, 2)), light.sum(axis=(1, 2), dtype="float64"), rtol=1e-4)
    assert found[1, 10:12, 7].sum() == pytest.approx(2.5e-3) and np.count_nonzero(found[1]) == 2
    assert np.count_nonzero(found[2]) == (light[2] >= 0.005).sum()


def test_packing_again_changes_nothing(tmp_path):
    save_library(small(), tmp_path / "a.npz")
    once = load_library(tmp_path / "a.npz")
    save_library(once, tmp_path / "b.npz")
    np.testing.assert_allclose(load_library(tmp_path / "b.npz").light, once.light, rtol=1e-4)


def test_merge_is_a_set():
    library = small(6)
    parts = [library.select([0, 2, 4]), library.select([1, 3, 5, 0])]
    forward, backward = merge(parts), merge(parts[::-1])
    assert len(forward) == 6
    np.testing.assert_array_equal(forward.primaries, backward.primaries)
    np.testing.assert_array_equal(forward.light, backward.light)
    assert sorted(forward.energy) == sorted(library.energy)


@pytest.mark.parametrize("other", [
    ShowerLibrary("zn", small(1).primaries, np.ones((1, 44, 44)), {}),
    ShowerLibrary("zp", small(1).primaries, np.ones((1, 112, 60)), {}),
])
def test_merge_refuses_other_blocks(other):
    with pytest.raises(ValueError, match="one detector and block"):
        merge([small(), other])


def changed(**values):
    """Arguments of a library with something wrong."""
    library = small(2)
    arguments = {"detector": "zn", "primaries": library.primaries.copy(), "light": library.light.copy()}
    for name, (index, value) in values.items():
        arguments[name][index] = value
    return arguments


@pytest.mark.parametrize("arguments, message", [
    (changed(light=((0, 1, 1), np.nan)), "non-negative light"),
    (changed(light=((0, 1, 1), -1.0)), "non-negative light"),
    (changed(primaries=((0, 1), np.nan)), "finite primaries"),
    (changed(primaries=((0, 1), 0.0)), "positive energies"),
    (changed(primaries=((0, 0), 999999)), "Unknown PDG"),
    (changed(primaries=((0, 2), 80.0)), "within .* mm"),
    ({**changed(), "primaries": np.zeros((2, 5))}, r"shape \(2, 6\)"),
    ({**changed(), "light": np.ones((2, 43, 88))}, "at least the"),
    ({**changed(), "light": np.ones((2, 45, 88))}, "even number"),
    ({**changed(), "light": np.ones((0, 88, 88))}, "N > 0"),
    ({**changed(), "detector": "zx"}, "Unknown detector"),
])
def test_impossible_values_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ShowerLibrary(**arguments, metadata={})


def rewritten(path, **values):
    """The arrays of a small library file with some replaced, or left out where None."""
    save_library(small(), path)
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays.update(values)
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


@pytest.mark.parametrize("values, message", [
    ({"codes": None}, "no array codes"),
    ({"total": np.full(3, np.nan)}, "finite non-negative sums"),
    ({"total": np.ones(2)}, "3 finite non-negative sums"),
    ({"codes": np.ones((3, 88, 88), "int64")}, "uint8"),
    ({"metadata": np.array("{}")}, "names the detector"),
    ({"metadata": np.array("not json")}, "JSON"),
    ({"metadata": np.array([{"detector": "zn"}], dtype=object)}, "allow_pickle"),
])
def test_bad_files_are_refused(tmp_path, values, message):
    with pytest.raises(ValueError, match=message):
        load_library(rewritten(tmp_path / "a.npz", **values))


@pytest.mark.parametrize("keep", [0, 30, 0.5, 0.99])
def test_truncated_file_is_refused(tmp_path, keep):
    path = tmp_path / "a.npz"
    save_library(small(), path)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    with pytest.raises(ValueError, match="truncated"):
        load_library(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.npz"):
        load_library(tmp_path / "nowhere.npz")


def test_unshipped_detector_names_the_shipped_ones():
    with pytest.raises(ValueError, match="zn, zp"):
        packaged_library("ecal")


def test_raw_geant4_files(tmp_path):
    library = small()
    np.savez(tmp_path / "raw.npz", expected=library.light.astype("float16"), primaries=library.primaries,
             settings=np.array(json.dumps({})))
    raw = read_geant4(tmp_path / "raw.npz", "zn", {"source": "here"})
    np.testing.assert_allclose(raw.light, library.light, rtol=1e-3, atol=1e-6)
    assert raw.metadata == {"source": "here"}
    save_library(library, tmp_path / "packed.npz")
    with pytest.raises(ValueError, match="no array expected"):
        read_geant4(tmp_path / "packed.npz", "zn")

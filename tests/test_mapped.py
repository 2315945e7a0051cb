import errno
import os
import re
import resource

import numpy as np
import pytest

from zdckeras import mapped
from zdckeras.data.detectors import channel_sums
from zdckeras.data.files import open_showers, write_npz, write_root
from zdckeras.data.particles import conditions_of
from zdckeras.data.showers import Showers
from zdckeras.mapped import kept, on_disk, open_array, release, scratch, selected


@pytest.fixture
def small(monkeypatch):
    """Arrays are large from 1000 bytes on, and copied 7 rows at a time."""
    monkeypatch.setattr(mapped, "LARGE", 1000)
    monkeypatch.setattr(mapped, "ROWS", 7)
    monkeypatch.setattr(mapped, "SCATTERED", 3)
    monkeypatch.setattr(mapped, "COPIED", 333)


@pytest.fixture
def values():
    return np.random.default_rng(0).integers(0, 60000, (40, 5, 4)).astype("uint16")


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_large_arrays_of_archives_are_read_from_disk(small, values, tmp_path, write, order):
    write(tmp_path / "a.npz", other=np.ones(3), arr_0=np.asarray(values, order=order))
    found = open_array(tmp_path / "a.npz", "arr_0")
    assert on_disk(found) and found.dtype == values.dtype and np.array_equal(found, values)
    assert not on_disk(open_array(tmp_path / "a.npz", "other"))
    with pytest.raises(KeyError, match="no item named 'third.npy'"):
        open_array(tmp_path / "a.npz", "third")


def test_npy_files_are_mapped(values, tmp_path):
    np.save(tmp_path / "a.npy", values)
    found = open_array(tmp_path / "a.npy")
    assert on_disk(found) and np.array_equal(found, values) and not found.flags.writeable


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_python_objects_are_never_read(small, tmp_path, write):
    write(tmp_path / "a.npz", arr_0=np.full(200, {"a": 1}, object))
    with pytest.raises(ValueError, match=r"Object arrays (are not read|cannot be loaded)"):
        open_array(tmp_path / "a.npz", "arr_0")
    np.save(tmp_path / "a.npy", np.full(200, {"a": 1}, object))
    with pytest.raises(ValueError, match="Object arrays are not read"):
        open_array(tmp_path / "a.npy")


def test_files_that_are_cut_short(small, values, tmp_path):
    np.save(tmp_path / "a.npy", values)
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'a.npy'}: cut short")):
        open_array(tmp_path / "a.npy")
    np.savez_compressed(tmp_path / "b.npz", arr_0=values)
    (tmp_path / "b.npz").write_bytes((tmp_path / "b.npz").read_bytes()[:-100])
    with pytest.raises(Exception, match="not a zip file"):
        open_array(tmp_path / "b.npz", "arr_0")


def test_selections_of_what_is_on_disk_stay_there(small, values):
    whole = kept((values[start : start + 9] for start in range(0, 40, 9)), values.shape, values.dtype)
    assert on_disk(whole) and np.array_equal(whole, values)
    mask, rows = np.arange(40) % 7 != 0, np.random.default_rng(1).permutation(40)
    for chosen in (mask, rows):
        some = selected(whole, chosen)
        assert on_disk(some) and np.array_equal(some, values[chosen])
    assert np.array_equal(selected(whole, slice(3, 9)), values[3:9])
    assert not on_disk(selected(whole, rows[:3])) and np.array_equal(selected(whole, rows[:3]), values[rows[:3]])
    assert not on_disk(selected(values, mask)) and np.array_equal(selected(values, mask), values[mask])


def test_what_is_let_go_is_still_there(values):
    whole = scratch(values.shape, values.dtype)
    whole[:] = values
    release(whole.reshape(-1))
    assert np.array_equal(whole, values)
    release(values)
    assert on_disk(np.asarray(whole)) and not on_disk(values.view()) and not on_disk(None)


def test_room_for_an_array_is_taken_at_once(tmp_path, monkeypatch):
    """On a full disk, filling the array later would end the process without a word."""
    room, reserve = [], os.posix_fallocate
    monkeypatch.setattr(os, "posix_fallocate", lambda file, *place: room.append(place) or reserve(file, *place))
    assert scratch((1000, 1000), "uint16").nbytes == 2_000_000 and room == [(0, 2_000_000)]

    def full(*place):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=f"no room for 2 MB of temporary files in {re.escape(str(tmp_path))}"):
        scratch((1000, 1000), "uint16", tmp_path)


@pytest.fixture
def showers():
    rng = np.random.default_rng(2)
    pdg = rng.choice([22, 2112], 60)
    particles = conditions_of(pdg, np.column_stack([rng.normal(size=(60, 2)), rng.uniform(50, 2000, 60)]))
    return Showers(particles, pdg, {"zn": rng.poisson(0.02, (60, 44, 44)).astype("uint16")})


@pytest.mark.parametrize("kind", ["npz", "root"])
def test_showers_larger_than_memory(showers, tmp_path, monkeypatch, kind):
    """Read, cut, split and summed as those in memory, but the responses never leave the disk."""
    path = write_npz(showers, tmp_path / "a") if kind == "npz" else write_root(showers, tmp_path / "a.root")
    expected = open_showers(path).at_least(30).split()
    monkeypatch.setattr(mapped, "LARGE", 10_000)
    found = open_showers(path)
    assert on_disk(found.response) and np.array_equal(found.response, showers.response)
    for one, other in zip(found.at_least(30).split(), expected, strict=True):
        assert on_disk(one.response) and np.array_equal(one.response, other.response)
        assert np.array_equal(one.particles, other.particles)
        assert np.array_equal(channel_sums(one.response), channel_sums(other.response))


def test_reading_holds_no_copy_in_memory(tmp_path, monkeypatch):
    """A compressed array of 80 MB, of which no more than the pieces that are copied is in memory at once."""
    np.savez_compressed(tmp_path / "a.npz", arr_0=np.zeros((10_000, 4000), "uint16"))
    monkeypatch.setattr(mapped, "LARGE", 10**6)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = open_array(tmp_path / "a.npz", "arr_0")
    assert found.shape == (10_000, 4000) and on_disk(found)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # kB

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zdckeras.data import atomic
from zdckeras.data.atomic import atomic_folder, atomic_path, atomic_set


def test_old_file_stays_until_the_block_ends(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".txt")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_written_as_utf_8_and_an_old_one_stays_where_it_cannot_be(tmp_path):
    path = tmp_path / "new" / "a.txt"
    atomic.write_text(path, "Λ\n")
    assert path.read_bytes() == "Λ\n".encode()
    with pytest.raises(UnicodeEncodeError):
        atomic.write_text(path, "\ud800")
    assert path.read_bytes() == "Λ\n".encode() and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_path(path) as first, atomic_path(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"


def test_nothing_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed_and_nothing_else(tmp_path):
    code = ("import os, sys\nfrom zdckeras.data.atomic import atomic_path\n"
            "with atomic_path(sys.argv[1]) as file:\n    file.write_text('half')\n    os.kill(os.getpid(), 9)")
    for name in ("VAE.npz", "VAE-x.npz"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=False)
    left = {path.name for path in tmp_path.iterdir()}
    assert len(left) == 2
    with atomic_path(tmp_path / "VAE.npz") as running:
        running.write_text("mine")
        old = tmp_path / ".VAE-0123456789ab.npz"
        old.write_text("of an earlier version, a minute ago")
        with atomic_path(tmp_path / "VAE.npz") as second:
            second.write_text("whole")
        found = {path.name for path in tmp_path.iterdir()}
        assert found == {"VAE.npz", running.name, old.name, *(name for name in left if "VAE-x" in name)}
        os.utime(old, (1e9, 1e9))
        atomic.remove_leftovers(tmp_path / "VAE.npz")
        assert not old.exists() and running.read_text() == "mine"


def test_processes_of_containers_with_one_name_are_not_each_others(monkeypatch):
    """Their numbers mean nothing to one another; where there is nothing to read, the name has to do."""
    assert atomic._host() == atomic.HOST
    monkeypatch.setattr("os.readlink", lambda path: "pid:[1]")
    first = atomic._host()
    monkeypatch.setattr("os.readlink", lambda path: "pid:[2]")
    assert len({first, atomic._host(), atomic.HOST}) == 3

    def missing(*_):
        raise FileNotFoundError

    monkeypatch.setattr("os.readlink", missing)
    monkeypatch.setattr(Path, "read_text", missing)
    assert len(atomic._host()) == 6


def stop_at(monkeypatch, call, error):
    """`Path.rename` fails at its n-th call."""
    rename, calls = Path.rename, []

    def failing(self, target):
        calls.append(target)
        if len(calls) == call:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)


def write_three(folder, text):
    with atomic_set([folder / name for name in "abc"]) as temporary:
        for name in "abc":
            temporary[folder / name].write_text(text)


@pytest.mark.parametrize("call", range(1, 7))
def test_set_is_old_after_an_error_wherever_it_comes(tmp_path, monkeypatch, call):
    write_three(tmp_path, "old")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk"):
        stop_at(patch, call, OSError("disk"))
        write_three(tmp_path, "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys("abc", "old")
    write_three(tmp_path, "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys("abc", "new")


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_set_that_could_not_be_written_at_first_leaves_nothing(tmp_path, monkeypatch, call):
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk"):
        stop_at(patch, call, OSError("disk"))
        write_three(tmp_path, "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", range(1, 8))
def test_killed_set_is_old_or_new_or_lacks_its_first_file(tmp_path, call):
    """Never first files of one beside others of another writing."""
    write_three(tmp_path, "old")
    code = ("import os, sys\nfrom pathlib import Path\nfrom zdckeras.data.atomic import atomic_set\n"
            "folder, call, rename, calls = Path(sys.argv[1]), int(sys.argv[2]), Path.rename, []\n"
            "def killing(self, target):\n    calls.append(target)\n"
            "    if len(calls) == call: os._exit(9)\n    return rename(self, target)\n"
            "Path.rename = killing\n"
            "with atomic_set([folder / name for name in 'abc']) as temporary:\n"
            "    for name in 'abc': temporary[folder / name].write_text('new')")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(call)], check=False)
    found = {name: (tmp_path / name).read_text() for name in "abc" if (tmp_path / name).exists()}
    assert done.returncode == (9 if call < 7 else 0)
    assert found in (dict.fromkeys("abc", "old"), dict.fromkeys("abc", "new")) or "a" not in found


@pytest.mark.parametrize("before", [True, False])
def test_a_link_to_a_folder_stays_one(tmp_path, before):
    """Also one to a folder that is not there yet: what is written is where its whole path says."""
    if before:
        (tmp_path / "v1").mkdir()
    (tmp_path / "current").symlink_to(tmp_path / "v1")
    with atomic_folder(tmp_path / "current") as temporary:
        temporary.mkdir()
        (temporary / "a").write_text(str((tmp_path / "current").resolve()))
    assert (tmp_path / "v1" / "a").read_text() == str(tmp_path / "v1") and (tmp_path / "current").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "v1"]


@pytest.mark.parametrize("exchange", [True, False])
def test_folder_changes_places(tmp_path, monkeypatch, exchange):
    if not exchange:  # as on systems that cannot
        monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    for text in ("old", "new"):
        with atomic_folder(tmp_path / "1") as temporary:
            temporary.mkdir()
            (temporary / "a").write_text(text)
        assert (tmp_path / "1" / "a").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    for call in (1, 2) if not exchange else ():
        with monkeypatch.context() as patch, pytest.raises(OSError, match="disk"):
            stop_at(patch, call, OSError("disk"))
            with atomic_folder(tmp_path / "1") as temporary:
                temporary.mkdir()
        assert (tmp_path / "1" / "a").read_text() == "new" and len(list(tmp_path.iterdir())) == 1

"""Files and folders that appear whole or not at all."""

import ctypes
import os
import platform
import re
import secrets
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path


def _host():
    """Where a process number means a process: the machine by its name, and on Linux which start and container of it."""
    parts = [platform.node()]
    for read in (lambda: Path("/proc/sys/kernel/random/boot_id").read_text(), lambda: os.readlink("/proc/self/ns/pid")):
        try:
            parts.append(read())
        except OSError:
            continue
    return sha256("".join(parts).encode()).hexdigest()[:6]


HOST = _host()
FORGOTTEN = 86_400.0  # seconds after which a temporary file of another machine is taken for one of a dead run
# names that `_beside` gives, also as earlier versions did
TEMPORARY = re.compile(r"\.(?P<stem>.+?)-(?:(?P<host>[0-9a-f]{6})-(?P<process>\d+)-)?[0-9a-f]{12}"
                       r"(?P<suffix>(?:\.[^.]*)?)", re.DOTALL)
AT_CWD, EXCHANGE = -100, 2  # of Linux's renameat2


def check_place(path: str | Path) -> None:
    """See, before long work, whether something can be written to a path: its nearest folder is tried for a moment.

    Raises:
        ValueError: if not, with the path and the reason: it is wrong input, found before anything has been made.
    """
    found = next(place for place in Path(path).absolute().parents if place.exists())
    try:
        with tempfile.TemporaryDirectory(dir=found):
            pass
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}.") from None


@contextmanager
def atomic_path(path: str | Path, clean: bool = True) -> Iterator[Path]:
    """A temporary name in the folder of `path` that becomes `path` when the block ends without an error.

    The writer gets a name with the same suffix. After the block the file is flushed to disk and renamed over
    `path` in one step; after an error it is deleted, and whatever was at `path` before is untouched. What a killed
    run has left for the same `path` is removed.

    Arguments:
        path: the file to write; missing folders are made.
        clean: whether to look for what a killed run has left, for which the names of the whole folder are read.

    Returns:
        Context manager that gives the temporary `pathlib.Path`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_path(Path(folder) / "a.txt") as temporary:
        ...         _ = temporary.write_text("whole")
        ...     (Path(folder) / "a.txt").read_text()
        'whole'
    """
    path = Path(path)
    temporary = _begun(path, clean)
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str, clean: bool = True) -> None:
    """A text file, in UTF-8, whole or not at all: see `atomic_path`."""
    with atomic_path(path, clean) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def atomic_set(paths: Sequence[str | Path], removed: Sequence[str | Path] = ()) -> Iterator[dict[Path, Path]]:
    """As `atomic_path` for several files that belong together.

    When the block ends, old files are moved away, beginning with the first path, and new ones take their places, ending
    with the first path; after an error the old ones are put back. A run that is killed meanwhile leaves no first file.

    Arguments:
        paths: the files to write, at least one.
        removed: existing files that are not to be there afterwards.

    Returns:
        Context manager that gives a dictionary from paths to temporary ones.
    """
    paths = [Path(path) for path in paths]
    temporary, moved, placed = {path: _begun(path) for path in paths}, {}, []
    try:
        yield temporary
        for name in temporary.values():
            with open(name, "rb+") as written:
                os.fsync(written.fileno())
        try:
            for path in [*paths, *map(Path, removed)]:
                if path.exists():
                    old = _beside(path)
                    path.rename(old)
                    moved[path] = old
            for path in reversed(paths):
                temporary[path].rename(path)
                placed.append(path)
        except BaseException:
            for path in placed:
                path.unlink(missing_ok=True)
            for path, old in reversed(moved.items()):
                old.rename(path)
            raise
        for old in moved.values():
            old.unlink(missing_ok=True)
    finally:
        for name in temporary.values():
            name.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """As `atomic_path` for a folder: an old one at `path` changes places with the new one in one step.

    Where the system cannot do that (Linux can), the old one is moved away first, and back if that is as far as it gets.

    Arguments:
        path: the folder to write; missing parents are made. Of a link, what it points to is written.

    Returns:
        Context manager that gives the temporary `pathlib.Path`, at which nothing is yet.
    """
    path = Path(path).resolve()
    temporary = _begun(path)
    try:
        yield temporary
        if not path.exists():
            temporary.rename(path)
        elif not _exchange(temporary, path):
            old = _beside(path)
            path.rename(old)
            try:
                temporary.rename(path)
            except BaseException:
                old.rename(path)
                raise
            shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(path: str | Path) -> None:
    """Remove what killed runs left of `path`: of processes that are gone, or untouched for a day."""
    path = Path(path)
    remove_leftovers_in(path.parent, re.compile(re.escape(path.name)))


def remove_leftovers_in(folder: str | Path, names: re.Pattern) -> None:
    """`remove_leftovers` of all files of a folder whose whole name a pattern matches, whether they are there or not."""
    with os.scandir(folder) as entries:
        hidden = [entry.name for entry in entries if entry.name.startswith(".")]
    for name in hidden:
        found, other = TEMPORARY.fullmatch(name), Path(folder, name)
        if not found or not names.fullmatch(found["stem"] + found["suffix"]):
            continue
        try:
            dead = found["host"] == HOST and not _alive(int(found["process"]))
            if dead or time.time() - other.stat().st_mtime > FORGOTTEN:
                shutil.rmtree(other) if other.is_dir() else other.unlink()
        except OSError:  # somebody else removed it, or it is not ours
            continue


@contextmanager
def alone_in(folder: str | Path) -> Iterator[None]:
    """A folder, made if missing, that no other process is in while it lasts; left empty, one that was made is removed.

    The lock ends with the process, however that ends. Where the system or the disk has none, everybody is let in.

    Raises:
        RuntimeError: if another process is in it.
    """
    folder = Path(folder)
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(folder):
            yield
    finally:
        if new:
            with suppress(OSError):  # something is in it
                folder.rmdir()


@contextmanager
def _locked(folder):
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"Another process works in {folder}: wait for it, or choose another folder.") from None
        except OSError:
            pass  # a disk without locks
        yield
    finally:
        os.close(handle)


def is_npz(path: str | Path) -> bool:
    """Whether a file begins and ends like an npz archive; NumPy takes anything else for a pickle."""
    with open(path, "rb") as file:
        return file.read(2) == b"PK" and zipfile.is_zipfile(path)


@contextmanager
def open_npz(path: str | Path) -> Iterator:
    """The arrays of an npz file, none of them pickled; closed also where it is damaged, which NumPy leaves open."""
    import numpy as np  # not needed by what only writes files

    with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        yield arrays


def _begun(path, clean=True):
    """A temporary name for what is to be at a path, in a folder that exists and, if asked for, has nothing of killed
    runs for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if clean:
        remove_leftovers(path)
    return _beside(path)


def _beside(path):
    """A temporary name in the same folder that says who writes it."""
    return path.with_name(f".{path.stem}-{HOST}-{os.getpid()}-{secrets.token_hex(6)}{path.suffix}")


def _alive(process):
    """Whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _exchange(one, other):
    """Two names change places in one step; False where the system cannot do that."""
    try:
        swap = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return swap(AT_CWD, os.fsencode(one), AT_CWD, os.fsencode(other), EXCHANGE) == 0

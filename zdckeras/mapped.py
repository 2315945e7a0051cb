"""Arrays larger than memory: read from where they are on disk, and selected into temporary files."""

import errno
import mmap
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

LARGE = 2**28  # bytes from which on an array is kept on disk
ROWS = 4096  # handled at once wherever a copy of them is made, wider ones too
SCATTERED = 256  # the same where each may bring a large piece of the file along
COPIED = 2**22  # bytes copied at once out of an archive


def on_disk(values: np.ndarray) -> bool:
    """Whether an array, or the one that it is a view of, is mapped from a file."""
    while isinstance(values, np.ndarray) and not isinstance(values, np.memmap):
        values = values.base
    return isinstance(values, (np.memmap, mmap.mmap))


def scratch(shape: tuple[int, ...], dtype: np.dtype | str, folder: str | Path | None = None) -> np.memmap:
    """A writable array in a file that has no name, and is gone with the array; 0 everywhere.

    Arguments:
        shape, dtype: of the array.
        folder: where there is room; that for temporary files by default.

    Raises:
        OSError: if there is no room; found now, for a disk that is full when the array is filled ends the process.

    Example:
        >>> values = scratch((2, 3), "uint16")
        >>> on_disk(values), on_disk(values[1:].reshape(-1)), int(values.sum())
        (True, True, 0)
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        _reserve(file, np.dtype(dtype).itemsize * int(np.prod(shape)), folder)
        return np.memmap(file, np.dtype(dtype), "w+", shape=shape)


def _reserve(file, size, folder):
    """Take the room of a file on its disk, where the system can do that."""
    if not size or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return
        raise OSError(error.errno, f"no room for {size / 1e6:,.0f} MB of temporary files in "
                                   f"{folder or tempfile.gettempdir()} (TMPDIR names another folder)") from None


def kept(blocks: Iterable[np.ndarray], shape: tuple[int, ...], dtype: np.dtype | str,
         folder: str | Path | None = None) -> np.ndarray:
    """Rows that come in blocks as one array: in memory, or on disk if it is large.

    Arguments:
        blocks: (b, ...) arrays of shape[0] rows in all.
        shape, dtype: of the whole.
        folder: as in `scratch`.
    """
    large = np.dtype(dtype).itemsize * int(np.prod(shape)) >= LARGE
    whole, start = scratch(shape, dtype, folder) if large else np.empty(shape, dtype), 0
    for block in blocks:
        whole[start : start + len(block)] = block
        start += len(block)
        release(whole)
    return whole


def selected(values: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
    """Rows of an array; a large selection of one on disk goes to disk, too.

    Arguments:
        values: (N, ...).
        rows: slice, boolean mask or integers.

    Example:
        >>> selected(np.arange(5), np.array([True, False, True, False, True])).tolist()
        [0, 2, 4]
    """
    if isinstance(rows, slice) or not on_disk(values):
        return values[rows]
    rows = np.arange(len(values))[rows]

    def blocks():
        for start in range(0, len(rows), SCATTERED):
            yield values[rows[start : start + SCATTERED]]
            release(values)

    return kept(blocks(), (len(rows), *values.shape[1:]), values.dtype)


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of one type one after the other; on disk if they are large together."""
    if len(parts) == 1:
        return parts[0]
    blocks = (block for part in parts for _, block in in_blocks(part))
    return kept(blocks, (sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)


def in_blocks(values: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows of an array block by block, as (slice, rows); what was read from disk is let go again."""
    for start in range(0, len(values), ROWS):
        rows = slice(start, start + ROWS)
        yield rows, values[rows]
        release(values)


def release(values: np.ndarray) -> None:
    """Let go of the memory that holds what was read of or written to an array on disk; it can be read again."""
    while isinstance(values, np.ndarray):
        values = values.base
    if isinstance(values, mmap.mmap) and hasattr(values, "madvise"):
        values.madvise(mmap.MADV_DONTNEED)


def open_array(path: str | Path, key: str | None = None) -> np.ndarray:
    """The array of an .npy file, or a member of an .npz archive, never a pickled one: large ones stay on disk.

    One that is not compressed is read where it is; a compressed one is unpacked into a temporary file, piece by piece.

    Arguments:
        path: the file.
        key: name of the member; none for .npy.

    Returns:
        Array, read-only if it is mapped from the file.

    Raises:
        ValueError: for Python objects, or what NumPy cannot read.
        KeyError: if there is no such member.
    """
    path = Path(path)
    if key is None:
        with open(path, "rb") as file:
            return _mapped(path, file, 0, path.stat().st_size)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{key}.npy")
        if info.file_size < LARGE:
            with archive.open(info) as member:
                return np.lib.format.read_array(member, allow_pickle=False)
        if info.compress_type == zipfile.ZIP_STORED:
            with archive.open(info) as member, open(path, "rb") as file:
                return _mapped(path, member, _start(file, info), info.file_size)
        with archive.open(info) as member:
            shape, fortran, dtype = _header(member)
            whole = scratch((int(np.prod(shape)),), dtype)
            raw, start = whole.view("uint8"), 0
            while piece := member.read(COPIED):
                if start + len(piece) > raw.size:
                    raise ValueError(f"{path}: {key} has more numbers than its header says.")
                raw[start : start + len(piece)] = np.frombuffer(piece, "uint8")
                start += len(piece)
                release(whole)
            if start != raw.size:
                raise ValueError(f"{path}: {key} is cut short.")
            return whole.reshape(shape, order="F" if fortran else "C")


def _header(file):
    """Shape, order and type at the beginning of an .npy stream; ValueError for Python objects."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("Object arrays are not read: that could run code.")
    return shape, fortran, dtype


def _start(file, info):
    """Where the content of a member that is not compressed begins in the archive."""
    file.seek(info.header_offset + 26)  # lengths of name and extra field in the local header
    lengths = np.frombuffer(file.read(4), "<u2")
    return info.header_offset + 30 + int(lengths.sum())


def _mapped(path, stream, start, size):
    """The array whose .npy bytes begin at `start` of a file; `stream` reads them."""
    shape, fortran, dtype = _header(stream)
    offset, order = start + stream.tell(), "F" if fortran else "C"
    if offset - start + dtype.itemsize * int(np.prod(shape)) > size or os.path.getsize(path) < start + size:
        raise ValueError(f"{path}: cut short.")
    if not int(np.prod(shape)):
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", offset, shape, order)

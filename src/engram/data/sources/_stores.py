"""Where examples rest until they are read: files, encoded images in a row, arrays.

Each is light and picklable, because worker processes get a copy: a million file names are one string and one array of
offsets, and what lies in a file is read from the file by whoever needs it.
"""

import os
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engram.data.examples import Examples, Unreadable
from engram.data.images import decode, read_image
from engram.data.sources._layouts import Layout

CHUNK = 1 << 24
"""Bytes of a stored array that are looked at together."""


class Names:
    """Many strings as one: 200,000 paths take their own bytes and 8 more each.

    >>> names = Names(["cats/1.jpg", "dogs/2.jpg"])
    >>> names[1], len(names)
    ('dogs/2.jpg', 2)
    """

    def __init__(self, names: Iterable[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self._ends = np.cumsum([len(one) for one in encoded], dtype=np.int64)
        self._bytes = b"".join(encoded)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        return os.fsdecode(self._piece(index))

    def shown(self, index: int) -> str:
        """The name in a form that can be printed, also where the file system's bytes are no UTF-8."""
        return self._piece(index).decode("utf-8", "backslashreplace")

    def _piece(self, index: int) -> bytes:
        return self._bytes[self._ends[index - 1] if index else 0 : self._ends[index]]


@dataclass(frozen=True)
class Rows:
    """Names examples by the file or array they come from and the row in it: `train.parquet[17]`.

    Args:
        names: the files or arrays, in the order their examples stand.
        counts: how many examples each gives.
        rows: the row of each example in its file, where some rows were left out.
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]
    rows: NDArray[np.integer] | None = None

    def __getitem__(self, index: int) -> str:
        """The name of an example, counted over all files."""
        row = index
        for name, count in zip(self.names, self.counts, strict=True):
            if row < count:
                return f"{name}[{row if self.rows is None else self.rows[index]}]"
            row -= count
        raise IndexError(index)


class Files(Examples):
    """Images in files of their own below one folder."""

    def __init__(self, root: str | Path, names: Names, labels: NDArray[np.int64]) -> None:
        self.root, self.names, self.labels = str(root), names, labels

    def name(self, index: int) -> str:
        return self.names.shown(index)

    def read(self, index: int, at_least: int | None = None) -> NDArray[np.generic]:
        return read_image(os.path.join(self.root, self.names[index]), self.name(index), at_least=at_least)

    def size_of(self, index: int) -> int | None:
        try:
            return os.stat(os.path.join(self.root, self.names[index])).st_size
        except OSError:  # gone since; whoever reads it says so
            return 0


class Encoded(Examples):
    """Encoded images end to end, in memory or in one file that is read piece by piece.

    Args:
        data: the bytes themselves or the file that holds them.
        ends: where each image ends, int64 (N,).
    """

    def __init__(self, data: bytes | Path, ends: NDArray[np.int64], labels: NDArray[np.int64], rows: Rows) -> None:
        self.data: bytes | _File = _File(data) if isinstance(data, Path) else data
        self.ends, self.labels, self.rows = ends, labels, rows

    def name(self, index: int) -> str:
        return self.rows[index]

    def read(self, index: int, at_least: int | None = None) -> NDArray[np.generic]:
        start, end = int(self.ends[index - 1]) if index else 0, int(self.ends[index])
        data = self.data
        piece = data[start:end] if isinstance(data, bytes) else data.read(start, end - start, self.name(index))
        return decode(piece, self.name(index), at_least=at_least)

    def size_of(self, index: int) -> int | None:
        return int(self.ends[index]) - (int(self.ends[index - 1]) if index else 0)


class Arrays(Examples):
    """Inputs that lie side by side in one array, in memory or in a file."""

    def __init__(
        self, stored: "NDArray[np.generic] | Stored", layout: Layout, labels: NDArray[np.int64], rows: Rows
    ) -> None:
        self._rest = layout.apply(stored) if isinstance(stored, np.ndarray) else stored
        self.layout, self.labels, self.rows = layout, labels, rows

    def name(self, index: int) -> str:
        return self.rows[index]

    def read(self, index: int, at_least: int | None = None) -> NDArray[np.generic]:
        if isinstance(self._rest, np.ndarray):
            return self._rest[index]
        return self.layout.apply(self._rest.block(index, self.name(index)))[0]

    def array(self) -> NDArray[np.generic] | None:
        """The whole as (N, C, *S); a file's is mapped, not read, and None where each example must be converted."""
        if isinstance(self._rest, np.ndarray):
            return self._rest
        return self.layout.apply(self._rest.mapped()) if self.layout.is_view(self._rest.dtype) else None


class Stored:
    """A C-ordered array inside a file, from `offset` on, read a few rows at a time."""

    def __init__(self, path: Path, offset: int, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self.path, self.offset, self.dtype, self.shape = path, offset, dtype, shape
        self._file = _File(path)

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    def block(self, index: int, name: str) -> NDArray[np.generic]:
        """One row as (1, ...), read from the file."""
        data = self._file.read(self.offset + index * self.row_bytes, self.row_bytes, name)
        return np.frombuffer(bytearray(data), self.dtype).reshape(1, *self.shape[1:])

    def chunks(self, size: int = CHUNK) -> Iterator[NDArray[np.generic]]:
        """The array a few rows at a time, about `size` bytes each, without keeping what was read."""
        rows = max(1, size // max(self.row_bytes, 1))
        for start in range(0, self.shape[0], rows):
            count = min(rows, self.shape[0] - start)
            data = self._file.read(self.offset + start * self.row_bytes, count * self.row_bytes, self.path.name)
            yield np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])

    def mapped(self) -> NDArray[np.generic]:
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)


class _File:
    """Pieces of a file by position; opened by each process that reads, so that it can be sent to workers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def __reduce__(self) -> tuple[type["_File"], tuple[Path]]:
        return _File, (self.path,)

    def read(self, start: int, size: int, name: str) -> bytes:
        try:
            if self._handle is None:
                self._handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
                weakref.finalize(self, os.close, self._handle)
            data = _read_at(self._handle, size, start)
        except OSError as error:
            raise Unreadable(name, f"{self.path}: {error.strerror}") from None
        if len(data) != size:
            raise Unreadable(name, f"{self.path} was cut short while in use")
        return data


def _read_at(handle: int, size: int, start: int) -> bytes:
    """Up to `size` bytes; one call of the system gives 2 GiB at most."""
    pieces: list[bytes] = []
    while piece := _piece_at(handle, min(size, 1 << 30), start):
        pieces.append(piece)
        start, size = start + len(piece), size - len(piece)
    return b"".join(pieces)


def _piece_at(handle: int, size: int, start: int) -> bytes:
    if hasattr(os, "pread"):  # the position is nobody's, so threads may read at once
        return os.pread(handle, size, start)
    os.lseek(handle, start, os.SEEK_SET)
    return os.read(handle, size)

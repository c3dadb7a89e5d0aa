"""The files of NumPy, `.npy` and the zip of them that is `.npz`, described first and read when asked.

Nothing in them is unpickled, sizes are checked before memory is taken, and an array too large to be read whole is left
in its file. (The format: numpy/lib/_format_impl.py, "Format Version 1.0" and 2.0.)
"""

import shutil
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from engram.data.sources._copies import keep
from engram.data.sources._stores import Stored
from engram.errors import UserError

IN_MEMORY = 2**28
"""Bytes of an array that is read whole rather than left in its file: 256 MB, so that the usual small sets are fast."""


@dataclass(frozen=True)
class Member:
    """An array that is described but not read yet."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    load: "Callable[[], NDArray[np.generic] | Stored]"


def describe_npy(file: Path) -> Member:
    try:
        with open(file, "rb") as stream:
            shape, fortran, dtype = _header(stream, str(file))
            start = stream.tell()
        held = file.stat().st_size - start
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    size = _check_size(str(file), shape, dtype, held)

    def load() -> "NDArray[np.generic] | Stored":
        if size > IN_MEMORY and not fortran:
            return Stored(file, start, dtype, shape)
        with open(file, "rb") as stream:
            stream.seek(start)
            return _array(stream, shape, fortran, dtype, str(file))

    return Member(file.stem, shape, dtype, load)


def describe_npz(file: Path) -> list[Member]:
    try:
        with zipfile.ZipFile(file) as archive:
            infos = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            members = []
            for info in infos:
                name = info.filename.removesuffix(".npy")
                with archive.open(info) as stream:
                    shape, fortran, dtype = _header(stream, f"{file}: {name}")
                    start = stream.tell()
                _check_size(f"{file}: {name}", shape, dtype, info.file_size - start)
                members.append(Member(name, shape, dtype, _Loader(file, info, start, shape, fortran, dtype)))
            return members
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
        raise UserError(f"{file} is not a sound .npz file: {error}") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from None


@dataclass(frozen=True)
class _Loader:
    """Reads one array of an archive when asked."""

    file: Path
    info: zipfile.ZipInfo
    start: int
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype

    def __call__(self) -> "NDArray[np.generic] | Stored":
        where = f"{self.file}: {self.info.filename.removesuffix('.npy')}"
        try:
            if self.info.file_size <= IN_MEMORY or self.fortran:
                with zipfile.ZipFile(self.file) as archive, archive.open(self.info) as stream:
                    stream.read(self.start)
                    return _array(stream, self.shape, self.fortran, self.dtype, where)
            if self.info.compress_type == zipfile.ZIP_STORED:
                return Stored(self.file, self._data_offset() + self.start, self.dtype, self.shape)
            kept = keep([self.file], f"array {self.info.filename}", self.info.file_size, self._unpack)
            return Stored(kept / "array.npy", self.start, self.dtype, self.shape)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise UserError(f"{where} is damaged: {error}") from None

    def _data_offset(self) -> int:
        """Where the member's bytes begin: behind its local header, whose last two fields are lengths."""
        with open(self.file, "rb") as stream:
            stream.seek(self.info.header_offset + 26)
            name, extra = np.frombuffer(stream.read(4), "<u2")
        return self.info.header_offset + 30 + int(name) + int(extra)

    def _unpack(self, inside: Path) -> None:
        with (
            zipfile.ZipFile(self.file) as archive,
            archive.open(self.info) as stream,
            open(inside / "array.npy", "wb") as file,
        ):
            shutil.copyfileobj(stream, file, 1 << 20)


def _header(stream: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type of a `.npy`; types that would need a pickle are refused."""
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"version {version} of the format is for arrays with named fields")
        shape, fortran, dtype = read(stream)
    except (ValueError, EOFError) as error:
        raise UserError(f"{where} is not a sound array: {str(error).partition(chr(10))[0]}") from None
    if dtype.hasobject:
        raise UserError(
            f"{where} holds pickled Python objects, which are never loaded",
            allowed="arrays of numbers or text",
            then="store text labels as y.astype(str), images of one size as one uint8 array",
        )
    return shape, fortran, dtype


def _check_size(where: str, shape: tuple[int, ...], dtype: np.dtype, held: int) -> int:
    size = dtype.itemsize
    for side in shape:
        size *= side  # whole numbers of Python, which do not overflow
    if size > held:
        raise UserError(f"{where} is truncated: {size:,} bytes are announced and {held:,} are there")
    return size


def _array(
    stream: IO[bytes], shape: tuple[int, ...], fortran: bool, dtype: np.dtype, where: str
) -> NDArray[np.generic]:
    if not dtype.itemsize:
        return np.zeros(shape, dtype)  # text of no length, which NumPy makes a letter wide
    rows = np.empty(shape[::-1] if fortran else shape, dtype)
    view, done = memoryview(rows.reshape(-1).view(np.uint8)), 0  # type: ignore[arg-type]
    while done < len(view) and (piece := stream.read(min(len(view) - done, 1 << 24))):
        view[done : done + len(piece)] = piece
        done += len(piece)
    if done != len(view):
        raise UserError(f"{where} is truncated")
    return np.ascontiguousarray(rows.T) if fortran else rows

"""Files from their home: resumed where they broke off, checked against a digest, kept in the user's cache.

A file appears under its name only when it is complete and its SHA-256 is right; until then it is `NAME.part`.
"""

import contextlib
import hashlib
import http.client
import os
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from engram.errors import UserError

Progress = Callable[[int, int], None]
"""Called with the bytes so far and the bytes in all, of one file after another."""

PATIENCE = 30.0
"""Seconds without a single byte before a server counts as gone."""


@dataclass(frozen=True)
class Remote:
    """A file, where it can be had, and how to tell that it is the one.

    Args:
        name: the file's name in the cache.
        homes: addresses to try in turn, ending in `/`; the file's name is added.
        sha256: of the file, lower-case hexadecimal; its beginning, where no more of it is published.
        size: bytes.
    """

    name: str
    homes: tuple[str, ...]
    sha256: str
    size: int


def cache_folder() -> Path:
    """Where downloads and copies are kept: `ENGRAM_CACHE`, or the platform's cache folder of the user.

    Linux: `$XDG_CACHE_HOME/engram` or `~/.cache/engram`; macOS: `~/Library/Caches/engram`; Windows:
    `%LOCALAPPDATA%\\engram\\Cache`. It is not created here.
    """
    if own := os.environ.get("ENGRAM_CACHE"):
        return Path(own).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "engram"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "engram" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "engram"


def fetch(remote: Remote, folder: Path, progress: Progress | None = None) -> Path:
    """The file in `folder`, downloaded unless it is there; a broken download goes on where it stopped.

    Raises:
        UserError: no address answers (offline), with where to put the file; the digest is wrong; a file of that name
            is there but is another one; the folder cannot be written.
    """
    target = folder / remote.name
    if target.is_file():
        if not _digest(target).startswith(remote.sha256):
            raise UserError(
                f"{target} is not {remote.name}: its SHA-256 is not {remote.sha256[:16]}...",
                then=f"delete {target} and run the command again",
            )
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / f"{remote.name}.lock"):
            if not target.is_file():  # another process may have fetched it while this one waited
                _fetch_any(remote, target, progress)
    except OSError as error:
        raise _unwritable(folder, error) from None
    return target


def unpack(archive: Path, folder: Path) -> Path:
    """A tar archive unpacked into `folder`, which appears only when complete; nothing can land outside it.

    Raises:
        UserError: a damaged archive, or one with a member that would leave the folder, is a device, or links out.
    """
    if not hasattr(tarfile, "data_filter"):  # Python 3.11.0 to 3.11.3
        raise UserError("this Python cannot unpack archives safely", then="update to Python 3.11.4 or later")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as scratch:
            inside = Path(scratch) / "content"
            with tarfile.open(archive) as tar:
                tar.extractall(inside, filter="data")
            try:
                inside.rename(folder)
            except OSError:
                if not folder.is_dir():  # where another process was first, its files are as good
                    raise
    except tarfile.FilterError as error:
        raise UserError(f"{archive} is not safe to unpack: {error}") from None
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{archive} is damaged: {error}", then=f"delete {archive} and get it again") from None
    except OSError as error:
        raise _unwritable(folder, error) from None
    return folder


def _fetch_any(remote: Remote, target: Path, progress: Progress | None) -> None:
    part = target.with_name(f"{target.name}.part")
    failures: list[str] = []
    for home in remote.homes:
        for _ in range(2):  # a leftover part of another file gives a wrong digest once; then it starts afresh
            resumed = part.is_file() and part.stat().st_size > 0
            try:
                _fetch_one(home + remote.name, part, remote, progress)
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, _Short) as error:
                failures.append(f"{home}: {_reason(error)}")
                break
            if _digest(part).startswith(remote.sha256):
                os.replace(part, target)
                return
            part.unlink()
            if not resumed:
                failures.append(f"{home}: the file there has another SHA-256")
                break
    raise UserError(
        f"{remote.name} could not be downloaded: " + "; ".join(failures),
        allowed=f"{remote.name} of {remote.size:,} bytes with SHA-256 {remote.sha256[:16]}...",
        then=f"run again to resume, or get {remote.homes[0]}{remote.name} elsewhere and put it at {target}",
    )


def _fetch_one(address: str, part: Path, remote: Remote, progress: Progress | None) -> None:
    """Append to `part` what it lacks, or write it anew where the server cannot resume."""
    have = part.stat().st_size if part.is_file() else 0
    if have == remote.size:
        return
    if have > remote.size:
        have = 0
    request = urllib.request.Request(address, headers={"User-Agent": "engram", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        if have and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-") and answer.status == 206:
            mode = "ab"
        else:
            have, mode = 0, "wb"
        with open(part, mode) as file:
            _copy(answer, file, have, remote, progress)


def _copy(answer: BinaryIO, file: BinaryIO, have: int, remote: Remote, progress: Progress | None) -> None:
    while block := _next(answer):
        have += len(block)
        if have > remote.size:
            raise _Short(f"it sends more than {remote.size:,} bytes")
        file.write(block)
        if progress is not None:
            progress(have, remote.size)
    if have < remote.size:
        raise _Short(f"it broke off after {have:,} of {remote.size:,} bytes")


def _next(answer: BinaryIO) -> bytes:
    try:
        return answer.read(1 << 16)
    except (OSError, http.client.HTTPException) as error:  # told apart here from a disk that cannot take the bytes
        raise _Short(_reason(error)) from None


class _Short(Exception):
    """The answer did not come whole."""


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        with error:  # it holds the connection
            return f"the server answered {error.code} {error.reason}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return "no answer"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"{folder} cannot be written: {error.strerror or error}",
        then="set ENGRAM_CACHE to a folder with room that you may write to",
    )


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process at a time, where the system can lock files; the lock ends with the process that holds it."""
    try:
        from fcntl import LOCK_EX, flock
    except ImportError:  # Windows: two at once spoil each other's part, and the digest finds it
        yield
        return
    with open(lock, "wb") as file:
        flock(file, LOCK_EX)
        yield

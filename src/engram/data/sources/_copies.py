"""Copies in the cache of what cannot be read piece by piece where it lies: made once, found again by their content.

A copy is a folder that appears only when it is complete. Its name says which files it was made from, with their size
and time, so that a changed file gets a new copy and the old one goes.
"""

import errno
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from engram.data.download import cache_folder
from engram.errors import UserError

ABANDONED = 86400.0
"""Seconds after which an unfinished copy belongs to a process that was killed."""


def keep(files: Sequence[Path], what: str, size: int, make: Callable[[Path], None]) -> Path:
    """The folder with the copy of `what` from `files`; `make` fills a new one.

    Args:
        size: bytes it will take, to refuse before the disk is full.

    Raises:
        UserError: too little room in the cache, or it cannot be written; `ENGRAM_CACHE` is named.
    """
    home = cache_folder() / "copies"
    stem = _hash(what, *(str(one.resolve()) for one in files))
    stamps = [(one.stat().st_size, one.stat().st_mtime_ns) for one in files]
    folder = home / f"{stem}-{_hash(str(stamps))}"
    if folder.is_dir():
        return folder
    try:
        home.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(home).free
        if size > free:
            raise OSError(errno.ENOSPC, f"it has {free:,} bytes left and {size:,} are needed")
        with tempfile.TemporaryDirectory(dir=home, prefix=".making-") as scratch:
            inside = Path(scratch) / "copy"
            inside.mkdir()
            make(inside)
            try:
                inside.rename(folder)
            except OSError:
                if not folder.is_dir():  # where another process was first, its copy is as good
                    raise
    except OSError as error:
        raise UserError(
            f"the images of {files[0]} cannot be copied to the cache {home}: {error.strerror or error}",
            then="set ENGRAM_CACHE to a folder with room that you may write to",
        ) from None
    left = [one for one in home.glob(".making-*") if time.time() - one.stat().st_mtime > ABANDONED]
    for old in [*home.glob(f"{stem}-*"), *left]:
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    return folder


def _hash(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()[:16]

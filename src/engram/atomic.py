"""Files that are either the old one or the new one, never half of it: temporary file, fsync, rename."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write(path: Path, content: bytes | str | Callable[[BinaryIO], object]) -> None:
    """Replace the file at `path` in one step. A failure leaves the old file as it was and no temporary file.

    Args:
        content: the bytes, the text (UTF-8), or a function that writes to the open binary file.

    Raises:
        OSError: no space, no permission, or the folder is not there.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> write(folder / "note.txt", "whole")
    >>> (folder / "note.txt").read_text()
    'whole'
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system can open a folder."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)

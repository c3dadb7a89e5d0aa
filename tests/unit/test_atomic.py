"""Files are whole or as they were: whatever fails, whenever it fails."""

import errno
import os

import pytest

from engram import atomic


def test_the_content_is_replaced(tmp_path):
    path = tmp_path / "file"
    atomic.write(path, "one")
    atomic.write(path, b"two")
    atomic.write(path, lambda file: file.write(b"three"))
    assert path.read_text() == "three"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    atomic.write(path, "old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if call == "write":
        with pytest.raises(OSError, match="No space"):
            atomic.write(path, lambda file: (file.write(b"half"), full()))
    else:
        monkeypatch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space"):
            atomic.write(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]

"""Copies in the cache: made once, whole or not at all, whoever else makes them at the same time."""

import os
import time

import pytest

from engram.data.sources import _copies
from engram.data.sources._copies import keep
from engram.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ENGRAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "copies"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_text("content")
    return path


def writer(text):
    return lambda folder: (folder / "copy").write_text(text)


def test_a_copy_is_made_once(file, cache):
    first = keep([file], "what", 1, writer("first"))
    assert (first / "copy").read_text() == "first"
    assert keep([file], "what", 1, writer("second")) == first
    assert (first / "copy").read_text() == "first"
    assert list(cache.iterdir()) == [first]


def test_copies_of_different_things_live_side_by_side(file, tmp_path, cache):
    other = tmp_path / "other"
    other.write_text("content")
    made = {keep([file], "a", 1, writer("1")), keep([file], "b", 1, writer("2")), keep([other], "a", 1, writer("3"))}
    assert set(cache.iterdir()) == made
    assert len(made) == 3


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_changed_file_gets_a_new_copy(file, cache, change):
    first = keep([file], "what", 1, writer("first"))
    if change == "size":
        status = file.stat()
        file.write_text("content!")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        os.utime(file, ns=(1, 1))
    second = keep([file], "what", 1, writer("second"))
    assert (second / "copy").read_text() == "second"
    assert second != first
    assert list(cache.iterdir()) == [second]


def test_where_another_process_was_first_its_copy_stays(file, cache):
    def slow(folder):
        (folder / "copy").write_text("late")
        keep([file], "what", 1, writer("early"))  # meanwhile, elsewhere

    made = keep([file], "what", 1, slow)
    assert (made / "copy").read_text() == "early"
    assert list(cache.iterdir()) == [made]


def test_a_copy_that_fails_leaves_nothing(file, cache):
    def fail(folder):
        (folder / "copy").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"cannot be copied to the cache .*: No space left on device"):
        keep([file], "what", 1, fail)
    assert list(cache.iterdir()) == []


def test_a_folder_that_cannot_be_renamed_is_an_error(file, monkeypatch):
    def refuse(*_):
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(_copies.Path, "rename", refuse)
    with pytest.raises(UserError, match="Permission denied"):
        keep([file], "what", 1, writer("text"))


def test_what_a_killed_process_left_is_removed_after_a_day(file, cache):
    for name, age in ((".making-old", 2 * _copies.ABANDONED), (".making-new", 10)):
        (cache / name).mkdir(parents=True)
        os.utime(cache / name, (time.time() - age,) * 2)
    made = keep([file], "what", 1, writer("text"))
    assert {one.name for one in cache.iterdir()} == {".making-new", made.name}


def test_too_little_room_is_said_before_anything_is_written(file):
    with pytest.raises(UserError, match=r"it has [\d,]+ bytes left and 1,000,000,000,000,000,000 are needed"):
        keep([file], "what", 10**18, writer("text"))

"""A text and its splits: what layouts are read, what is cut off at the end, and what is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.data.texts import Texts, open_texts, split_off
from engram.errors import UserError


def written(folder: Path, **files: str | bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / f"{name}.txt").write_bytes(data)
    return folder


def test_one_file_is_the_whole_text_of_any_name(tmp_path: Path) -> None:
    file = tmp_path / "book"
    file.write_bytes("Été\r\nautumn\n".encode())
    found = open_texts(file)
    assert found == Texts(str(file), "text file", "Été\r\nautumn\n")
    assert open_texts(str(file)) == found


@pytest.mark.parametrize("validation", ["validation", "valid", "val", "dev", "Dev"])
def test_splits_that_the_data_bring_are_known_by_their_names(tmp_path: Path, validation: str) -> None:
    folder = written(tmp_path / "book", train="abc", test="fg", notes="x", **{validation: "de"})
    found = open_texts(folder)
    assert (found.kind, found.train, found.validation, found.test) == ("text splits", "abc", "de", "fg")
    assert found.notes == ("left out, of no split's name: notes.txt",)
    (folder / "notes.txt").unlink()
    assert open_texts(folder).notes == ()


def test_a_training_split_alone_is_enough(tmp_path: Path) -> None:
    found = open_texts(written(tmp_path / "book", train="abc"))
    assert (found.train, found.validation, found.test) == ("abc", None, None)


def test_files_of_other_names_are_put_together_in_their_order(tmp_path: Path) -> None:
    folder = written(tmp_path / "books", b="two", a="one", validation="three")
    (folder / ".hidden.txt").write_text("no")
    (folder / "read.md").write_text("no")
    (folder / "inner.txt").mkdir()
    found = open_texts(folder)
    assert (found.kind, found.train, found.notes) == ("text files", "onetwothree", ("3 files",))
    assert found.validation is found.test is None


@pytest.mark.parametrize("where", ["file", "folder"])
def test_an_empty_file_is_named(tmp_path: Path, where: str) -> None:
    folder = written(tmp_path / "books", a="one", b="")
    with pytest.raises(UserError, match=r"b\.txt is empty"):
        open_texts(folder if where == "folder" else folder / "b.txt")


@pytest.mark.parametrize("name", ["a", "train", "test"])
def test_bytes_that_are_no_utf_8_are_named_with_their_place(tmp_path: Path, name: str) -> None:
    folder = written(tmp_path / "books", **{"train": "fine\n" * 3, name: b"one\ncaf\xe9 two"})
    where = folder / f"{name}.txt"
    with pytest.raises(UserError, match=rf"{name}\.txt is not UTF-8: byte 0xe9 at offset 7 \(line 2\)") as caught:
        open_texts(where if name == "a" else folder)
    assert "iconv" in str(caught.value)


def test_nothing_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no text .*absent"):
        open_texts(tmp_path / "absent")
    with pytest.raises(UserError, match="no text was given"):
        open_texts("")
    with pytest.raises(UserError, match=r"there is no \.txt file in"):
        open_texts(tmp_path)
    (tmp_path / "book.md").write_text("text")
    with pytest.raises(UserError, match=r"there is no \.txt file in"):
        open_texts(tmp_path)


def test_a_split_that_stands_twice_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "book", train="abc", val="de", valid="fg")
    with pytest.raises(UserError, match=r"has its validation split twice: val\.txt, valid\.txt"):
        open_texts(folder)


@given(st.text(min_size=1, max_size=200), st.floats(0, 0.6), st.floats(0, 0.6))
def test_what_is_cut_off_joined_is_the_text(text: str, validation: float, test: float) -> None:
    try:
        cut = split_off(Texts("book", "text file", text), validation=validation, test=test)
    except UserError:
        pieces = round(len(text) * validation), round(len(text) * test)
        wanted = [piece for piece, share in zip(pieces, (validation, test), strict=True) if share]
        assert min([len(text) - sum(pieces), *wanted]) < 2
        return
    assert cut.train + (cut.validation or "") + (cut.test or "") == text
    assert len(cut.validation or "") == round(len(text) * validation)
    assert len(cut.test or "") == round(len(text) * test)
    assert cut.validation != ""
    assert cut.test != ""


def test_splits_that_the_data_bring_stay() -> None:
    brought = Texts("book", "text splits", "abcdefghij", "kl", None, ("a note",))
    assert split_off(brought, validation=0.2, test=0.2) == brought
    tested = Texts("book", "text splits", "abcdefghij", None, "kl", ("a note",))
    cut = split_off(tested, validation=0.2, test=0.2)
    assert (cut.train, cut.validation, cut.test, cut.notes) == ("abcdefgh", "ij", "kl", ("a note",))


@pytest.mark.parametrize(
    ("text", "validation", "test", "told"),
    [
        ("abcd", 0.1, 0.5, "2 to train on, 0 to validate and 2 to test"),
        ("abc", 0.5, 0.0, "1 to train on, 2 to validate and 0 to test"),
        ("abcdefghij", 0.1, 0.2, "7 to train on, 1 to validate and 2 to test"),
        ("abcdefghij", 0.2, 0.1, "7 to train on, 2 to validate and 1 to test"),
        ("abcdefghij", 0.7, 0.7, "0 to train on, 7 to validate and 7 to test"),
        ("a", 0.0, 0.0, "1 to train on"),
    ],
)
def test_a_text_too_short_for_its_shares_is_refused(text: str, validation: float, test: float, told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        split_off(Texts("book.txt", "text file", text), validation=validation, test=test)
    assert str(caught.value).startswith("book.txt has ")
    assert "2 or more of each" in str(caught.value)

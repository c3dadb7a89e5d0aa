"""A CSV of image paths and labels, comma, semicolon or tab between them.

    path,label,split        a header is taken by its words: path, file, image ...; label, class ...; split
    cats/1.jpg,cat,train    without a header: path, label and, if there is a third column, split
    dogs/2.jpg,dog,test

Paths are relative to the CSV's folder. Absolute ones, and ones that lead out of the folder, are used where they exist:
who lists an image may keep it elsewhere, and a file is only ever decoded as an image. Where the first path does not
exist as written, the folders `images/`, `train/` and `data/` and the usual suffixes are tried, and used for all.
Labels are names or numbers (0..K-1 or 1..K). A folder may hold one CSV, or one a split (train.csv, test.csv).
"""

import os
from _csv import Error, reader
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engram.data.examples import Source
from engram.data.sources._labels import class_indices
from engram.data.sources._names import SPLITS, count, files_in, listed, split_in
from engram.data.sources._stores import Files, Names
from engram.errors import UserError, nearest
from engram.registry import register

PATHS = ("path", "file", "filename", "filepath", "image", "imagepath", "imageid", "imagename", "imagefile", "img", "id")
LABELS = ("label", "labels", "class", "classname", "classid", "category", "target", "y", "breed", "species")
SPLIT = ("split", "set", "subset", "partition", "dataset", "usage")

PREFIXES = ("", "images/", "train/", "data/", "img/")
SUFFIXES = ("", ".jpg", ".png", ".jpeg")


def recognizes(path: Path) -> bool:
    """A `.csv` or `.tsv`, or a folder with one whose header names paths and labels."""
    if path.is_file():
        return path.suffix.lower() in (".csv", ".tsv")
    return any(_has_words(file) for file in files_in(path, ".csv", ".tsv"))


@register("source", recognizes=recognizes, order=50, accepts="a CSV of path,label")
def csv(path: str | Path) -> Source:
    """Images listed by path and label in a CSV, with or without a header and a column of splits.

    Raises:
        UserError: no such columns, a row that lacks one (its line is named), images that do not exist, a split or a
            label that cannot be told, text that is not UTF-8.
    """
    root = Path(path)
    home = root if root.is_dir() else root.parent
    notes: list[str] = []
    rows = _rows(root, notes)
    _find_files(home, rows, notes)
    splits: dict[str, list[_Row]] = {}
    for row in rows:
        splits.setdefault(row.split, []).append(row)
    if "train" not in splits:
        raise UserError(
            f"{root} has no training rows, only {listed(sorted(splits)) or 'nothing'}", allowed="a split named train"
        )
    order = [split for split in ("train", "validation", "test") if split in splits]
    raw = {split: _labels([row.label for row in splits[split]]) for split in order}
    if len({values.dtype.kind for values in raw.values()}) > 1:
        raw = {split: np.array([row.label for row in splits[split]]) for split in order}
    classes, labels = class_indices(raw, row=lambda split, index: splits[split][index].place)
    examples = {split: Files(home, Names(row.file for row in splits[split]), labels[split]) for split in order}
    return Source(str(path), "csv", classes, **examples, notes=tuple(notes))


@dataclass
class _Row:
    """A line of the table: which, the image, the label, the split."""

    place: str
    file: str
    label: str
    split: str


@dataclass(frozen=True)
class _Columns:
    """Where in a line things stand."""

    path: int
    label: int
    split: int | None
    has_header: bool


def _rows(root: Path, notes: list[str]) -> list[_Row]:
    """The rows of a file, or of all files of a folder."""
    if root.is_file():
        return list(_table(root, "train"))
    tables = files_in(root, ".csv", ".tsv")
    files = [file for file in tables if _has_words(file)]
    if len(files) > 1:
        named = [file for file in files if split_in(file.stem)]
        if not named:
            shown = listed([file.name for file in files])
            raise UserError(f"{root} holds several tables: {shown}", then=f"name one of them: {files[0]}")
        files = named
    if left := [file.name for file in tables if file not in files]:
        notes.append(f"left out: {listed(left)}")
    notes.append(f"read from {listed([file.name for file in files])}")
    return [row for file in files for row in _table(file, split_in(file.stem) or "train")]


def _table(file: Path, split: str) -> Iterator[_Row]:
    lines = _lines(file)
    first = next(lines, None)
    if first is None:
        raise UserError(f"{file} is empty", allowed="the columns path,label and perhaps split")
    columns = _columns(file, first[1])
    if not columns.has_header:
        yield _row(file, *first, columns, split)
    for number, cells in lines:
        yield _row(file, number, cells, columns, split)


def _row(file: Path, number: int, cells: Sequence[str], columns: _Columns, split: str) -> _Row:
    place = f"{file.name} line {number}"
    if len(cells) <= max(columns.path, columns.label, columns.split or 0):
        raise UserError(f"{file} line {number} has {count(len(cells), 'column')}: {','.join(cells)[:60]}")
    path, word = cells[columns.path].strip(), cells[columns.label].strip()
    if not path:
        raise UserError(f"{file} line {number} names no image")
    if columns.split is not None:
        given = cells[columns.split].strip()
        found = SPLITS.get(given.lower())
        if found is None:
            raise UserError(
                f"{file} line {number}: split {given!r} is not known",
                allowed="train, validation, test",
                nearest=nearest(given, SPLITS),
            )
        split = found
    return _Row(place, path, word, split)


def _columns(file: Path, cells: Sequence[str]) -> _Columns:
    """Columns by the words of a header; by position where the first line is no header."""
    words = [_word(cell) for cell in cells]
    path, label, split = (next((words.index(one) for one in known if one in words), None) for known in _WORDS)
    if path is not None:
        if label is None:
            raise UserError(f"{file} has no label column: {', '.join(cells)}", allowed="one of " + ", ".join(LABELS))
        return _Columns(path, label, split, True)
    if len(cells) < 2:
        raise UserError(f"{file} has one column: {cells[0][:60]!r}", allowed="the columns path,label")
    is_row = os.path.splitext(cells[0])[1] != "" or (file.parent / cells[0]).exists()
    if is_row:
        return _Columns(0, 1, 2 if len(cells) > 2 and cells[2].strip().lower() in SPLITS else None, False)
    raise UserError(
        f"{file}: which columns are the path and the label cannot be told from {', '.join(cells)[:80]}",
        allowed="a header with path,label and perhaps split",
    )


_WORDS = (PATHS, LABELS, SPLIT)


def _word(cell: str) -> str:
    return "".join(one for one in cell.lower() if one.isalnum())


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Lines that hold anything, with their number."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            start = stream.readline()
            mark = max(",;\t", key=start.count)
            stream.seek(0)
            table = reader(stream, delimiter=mark)
            for cells in table:
                if any(cells):
                    yield table.line_num, cells
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file} is not UTF-8 text: {error.reason} at byte {error.start}", then="save it as UTF-8"
        ) from None
    except Error as error:
        raise UserError(f"{file} is not a sound CSV: {error}") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None


def _has_words(file: Path) -> bool:
    try:
        first = next(_lines(file), None)
    except UserError:
        return False
    words = {_word(cell) for cell in first[1]} if first else set()
    return bool(words & set(PATHS)) and bool(words & set(LABELS))


def _find_files(home: Path, rows: list[_Row], notes: list[str]) -> None:
    """Complete the rows' paths, and refuse those that lead to nothing."""
    if not rows:
        return
    prefix, suffix = _affixes(home, rows[0].file)
    if prefix or suffix:
        notes.append(f"paths are taken as {prefix}...{suffix}")
    lost: list[str] = []
    outside = 0
    top = str(home.resolve())
    for row in rows:
        row.file = prefix + row.file.replace("\\", "/") + suffix if os.sep == "/" else prefix + row.file + suffix
        full = os.path.join(home, row.file)
        if not os.path.isfile(full):
            lost.append(f"{row.file} ({row.place})")
        elif os.path.isabs(row.file) or ".." in row.file.split("/"):
            outside += not os.path.realpath(full).startswith(top + os.sep)
    if lost:
        raise UserError(
            f"{count(len(lost), 'image')} of {len(rows):,} do not exist: {listed(lost, 3)}",
            then=f"paths are relative to {home}: correct them, or remove these lines",
        )
    if outside:
        notes.append(f"{count(outside, 'image')} outside {home}")


def _affixes(home: Path, file: str) -> tuple[str, str]:
    """What makes the first path an existing file; nothing where nothing does."""
    for prefix in PREFIXES:
        for suffix in SUFFIXES:
            if os.path.isfile(os.path.join(home, prefix + file + suffix)):
                return prefix, suffix
    return "", ""


def _labels(words: list[str]) -> np.ndarray:
    """Numbers where every label is one, else text."""
    try:
        return np.array([int(word) for word in words], np.int64)
    except (ValueError, OverflowError):
        return np.array(words)

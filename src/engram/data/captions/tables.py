"""Pictures and captions listed in a table: captions.csv, .tsv, .txt or .jsonl, beside the pictures or a folder of them.

    image,caption                                   captions.txt of Flickr8k as Kaggle hands it out, with Images/
    image,caption,split                             train, validation (val, dev) or test
    image_name| comment_number| comment             results.csv of Flickr30k as Kaggle hands it out
    {"image": "1.jpg", "captions": ["A dog."]}      a line an object; file_name and text mean the same

Columns are taken by the words of the header; without one the first is the picture and the last the caption. A comma in
a caption needs no quotation marks where the caption is the last column. A folder may hold one table, or one a split
(captions_train.csv, captions_val.csv). Without a split of its own, every line is for training, unless lists as those
of Flickr8k lie beside it.
"""

import json
from _csv import QUOTE_MINIMAL, QUOTE_NONE, Error, reader
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import chain
from pathlib import Path

from engram.data.captions.flickr8k import FOLDERS, picture_splits
from engram.data.captions.listing import Listing, source_of
from engram.data.captions.source import CaptionSource
from engram.data.images import is_image_name
from engram.data.sources._names import SPLITS, listed, split_in, visible
from engram.errors import UserError
from engram.text.read import read

ACCEPTS = "captions.csv, .tsv, .txt or .jsonl with image and caption"
SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl")
STEMS = ("captions", "caption", "results", "metadata")
PICTURES = (
    "image",
    "imagename",
    "imagefile",
    "imageid",
    "imagepath",
    "filename",
    "file",
    "filepath",
    "path",
    "picture",
)
CAPTIONS = ("caption", "captions", "sentence", "sentences", "comment", "text", "description")
SPLIT = ("split", "set", "subset", "partition")


def recognizes(path: Path) -> bool:
    """A table of one of the suffixes, or a folder that holds one named so."""
    if path.is_file():
        return path.suffix.lower() in SUFFIXES
    return path.is_dir() and bool(_tables(path))


def table(path: str | Path) -> CaptionSource:
    """Captions by line.

    Raises:
        UserError: text that is no UTF-8 (which file and line), no column of pictures or captions, several tables of one
            split, no pictures, or what `engram.data.captions.listing` refuses.
    """
    given = Path(path)
    files = [given] if given.is_file() else _tables(given)
    if not files:
        raise UserError(f"{path} holds no table of captions", allowed=ACCEPTS)
    home = given.parent if given.is_file() else given
    splits = {file: split_in(file.stem) or "train" for file in files}
    if len(set(splits.values())) < len(files):
        raise UserError(
            f"{path} holds several tables of captions: {listed([file.name for file in files])}",
            then=f"name one of them: {files[0]}",
        )
    split_of, notes = picture_splits(home)
    listing = Listing(str(path))
    unlisted: dict[str, None] = {}
    for file, split in splits.items():
        for row in _objects(file, listing) if file.suffix.lower() == ".jsonl" else _cells(file, listing):
            if row.split is None and split_of and row.picture not in split_of:
                unlisted[row.picture] = None
                continue
            own = row.split or split_of.get(row.picture, split)
            listing.add(own, row.picture, row.sentence)
    return source_of(listing, "table", lambda _: ("images", *FOLDERS), home=home, unlisted=unlisted, notes=notes)


@dataclass(frozen=True)
class _Row:
    picture: str
    sentence: str
    split: str | None


def _tables(folder: Path) -> list[Path]:
    """Tables by their names; where there is none, the only .csv, .tsv or .jsonl if its header has the words."""
    names = [name for name in visible(folder)[1] if Path(name).suffix.lower() in SUFFIXES]
    return [folder / name for name in names if any(word in STEMS for word in _words_of(Path(name).stem))]


def _words_of(stem: str) -> list[str]:
    return "".join(letter if letter.isalpha() else " " for letter in stem.lower()).split()


def _objects(file: Path, listing: Listing) -> Iterator[_Row]:
    for number, line in enumerate(read(file).split("\n"), 1):
        if not line.strip():
            continue
        place = f"{file.name} line {number}"
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            listing.skip(place, "no JSON")
            continue
        row = found if isinstance(found, dict) else {}
        picture = next((row[word] for key in PICTURES for word in row if _plain(word) == key), None)
        said = next((row[word] for key in CAPTIONS for word in row if _plain(word) == key), None)
        sentences = said if isinstance(said, list) else [said]
        if not isinstance(picture, str) or not sentences or not all(isinstance(one, str) for one in sentences):
            listing.skip(place, "no image and caption")
            continue
        split = _split(next((row[word] for word in row if _plain(word) in SPLIT), None), file, number)
        for one in sentences:
            yield _Row(picture, one, split)


def _cells(file: Path, listing: Listing) -> Iterator[_Row]:
    lines = _lines(file)
    first = next(lines, None)
    if first is None:
        raise UserError(f"{file} is empty", allowed="the columns image,caption")
    columns, is_row = _columns(file, first[1])
    for number, cells, mark in chain([first] if is_row else [], lines):
        place = f"{file.name} line {number}"
        if len(cells) <= max(columns.picture, columns.caption, columns.split or 0):
            listing.skip(place, f"too few columns: {'|'.join(cells)[:40]}")
            continue
        # what stands beyond the last column is the rest of a caption with a comma in it
        whole = columns.caption == columns.number - 1 and len(cells) > columns.number
        said = mark.join(cells[columns.caption :]) if whole else cells[columns.caption]
        picture = cells[columns.picture].strip()
        if not picture or (len(cells) > columns.number and not whole):
            listing.skip(place, "no image" if not picture else f"{len(cells)} columns instead of {columns.number}")
            continue
        yield _Row(picture, said, None if columns.split is None else _split(cells[columns.split], file, number))


@dataclass(frozen=True)
class _Columns:
    picture: int
    caption: int
    split: int | None
    number: int


def _columns(file: Path, cells: Sequence[str]) -> tuple[_Columns, bool]:
    """(columns, whether the first line is a row already)."""
    words = [_plain(cell) for cell in cells]
    picture, caption, split = (
        next((words.index(one) for one in known if one in words), None) for known in (PICTURES, CAPTIONS, SPLIT)
    )
    if picture is not None and caption is not None:
        return _Columns(picture, caption, split, len(cells)), False
    name = cells[0].strip()
    if len(cells) > 1 and (is_image_name(name) or (file.parent / name).is_file()):
        return _Columns(0, 1, None, 2), True
    raise UserError(
        f"{file}: which columns are the image and the caption cannot be told from {', '.join(cells)[:80]!r}",
        allowed="a header with image and caption, and perhaps split",
    )


def _mark(first: str) -> str:
    """What stands between the columns: the first such character of the first line."""
    return next((letter for letter in first if letter in "\t|;,"), ",")


def _lines(file: Path) -> Iterator[tuple[int, list[str], str]]:
    """Lines that hold anything: number, cells, and what stands between these."""
    stream = StringIO(read(file), newline="")  # lines end where they end, and not at every mark of Unicode
    mark = _mark(stream.readline())
    stream.seek(0)
    rows = reader(stream, delimiter=mark, quoting=QUOTE_NONE if mark in "\t|" else QUOTE_MINIMAL)
    while True:
        try:
            cells = next(rows, None)
        except Error as error:
            raise UserError(f"{file} line {rows.line_num} is no sound table: {error}") from None
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield rows.line_num, cells, mark


def _split(word: object, file: Path, number: int) -> str | None:
    if word is None:
        return None
    text = str(word).strip().lower()
    if text in ("", "restval"):
        return "train" if text else None
    if text not in SPLITS:
        raise UserError(
            f"{file} line {number}: split {str(word)[:40]!r} is not known", allowed="train, validation, test"
        )
    return SPLITS[text]


def _plain(word: str) -> str:
    return "".join(letter for letter in word.lower() if letter.isalnum())

"""COCO's own layout: all sentences of a split in one JSON file, the pictures in a folder of the same name.

    annotations/captions_train2017.json     {"images": [{"id": 9, "file_name": "000000000009.jpg", ...}, ...],
    annotations/captions_val2017.json        "annotations": [{"image_id": 9, "caption": "..."}, ...]}
    train2017/  val2017/                    or below images/; 2014 likewise

The sentences of the test pictures are not published, so `val` is the validation split and there is none to test by.
Papers that report a test result use the splits of `engram.data.captions.karpathy`. Of several years the latest whose
pictures are there is taken. Lin et al. 2014, "Microsoft COCO"; Chen et al. 2015, "Microsoft COCO Captions: Data
Collection and Evaluation Server", arXiv 1504.00325.
"""

import json
import re
from pathlib import Path
from typing import Any

from engram.data.captions.listing import Listing, source_of
from engram.data.captions.picture_folder import picture_folder, printable
from engram.data.captions.source import CaptionSource
from engram.data.sources._names import count, listed, visible
from engram.errors import UserError
from engram.text.read import read

ACCEPTS = "COCO's (annotations/captions_train2017.json and train2017/)"
NAME = re.compile(r"captions_(train|val)(\d{4})\.json")
SPLITS = {"train": "train", "val": "validation"}
LARGEST = 2**30
"""Bytes of a file of annotations. COCO's own have 92 million; a parsed file takes about ten times its size."""


def recognizes(path: Path) -> bool:
    """A file of annotations, or a folder with one in it or in its annotations/."""
    return bool(_files(path))


def coco(path: str | Path) -> CaptionSource:
    """Sentences by picture number.

    Raises:
        UserError: no JSON or JSON of another form (with what is wrong where), no pictures, or what
            `engram.data.captions.listing` refuses.
    """
    given = Path(path)
    files = _files(given)
    if not files:
        raise UserError(f"{path} holds no captions_train2017.json", allowed=ACCEPTS)
    folder = next(iter(files.values())).parent
    home = folder.parent if folder.name == "annotations" else folder
    years = sorted({year for _, year in files}, reverse=True)
    for year in years:
        listing, first, notes = _read_year(
            str(path), {part: file for (part, own), file in files.items() if own == year}
        )
        if year == years[-1] or _is_there(home, listing, first["train"]):
            break
    if len(years) > 1:
        notes.append(f"of the years {listed(years)} {year} was taken")
    return source_of(listing, "coco", lambda split: first.get(split, ()), home=home, notes=notes)


def load_json(file: Path) -> Any:
    """What a JSON file holds.

    Raises:
        UserError: larger than `LARGEST`, no UTF-8, no JSON, with the line.
    """
    size = file.stat().st_size
    if size > LARGEST:
        raise UserError(f"{file} has {size:,} bytes", allowed=f"{LARGEST:,} or fewer")
    try:
        return json.loads(read(file))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{file} is no JSON: {error.msg} in line {error.lineno}, column {error.colno}",
            then="download it again, it may be cut short",
        ) from None
    except (ValueError, RecursionError):  # numbers of thousands of digits, lists within thousands of lists
        raise UserError(f"{file} is no JSON of captions") from None


def entry(file: Path, found: Any, key: str, place: str, *kinds: type) -> Any:
    """The value of a key in an object that was read.

    Raises:
        UserError: no object, no such key, or a value of another kind; with the place.
    """
    value = found.get(key) if isinstance(found, dict) else None
    if not isinstance(value, kinds) or isinstance(value, bool):
        words = {int: "a number", str: "a text", list: "a list", dict: "an object"}
        allowed = " or ".join(words[kind] for kind in kinds)
        where = f"{file}: {place}{'.' if place else ''}{key}"
        raise UserError(f"{where} is {_shown(found, key)}", allowed=allowed)
    return value


def _shown(found: Any, key: str) -> str:
    if not isinstance(found, dict) or key not in found:
        return "missing"
    text = repr(found[key])
    return printable(text if len(text) <= 40 else f"{text[:37]}...")


def _files(path: Path) -> dict[tuple[str, str], Path]:
    """Files of annotations by part and year."""
    if path.is_file():
        match = NAME.fullmatch(path.name)
        return {(match[1], match[2]): path} if match else {}
    for folder in (path / "annotations", path):
        if folder.is_dir():
            found = {(m[1], m[2]): folder / name for name in visible(folder)[1] if (m := NAME.fullmatch(name))}
            if found:
                return found
    return {}


def _read_year(path: str, files: dict[str, Path]) -> tuple[Listing, dict[str, list[str]], list[str]]:
    """(sentences, folders in which the pictures of each split are looked for first, notes) of one year."""
    listing, first, notes = Listing(path), {}, []
    for part, file in files.items():
        split = SPLITS[part] if "train" in files else "train"
        if split != SPLITS[part]:  # who has only the smaller part learns from it, and validation is held out of it
            notes.append(f"there is no captions_train beside {file.name}, which is trained on")
        notes += _fill(listing, split, file)
        folder = file.stem.removeprefix("captions_")
        first[split] = [folder, f"images/{folder}"]
    return listing, first, notes


def _fill(listing: Listing, split: str, file: Path) -> list[str]:
    """Add a file's sentences; notes of those whose picture the file does not list."""
    found = load_json(file)
    names: dict[int | str, str] = {}
    for place, image in enumerate(entry(file, found, "images", "", list)):
        number = entry(file, image, "id", f"images[{place}]", int, str)
        name = entry(file, image, "file_name", f"images[{place}]", str)
        if names.setdefault(number, name) != name:
            raise UserError(f"{file}: images[{place}] has the id {number} of {printable(names[number])}")
    strangers: dict[str, int] = {}
    for place, one in enumerate(entry(file, found, "annotations", "", list)):
        where = f"annotations[{place}]"
        number = entry(file, one, "image_id", where, int, str)
        caption = entry(file, one, "caption", where, str)
        if number in names:
            listing.add(split, names[number], caption)
        else:
            strangers[str(number)] = strangers.get(str(number), 0) + 1
    if not strangers:
        return []
    many = count(sum(strangers.values()), "sentence")
    return [f"left out {many} of pictures that {file.name} does not list: ids {listed(list(strangers), 3)}"]


def _is_there(home: Path, listing: Listing, first: list[str]) -> bool:
    names = list(listing.pictures["train"])
    try:
        return bool(names) and bool(picture_folder(home, names, first=first))
    except UserError:
        return False

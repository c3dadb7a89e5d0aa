"""A text to learn to write from: one file, or a folder with its splits.

    book.txt                            the whole text; its end is held out for validation and testing, by position
    book/train.txt validation.txt ...   splits that the data bring: train, validation (also valid, val, dev), test
    books/*.txt                         files of any other names, put together in the order of their names

By position, because sentences next to each other are alike, and a random split would be too easy. The last characters
of a text are its test split, those before them its validation split.
"""

from dataclasses import dataclass
from pathlib import Path

from engram.errors import UserError
from engram.text import read

SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
SHORTEST = 2  # characters: one to read, one to foresee


@dataclass(frozen=True)
class Texts:
    """A text and its splits, as characters.

    Args:
        kind: `text file`, `text splits` or `text files`.
        notes: what was noticed on the way.
    """

    path: str
    kind: str
    train: str
    validation: str | None = None
    test: str | None = None
    notes: tuple[str, ...] = ()


def open_texts(path: str | Path) -> Texts:
    """Read a text.

    Raises:
        UserError: nothing there, no text in it, bytes that are no UTF-8, or an empty file; it is named.
    """
    if not str(path):
        raise UserError("no text was given to learn from", then="engram train --task write --data book.txt")
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise UserError(
            f"there is no text {path}", allowed="a text file, or a folder of .txt files", then=f"ls {path.parent}"
        )
    return Texts(str(path), "text file", read.read(path))


def _folder(path: Path) -> Texts:
    files = sorted(one for one in path.glob("*.txt") if one.is_file() and not one.name.startswith("."))
    if not files:
        raise UserError(f"there is no .txt file in {path}", allowed="a text file, or a folder of .txt files")
    named = {split: [one for one in files if one.stem.lower() in words] for split, words in SPLITS.items()}
    for split, found in named.items():
        if len(found) > 1:
            raise UserError(f"{path} has its {split} split twice: {', '.join(one.name for one in found)}")
    if not named["train"]:
        return Texts(str(path), "text files", "".join(map(read.read, files)), notes=(f"{len(files)} files",))
    other = [one.name for one in files if one not in [file for found in named.values() for file in found]]
    notes = (f"left out, of no split's name: {', '.join(other[:5])}",) if other else ()
    texts = {split: read.read(found[0]) if found else None for split, found in named.items()}
    return Texts(str(path), "text splits", str(texts["train"]), texts["validation"], texts["test"], notes)


def split_off(texts: Texts, *, validation: float, test: float) -> Texts:
    """The texts with their missing splits cut from the end of the training split.

    Args:
        validation: share of the training text, where the data bring no validation split.
        test: likewise; nothing is cut where the data bring a validation split of their own.

    Raises:
        UserError: shares that leave nothing to train on, or a split too short for a token and one to follow.

    >>> cut = split_off(Texts("", "", "abcdefghij"), validation=0.2, test=0.2)
    >>> cut.train, cut.validation, cut.test
    ('abcdef', 'gh', 'ij')
    """
    if texts.validation is not None:
        return texts
    if texts.test is not None:
        test = 0.0
    number = len(texts.train)
    tested, judged = round(number * test), round(number * validation)
    kept = number - tested - judged
    wanted = [kept, *([judged] if validation else []), *([tested] if test else [])]
    if min(wanted) < SHORTEST:
        raise UserError(
            f"{texts.path} has {number:,} characters: {max(kept, 0):,} to train on, {judged:,} to validate and "
            f"{tested:,} to test",
            allowed=f"{SHORTEST} or more of each",
            then="a longer text, or other shares: --data.validation 0.1 --text.test 0",
        )
    return Texts(
        texts.path,
        texts.kind,
        texts.train[:kept],
        texts.train[kept : kept + judged] or None,
        texts.train[kept + judged :] or texts.test,
        texts.notes,
    )

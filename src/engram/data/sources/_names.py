"""Words that formats share: natural order, names of splits, what lies in a folder."""

import os
import re
from pathlib import Path

SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "t10k": "test",  # MNIST's own word: its test split has ten thousand
}
"""What people call a split, and which of `train`, `validation` and `test` it is."""


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key that puts `class2` before `class10`; names that differ in nothing else keep a fixed order.

    >>> sorted(["b", "a10", "a2"], key=natural)
    ['a2', 'a10', 'b']
    """
    pieces = re.split(r"([0-9]+)", name.casefold())
    return [(0, int(one), "") if one.isdecimal() else (1, 0, one) for one in pieces if one], name


def split_in(name: str) -> str | None:
    """The split that a file's name speaks of as a word of its own: `train-00000-of-00001`, `my_test`, `val`.

    >>> split_in("train-00000-of-00001"), split_in("my_val.v2"), split_in("trainers")
    ('train', 'validation', None)
    """
    found = {SPLITS[word] for word in re.split(r"[^a-z0-9]+", name.lower()) if word in SPLITS}
    return found.pop() if len(found) == 1 else None


def visible(path: Path) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder, in natural order, hidden ones left out.

    A link counts as what it leads to; one that leads nowhere is left out.
    """
    folders: list[str] = []
    files: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif entry.is_file():
                files.append(entry.name)
    return sorted(folders, key=natural), sorted(files, key=natural)


def files_in(path: Path, *suffixes: str) -> list[Path]:
    """Visible files directly in a folder whose name ends in one of `suffixes`, in natural order."""
    if not path.is_dir():
        return []
    return [path / name for name in visible(path)[1] if name.lower().endswith(suffixes)]


def listed(words: list[str], most: int = 5) -> str:
    """A few of many: `a, b, c and 4 more`.

    >>> listed(list("abcdefg"), most=3)
    'a, b, c and 4 more'
    """
    rest = len(words) - most
    return ", ".join(words[:most]) + (f" and {rest} more" if rest > 0 else "")


def count(number: int, thing: str) -> str:
    """`1 file`, `2,000 files`.

    >>> count(1, "file"), count(2000, "file")
    ('1 file', '2,000 files')
    """
    return f"{number:,} {thing}" + ("" if number == 1 else "s")

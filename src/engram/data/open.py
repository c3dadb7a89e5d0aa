"""What a path or a name holds, found out by looking: every registered source says whether it recognises it.

A bare word that names a source is that source, also where a folder of the same name lies here: a recipe must mean the
same everywhere. `./digits` or `digits/` is the folder. `mine.py:shapes` calls a function of the user's own that
returns a `Source`.

A path is offered to each source in the order each declares, the most particular first. Where none takes it, the
folders in it are tried the same way, so that `cifar10/` finds `cifar10/cifar-10-batches-py/`.
"""

import inspect
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from engram.data.download import Progress
from engram.data.examples import Examples, Source
from engram.data.sources._names import count, listed, visible
from engram.errors import UserError, nearest
from engram.registry import Entry, check_settings, find, names

DEPTH = 3
"""Folders within folders that are searched for a data set: torchvision's MNIST/raw lies two deep."""

BREADTH = 50
"""Folders beside each other that are searched; more of them are classes."""

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")


def open_source(path: str | Path, *, progress: Progress | None = None, **settings: Any) -> Source:
    """The data set at a path or of a name, whatever its form.

    Args:
        path: a file, a folder, a name such as `digits`, or `file.py:function`.
        progress: told of downloads and copies while they last.
        settings: what the source's builder takes beside the path.

    Raises:
        UserError: nothing there, nothing in it that is known (with what was found and what would be accepted), or
            what the source itself refuses; fewer than two classes; no examples.

    >>> open_source("digits").classes[:3]
    ('0', '1', '2')
    """
    word = str(path)
    try:
        if ".py:" in word or (word in names("source") and find("source", word).facts.get("named")):
            source = _build(find("source", word), (), progress, settings)
            if not isinstance(source, Source):
                raise UserError(f"{word} returned a {type(source).__name__}", allowed="engram.data.examples.Source")
            if ".py:" not in word and Path(word).exists():
                source = replace(
                    source, notes=(*source.notes, f"there is also a folder {word} here: ./{word} opens it")
                )
            return checked(source)
        where = Path(word).expanduser()
        if not where.exists():
            raise _nothing_there(word, where)
        if not where.is_file() and not where.is_dir():
            raise UserError(f"{word} is neither a file nor a folder")
        entry, place = _detect(where)
        return checked(_build(entry, (place,), progress, settings))
    except OSError as error:
        raise UserError(f"{error.filename or word} cannot be read: {error.strerror or error}") from None


def checked(source: Source) -> Source:
    """The source, after refusing one that cannot be learnt from; an empty split is left out, with a note.

    Raises:
        UserError: fewer than two classes, no training examples, labels that no class belongs to.
    """
    if not len(source.train):
        raise UserError(f"{source.path} has no training examples")
    if source.validation is not None and not len(source.validation):
        source = replace(source, validation=None, notes=(*source.notes, "left out validation: no examples"))
    if source.test is not None and not len(source.test):
        source = replace(source, test=None, notes=(*source.notes, "left out test: no examples"))
    for split, examples in _splits(source):
        labels = np.asarray(examples.labels)
        if labels.dtype != np.int64 or labels.ndim != 1:
            raise UserError(f"{source.path}: labels of {split} are {labels.dtype} {labels.shape}", allowed="int64 (N,)")
        wrong = np.flatnonzero((labels < 0) | (labels >= len(source.classes)))
        if len(wrong):
            raise UserError(
                f"{source.path}: {examples.name(int(wrong[0]))} has label {labels[wrong[0]]}: out of range",
                allowed=f"0 to {len(source.classes) - 1}",
            )
    counts = np.bincount(source.train.labels, minlength=len(source.classes))
    if np.count_nonzero(counts) < 2:
        only = source.classes[int(counts.argmax())]
        raise UserError(
            f"{source.path} has one class only: {only}",
            allowed="two or more classes in the training split",
            then="add examples of another class",
        )
    empty = [name for name, number in zip(source.classes, counts, strict=True) if not number]
    if empty:
        source = replace(source, notes=(*source.notes, f"no training examples of {listed(empty)}"))
    return source


def _splits(source: Source) -> Iterator[tuple[str, Examples]]:
    for split in ("train", "validation", "test"):
        examples = getattr(source, split)
        if examples is not None:
            yield split, examples


def _build(entry: Entry, arguments: tuple[Any, ...], progress: Progress | None, settings: dict[str, Any]) -> Source:
    takes = inspect.signature(entry.build).parameters
    check_settings(entry, settings, reserved=("path", "progress"))
    if "progress" in takes:
        settings = {**settings, "progress": progress}
    return entry.build(*arguments, **settings)


def _detectors() -> list[Entry]:
    entries = [find("source", name) for name in names("source")]
    return sorted((one for one in entries if "recognizes" in one.facts), key=lambda one: (one.facts["order"], one.name))


def _detect(path: Path) -> tuple[Entry, Path]:
    """The source that takes the path, and the place in it where the data lie."""
    detectors = _detectors()
    if (own := _taker(path, detectors)) is not None:
        return own, path
    found = _within(path, detectors, DEPTH)
    if len(found) > 1:
        places = [f"{place} ({entry.name})" for entry, place in found]
        raise UserError(f"{path} holds several data sets: {listed(places)}", then=f"name one of them: {found[0][1]}")
    if found:
        return found[0]
    raise _unknown(path, detectors)


def _taker(path: Path, detectors: list[Entry]) -> Entry | None:
    return next((entry for entry in detectors if entry.facts["recognizes"](path)), None)


def _within(path: Path, detectors: list[Entry], depth: int) -> list[tuple[Entry, Path]]:
    """Data sets in the folders of a folder."""
    if not depth or not path.is_dir():
        return []
    folders, _ = visible(path)
    found: list[tuple[Entry, Path]] = []
    for name in folders[:BREADTH]:
        place = path / name
        own = _taker(place, detectors)
        found += [(own, place)] if own is not None else _within(place, detectors, depth - 1)
    return found


def _nothing_there(word: str, where: Path) -> UserError:
    folders, files = visible(where.parent) if where.parent.is_dir() else ([], [])
    beside = [str(where.parent / one) for one in folders + files]
    named = [name for name in names("source") if find("source", name).facts.get("named")]
    near = nearest(word, named) or nearest(word, beside)
    return UserError(
        f"there is no file or folder {word}",
        allowed="a path, or one of " + ", ".join(named),
        nearest=near,
    )


def _unknown(path: Path, detectors: list[Entry]) -> UserError:
    accepted = ", ".join(entry.facts["accepts"] for entry in detectors)
    if path.is_file():
        held = f"{path} is a file of {path.stat().st_size:,} bytes that is none of the known forms"
        packed = path if path.suffix.lower() in ARCHIVES else None
    else:
        folders, files = visible(path)
        kinds = Counter(os.path.splitext(name)[1].lower() or "without suffix" for name in files)
        inside = [f"{number:,} {kind}" for kind, number in kinds.most_common()]
        if folders:
            inside.append(f"{count(len(folders), 'folder')} ({listed(folders, 3)}) without images")
        held = f"{path} holds no data that is known: {listed(inside) if inside else 'it is empty'}"
        packed = next((path / name for name in files if name.lower().endswith(ARCHIVES)), None)
    return UserError(held, allowed=accepted, then=f"unpack {packed} first" if packed else None)

"""A folder of images with one subfolder a class, alone or below train/, val/ and test/.

    photos/cats/1.jpg  photos/dogs/2.jpg            one split, from which a validation split is drawn
    photos/train/cats/1.jpg  photos/test/cats/9.jpg  splits as given; val, valid and validation mean the same

Class names are sorted naturally. Images may lie any number of folders deep within a class. Links are followed, each
folder once. Hidden files and files that are no images by their name are skipped and counted.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from engram.data.examples import Source
from engram.data.images import SUFFIXES, is_image_name
from engram.data.sources._names import SPLITS, count, listed, visible
from engram.data.sources._stores import Files, Names
from engram.errors import UserError, nearest
from engram.registry import register

GLANCE = 20_000
"""Entries looked at before a folder counts as one without images: enough for any class folder, quick on any disk."""


def recognizes(path: Path) -> bool:
    """Whether an image lies somewhere in the folder."""
    if not path.is_dir():
        return False
    return any(is_image_name(name) for name in islice(_walk(path, _Skipped()), GLANCE))


@register(
    "source",
    recognizes=recognizes,
    order=90,
    accepts="one subfolder of images a class",
)
def folder(path: str | Path) -> Source:
    """Images in one subfolder a class, with or without train/, val/ and test/.

    Raises:
        UserError: no class folders, one class only, a class without images, or splits with different classes.
    """
    root = Path(path)
    skipped = _Skipped()
    splits = _splits(root)
    notes: list[str] = []
    if not splits:
        _refuse_flat(root, root)
        found = _scan(root, visible(root)[0], "", skipped)
        classes = _checked(root, found)
        return Source(str(path), "folder", classes, _files(root, found, classes), notes=tuple(skipped.notes()))
    if "train" not in splits:
        raise UserError(
            f"{root} has {listed([name + '/' for name in splits.values()])} but no train/",
            then=f"put the images to learn from into {root / 'train'}, one subfolder a class",
        )
    left = [name for name in visible(root)[0] if name not in splits.values()]
    if left:
        notes.append(f"left out, beside {splits['train']}/: {listed([name + '/' for name in left])}")
    _refuse_flat(root / splits["train"], root)
    found = _scan(root, visible(root / splits["train"])[0], splits["train"], skipped)
    classes = _checked(root / splits["train"], found)
    files = {"train": _files(root, found, classes)}
    for split in ("validation", "test"):
        if split in splits:
            given = _other_split(root, splits[split], splits["train"], classes, skipped, notes)
            if given is not None:
                files[split] = given
    return Source(str(path), "folder", classes, **files, notes=tuple(notes + skipped.notes()))


@dataclass
class _Skipped:
    """What was passed over, to be told at the end."""

    hidden: int = 0
    broken: int = 0
    again: int = 0
    stray: int = 0
    others: Counter[str] = field(default_factory=Counter)

    def notes(self) -> list[str]:
        lines = []
        if self.hidden:
            lines.append(f"skipped {count(self.hidden, 'hidden file')}")
        if self.stray:
            lines.append(f"skipped {count(self.stray, 'image')} beside the class folders")
        if self.others:
            kinds = listed([kind or "no suffix" for kind, _ in self.others.most_common()])
            lines.append(f"skipped {count(self.others.total(), 'file')} not named as images ({kinds})")
        if self.broken:
            lines.append(f"skipped {count(self.broken, 'link')} leading nowhere")
        if self.again:
            lines.append(f"skipped {count(self.again, 'link')} to a folder already read")
        return lines


def _splits(root: Path) -> dict[str, str]:
    """Folder names by split. None where such names are classes: beside other classes, or a train/ full of images."""
    folders, _ = visible(root)
    splits: dict[str, str] = {}
    for name in folders:
        split = SPLITS.get(name.lower())
        if split in splits:
            raise UserError(
                f"{root} has both {splits[split]}/ and {name}/, which mean the same split", then="keep one of them"
            )
        if split is not None:
            splits[split] = name
    others = [name for name in folders if name not in splits.values()]
    if len(splits) == 1 and any(recognizes(root / name) for name in others):
        [name] = splits.values()
        if any(is_image_name(file) for file in visible(root / name)[1]) or "train" not in splits:
            return {}
    return splits


def _refuse_flat(root: Path, whole: Path) -> None:
    """Errors for a folder that has images but no class folders, or nothing."""
    folders, files = visible(root)
    images = [name for name in files if is_image_name(name)]
    if folders:
        return
    if images:
        raise UserError(
            f"{root} has {count(len(images), 'image')} but no class folders",
            allowed=f"one subfolder a class, such as {root / 'cats'} and {root / 'dogs'}",
            then="sort the images into one folder a class, or list them in a CSV with the columns path,label",
        )
    raise UserError(
        f"{root} has no class folders and no images", then=f"put one subfolder of images a class into {whole}"
    )


def _scan(root: Path, classes: list[str], below: str, skipped: _Skipped) -> dict[str, list[str]]:
    """Paths relative to `root` of the images of each class, sorted."""
    found: dict[str, list[str]] = {}
    with os.scandir(root / below) as entries:
        names = [entry.name for entry in entries]
    skipped.hidden += sum(map(_is_hidden, names))
    skipped.stray += sum(is_image_name(name) and not _is_hidden(name) and name not in classes for name in names)
    for name in classes:
        inside = os.path.join(below, name) if below else name
        images = []
        for file in _walk(root / inside, skipped):
            if is_image_name(file):
                images.append(f"{inside}/{file}")
            else:
                skipped.others[os.path.splitext(file)[1].lower()] += 1
        found[name] = sorted(images)
    return found


def _checked(root: Path, found: dict[str, list[str]]) -> tuple[str, ...]:
    """The classes, after refusing a single one and empty ones."""
    empty = [name for name, images in found.items() if not images]
    if empty:
        holds = Counter(os.path.splitext(name)[1].lower() or name for name in _walk(root / empty[0], _Skipped()))
        inside = f" (it holds {listed([f'{number} {kind}' for kind, number in holds.most_common()])})" if holds else ""
        raise UserError(
            f"{root} has {'a class' if len(empty) == 1 else 'classes'} without images: {listed(empty)}{inside}",
            allowed="images named " + " ".join(sorted(SUFFIXES)),
            then="add images to it, or remove the folder",
        )
    if len(found) == 1:
        [name] = found
        inner = visible(root / name)[0]
        raise UserError(
            f"{root} has one class only: {name}",
            allowed="two or more class folders",
            nearest=str(root / name) if len(inner) > 1 else None,
            then="add a folder with images of another class",
        )
    return tuple(found)


def _files(root: Path, found: dict[str, list[str]], classes: tuple[str, ...]) -> Files:
    index = {name: number for number, name in enumerate(classes)}
    labels = np.repeat(np.array([index[name] for name in found]), [len(images) for images in found.values()])
    return Files(root, Names(name for images in found.values() for name in images), labels)


def _other_split(
    root: Path, name: str, train: str, classes: tuple[str, ...], skipped: _Skipped, notes: list[str]
) -> Files | None:
    """Validation or test files; None, with a note, where that folder has no classes."""
    folders, files = visible(root / name)
    if not folders:
        images = sum(is_image_name(file) for file in files)
        notes.append(f"left out {name}/: {count(images, 'image')} without class folders")
        return None
    strange = [one for one in folders if one not in classes]
    if strange:
        raise UserError(
            f"{root / name} has {'a class' if len(strange) == 1 else 'classes'} that {train}/ lacks: {listed(strange)}",
            nearest=nearest(strange[0], classes),
            then=f"name the folders alike in {train}/ and {name}/",
        )
    found = _scan(root, folders, name, skipped)
    lacking = [one for one in classes if not found.get(one)]
    if len(lacking) == len(classes):
        notes.append(f"left out {name}/: no images in it")
        return None
    if lacking:
        notes.append(f"{name}/ has no images of {listed(lacking)}")
    return _files(root, found, classes)


def _walk(root: Path, skipped: _Skipped) -> Iterator[str]:
    """Paths below `root` of all its visible files, relative to it.

    Each folder is entered once however it is linked, and none of those that `root` lies in: a link back up would give
    a class the images of its neighbours.
    """
    waiting = [""]
    entered = {_identity(parent) for parent in (*root.absolute().parents, *root.resolve().parents)}
    while waiting:
        below = waiting.pop()
        here = os.path.join(root, below)
        identity = _identity(here)
        if identity in entered:
            skipped.again += 1
            continue
        entered.add(identity)
        with os.scandir(here) as entries:
            for entry in entries:
                inside = f"{below}/{entry.name}" if below else entry.name
                if _is_hidden(entry.name):
                    skipped.hidden += 1
                elif entry.is_file():
                    yield inside
                elif entry.is_dir():
                    waiting.append(inside)
                elif entry.is_symlink():
                    skipped.broken += 1


def _identity(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"

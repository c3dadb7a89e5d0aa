"""Where the pictures of a list lie: lists name `17.jpg`, and it is in Images/, or two folders further down."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from engram.data.sources._names import listed, natural
from engram.errors import UserError

DEPTH = 3
BREADTH = 50  # folders beside each other that are looked into
TRIED = 50  # names, at equal distances, by which a folder is recognised: some may be missing


def picture_folder(home: Path, names: Sequence[str], *, first: Sequence[str] = ()) -> Path:
    """The folder, at `home` or below it, in which most of the names that are tried lie.

    Args:
        names: one or more, as the list writes them; one with a folder in it (`train2017/17.jpg`) is looked for with it.
        first: folders that are looked into before all others.

    Raises:
        UserError: none of the names is anywhere, with the first of them and where it was looked for.
    """
    some = names[:: max(1, len(names) // TRIED)]
    best, most = home, 0
    looked: list[str] = []
    for folder in _folders(home, first):
        looked.append(str(folder))
        found = sum(_is_file(folder, name) for name in some)
        if found > most:
            best, most = folder, found
        if found == len(some):
            break
    if not most:
        raise UserError(
            f"none of the pictures with captions is there: {printable(names[0])} is not in {listed(looked, 4)}",
            then=f"put the pictures into {home / (first[0] if first else 'Images')}",
        )
    return best


def present(folder: Path, names: Iterable[str]) -> tuple[set[str], list[str]]:
    """(names that are files, other pictures beside them), each folder read once.

    Pictures are told by their names, see `engram.data.images.is_image_name`; others come sorted.
    """
    from engram.data.images import is_image_name

    wanted = set(names)
    there: set[str] = set()
    others: list[str] = []
    for below in sorted({os.path.dirname(name) for name in wanted}):
        try:
            with os.scandir(os.path.join(folder, below)) as entries:
                held = {f"{below}/{one.name}" if below else one.name for one in entries if one.is_file()}
        except (OSError, ValueError):  # no such folder, or a name that can be none
            continue
        there |= wanted & held
        others += [name for name in held - wanted if is_image_name(name) and not os.path.basename(name).startswith(".")]
    # what the folder spells in another way (/ twice, ./) is a file all the same
    there |= {name for name in wanted - there if _is_file(folder, name)}
    return there, sorted(set(others) - there, key=natural)


def printable(name: str) -> str:
    """A name in a form that can be written, whatever bytes it holds.

    >>> printable("a.jpg"), printable("\\udce9.jpg")
    ('a.jpg', '\\\\udce9.jpg')
    """
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _folders(home: Path, first: Sequence[str]) -> Iterator[Path]:
    """Preferred ones, then `home`, then all below it, the nearer first."""
    preferred = [home / name for name in first if (home / name).is_dir()]
    yield from preferred
    level = [home]
    for _ in range(DEPTH + 1):
        yield from (folder for folder in level if folder not in preferred)
        level = [below for folder in level for below in _below(folder)]


def _below(folder: Path) -> list[Path]:
    """Visible folders in a folder. Not sorted before they are known to be folders: 118,287 pictures lie beside them."""
    try:
        with os.scandir(folder) as entries:
            names = [one.name for one in entries if one.is_dir() and not one.name.startswith((".", "__MACOSX"))]
    except OSError:
        return []
    return [folder / name for name in sorted(names, key=natural)[:BREADTH]]


def _is_file(folder: Path, name: str) -> bool:
    return bool(name) and os.path.isfile(os.path.join(folder, name))

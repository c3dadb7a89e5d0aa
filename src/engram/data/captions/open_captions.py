"""Which captions a path or a name holds, found out by looking, as `engram.data.open` does for classes.

`scenes` is the made set, also where a folder of that name lies here; `./scenes` is the folder. `mine.py:pairs` calls a
function of one's own that returns a `CaptionSource`. Of a path, each layout is asked whether it recognises it, the most
particular first, and then of the folders in it.
"""

from collections.abc import Callable
from pathlib import Path

from engram.data.captions import coco, flickr8k, karpathy, tables
from engram.data.captions.scenes_source import scenes
from engram.data.captions.source import CaptionSource
from engram.data.sources._names import count, listed, visible
from engram.errors import UserError, nearest
from engram.registry import find

LAYOUTS: tuple[tuple[Callable[[Path], bool], Callable[[Path], CaptionSource], str], ...] = (
    (karpathy.recognizes, karpathy.karpathy, karpathy.ACCEPTS),
    (coco.recognizes, coco.coco, coco.ACCEPTS),
    (flickr8k.recognizes, flickr8k.flickr8k, flickr8k.ACCEPTS),
    (tables.recognizes, tables.table, tables.ACCEPTS),
)
DEPTH = 2  # folders within folders that are searched: archives often unpack into a folder of their own name
BREADTH = 20


def open_captions(path: str | Path) -> CaptionSource:
    """The captioned pictures at a path or of a name, whatever their layout.

    Args:
        path: a folder, a file, `scenes`, `scenes:2000`, or `file.py:function`.

    Raises:
        UserError: nothing there, nothing in it that is known (with what was found and what would be accepted), several
            sets, or what the layout itself refuses.

    >>> source = open_captions("scenes:10")
    >>> source.kind, len(source.train), source.train.sentences[0][4]
    ('scenes', 10, 'there is a two and below it is a nine')
    """
    word = str(path)
    try:
        if word.partition(":")[0] == "scenes":
            return scenes(word)
        if ".py:" in word:
            made = find("source", word).build()
            if not isinstance(made, CaptionSource):
                raise UserError(f"{word} returned a {type(made).__name__}", allowed=f"{CaptionSource.__module__}")
            return made
        where = Path(word).expanduser()
        if not where.exists():
            raise _nothing_there(word, where)
        return _open(where)
    except OSError as error:
        raise UserError(f"{error.filename or word} cannot be read: {error.strerror or error}") from None


def _open(where: Path) -> CaptionSource:
    level = [where]
    for _ in range(DEPTH + 1):
        found = [(layout, place) for place in level if (layout := _layout(place)) is not None]
        if len(found) > 1:
            places = [str(place) for _, place in found]
            raise UserError(f"{where} holds several sets of captions: {listed(places)}", then=f"name one: {places[0]}")
        if found:
            (opened, place) = found[0]
            return opened(place)
        level = [place / name for place in level if place.is_dir() for name in visible(place)[0][:BREADTH]]
    raise _unknown(where)


def _layout(place: Path) -> Callable[[Path], CaptionSource] | None:
    return next((opened for recognizes, opened, _ in LAYOUTS if recognizes(place)), None)


def _nothing_there(word: str, where: Path) -> UserError:
    folders, files = visible(where.parent) if where.parent.is_dir() else ([], [])
    beside = [str(where.parent / name) for name in folders + files]
    return UserError(
        f"there is no file or folder {word}",
        allowed="a path, or scenes",
        nearest=nearest(word, ["scenes"]) or nearest(word, beside),
    )


def _unknown(where: Path) -> UserError:
    accepted = "; ".join(accepts for *_, accepts in LAYOUTS)
    if where.is_file():
        return UserError(f"{where} is no file of captions that is known", allowed=accepted)
    folders, files = visible(where)
    inside = [count(len(files), "file")] + ([f"the folders {listed(folders, 3)}"] if folders else [])
    return UserError(
        f"{where} holds no captions: {' and '.join(inside) if files or folders else 'it is empty'}",
        allowed=accepted,
        then="pictures with classes and no sentences: engram train --task classify",
    )

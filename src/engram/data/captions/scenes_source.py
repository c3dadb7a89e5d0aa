"""Made scenes as a set of captions: `scenes`, or `scenes:20000` for so many training scenes.

`scenes:20000:cifar10` (or a path in its place, or nothing in that of the number) puts photographs into them too, of any
set with classes that `engram.data.open` knows; sentences then also say "a cat below a red square".

Validation and test have a tenth as many each. The scenes of a number are the first scenes of any larger number, so what
was learnt from few and from many is judged alike. See `engram.data.scenes`.
"""

import re
from collections.abc import Sequence

import numpy as np

from engram.data.captions.source import Captioned, CaptionSource
from engram.data.open import open_source
from engram.data.scenes.pictures import pictures_of
from engram.data.scenes.scene import Scene, make_scenes
from engram.data.sources._layouts import Layout
from engram.data.sources._stores import Arrays, Rows
from engram.errors import UserError

DEFAULT = 5000
FEWEST, MOST = 10, 200_000  # the most take 1.7 GB and a few minutes to make
WORD = re.compile(r"scenes(?::([0-9]*)(?::(.+))?)?")


def scenes(word: str = "scenes") -> CaptionSource:
    """Training, validation and test scenes with five sentences each, and the box of every word that names a thing.

    Raises:
        UserError: not `scenes`, `scenes:` and a whole number and `:` and a set of pictures; too few or many; what
            `engram.data.scenes.pictures` refuses.

    >>> source = scenes("scenes:20")
    >>> len(source.train), len(source.test), source.train.sentences[0][0], source.train.places[0][0][1:4]
    (20, 2, 'a nine below a two', ((3, 17, 14, 32), None, None))
    """
    match = WORD.fullmatch(word)
    number = int(match[1] or DEFAULT) if match and len(match[1] or "") < 10 else 0
    if match is None or not FEWEST <= number <= MOST:
        raise UserError(
            f"{word!r} names no scenes",
            allowed=f"scenes, scenes:2000 ({FEWEST} to {MOST:,}), scenes:2000:cifar10 (a set of pictures)",
        )
    pictures = pictures_of(open_source(match[2])) if match[2] else None
    few = number // 10
    train, validation, test = (
        captioned(make_scenes(many, split=split, pictures=pictures))
        for split, many in (("train", number), ("validation", few), ("test", few))
    )
    return CaptionSource(word, "scenes", train, validation, test)


def captioned(made: Sequence[Scene]) -> Captioned:
    """Scenes as a split."""
    images = np.stack([scene.image for scene in made])
    names = tuple(scene.name for scene in made)
    examples = _Scenes(images, Layout("NCHW", "same"), np.zeros(len(made), np.int64), Rows(names, (1,) * len(names)))
    return Captioned(
        examples,
        tuple(tuple(str(caption) for caption in scene.captions) for scene in made),
        tuple(tuple(caption.boxes for caption in scene.captions) for scene in made),
    )


class _Scenes(Arrays):
    """Scenes in memory, each with a name of its own."""

    def name(self, index: int) -> str:
        return self.rows.names[index]

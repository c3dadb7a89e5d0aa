"""Made scenes as a set of captions: `scenes`, or `scenes:20000` for so many training scenes.

Validation and test have a tenth as many each. The scenes of a number are the first scenes of any larger number, so what
was learnt from few and from many is judged alike. See `engram.data.scenes`.
"""

import re
from collections.abc import Sequence

import numpy as np

from engram.data.captions.source import Captioned, CaptionSource
from engram.data.scenes.scene import Scene, make_scenes
from engram.data.sources._layouts import Layout
from engram.data.sources._stores import Arrays, Rows
from engram.errors import UserError

DEFAULT = 5000
FEWEST, MOST = 10, 200_000  # the most take 1.7 GB and a few minutes to make
WORD = re.compile(r"scenes(?::(.*))?")


def scenes(word: str = "scenes") -> CaptionSource:
    """Training, validation and test scenes with five sentences each, and the box of every word that names a thing.

    Raises:
        UserError: not `scenes` or `scenes:` and a whole number, or too few or many.

    >>> source = scenes("scenes:20")
    >>> len(source.train), len(source.test), source.train.sentences[0][0], source.train.places[0][0][1:4]
    (20, 2, 'a nine below a two', ((3, 17, 14, 32), None, None))
    """
    match = WORD.fullmatch(word)
    given = match[1] if match else ""
    if not match or (given is not None and not given.isdecimal()) or not FEWEST <= int(given or DEFAULT) <= MOST:
        raise UserError(
            f"{word!r} names no scenes", allowed=f"scenes, or scenes: and a number from {FEWEST} to {MOST:,}"
        )
    number = int(given or DEFAULT)
    few = number // 10
    train, validation, test = (
        captioned(make_scenes(many, split=split))
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

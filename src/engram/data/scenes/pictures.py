"""Photographs as things in a scene: pictures of any set with classes, each called what its class is called.

A scene's pictures are its split's own. Where the set brings no validation or test split, the last fifth of each class
of its training split is the test, and the last fifth of what is left the validation.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engram.data.examples import Examples, Source, Unreadable
from engram.data.images import fit, to_channels
from engram.data.scenes.things import COLORS, DIGITS, SHAPES
from engram.errors import UserError
from engram.text.words import of_sentence

HELD_OUT = 0.2
FEWEST = 5  # pictures of a class, so that each split has one


@dataclass(frozen=True)
class Pictures:
    """Pictures by split and class, read when they are drawn.

    Args:
        names: the words of each class.
        examples: of each split, where its pictures are read.
        rows: of each split, for each class which of these it may take.
    """

    names: tuple[tuple[str, ...], ...]
    examples: Mapping[str, Examples]
    rows: Mapping[str, tuple[NDArray[np.int64], ...]]

    def draw(self, split: str, kind: int, side: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], int]:
        """((3, side, side), which one) of a class, by chance.

        Raises:
            UserError: it cannot be read.
        """
        own = self.rows[split][kind]
        which = int(own[rng.integers(len(own))])
        try:
            found = self.examples[split].read(which, side)
        except Unreadable as error:
            raise UserError(f"a picture for the scenes cannot be read: {error}", then="repair or remove it") from None
        return fit(to_channels(found.astype(np.uint8, copy=False), 3), side), which


def pictures_of(source: Source) -> Pictures:
    """The pictures of a set with classes.

    Raises:
        UserError: no pictures, a class of fewer than five, or one that is called as another thing of the scenes is.
    """
    first = source.train.read(0)
    if first.dtype != np.uint8 or first.ndim != 3:
        raise UserError(f"{source.path} holds no pictures for scenes: {first.dtype} {first.shape}")
    names = tuple(tuple(of_sentence(name.replace("_", " "))) for name in source.classes)
    taken: set[tuple[str, ...]] = {(word,) for word in DIGITS}
    taken |= {(color, shape) for color in COLORS for shape in SHAPES}
    for name, word in zip(names, source.classes, strict=True):
        if not name or name in taken:
            raise UserError(f"class {word!r} of {source.path} cannot be named in a sentence about scenes")
        taken.add(name)
    train = _by_class(source.train, len(names))
    for word, own in zip(source.classes, train, strict=True):
        if len(own) < FEWEST:
            raise UserError(f"class {word!r} of {source.path} has {len(own)} pictures", allowed=f"{FEWEST} or more")
    examples, rows = {"train": source.train}, {"train": train}
    for split, given in (("test", source.test), ("validation", source.validation)):
        if given is not None and all(len(own) for own in _by_class(given, len(names))):
            examples[split], rows[split] = given, _by_class(given, len(names))
            continue
        cuts = [len(own) - max(1, round(HELD_OUT * len(own))) for own in rows["train"]]
        examples[split] = source.train
        rows[split] = tuple(own[cut:] for own, cut in zip(rows["train"], cuts, strict=True))
        rows["train"] = tuple(own[:cut] for own, cut in zip(rows["train"], cuts, strict=True))
    return Pictures(names, examples, rows)


def _by_class(examples: Examples, number: int) -> tuple[NDArray[np.int64], ...]:
    return tuple(np.flatnonzero(examples.labels == kind) for kind in range(number))

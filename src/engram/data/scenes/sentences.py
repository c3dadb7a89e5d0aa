"""Five ways to say what is where, each true, and the box that belongs to each word.

Of two things in one row, one is left of the other; of two in one column, one is above. Words that name a thing (its
colour, its shape, its digit) have its box. Articles, relations and pronouns have none: there is no one place to look.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from engram.data.scenes.things import Box, Thing

ASIDE = {"left of": "on its left", "right of": "on its right", "above": "above it", "below": "below it"}


@dataclass(frozen=True)
class Caption:
    """A sentence, lower case and without punctuation, word by word.

    Args:
        words: (T,).
        boxes: (T,), None for a word that names no thing.
    """

    words: tuple[str, ...]
    boxes: tuple[Box | None, ...]

    def __str__(self) -> str:
        return " ".join(self.words)


def relation(one: Thing, other: Thing) -> str:
    """Where `one` is from `other`, which shares its row or its column.

    >>> seven, square = Thing(("seven",), (0, 0, 9, 9), 0, 0), Thing(("red", "square"), (20, 0, 30, 9), 0, 1)
    >>> relation(seven, square), relation(square, seven)
    ('left of', 'right of')
    """
    if one.row == other.row:
        return "left of" if one.column < other.column else "right of"
    return "above" if one.row < other.row else "below"


def captions(chain: Sequence[Thing]) -> tuple[Caption, ...]:
    """Five sentences about two or three things, of which each shares a row or a column with the next.

    >>> seven, square = Thing(("seven",), (0, 0, 9, 9), 0, 0), Thing(("red", "square"), (20, 0, 30, 9), 0, 1)
    >>> for caption in captions([seven, square, Thing(("three",), (21, 16, 29, 30), 1, 1)]):
    ...     print(caption)
    a seven left of a red square above a three
    a three below a red square right of a seven
    a red square with a seven on its left and a three below it
    there is a seven and right of it is a red square and below that is a three
    there is a three and above it is a red square and left of that is a seven
    """
    back = list(reversed(chain))
    said = _chained(chain), _chained(back), _around(chain), _told(chain), _told(back)
    return tuple(_caption(parts) for parts in said)


Parts = list[str | Thing]


def _chained(chain: Sequence[Thing]) -> Parts:
    parts: Parts = [chain[0]]
    for one, other in pairwise(chain):
        parts += [relation(one, other), other]
    return parts


def _around(chain: Sequence[Thing]) -> Parts:
    """From the second thing, which has the first and the third beside it."""
    first, middle, *last = chain
    parts: Parts = [middle, "with", first, ASIDE[relation(first, middle)]]
    for one in last:
        parts += ["and", one, ASIDE[relation(one, middle)]]
    return parts


def _told(chain: Sequence[Thing]) -> Parts:
    parts: Parts = ["there is", chain[0]]
    for pronoun, one, other in zip(("it", "that"), chain, chain[1:], strict=False):
        parts += ["and", relation(other, one), pronoun, "is", other]
    return parts


def _caption(parts: Parts) -> Caption:
    words: list[str] = []
    boxes: list[Box | None] = []
    for part in parts:
        own = part.split() if isinstance(part, str) else [part.article]
        words += own
        boxes += [None] * len(own)
        if isinstance(part, Thing):
            words += part.words
            boxes += [part.box] * len(part.words)
    return Caption(tuple(words), tuple(boxes))

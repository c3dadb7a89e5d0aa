"""Words that suit the data when nobody says which: what is usual on its kind, and nothing that changes a label.

colour photographs, side up to 64    crop:4,flip              (below 32 pixels a margin of an eighth)
colour photographs, larger           resized_crop:0.35,flip   (0.35 rather than the paper's 0.08: runs are short)
letters, digits, left against right  no flip: mirrored they are another thing or none
grey pictures, other channels        crop, with a margin of a sixteenth: grey sets are mostly handwriting and
                                     scans, where position varies little and a mirrored 2 or 7 is no digit
any side below 16                    no crop: every pixel counts
signals and volumes                  nothing: what leaves their label unchanged only their owner knows

Measured on the 8 x 8 handwritten digits with a small convolutional network, 20 epochs, 4 seeds, test accuracy: no word
99.3 %, crop:1 98.7 %, crop:1,flip 97.5 %.
"""

import re
from collections.abc import Iterable, Sequence

from engram import grammar

SPELLED = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SMALLEST = 16
"""Pixels; a smaller picture has no place to lose at its border."""
SIDES = re.compile(r"(^|[^a-z])(left|right)([^a-z]|$)", re.IGNORECASE)


def auto(kind: str, shape: Sequence[int], classes: Sequence[str] = ()) -> tuple[str, ...]:
    """The words for data that nobody described.

    Args:
        kind: of the source, as `Source.kind` gives it. A `folder` named 0 to 9 holds digits; elsewhere bare numbers
            are how classes without a name are called, and say nothing.
        shape: (C, *S) that the network sees.
        classes: their names.

    >>> auto("cifar10", (3, 32, 32), ("airplane", "cat")), auto("mnist", (1, 28, 28)), auto("npz", (1, 4096))
    (('crop:4', 'flip'), ('crop:2',), ())
    """
    channels, *sides = shape
    if len(sides) != 2:
        return ()
    side = min(sides)
    mirrored = ("flip",) if channels == 3 and not _one_sided(kind, classes) else ()
    if side < SMALLEST:
        return mirrored
    if channels != 3:
        return (f"crop:{round(side / 16)}", *mirrored)
    return (f"crop:{min(4, side // 8)}" if side <= 64 else "resized_crop:0.35", *mirrored)


def resolve(
    words: str | Iterable[str], *, kind: str, shape: Sequence[int], classes: Sequence[str] = ()
) -> tuple[str, ...]:
    """The words with every `auto` among them replaced: `auto,mixup:0.2` adds to what suits the data.

    >>> resolve("auto,cutout:8", kind="cifar10", shape=(3, 32, 32))
    ('crop:4', 'flip', 'cutout:8')
    """
    resolved: list[str] = []
    for word in grammar.split(words):
        resolved += auto(kind, shape, classes) if word == "auto" else [word]
    return tuple(resolved)


def _one_sided(kind: str, classes: Sequence[str]) -> bool:
    """Whether the names say that a mirrored example is no example of its class."""
    names = [name.strip().lower() for name in classes]
    if any(SIDES.search(name) for name in names):
        return True
    characters = [len(name) == 1 and not name.isdigit() for name in names]
    digits = [name in SPELLED or (kind == "folder" and name.isdigit() and len(name) == 1) for name in names]
    return bool(names) and all(one or other for one, other in zip(characters, digits, strict=True))

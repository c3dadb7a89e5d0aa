"""Where the thing is that a written word names: from sentences whose words have boxes to any other about the picture.

A network writes its own sentences. A word has a place only as part of a whole name: `red` alone may be either of two
things, but `red square` is one. What names nothing in the picture (also a name that is wrong) has no place.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby

from engram.data.captions.source import WordBoxes
from engram.data.scenes.things import Box
from engram.text.words import of_sentence

Names = dict[tuple[str, ...], Box]


def names_in(sentences: Sequence[str], boxes: Sequence[WordBoxes]) -> Names:
    """What the things of a picture are called: each run of words that share a box.

    >>> names_in(["a seven above a red square"], [(None, (9, 0, 20, 14), None, None, (2, 16, 9, 30), (2, 16, 9, 30))])
    {('seven',): (9, 0, 20, 14), ('red', 'square'): (2, 16, 9, 30)}
    """
    names: Names = {}
    for sentence, own in zip(sentences, boxes, strict=True):
        for box, run in groupby(zip(of_sentence(sentence), own, strict=True), key=lambda pair: pair[1]):
            if box is not None:
                names[tuple(word for word, _ in run)] = box
    return names


def places_of(words: Sequence[str], names: Mapping[tuple[str, ...], Box]) -> WordBoxes:
    """For each word the box of the name that it is part of, the longest name first.

    >>> names = {("seven",): (9, 0, 20, 14), ("red", "square"): (2, 16, 9, 30)}
    >>> places_of("a red square below a red circle".split(), names)
    (None, (2, 16, 9, 30), (2, 16, 9, 30), None, None, None, None)
    """
    found: list[Box | None] = []
    lengths = sorted({len(name) for name in names}, reverse=True)
    while len(found) < len(words):
        runs = (tuple(words[len(found) :][:length]) for length in lengths)
        name = next((run for run in runs if run in names), None)
        found += [None] if name is None else [names[name]] * len(name)
    return tuple(found)

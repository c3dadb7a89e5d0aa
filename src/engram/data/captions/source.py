"""What every layout of captions gives: pictures that are read when asked for, and the sentences that belong to each."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from engram.data.examples import Examples
from engram.data.scenes.things import Box

WordBoxes = tuple[Box | None, ...]
"""For each word of a sentence the box of what it names, None where it names nothing."""


@dataclass(frozen=True)
class Captioned:
    """A split: N pictures, one or more sentences each.

    Args:
        examples: the pictures; their labels say nothing and are 0.
        sentences: (N,) as people wrote them, case and punctuation included.
        places: (N,) for each sentence of a picture the boxes of its words, in pixels of the picture as it is stored;
            None where nobody knows.

    Raises:
        ValueError: not as many of each.
    """

    examples: Examples
    sentences: tuple[tuple[str, ...], ...]
    places: tuple[tuple[WordBoxes, ...], ...] | None = None

    def __post_init__(self) -> None:
        if len(self.examples) != len(self.sentences):
            raise ValueError(f"{len(self.examples)} pictures, but sentences of {len(self.sentences)}")
        if self.places is not None and [*map(len, self.places)] != [*map(len, self.sentences)]:
            raise ValueError("not every sentence has its places")

    def __len__(self) -> int:
        return len(self.sentences)

    @property
    def number_of_sentences(self) -> int:
        return sum(map(len, self.sentences))


@dataclass(frozen=True)
class CaptionSource:
    """A set of captioned pictures as found.

    Args:
        path: what was asked for.
        kind: the layout: `flickr8k`, `coco`, `karpathy`, `table` or `scenes`.
        notes: what was left out and why, what was noticed.
    """

    path: str
    kind: str
    train: Captioned
    validation: Captioned | None = None
    test: Captioned | None = None
    notes: tuple[str, ...] = field(default=())

    def splits(self) -> Iterator[tuple[str, Captioned]]:
        """(name, split) of those that are there."""
        for name in ("train", "validation", "test"):
            split = getattr(self, name)
            if split is not None:
                yield name, split

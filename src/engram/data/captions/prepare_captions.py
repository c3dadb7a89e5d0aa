"""From a set of captions to what training needs: pools of pairs, the vocabulary, and the references to score by.

Pictures go through `engram.data.prepare`, as those of classes do: the same choice of size, the same memory, the same
treatment of what cannot be read. Validation is held out by picture, with all of its sentences, so that no picture is
both learnt and judged by. `data.limit` counts pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from engram.data.captions.caption_pool import CaptionPool
from engram.data.captions.numbered import LONGEST, Numbered, least_for, numbered, vocabulary_of
from engram.data.captions.source import Captioned, CaptionSource, WordBoxes
from engram.data.examples import Examples, Source, Unreadable
from engram.data.pool import Pool
from engram.data.prepare import Progress, prepare
from engram.data.sources._names import count
from engram.decision import Decision
from engram.errors import UserError
from engram.recipe import Data
from engram.text.vocabulary import Words


@dataclass(frozen=True)
class PreparedCaptions:
    """Everything about the data that a run needs.

    Args:
        shape: (C, H, W) that the network sees.
        stored_shape: (C, H, W) of the pools, from which crops are cut.
        mean: (C,) of the training pictures, each counted once, 0 to 255.
        std: (C,) likewise.
        sizes: (M, 2) sizes as found, of the pictures that were looked at.
        references: of each split, for each picture of `pool.images` in order, all of its sentences as written, those
            too long for training included.
        places: likewise the boxes of the words of each sentence; None where nobody knows.
        numbered: of each split, its sentences as numbers.
    """

    path: str
    kind: str
    train: CaptionPool
    validation: CaptionPool | None
    test: CaptionPool | None
    vocabulary: Words
    shape: tuple[int, ...]
    stored_shape: tuple[int, ...]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    sizes: NDArray[np.int64]
    references: dict[str, tuple[tuple[str, ...], ...]]
    places: dict[str, tuple[tuple[WordBoxes, ...], ...]] | None
    numbered: dict[str, Numbered]
    decisions: list[Decision] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    def pools(self) -> dict[str, CaptionPool]:
        """Those that are there, by split."""
        found = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: pool for name, pool in found.items() if pool is not None}


def prepare_captions(
    source: CaptionSource,
    recipe: Data,
    *,
    seed: int,
    device: torch.device,
    least: int | None = None,
    longest: int | None = None,
    model_shape: Sequence[int] | None = None,
    progress: Progress = lambda done, total: None,
) -> PreparedCaptions:
    """Choose the pictures and their size, read them, and number the words of their sentences.

    Args:
        least: how often a word must occur in the training sentences to be in the vocabulary (none or 0: by their
            number, see `engram.data.captions.numbered`).
        longest: words of a sentence above which it is left out (none: 40).
        model_shape: (C, H, W) the network was made for, which decides the size where pictures are of many sizes.
        progress: told how many pictures have been read, of how many.

    Raises:
        UserError: pictures that cannot be used, see `engram.data.prepare.prepare`; no word occurs often enough; every
            training sentence is too long; settings below 1.

    >>> from engram.data.captions.open_captions import open_captions
    >>> made = open_captions("scenes:20")
    >>> prepared = prepare_captions(made, Data(), seed=0, device=torch.device("cpu"))
    >>> x, y = next(prepared.train.batches([torch.tensor([0, 7])]))
    >>> tuple(x.shape), prepared.train.name(7), prepared.vocabulary.decode(y[1].tolist())
    ((2, 3, 48, 48), 'train/1#2', 'a five with a one below it')
    """
    for name, value, smallest in (("text.least", least, 0), ("text.longest", longest, 1)):
        if value is not None and value < smallest:
            raise UserError(f"{name} {value} is too small", allowed=f"{smallest} or more")
    longest = LONGEST if longest is None else longest
    splits = dict(source.splits())
    validation, test = (splits[name].examples if name in splits else None for name in ("validation", "test"))
    pictures = Source(source.path, source.kind, ("pictures",), source.train.examples, validation, test)
    seen = prepare(pictures, recipe, seed=seed, device=device, model_shape=model_shape, progress=progress)
    images = {name: pool for name in ("train", "validation", "test") if (pool := getattr(seen, name)) is not None}
    own = {name: _kept(splits.get(name, source.train), _rows(pool)) for name, pool in images.items()}
    least = least or least_for(own["train"].number_of_sentences, made=source.kind == "scenes")
    vocabulary = vocabulary_of((one for several in own["train"].sentences for one in several), least)
    found = {name: numbered(split.sentences, vocabulary, longest) for name, split in own.items()}
    if not len(found["train"].lengths):
        raise UserError(
            f"{source.path}: every training sentence has more than {longest} words", then="--text.longest 100"
        )
    notes = [*seen.notes, *source.notes]
    for name, numbers in found.items():
        notes += _notes(name, numbers, images[name], longest)
    pools = {name: CaptionPool(images[name], numbers) for name, numbers in found.items() if len(numbers.lengths)}
    places = {name: split.places for name, split in own.items() if split.places is not None}
    return PreparedCaptions(
        path=source.path,
        kind=source.kind,
        train=pools["train"],
        validation=pools.get("validation"),
        test=pools.get("test"),
        vocabulary=vocabulary,
        shape=seen.shape,
        stored_shape=seen.stored_shape,
        mean=seen.mean,
        std=seen.std,
        sizes=seen.sizes,
        references={name: own[name].sentences for name in pools},
        places=places or None,
        numbered={name: found[name] for name in pools},
        decisions=[*_decisions(seen.decisions, source, images, recipe, seed), *_words(vocabulary, least, longest)],
        unreadable=seen.unreadable,
        notes=tuple(notes),
    )


def _rows(pool: Pool) -> NDArray[np.int64]:
    """Which of its split's pictures a pool holds, in its order."""
    rows = getattr(pool, "rows", None)
    if rows is None:
        raise TypeError(f"{type(pool).__name__} does not say which pictures it holds")
    return rows


def _kept(split: Captioned, rows: NDArray[np.int64]) -> Captioned:
    """The sentences of some of the pictures."""
    places = None if split.places is None else tuple(split.places[row] for row in rows)
    return Captioned(_Some(split.examples, rows), tuple(split.sentences[row] for row in rows), places)


class _Some(Examples):
    """Some examples of a split, in this order."""

    def __init__(self, examples: Examples, rows: NDArray[np.int64]) -> None:
        self.examples, self.rows, self.labels = examples, rows, examples.labels[rows]

    def name(self, index: int) -> str:
        return self.examples.name(int(self.rows[index]))

    def read(self, index: int, at_least: int | None = None) -> NDArray[np.generic]:
        return self.examples.read(int(self.rows[index]), at_least)

    def size_of(self, index: int) -> int | None:
        return self.examples.size_of(int(self.rows[index]))


def _notes(split: str, numbers: Numbered, images: Pool, longest: int) -> list[str]:
    """What of a split's sentences is left out or unknown."""
    notes = []
    if numbers.too_long:
        shown = ", ".join(f"{images.name(picture)}#{order}" for picture, order in numbers.too_long[:3])
        rest = f" and {len(numbers.too_long) - 3:,} more" if len(numbers.too_long) > 3 else ""
        many = count(len(numbers.too_long), "sentence")
        notes.append(f"left out of {split} {many} of more than {longest} words: {shown}{rest}")
    if numbers.unknown:
        share = numbers.unknown / numbers.words
        notes.append(f"{numbers.unknown:,} of {numbers.words:,} words in {split} are <unknown> ({share:.1%})")
    if not len(numbers.lengths):
        notes.append(f"left out {split}: no sentence is left")
    return notes


def _decisions(
    decisions: Sequence[Decision], source: CaptionSource, images: dict[str, Pool], recipe: Data, seed: int
) -> list[Decision]:
    """Those about the pictures, in words that fit pictures."""
    made = [one for one in decisions if one.setting != "data.validation"]
    if "validation" not in images:
        return [*made, *(one for one in decisions if one.setting == "data.validation")]
    brought = source.validation is not None
    why = "the data brings them" if brought else f"{recipe.validation:.0%} of the training pictures, by seed {seed}"
    number = f"{len(images['validation']):,} pictures with all of their sentences"
    return [*made, Decision("data.validation", number, why)]


def _words(vocabulary: Words, least: int, longest: int) -> list[Decision]:
    return [
        Decision("text.least", count(least, "time"), f"{len(vocabulary):,} tokens, 4 of them special"),
        Decision("text.longest", count(longest, "word"), "longer sentences are left out of training"),
    ]

"""Sentences as numbers: which words a vocabulary keeps, which sentences are left out, how many words are unknown.

Words are counted in the training sentences only. From 10,000 sentences on those are kept that occur at least 5 times
(Karpathy and Fei-Fei 2015, section 4), from 1,000 on at least 2 times, below that and of made sentences all. Every
other word is `<unknown>`. With a least of 1 training never sees `<unknown>`, and the network will not write it.

A sentence of more words than `longest` is left out of all pools, not cut: cut, it would teach the network to stop in
the middle. As a reference to score by it stays.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engram.text.vocabulary import END, PADDING, START, UNKNOWN, Words
from engram.text.words import of_sentence

LONGEST = 40
"""Words, without `<start>` and `<end>`; a batch is as long as its longest sentence, so a paragraph costs all of it."""

MANY, SOME = 10_000, 1_000
SPECIAL = (PADDING, START, END, UNKNOWN)


def least_for(sentences: int, *, made: bool = False) -> int:
    """How often a word must occur to be kept, from how many sentences there are.

    >>> least_for(30_000), least_for(2_000), least_for(50), least_for(25_000, made=True)
    (5, 2, 1, 1)
    """
    if made or sentences < SOME:
        return 1
    return 5 if sentences >= MANY else 2


def vocabulary_of(sentences: Iterable[str], least: int) -> Words:
    """The words that occur often enough, after the four special tokens.

    Raises:
        UserError: none does.

    >>> vocabulary_of(["A dog.", "A cat."], 2).tokens
    ('<padding>', '<start>', '<end>', '<unknown>', 'a')
    """
    return Words.of(sentences, at_least=least, special=SPECIAL)


@dataclass(frozen=True)
class Numbered:
    """The sentences of a split as rows of numbers, N in all.

    Args:
        tokens: int32 (N, T): `<start>`, the words, `<end>`, and `<padding>` up to the longest.
        lengths: int64 (N,), numbers in each row that are no padding.
        picture: int64 (N,), whose sentence it is.
        order: int64 (N,), which of that picture's sentences, from 0, those left out counted.
        words: how many words all the rows have, unknown ones too.
        unknown: how many of these the vocabulary lacks.
        too_long: (picture, which of its sentences) of those left out.
    """

    tokens: Tensor
    lengths: NDArray[np.int64]
    picture: NDArray[np.int64]
    order: NDArray[np.int64]
    words: int
    unknown: int
    too_long: tuple[tuple[int, int], ...]


def numbered(sentences: Sequence[Sequence[str]], vocabulary: Words, longest: int = LONGEST) -> Numbered:
    """The sentences of each picture, in order, those of more than `longest` words left out.

    >>> found = numbered([["A dog."], ["A small cat."]], vocabulary_of(["a dog"], 1), longest=2)
    >>> found.tokens.tolist(), found.too_long
    ([[1, 4, 5, 2]], ((1, 0),))
    """
    index = vocabulary.index
    padding, start, end, unknown = (vocabulary.special_index(token) for token in SPECIAL)
    rows: list[list[int]] = []
    places: list[tuple[int, int]] = []
    too_long: list[tuple[int, int]] = []
    for picture, own in enumerate(sentences):
        for order, sentence in enumerate(own):
            words = of_sentence(sentence)  # cut once: COCO's 591,753 take ten seconds
            if len(words) > longest:
                too_long.append((picture, order))
                continue
            rows.append([start, *(index.get(word, unknown) for word in words), end])
            places.append((picture, order))
    lengths = np.array([len(row) for row in rows], np.int64)
    tokens = np.full((len(rows), int(lengths.max(initial=2))), padding, np.int32)
    tokens[np.arange(tokens.shape[1]) < lengths[:, None]] = [token for row in rows for token in row]
    where = np.array(places, np.int64).reshape(-1, 2)
    return Numbered(
        torch.from_numpy(tokens),
        lengths,
        where[:, 0],
        where[:, 1],
        int(lengths.sum()) - 2 * len(rows),
        int((tokens == unknown).sum()),
        tuple(too_long),
    )

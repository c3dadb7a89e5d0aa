"""Does attention look at what a word names? Scored where the right place is known, against looking anywhere.

Attention gives every word a share a_ij for each cell of a grid of h x w over the picture, Σ a = 1. Two measures, each
beside what an even gaze would reach:

    mass      Σ_ij a_ij · (share of cell ij that lies in the box of the thing)      chance: the box's share of the area
    pointing  1 if the middle of the cell of the largest a_ij lies in the box       chance: the share of such middles

A cell's attention counts as spread evenly over it. A large thing is easy to hit, so each is read beside its chance.
Pointing asks where the gaze is sharpest, and is all that a single sampled location (hard attention) leaves to ask; a
thing smaller than a cell may hold no middle and can then not be hit. What a cell of a convolutional network knows comes
from around it too, so that attention beside a thing is not always wrong.

Words that name nothing have no place and are left out. The mass is the attention correctness of Liu et al. 2017,
"Attention Correctness in Neural Image Captioning", arXiv 1605.09553, who scored Xu's attention on Flickr30k; pointing
is the pointing game of Zhang et al. 2016, "Top-down Neural Attention by Excitation Backprop", arXiv 1608.00507, there
with a tolerance of 15 pixels around the thing, here with none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engram.data.captions.naming_places import names_in, places_of
from engram.data.captions.source import WordBoxes
from engram.data.scenes.things import Box
from engram.errors import UserError


@dataclass(frozen=True)
class AttentionScore:
    """One entry for each word that names something.

    Args:
        word: (K,) int64, which of the words that were given.
        mass: (K,) of the attention that lies in the box.
        area: (K,) of the picture that the box takes: the mass of an even gaze.
        pointed: (K,) 1 where the largest attention lies in the box, 0 where not; of several as large their mean.
        pointed_by_chance: (K,) the same of a cell drawn at random.
    """

    word: NDArray[np.int64]
    mass: NDArray[np.float64]
    area: NDArray[np.float64]
    pointed: NDArray[np.float64]
    pointed_by_chance: NDArray[np.float64]

    def means(self) -> dict[str, float]:
        """The number of words and the mean of each measure; of no words, only their number."""
        measures = ("mass", "area", "pointed", "pointed_by_chance") if len(self.word) else ()
        return {"words": len(self.word), **{name: float(getattr(self, name).mean()) for name in measures}}


def attention_score(maps: ArrayLike, boxes: Sequence[Box | None], size: tuple[int, int]) -> AttentionScore:
    """Mass and pointing of each word that has a box.

    Args:
        maps: (n, h, w) attention of each word, 0 or more; scaled to a sum of 1 here.
        boxes: (n,) in pixels of a picture of `size`; None for a word that names nothing.
        size: (H, W) of that picture, over all of which the grid lies.

    Raises:
        UserError: not as many maps as boxes, maps that are negative, infinite or all zero, a box outside the picture.

    A thing fills the right half of the picture, and three quarters of the attention are there:

    >>> attention_score([[[0.25, 0.75]]], [(4, 0, 8, 8)], (8, 8)).means()
    {'words': 1, 'mass': 0.75, 'area': 0.5, 'pointed': 1.0, 'pointed_by_chance': 0.5}
    """
    given = np.asarray(maps, np.float64)
    if given.ndim != 3 or len(given) != len(boxes):
        raise UserError(f"attention of shape {given.shape} for {len(boxes)} words", allowed="(words, h, w)")
    named = np.array([index for index, box in enumerate(boxes) if box is not None], np.int64)
    rows = [_score(given[index], _checked(boxes[index], size), size, int(index)) for index in named]
    mass, area, pointed, chance = np.array(rows, np.float64).reshape(-1, 4).T
    return AttentionScore(named, mass, area, pointed, chance)


def joined(scores: Sequence[AttentionScore]) -> AttentionScore:
    """The words of many pictures as one score; `word` then counts within each picture.

    >>> one = attention_score([[[1, 1]]], [(0, 0, 1, 1)], (1, 2))
    >>> joined([one, one]).means()["words"]
    2
    """
    if not scores:
        return attention_score(np.empty((0, 1, 1)), [], (1, 1))
    fields = ("word", "mass", "area", "pointed", "pointed_by_chance")
    return AttentionScore(*(np.concatenate([getattr(score, name) for score in scores]) for name in fields))


def attention_of_sentences(
    written: Sequence[Sequence[str]],
    maps: Sequence[ArrayLike],
    references: Sequence[Sequence[str]],
    places: Sequence[Sequence[WordBoxes]],
    size: tuple[int, int],
) -> AttentionScore:
    """The score of the sentences that a network wrote, each about a picture of which places are known.

    A word counts where it is part of the whole name of a thing that is there, see `engram.data.captions.naming_places`.

    Args:
        written: (N,) the words of each.
        maps: (N,) attention (n, h, w) of each word; further ones, such as that of `<end>`, are left out.
        references: (N,) sentences about each picture, as `PreparedCaptions.references` of a split.
        places: (N,) the boxes of their words, as `PreparedCaptions.places`.
        size: (H, W) of the pictures.

    >>> maps = [[[[1, 1]], [[1, 3]]]]
    >>> score = attention_of_sentences([["a", "seven"]], maps, [["seven"]], [[((4, 0, 8, 8),)]], (8, 8))
    >>> score.means()["mass"]
    0.75
    """
    scores = []
    for words, own, sentences, boxes in zip(written, maps, references, places, strict=True):
        named = places_of(words, names_in(sentences, boxes))
        scores.append(attention_score(np.asarray(own, np.float64)[: len(words)], named, size))
    return joined(scores)


def _score(attention: NDArray[np.float64], box: Box, size: tuple[int, int], index: int) -> tuple[float, ...]:
    """(mass, area, pointed, pointed by chance) of one word."""
    total = attention.sum()
    if not np.isfinite(attention).all() or (attention < 0).any() or total <= 0:
        raise UserError(f"the attention of word {index} is no distribution", allowed="numbers from 0, not all 0")
    x0, y0, x1, y1 = box
    tall, wide = size
    down, across = _cover(attention.shape[0], y0 / tall, y1 / tall), _cover(attention.shape[1], x0 / wide, x1 / wide)
    middles = np.outer(
        _middles(attention.shape[0], y0 / tall, y1 / tall), _middles(attention.shape[1], x0 / wide, x1 / wide)
    )
    largest = attention == attention.max()
    return (
        float(down @ attention @ across / total),
        (x1 - x0) * (y1 - y0) / (tall * wide),
        float(middles[largest].mean()),
        float(middles.mean()),
    )


def _cover(cells: int, low: float, high: float) -> NDArray[np.float64]:
    """Which share of each cell of an axis lies between two places, all from 0 to 1."""
    edges = np.arange(cells + 1) / cells
    return np.maximum(0, np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)) * cells


def _middles(cells: int, low: float, high: float) -> NDArray[np.bool_]:
    middles = (np.arange(cells) + 0.5) / cells
    return (middles >= low) & (middles < high)


def _checked(box: Box | None, size: tuple[int, int]) -> Box:
    if box is None or not (0 <= box[0] < box[2] <= size[1] and 0 <= box[1] < box[3] <= size[0]):
        raise UserError(f"box {box} is not within a picture {size[1]} pixels wide and {size[0]} high")
    return box

"""Scenes by seed: two or three things on a grid of 3 x 3 places, no two of them called the same.

A thing is a digit or a shape with equal chance, then any digit, or any shape in any colour, that is not in the scene
yet; where photographs are given, it is one of these with a third of the chance. The second stands anywhere, the first
in its row or column, the third in its row or column too; each lies by chance within its place of 16 x 16 pixels, in a
size by chance, and so no two overlap. The background is a dark, even colour.

Scene `index` of a split and a seed is always the same, however many are made. Handwriting is not shared: training and
validation scenes take their digits from four fifths and one fifth of the digits' training split, test scenes from its
test split. What is said about them is: the same sentence can occur in all three.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from engram.data.scenes.drawing import digit, draw, shape
from engram.data.scenes.pictures import Pictures
from engram.data.scenes.sentences import Caption, captions
from engram.data.scenes.things import COLORS, DIGITS, SHAPES, Box, Thing
from engram.data.sources.digits import digits
from engram.errors import UserError, unknown

GRID = 3  # places a side
PLACE = 16  # pixels of a place
SIDE = GRID * PLACE
SPLITS = ("train", "validation", "test")
HELD_OUT = 0.2  # share of the digits' training split that validation scenes are made of
DIGIT_SIDES, SHAPE_SIDES = (13, 16), (9, 13)  # pixels, both included; a digit has a margin of its own
PICTURE_SIDES = (15, 16)  # smaller, nobody could tell what it shows
DARKEST, DARK = 0, 45  # background, 8-bit
VARIED = 14  # by how much, up or down, a colour differs from its name's, 8-bit


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and what is true of it.

    Args:
        name: `train/17`.
        image: (3, 48, 48) uint8, red, green, blue.
        things: two or three, of which each shares a row or a column with the next.
    """

    name: str
    image: NDArray[np.uint8]
    things: tuple[Thing, ...]

    @cached_property
    def captions(self) -> tuple[Caption, ...]:
        """Five sentences, each about all of the things."""
        return captions(self.things)


def make_scenes(number: int, *, split: str = "train", seed: int = 0, pictures: Pictures | None = None) -> list[Scene]:
    """Scenes 0 to number - 1.

    Args:
        pictures: photographs that may be in them too.

    Raises:
        UserError: no such split, or fewer than one.

    >>> [str(scene.captions[0]) for scene in make_scenes(2)]
    ['a nine below a two', 'a one below a five']
    """
    if number < 1:
        raise UserError(f"{number} scenes cannot be made", allowed="1 or more")
    return [make_scene(index, split=split, seed=seed, pictures=pictures) for index in range(number)]


def make_scene(index: int, *, split: str = "train", seed: int = 0, pictures: Pictures | None = None) -> Scene:
    """One scene, the same for the same index, split, seed and pictures.

    Raises:
        UserError: no such split.

    >>> make_scene(5).image.shape, make_scene(5).name
    ((3, 48, 48), 'train/5')
    """
    if split not in SPLITS:
        raise unknown("split of scenes", split, SPLITS)
    rng = np.random.Generator(np.random.PCG64([seed, SPLITS.index(split), index]))
    image = np.empty((3, SIDE, SIDE), np.uint8)
    image[:] = rng.integers(DARKEST, DARK, (3, 1, 1), endpoint=True)
    number = int(rng.integers(2, 3, endpoint=True))
    chosen = _choose(number, rng, pictures)
    places = _arrange(number, rng)
    things = tuple(_put(image, *pair, split, rng, pictures) for pair in zip(chosen, places, strict=True))
    return Scene(f"{split}/{index}", image, things)


def _choose(number: int, rng: np.random.Generator, pictures: Pictures | None) -> list[tuple[str, ...]]:
    """What so many things are called, no two alike."""
    figures = iter(rng.permutation(len(DIGITS)))
    shapes = iter(rng.permutation(len(COLORS) * len(SHAPES)))
    chosen: list[tuple[str, ...]] = []
    photographs = iter(() if pictures is None else rng.permutation(len(pictures.names)))
    share = 0.5 if pictures is None else 1 / 3
    for place in rng.random(number):
        kind = next(photographs, None) if place >= 2 * share else None  # few classes may be used up
        if pictures is not None and kind is not None:
            chosen.append(pictures.names[kind])
        elif place < share:
            chosen.append((DIGITS[next(figures)],))
        else:
            color, form = divmod(int(next(shapes)), len(SHAPES))
            chosen.append((tuple(COLORS)[color], SHAPES[form]))
    return chosen


def _arrange(number: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Row and column of each: those of the first and the third share one with the second."""
    row, column = (int(place) for place in rng.integers(0, GRID, 2))
    others = [(row, other) for other in range(GRID) if other != column]
    others += [(other, column) for other in range(GRID) if other != row]
    first, third = rng.permutation(len(others))[:2]
    return [others[first], (row, column), others[third]][:number]


def _put(
    image: NDArray[np.uint8],
    words: tuple[str, ...],
    place: tuple[int, int],
    split: str,
    rng: np.random.Generator,
    pictures: Pictures | None,
) -> Thing:
    """Draw a thing somewhere in its place."""
    which = None
    row, column = place
    if pictures is not None and words in pictures.names:
        side = int(rng.integers(*PICTURE_SIDES, endpoint=True))
        pixels, which = pictures.draw(split, pictures.names.index(words), side, rng)
        y, x = rng.integers(0, PLACE - side, 2, endpoint=True)
        box = _paste(image, pixels, PLACE * column + int(x), PLACE * row + int(y))
        return Thing(words, box, row, column, picture=which)
    if words[0] in DIGITS:
        images, by_digit, begin = _handwriting(split)
        alike = by_digit[DIGITS.index(words[0])]
        own = int(alike[rng.integers(len(alike))])
        cover = digit(images[own], int(rng.integers(*DIGIT_SIDES, endpoint=True)))
        color, which = rng.integers(225, 255, endpoint=True).repeat(3), begin + own
    else:
        name, form = words
        cover = shape(form, int(rng.integers(*SHAPE_SIDES, endpoint=True)))
        color = np.clip(COLORS[name] + rng.integers(-VARIED, VARIED, 3, endpoint=True), 0, 255)
    y, x = rng.integers(0, PLACE - len(cover), 2, endpoint=True)
    box = draw(image, cover, color, PLACE * column + int(x), PLACE * row + int(y))
    return Thing(words, box, row, column, which)


def _paste(image: NDArray[np.uint8], pixels: NDArray[np.uint8], x: int, y: int) -> Box:
    side = pixels.shape[1]
    image[:, y : y + side, x : x + side] = pixels
    return x, y, x + side, y + side


@cache
def _handwriting(split: str) -> tuple[NDArray[np.uint8], list[NDArray[np.int64]], int]:
    """Digits (N, 8, 8) of a split, which of them are a 0, a 1, ..., and where in the digits' own split they begin."""
    source = digits()
    examples = source.train
    if split == "test" and source.test is not None:
        examples = source.test
    images = np.stack([examples.read(index)[0] for index in range(len(examples))]).astype(np.uint8)
    cut = round(len(images) * (1 - HELD_OUT))
    kept = {"train": slice(0, cut), "validation": slice(cut, None), "test": slice(0, None)}[split]
    labels = examples.labels[kept]
    return images[kept], [np.flatnonzero(labels == number) for number in range(len(DIGITS))], kept.start

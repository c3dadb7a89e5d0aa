"""Test-time averaging: a picture judged several times, each time a little differently seen, and the answers averaged.

    p(k | x) = 1/V sum_v p(k | view_v(x))

The network was trained on many versions of a picture; asking it about several of them cancels what depends on the
version, at V times the cost. AlexNet (Krizhevsky et al. 2012), section 4.1: five crops (corners and centre) and their
mirror images, softmax outputs averaged, top-1 error 39.0 to 37.5 %: `crops:10`. Deep Residual Learning (He et al.
2016), section 4.1, adds scales. Words multiply: `scales:1:1.15,crops:5,flip` gives 2 x 5 x 2 = 20 views.

    flip               the picture and its mirror image
    crops:5            corners and centre; crops:5:4 of the picture with a margin of 4 pixels of the mean colour
    crops:10           the same and their mirror images
    scales:1:1.15      the picture resized by these factors first; smaller than the network's size: mean colour around
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import product

import torch
from torch import Tensor

from engram import grammar
from engram.augment.crop import crop_center, margins, resample_at, window_at
from engram.augment.layout import from_rows, to_rows
from engram.augment.normalize import normalize
from engram.augment.padding import pad
from engram.errors import UserError, unknown

WORDS = ("flip", "crops", "scales")


class Views:
    """Words of test-time averaging built for one kind of data; see `views`."""

    def __init__(self, words: Iterable[str], size: tuple[int, ...], mean: Tensor, std: Tensor) -> None:
        self.size, self.mean, self.std = size, mean, std
        self.scales: tuple[float, ...] = (1.0,)
        self.crops, self.padding, self.flips = 1, 0, False
        for word in check(words):
            if word.name == "flip":
                self.flips = True
            elif len(size) != 2:
                raise UserError(f"{word.text!r} has no meaning for {len(size)}-D data", allowed="2-D data")
            elif word.name == "scales":
                self.scales = tuple(float(value) for value in word.values)
            else:
                crops, self.padding = _crop_settings(word)
                self.crops = min(crops, 5)
                self.flips = self.flips or crops == 10

    @property
    def count(self) -> int:
        """How many views a picture gets."""
        return len(self.scales) * self.crops * (2 if self.flips else 1)

    def __call__(self, x: Tensor, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """The views of a stored batch, each (B, C, *size), normalised, channels-last.

        Args:
            x: (B, C, *S), uint8 or float.

        Raises:
            UserError: several crops of pictures that leave no room for them.
        """
        if x.device != self.mean.device:
            self.mean, self.std = self.mean.to(x.device), self.std.to(x.device)
        self.check_stored(x.shape[2:])
        pictures = [window for scale in self.scales for window in self._windows(_resize(x, scale))]
        if self.flips:
            pictures = [version for window in pictures for version in (window, _mirror(window))]
        return [normalize(picture, self.mean, self.std, dtype) for picture in pictures]

    def check_stored(self, shape: Sequence[int]) -> None:
        """Refuse several crops where pictures stored as `shape` leave no room, before there is anything to judge.

        Raises:
            UserError: all crops would be the same.
        """
        room = [
            round(length * min(self.scales)) + 2 * self.padding - wanted
            for length, wanted in zip(shape, self.size, strict=True)
        ]
        if self.crops > 1 and max(room) <= 0:
            stored, seen = "x".join(map(str, shape)), "x".join(map(str, self.size))
            raise UserError(
                f"crops:{self.crops} of pictures stored as {stored} are all the same: the network sees {seen}",
                nearest=f"crops:{self.crops}:4 (with a margin of 4 pixels)",
                then=f"--data.stored_size {round(max(self.size) * 1.15)} keeps more of every picture",
            )

    def _windows(self, x: Tensor) -> list[Tensor]:
        center = crop_center(x, self.size, self.mean)
        if self.crops == 1:
            return [center]
        x = pad(x, margins(x.shape[2:], self.size, self.padding), "mean", self.mean)
        room = [length - wanted for length, wanted in zip(x.shape[2:], self.size, strict=True)]
        corners = product(*[(0, most) for most in room])
        return [*(window_at(x, corner, self.size) for corner in corners), center]


def views(words: str | Iterable[str], *, size: Sequence[int], mean: Tensor, std: Tensor) -> Views:
    """Words of test-time averaging as a callable `(x, dtype) -> list of views`; no word gives the middle alone.

    Average the probabilities, not the logits, of the views.

    Args:
        words: `flip`, `crops:5`, ("crops:10", "scales:1:1.15").
        size: (*S) that the network sees.
        mean: (C,), as for `compose`.
        std: (C,).

    Raises:
        UserError: an unknown word; a number out of range; crops or scales of what are no pictures.

    >>> averaged = views("flip", size=(8, 8), mean=torch.tensor([0.5]), std=torch.tensor([0.25]))
    >>> [tuple(view.shape) for view in averaged(torch.zeros(4, 1, 8, 8, dtype=torch.uint8))]
    [(4, 1, 8, 8), (4, 1, 8, 8)]
    """
    return Views(grammar.split(words), tuple(size), mean.reshape(-1), std.reshape(-1))


def check(words: str | Iterable[str]) -> list[grammar.Word]:
    """The words taken apart and their numbers tried, before any data is at hand.

    Raises:
        UserError: an unknown word, a number out of range, a word given twice.
    """
    parsed = [grammar.parse(text) for text in grammar.split(words)]
    for word in parsed:
        if word.name not in WORDS:
            raise unknown("view", word.name, WORDS)
        if sum(other.name == word.name for other in parsed) > 1:
            raise UserError(f"views: {word.name!r} is given twice")
        _CHECKS[word.name](word)
    return parsed


def _check_scales(word: grammar.Word) -> None:
    if not word.values or word.settings:
        raise UserError(f"{word.text!r} names no scales", allowed="scales:1:1.15 and the like")
    for value in word.values:
        grammar.number("scales", "a scale", value, 0.1, 10)


def _crop_settings(word: grammar.Word) -> tuple[int, int]:
    settings = grammar.bind(word, ("count", "padding"))
    count = settings.get("count", 5)
    if count not in (1, 5, 10):
        raise UserError(f"crops: count cannot be {count!r}", allowed="1, 5 or 10")
    return int(count), int(grammar.number("crops", "padding", settings.get("padding", 0), 0, whole=True))


_CHECKS: dict[str, Callable[[grammar.Word], object]] = {
    "flip": lambda word: grammar.bind(word, ()),
    "crops": _crop_settings,
    "scales": _check_scales,
}


def _resize(x: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return x
    height, width = x.shape[2:]
    whole = torch.zeros(len(x), 4, device=x.device)
    whole[:, 2], whole[:, 3] = height, width
    return resample_at(x, whole, (max(1, round(height * scale)), max(1, round(width * scale))))


def _mirror(x: Tensor) -> Tensor:
    return from_rows(to_rows(x).flip(-2))

"""Test-time averaging: a picture judged several times, each time a little differently seen, and the answers averaged.

    p(k | x) = 1/V sum_v p(k | view_v(x))

The network was trained on many versions of a picture; asking it about several of them cancels what depends on the
version, at V times the cost. It hurts nothing but the time; where training never moved the pictures, views away from
the centre are strange to the network. Words multiply: `scales:1:1.15,crops:5,flip` gives 2 x 5 x 2 = 20 views.

    flip               the picture and its mirror image
    crops:5            corners and centre; crops:5:4 of the picture with a margin of 4 pixels of the mean colour
    ten_crop           the same and their mirror images, as crops:10; ten_crop:4 with a margin
    grid:5             5 x 5 windows evenly spread from corner to corner; grid:5:4 with a margin
    scales:1:1.15      the picture resized by these factors first; smaller than the network's size: mean colour around
    dense              the whole picture at five sizes; dense:1:1.5 at these factors of the network's size

AlexNet (Krizhevsky et al. 2012), section 4.1: five crops and their mirror images, softmax outputs averaged, top-1 error
39.0 to 37.5 %: `ten_crop`. VGG (Simonyan and Zisserman 2014), section 3.2: `grid:5,flip` at three scales, 150 views.
Deep Residual Learning (He et al. 2016), section 3.4: "the fully-convolutional form", whose shorter side is 224, 256,
384, 480 and 640 for a network of 224: `dense,flip`. A network that ends in a mean over positions is fully convolutional
as it stands: the mean of the scores at all positions is the score of the mean. Over sizes the paper averages scores;
here, as for every word, it is the probabilities that are averaged. Networks with linear layers over
positions take one size only and are refused (`check_network`); `grid` with `scales` is the nearest for them.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import product

import torch
from torch import Tensor, nn

from engram import grammar
from engram.augment.crop import crop_center, margins, resample_at, window_at
from engram.augment.layout import from_rows, to_rows
from engram.augment.normalize import normalize
from engram.augment.padding import pad
from engram.errors import UserError, unknown

WORDS = ("flip", "crops", "ten_crop", "grid", "scales", "dense")
WINDOWS = ("crops", "ten_crop", "grid", "dense")
"""Ways of choosing what is seen of a picture, of which a person takes one."""
DENSE = (1.0, 256 / 224, 384 / 224, 480 / 224, 640 / 224)
"""Shorter sides of He et al. 2016, in sizes of the network."""


class Views:
    """Words of test-time averaging built for one kind of data; see `views`."""

    def __init__(self, words: Iterable[str], size: tuple[int, ...], mean: Tensor, std: Tensor) -> None:
        self.size, self.mean, self.std = size, mean, std
        self.scales: tuple[float, ...] = (1.0,)
        self.dense: tuple[float, ...] = ()
        self.crops, self.across, self.padding, self.flips = 1, 0, 0, False
        for word in check(words):
            if word.name == "flip":
                self.flips = True
            elif len(size) != 2:
                raise UserError(f"{word.text!r} has no meaning for {len(size)}-D data", allowed="2-D data")
            elif word.name == "scales":
                self.scales = tuple(float(value) for value in word.values)
            elif word.name == "dense":
                self.dense = tuple(float(value) for value in word.values) or DENSE
            elif word.name == "grid":
                self.across, self.padding = _grid_settings(word)
                self.crops = self.across**2
            else:
                crops, self.padding = _crop_settings(word) if word.name == "crops" else (10, _ten_padding(word))
                self.crops = min(crops, 5)
                self.flips = self.flips or crops == 10

    @property
    def count(self) -> int:
        """How many views a picture gets."""
        return len(self.dense or self.scales) * self.crops * (2 if self.flips else 1)

    def __call__(self, x: Tensor, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """The views of a stored batch, each (B, C, *size) or, with `dense`, of its own size, normalised, channels-last.

        Args:
            x: (B, C, *S), uint8 or float.

        Raises:
            UserError: several crops of pictures that leave no room for them.
        """
        if x.device != self.mean.device:
            self.mean, self.std = self.mean.to(x.device), self.std.to(x.device)
        self.check_stored(x.shape[2:])
        if self.dense:
            cover = max(wanted / length for wanted, length in zip(self.size, x.shape[2:], strict=True))
            pictures = [_resize(x, scale * cover) for scale in self.dense]
        else:
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
            word = f"grid:{self.across}" if self.across else f"crops:{self.crops}"
            raise UserError(
                f"{word} of pictures stored as {stored} are all the same: the network sees {seen}",
                nearest=f"{word}:4 (with a margin of 4 pixels)",
                then=f"--data.stored_size {round(max(self.size) * 1.15)} keeps more of every picture",
            )

    def check_network(self, net: nn.Module, shape: Sequence[int]) -> None:
        """Refuse `dense` for a network that takes one size only, before there is anything to judge.

        Args:
            net: on the device where it will be asked; its mode is left as it is.
            shape: (C, *S) of a stored picture.

        Raises:
            UserError: the network fails on the sizes that `dense` shows it.
        """
        if not self.dense:
            return
        first = next(net.parameters())
        training = [module for module in net.modules() if module.training]
        net.eval()
        try:
            with torch.inference_mode():
                for view in self(torch.zeros(1, *shape, device=first.device), first.dtype):
                    net(view)
        except (RuntimeError, UserError):
            sides = "x".join(map(str, self.size))
            raise UserError(
                f"dense shows the network whole pictures of several sizes, and this one takes {sides} only",
                allowed="networks that end in a mean over positions, such as resnet20",
                nearest="grid:5 or ten_crop, with scales:1:1.15",
            ) from None
        finally:
            for module in training:
                module.training = True

    def _windows(self, x: Tensor) -> list[Tensor]:
        center = crop_center(x, self.size, self.mean)
        if self.crops == 1:
            return [center]
        x = pad(x, margins(x.shape[2:], self.size, self.padding), "mean", self.mean)
        room = [length - wanted for length, wanted in zip(x.shape[2:], self.size, strict=True)]
        if self.across:
            steps = range(self.across)
            places = product(*[[round(most * step / (self.across - 1)) for step in steps] for most in room])
            return [window_at(x, place, self.size) for place in places]
        corners = product(*[(0, most) for most in room])
        return [*(window_at(x, corner, self.size) for corner in corners), center]


def views(words: str | Iterable[str], *, size: Sequence[int], mean: Tensor, std: Tensor) -> Views:
    """Words of test-time averaging as a callable `(x, dtype) -> list of views`; no word gives the middle alone.

    Average the probabilities, not the logits, of the views.

    Args:
        words: `flip`, `crops:5`, ("ten_crop", "scales:1:1.15"), `dense,flip`.
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
        UserError: an unknown word, a number out of range, a word given twice, two words that choose what is seen.
    """
    parsed = [grammar.parse(text) for text in grammar.split(words)]
    for word in parsed:
        if word.name not in WORDS:
            raise unknown("view", word.name, WORDS)
        if sum(other.name == word.name for other in parsed) > 1:
            raise UserError(f"views: {word.name!r} is given twice")
        _CHECKS[word.name](word)
    names = [word.name for word in parsed]
    chosen = [name for name in names if name in WINDOWS]
    if "dense" in names and "scales" in names:
        raise UserError("views: dense has scales of its own", allowed="dense:1:1.5 and the like")
    if len(chosen) > 1:
        raise UserError(f"views: {chosen[0]!r} and {chosen[1]!r} each say what is seen", allowed="one of them")
    return parsed


def _check_scales(word: grammar.Word) -> None:
    if not (word.values or word.name == "dense") or word.settings:
        raise UserError(f"{word.text!r} names no scales", allowed=f"{word.name}:1:1.15 and the like")
    for value in word.values:
        grammar.number(word.name, "a scale", value, 0.1, 10)


def _crop_settings(word: grammar.Word) -> tuple[int, int]:
    settings = grammar.bind(word, ("count", "padding"))
    count = settings.get("count", 5)
    if count not in (1, 5, 10):
        raise UserError(f"crops: count cannot be {count!r}", allowed="1, 5 or 10")
    return int(count), int(grammar.number("crops", "padding", settings.get("padding", 0), 0, whole=True))


def _ten_padding(word: grammar.Word) -> int:
    settings = grammar.bind(word, ("padding",))
    return int(grammar.number("ten_crop", "padding", settings.get("padding", 0), 0, whole=True))


def _grid_settings(word: grammar.Word) -> tuple[int, int]:
    settings = grammar.bind(word, ("across", "padding"))
    across = grammar.number("grid", "across", settings.get("across", 5), 2, whole=True)
    return int(across), int(grammar.number("grid", "padding", settings.get("padding", 0), 0, whole=True))


_CHECKS: dict[str, Callable[[grammar.Word], object]] = {
    "flip": lambda word: grammar.bind(word, ()),
    "crops": _crop_settings,
    "ten_crop": _ten_padding,
    "grid": _grid_settings,
    "scales": _check_scales,
    "dense": _check_scales,
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

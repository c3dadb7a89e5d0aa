"""A list of words as one step from stored pictures to what the network sees.

Words are sorted by stage, and within a stage stay as given:

    pixels   crop resized_crop scaled_crop center_crop flip   on the stored pictures, uint8 where they are pictures
             rotation shear stretch translation lens_distortion
    color    brightness contrast saturation color pca_noise   in 0..1
             normalisation, into the dtype the network computes in
    input    cutout random_erasing                            zero is the mean colour here
    mix      mixup                                            pictures and labels

so `cutout:8,crop:4` and `crop:4,cutout:8` are the same. When no word crops, the middle of the size the network sees is
cut at the end of the first stage. Geometry works on uint8, a quarter of the memory of float32. Rotation and the words
below it read between pixels; neighbours among them are joined, so that the picture is read once (warp.py).
How many random numbers a batch takes depends on its shape alone, so a resumed run goes on exactly.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from engram import grammar, registry
from engram.augment.normalize import normalize, to_unit
from engram.augment.warp import join
from engram.errors import UserError

STAGES = ("pixels", "color", "input", "mix")
GIVEN = ("size", "mean", "palette")
"""What compose tells a builder that asks for it; a person does not set these."""

Palette = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Batch:
    """What the network sees.

    Args:
        x: (B, C, *size), normalised, channels-last.
        partner: int64 (B,), which picture of the batch is mixed in (none: not mixed).
        weight: float32 (B,), the share of the own label.
    """

    x: Tensor
    partner: Tensor | None = None
    weight: Tensor | None = None


@dataclass(frozen=True)
class Step:
    """A word with its entry in the registry and its settings."""

    word: grammar.Word
    entry: registry.Entry
    settings: dict[str, Any]

    @property
    def stage(self) -> str:
        """When its turn is; a builder in a file of one's own gets normalised inputs."""
        return self.entry.facts.get("stage", "input")

    def build(self, given: dict[str, Any]) -> Callable[..., Any]:
        """The callable, with those of `given` that the builder asks for."""
        known = inspect.signature(self.entry.build).parameters
        return self.entry.build(**self.settings, **{name: value for name, value in given.items() if name in known})


class Augment:
    """Words built for one kind of data; see `compose`."""

    def __init__(
        self, steps: list[Step], size: tuple[int, ...], mean: Tensor, std: Tensor, palette: Palette | None
    ) -> None:
        self.size, self.mean, self.std, self.palette = size, mean, std, palette
        self.steps = sorted(steps, key=lambda step: STAGES.index(step.stage))
        if not any(step.entry.facts.get("crops") for step in self.steps):
            place = sum(step.stage == "pixels" for step in self.steps)
            self.steps.insert(place, find("center_crop"))
        self._build(mean.device)

    @property
    def words(self) -> tuple[str, ...]:
        """The words in the order in which they work."""
        return tuple(step.word.text for step in self.steps)

    def __call__(self, x: Tensor, rng: Generator, dtype: torch.dtype = torch.float32) -> Batch:
        """A stored batch as the network sees it.

        Args:
            x: (B, C, *S), uint8 or float, on any device.
            rng: on the device of x.
            dtype: of the result.

        Raises:
            UserError: a word of the stage `color` on pictures that are not stored as uint8.
        """
        if x.device != self.mean.device:
            self._build(x.device)  # once: a copy from the host at every step would make it wait for the device
        for apply in self._stages["pixels"]:
            x = apply(x, rng)
        if self._stages["color"]:
            self._refuse_floats(x)
            x = to_unit(x)
            for apply in self._stages["color"]:
                x = apply(x, rng)
        x = normalize(x, self.mean, self.std, dtype)
        for apply in self._stages["input"]:
            x = apply(x, rng)
        for apply in self._stages["mix"]:
            return Batch(*apply(x, rng))
        return Batch(x)

    def _build(self, device: torch.device) -> None:
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        if self.palette is not None:
            self.palette = (self.palette[0].to(device), self.palette[1].to(device))
        given = {"size": self.size, "mean": self.mean, "palette": self.palette}
        built = [(step.stage, step.build(given)) for step in self.steps]
        self._stages = {stage: join([apply for own, apply in built if own == stage]) for stage in STAGES}

    def _refuse_floats(self, x: Tensor) -> None:
        if x.dtype != torch.uint8:
            word = next(step.word.text for step in self.steps if step.stage == "color")
            raise UserError(
                f"{word!r} changes the colours of pictures stored as uint8; these examples are {x.dtype}",
                allowed="crop, flip, rotation, shear, stretch, cutout, mixup",
            )


def compose(
    words: str | Iterable[str],
    *,
    size: Sequence[int],
    mean: Tensor,
    std: Tensor,
    palette: Palette | None = None,
) -> Augment:
    """Words as one callable `(x, rng, dtype) -> Batch`.

    Args:
        words: `crop:4,flip` or ("crop:4", "flip"); `none` or nothing only crops the middle and normalises.
        size: (*S) that the network sees.
        mean: (C,), in 0..1 for pictures stored as uint8, in the data's own units for floats.
        std: (C,), likewise.
        palette: (values, vectors) for pca_noise, from `palette_of` (none: ImageNet's).

    Raises:
        UserError: an unknown word or setting, with the nearest; a number out of range; a word that has no meaning for
            data of this many dimensions or channels.

    >>> augment = compose("flip,crop:4", size=(8, 8), mean=torch.tensor([0.5]), std=torch.tensor([0.25]))
    >>> augment(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.Generator().manual_seed(0)).x.shape
    torch.Size([2, 1, 8, 8])
    """
    steps = check(words)
    for step in steps:
        _refuse_meaningless(step, len(size), mean.numel())
    return Augment(steps, tuple(size), mean.reshape(-1), std.reshape(-1), palette)


def check(words: str | Iterable[str]) -> list[Step]:
    """The words, taken apart, found and their numbers tried, before any data is at hand.

    Raises:
        UserError: as `compose`, but for what depends on the data.
    """
    steps = [find(text) for text in grammar.split(words)]
    mixing = [step.word.text for step in steps if step.stage == "mix"]
    if len(mixing) > 1:
        raise UserError(f"{mixing[0]!r} and {mixing[1]!r}: a label can be shared once", allowed="one word that mixes")
    for step in steps:
        step.build({})
    return steps


def find(text: str) -> Step:
    """One word with its entry and settings.

    Raises:
        UserError: no such augmentation or setting.
    """
    word = grammar.parse(text)
    entry = registry.find("augmentation", word.name)
    known = [name for name in inspect.signature(entry.build).parameters if name not in GIVEN]
    return Step(word, entry, grammar.bind(word, known, then=f"engram show augmentations {word.name}"))


def _refuse_meaningless(step: Step, dimensions: int, channels: int) -> None:
    text, facts = step.word.text, step.entry.facts
    if dimensions not in facts.get("dimensions", (dimensions,)):
        allowed = " or ".join(f"{number}-D" for number in facts["dimensions"])
        raise UserError(f"{text!r} has no meaning for {dimensions}-D data", allowed=f"{allowed} data")
    if channels not in facts.get("channels", (channels,)):
        allowed = " or ".join(str(number) for number in facts["channels"])
        noun = "channel" if channels == 1 else "channels"
        raise UserError(f"{text!r} has no meaning for data of {channels} {noun}", allowed=f"{allowed} channels")

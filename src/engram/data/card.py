"""The data card: what a data set is made of and what may be wrong with it, before anything is trained on it.

Counts by class and split, sizes, unreadable files by name, the same example twice or in two splits, the same example
under two labels, imbalance, examples without content, mean and deviation; and warnings in plain words, worst first.
"""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from engram.data.comparison import SHOWN, Duplicates, compare
from engram.data.examples import Source
from engram.data.prepare import Prepared

IMBALANCED = 10.0  # largest class over smallest from which the card warns
FEW = 20  # training examples of a class from which the card is content
CELL = 64  # pixels of a picture's longer side on a sheet, at least


@dataclass(frozen=True)
class Warned:
    """Something that will cost accuracy or honesty, and what to do about it."""

    text: str
    remedy: str
    weight: int  # the larger, the worse

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy}"


@dataclass(frozen=True)
class Card:
    """See the module; `to_dict` gives what card.json holds."""

    path: str
    kind: str
    classes: list[str]
    counts: dict[str, list[int]]  # by split, a number for each class
    sizes: dict[str, Any]
    shape: list[int]  # (C, *S) that the network sees
    stored_shape: list[int]
    dtype: str
    mean: list[float]
    std: list[float]
    imbalance: float  # largest class over smallest, in training
    effective_classes: float  # exp of the entropy of the class shares: as many equal classes would be as varied
    unreadable: list[dict[str, str]]
    unreadable_count: int
    constant: list[str]
    constant_count: int
    duplicates: Duplicates
    warnings: list[Warned]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {**asdict(self), "warnings": [{"text": one.text, "remedy": one.remedy} for one in self.warnings]}


def make_card(prepared: Prepared, source: Source) -> Card:
    """Look through the pools and write down what they hold."""
    pools = {name: pool for name in ("train", "validation", "test") if (pool := getattr(prepared, name)) is not None}
    counts = {
        name: torch.bincount(pool.labels.cpu(), minlength=len(prepared.classes)).tolist()
        for name, pool in pools.items()
    }
    train = np.array(counts["train"], float)
    present = train[train > 0]
    shares = present / present.sum()
    constant, found = compare(pools, prepared.classes)
    card = Card(
        path=source.path,
        kind=source.kind,
        classes=list(prepared.classes),
        counts=counts,
        sizes=_sizes(prepared.sizes),
        shape=list(prepared.shape),
        stored_shape=list(prepared.stored_shape),
        dtype=str(prepared.train.dtype).removeprefix("torch."),
        mean=[round(float(value), 6) for value in prepared.mean],
        std=[round(float(value), 6) for value in prepared.std],
        imbalance=float(present.max() / present.min()),
        effective_classes=float(math.exp(-(shares * np.log(shares)).sum())),
        unreadable=[{"name": one.name, "why": one.why} for one in prepared.unreadable[:SHOWN]],
        unreadable_count=len(prepared.unreadable),
        constant=constant[:SHOWN],
        constant_count=len(constant),
        duplicates=found,
        warnings=[],
        notes=list(prepared.notes),
    )
    card.warnings.extend(sorted(_warnings(card), key=lambda one: -one.weight))
    return card


def _sizes(sizes: NDArray[np.int64]) -> dict[str, Any]:
    """Smallest, median and largest size along each axis, and the commonest whole sizes."""
    unique, counts = np.unique(sizes, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:5]
    return {
        "looked_at": len(sizes),
        "smallest": sizes.min(0).tolist(),
        "median": np.median(sizes, axis=0).astype(int).tolist(),
        "largest": sizes.max(0).tolist(),
        "commonest": [{"size": unique[index].tolist(), "count": int(counts[index])} for index in order],
    }


def _warnings(card: Card) -> list[Warned]:
    """What the card's figures mean for training."""
    found = card.duplicates
    train = card.counts["train"]
    broken = card.unreadable[0]["name"] if card.unreadable else ""
    verb = "is" if card.unreadable_count == 1 else "are"
    few = [card.classes[index] for index, number in enumerate(train) if 0 < number < FEW]
    empty = [card.classes[index] for index, number in enumerate(train) if number == 0]
    rows = [
        (
            found.across_count,
            f"{_times(found.across_count, 'example stands', 'examples stand')} in more than one split"
            f"{_nearly(found.across_near_count)}{_such(found.across)}",
            "take them out of training, or the result will look better than it is",
            100,
        ),
        (
            found.conflicting_count,
            f"{_times(found.conflicting_count, 'example has', 'examples have')} two different labels"
            f"{_nearly(found.conflicting_near_count)}{_such(found.conflicting)}",
            "look at them and keep one label",
            90,
        ),
        (
            card.unreadable_count,
            f"{_times(card.unreadable_count, 'file', 'files')} could not be read and {verb} left out, {broken} first",
            "repair or remove them",
            80,
        ),
        (len(empty), f"no training examples of {', '.join(empty[:5])}", "add some, or remove the class", 70),
        (
            len(few),
            f"fewer than {FEW} training examples of {', '.join(few[:5])}",
            "add some, or expect little of them",
            60,
        ),
        (
            card.imbalance >= IMBALANCED,
            f"the largest class has {card.imbalance:,.0f} times the examples of the smallest",
            "judge by the accuracy of each class, not by the whole",
            50,
        ),
        (
            card.constant_count,
            f"{_times(card.constant_count, 'example is', 'examples are')} one single value",
            f"look at {card.constant[0] if card.constant else ''}",
            40,
        ),
        (
            found.exact_count,
            f"{_times(found.exact_count, 'example is a copy', 'examples are copies')} of another in the same split",
            "remove the copies",
            30,
        ),
        (
            found.near_count,
            f"{_times(found.near_count, 'picture is', 'pictures are')} nearly the same as another in the same split",
            "look at them; what they show counts twice",
            20,
        ),
    ]
    return [Warned(text, remedy, weight) for holds, text, remedy, weight in rows if holds]


def _nearly(number: int) -> str:
    return f", {number:,} of them as nearly the same picture" if number else ""


def _such(groups: list[list[str]]) -> str:
    """The first group, by name."""
    return f": {' = '.join(groups[0][:2])}" if groups else ""


def _times(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def sheet_of_classes(prepared: Prepared, *, columns: int = 8, most: int = 12) -> bytes | None:
    """A PNG with a row of stored pictures for each of the first classes; None where the data are no pictures."""
    if not _is_pictures(prepared.stored_shape):
        return None
    labels = prepared.train.labels.cpu()
    rows = [torch.nonzero(labels == index)[:columns, 0].tolist() for index in range(min(most, len(prepared.classes)))]
    return _sheet([prepared.train.pictures(row) for row in rows if row], columns)


def sheet_as_seen(
    prepared: Prepared, augment: Callable[[Tensor, torch.Generator, torch.dtype], Any], *, seed: int, columns: int = 8
) -> bytes | None:
    """A PNG of training examples after augmentation, the normalisation undone: what the network is given.

    None where the data are no pictures.
    """
    if not _is_pictures(prepared.shape):
        return None
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(prepared.train), generator=generator)[: 4 * columns]
    x, _ = next(iter(prepared.train.batches([chosen])))
    rng = torch.Generator(device=x.device).manual_seed(seed)
    seen = augment(x, rng, torch.float32).x.float().cpu()
    unit = 1.0 if prepared.train.dtype == torch.uint8 else 255.0
    mean, std = (
        torch.as_tensor(values, dtype=torch.float32)[:, None, None] for values in (prepared.mean, prepared.std)
    )
    pixels = ((seen * std + mean) * unit).round().clamp(0, 255).to(torch.uint8).numpy()
    return _sheet([pixels[start : start + columns] for start in range(0, len(pixels), columns)], columns)


def _is_pictures(shape: Sequence[int]) -> bool:
    return len(shape) == 3 and shape[0] in (1, 3)


def _sheet(rows: list[NDArray[Any]], columns: int) -> bytes:
    """Rows of (B, C, H, W) uint8 pictures as one PNG, small ones enlarged without smoothing."""
    height, width = rows[0].shape[2:]
    zoom = max(1, CELL // max(height, width))
    gap = 4
    tall, wide = height * zoom + gap, width * zoom + gap
    page = np.full((tall * len(rows) + gap, wide * columns + gap, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            pixels = np.repeat(np.repeat(np.moveaxis(picture, 0, -1), zoom, 0), zoom, 1)
            top, left = gap + i * tall, gap + j * wide
            page[top : top + height * zoom, left : left + width * zoom] = pixels
    file = io.BytesIO()
    Image.fromarray(page).save(file, "PNG", optimize=True)
    return file.getvalue()

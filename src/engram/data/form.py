"""The one form in which all examples of a data set are stored, and how a few of them are brought to it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engram.data import images
from engram.data.examples import Examples, Unreadable


class NotFinite(Unreadable):
    """Values that are infinite or not a number: not a damaged file but a mistake in the data."""


@dataclass
class Block:
    """Some examples in stored form.

    Args:
        stored: (M, *S, C), those that could be read, in order.
        kept: their places among those that were asked for.
        failed: the others, by place.
    """

    stored: NDArray[Any]
    kept: list[int]
    failed: dict[int, Unreadable] = field(default_factory=dict)


class Form:
    """How a stored example is made from what a source reads: channels and size, the same for all.

    Args:
        shape: (C, *S) of a stored example.
        pictures: whether they are pictures that may be converted and resized; other data must already have the shape.
    """

    def __init__(self, shape: Sequence[int], *, pictures: bool) -> None:
        self.shape, self.pictures = tuple(shape), pictures
        self.last = (*self.shape[1:], self.shape[0])  # as it is stored: (*S, C)

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8 if self.pictures else torch.float32

    @property
    def array_dtype(self) -> type[np.generic]:
        return np.uint8 if self.pictures else np.float32

    @property
    def nbytes(self) -> int:
        """Of one example."""
        return int(np.prod(self.shape)) * np.dtype(self.array_dtype).itemsize

    def read(self, examples: Examples, index: int) -> NDArray[Any]:
        """One example in stored form, (*S, C).

        Raises:
            Unreadable: it cannot be decoded, or is of another shape and no picture.
            NotFinite: it holds values that are infinite or not a number.
        """
        example = examples.read(index, max(self.shape[1:]) if self.pictures else None)
        if self.pictures:
            example = images.fit(
                images.to_channels(example.astype(np.uint8, copy=False), self.shape[0]), self.shape[1:]
            )
        if example.shape != self.shape:
            wanted = "x".join(map(str, self.shape))
            raise Unreadable(examples.name(index), f"its shape is {'x'.join(map(str, example.shape))}, not {wanted}")
        if not self.pictures and not np.isfinite(example).all():
            raise NotFinite(examples.name(index), "it holds values that are infinite or not a number")
        return np.moveaxis(example, 0, -1)

    def block(self, examples: Examples, rows: NDArray[np.int64]) -> Block:
        """The examples of these rows, decoded one after the other."""
        stored = np.empty((len(rows), *self.last), self.array_dtype)
        block = Block(stored, [])
        for place, row in enumerate(rows.tolist()):
            try:
                stored[len(block.kept)] = self.read(examples, row)
                block.kept.append(place)
            except Unreadable as error:
                block.failed[place] = error
        block.stored = stored[: len(block.kept)]
        return block

    def slice(self, whole: NDArray[Any], examples: Examples, rows: NDArray[np.int64]) -> Block:
        """The same from the (N, C, *S) array in which all examples already lie."""
        chosen = whole[rows]
        block = Block(np.moveaxis(chosen, 1, -1), list(range(len(rows))))
        if not self.pictures:
            sound = np.isfinite(chosen.reshape(len(rows), -1)).all(axis=1)
            block.kept = np.flatnonzero(sound).tolist()
            why = "it holds values that are infinite or not a number"
            for place in np.flatnonzero(~sound).tolist():
                block.failed[place] = NotFinite(examples.name(int(rows[place])), why)
            block.stored = block.stored[sound]
        return block

    def fits(self, whole: NDArray[Any] | None) -> bool:
        """Whether the examples that lie in an array need no more than to be copied."""
        return whole is not None and whole.shape[1:] == self.shape and (whole.dtype == np.uint8) == self.pictures

"""What every data source gives: examples with labels that are known and inputs that are read when asked for."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


class Unreadable(Exception):
    """One example that cannot be decoded: which, and why. The caller counts it, names it and goes on."""

    def __init__(self, name: str, why: str) -> None:
        self.name, self.why = name, why
        super().__init__(f"{name}: {why}")

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.name, self.why)  # so that it comes back from a worker process


class Examples(ABC):
    """A split of a data set. Picklable, so that worker processes can read from it.

    `labels` are class indices, int64 of shape (N,).
    """

    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def name(self, index: int) -> str:
        """Where the example came from, as a person would look for it: `cats/7.jpg`, `train.parquet[17]`."""

    @abstractmethod
    def read(self, index: int, at_least: int | None = None) -> NDArray[np.generic]:
        """The input as (C, *S): uint8 for images with C 1 or 3, float32 for signals and volumes; sizes may differ.

        Args:
            at_least: pixels of the shorter side that will be used. A decoder may then give a smaller picture, as long
                as it keeps clearly more than that: photographs of 12 megapixels are read ten times faster so.

        Raises:
            Unreadable: it cannot be decoded.
        """

    def size_of(self, index: int) -> int | None:
        """Bytes that the input takes where it lies, known without reading it; None where that says nothing of it."""
        return None

    def array(self) -> NDArray[np.generic] | None:
        """All inputs as one (N, C, *S) array where they already lie in memory in that form, else None."""
        return None


@dataclass(frozen=True)
class Source:
    """A data set as found: its splits, its classes and what was noticed on the way."""

    path: str
    kind: str
    classes: tuple[str, ...]
    train: Examples
    validation: Examples | None = None
    test: Examples | None = None
    notes: tuple[str, ...] = field(default=())

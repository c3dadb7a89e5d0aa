"""What was observed: visits to examples that had been visited before, each a test of the memory model.

Each row is one visit: how long after the visit before it, what the model remembered of the example at that moment
(strength, difficulty, streak: as they were before this visit changed them), and how well it was recalled.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

RECALLED = 0.5
"""A grade from here up counts as recalled."""


@dataclass(frozen=True)
class Record:
    """Visits to examples that had been visited before. Five columns of one length, on one device.

    Args:
        delay: since the visit before, in clock units, at least 0.
        strength: the memory model's first number before this visit.
        difficulty: its second number before this visit.
        streak: visits in a row recalled before this one; 0 where the last one was not.
        grade: how well this visit recalled it, 0 to 1.

    Raises:
        ValueError: the columns differ in length, or one has more than one axis.

    >>> record = Record(*(torch.tensor([value, 2.0]) for value in (0.5, 7.0, 1.0, 0.0, 0.4)))
    >>> len(record), record.recalled.tolist()
    (2, [False, True])
    """

    delay: Tensor
    strength: Tensor
    difficulty: Tensor
    streak: Tensor
    grade: Tensor

    def __post_init__(self) -> None:
        shapes = {name: tuple(column.shape) for name, column in self.columns().items()}
        if len(set(shapes.values())) != 1 or self.delay.ndim != 1:
            raise ValueError(f"the columns of a record have one axis and one length, not {shapes}")

    def __len__(self) -> int:
        return len(self.delay)

    @property
    def recalled(self) -> Tensor:
        """Which visits recalled their example, booleans."""
        return self.grade >= RECALLED

    def columns(self) -> dict[str, Tensor]:
        """The columns by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def at(self, chosen: Tensor) -> "Record":
        """The rows that a mask or positions choose."""
        return Record(**{name: column[chosen] for name, column in self.columns().items()})

    def thinned(self, most: int) -> "Record":
        """At most that many rows, evenly spaced: the same ones whenever it is asked."""
        if len(self) <= most:
            return self
        return self.at(torch.arange(most, device=self.delay.device) * len(self) // most)

    def double(self) -> "Record":
        """The columns as float64 on the CPU, rows with a number that is not finite left out."""
        columns = torch.stack([column.float() for column in self.columns().values()]).cpu().double()
        return Record(*columns[:, columns.isfinite().all(0)])

    @staticmethod
    def joined(records: Iterable["Record"]) -> "Record":
        """One record of several, in their order; of none, one without rows."""
        held = list(records) or [Record(*(torch.zeros(0) for _ in fields(Record)))]
        return Record(*(torch.cat(columns) for columns in zip(*(one.columns().values() for one in held), strict=True)))

"""What a network remembers of every example: one row of flat tensors each, 31 bytes.

A row says when the example was last visited, how often, what it cost then and on average, whether it was recalled, how
often in a row, which of the last visits found it known, how often it had been known and was lost (the forgetting events
of Toneva et al. 2019, "An Empirical Study of Example Forgetting during Deep Neural Network Learning", section 3), and
what the memory model makes of it: strength and difficulty. When it is due follows from these.

Visits are taken in many at a time, in one vectorised operation; nothing is ever done example by example.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from engram.errors import UserError
from engram.review.memory import Memory, Record

COLUMNS = {
    "last": torch.float32,
    "visits": torch.int16,
    "strength": torch.float32,
    "difficulty": torch.float32,
    "loss": torch.float32,
    "smoothed": torch.float32,
    "recall": torch.float16,
    "streak": torch.uint8,
    "lapses": torch.int16,
    "recent": torch.int32,
}
"""Every column and its type: 31 bytes an example."""

REMEMBERED = 31
"""Visits of which `recent` says whether the example was recalled: a bit each, and none for the sign."""

NEWER = 2 ** (REMEMBERED - 1) - 1
"""The bits that stay when another visit comes."""

RECALLED = 0.5  # the grade from which an example counts as recalled
SMOOTHING = 0.7  # share of the newest visit in the averages of loss and recall


@dataclass(frozen=True)
class Observed:
    """Visits and what they showed, in the order they were made.

    Args:
        indices: (K,) int64.
        losses: (K,) float32.
        grades: (K,) float32, 0 not recalled to 1 recalled for certain.
        clocks: (K,) float32, when.
        batches: (K,) int64, in which batch of the round.
    """

    indices: Tensor
    losses: Tensor
    grades: Tensor
    clocks: Tensor
    batches: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    def at(self, places: Tensor) -> "Observed":
        """Some of them."""
        return Observed(*(getattr(self, item.name)[places] for item in fields(self)))


class Ledger:
    """The rows of `examples` examples.

    Attributes:
        last: clock at the last visit; 0 before the first.
        visits: how many, as far as 16 bits count.
        strength, difficulty: the memory model's two numbers.
        loss, smoothed: of the last visit, and averaged over visits.
        recall: the grade, averaged over visits.
        streak: visits in a row that were recalled.
        lapses: how often a recalled example was not recalled at its next visit.
        recent: the last 31 visits as bits, the newest lowest: 1 where it was recalled; `visits` says how many they are.

    >>> ledger = Ledger(1000)
    >>> ledger.nbytes / len(ledger)
    31.0
    """

    last: Tensor
    visits: Tensor
    strength: Tensor
    difficulty: Tensor
    loss: Tensor
    smoothed: Tensor
    recall: Tensor
    streak: Tensor
    lapses: Tensor
    recent: Tensor

    def __init__(self, examples: int, device: torch.device | str = "cpu") -> None:
        if examples < 1:
            raise UserError("a ledger needs at least one example")
        for name, dtype in COLUMNS.items():
            setattr(self, name, torch.zeros(examples, dtype=dtype, device=device))

    def __len__(self) -> int:
        return len(self.last)

    @property
    def nbytes(self) -> int:
        return sum(getattr(self, name).nbytes for name in COLUMNS)

    @property
    def device(self) -> torch.device:
        return self.last.device

    @property
    def seen(self) -> Tensor:
        """(N,) whether an example has been visited."""
        return self.visits > 0

    def to(self, device: torch.device) -> None:
        """Move every column."""
        for name in COLUMNS:
            setattr(self, name, getattr(self, name).to(device))

    def grow(self, examples: int) -> None:
        """Rows for examples that have come to the end of the data set; the others stay.

        Raises:
            UserError: there are fewer examples than rows.
        """
        if examples < len(self):
            raise UserError(
                f"the data set has shrunk from {len(self):,} to {examples:,} examples",
                allowed="a data set that stays as it is or grows at its end",
            )
        more = Ledger(examples - len(self), self.device) if examples > len(self) else None
        for name in COLUMNS if more is not None else ():
            setattr(self, name, torch.cat([getattr(self, name), getattr(more, name)]))

    def record(self, observed: Observed, memory: Memory | None = None) -> Record:
        """Take visits in, and return what they say about the memory model: the rows of examples visited before.

        An example that was visited more than once is taken visit by visit, in order.

        Raises:
            UserError: a loss that is not finite, or an index outside the ledger; nothing is changed.
        """
        self.check(observed)
        records: list[Record] = []
        for visit in _visits_apart(observed):
            records.append(self._record_once(visit, memory))
        return Record.joined(records)

    def check(self, observed: Observed) -> None:
        """Refuse visits that cannot be taken in."""
        if not len(observed):
            return
        low, high = int(observed.indices.min()), int(observed.indices.max())
        if low < 0 or high >= len(self):
            raise UserError(
                f"example {low if low < 0 else high} was graded, but the ledger has {len(self):,}",
                allowed=f"0 to {len(self) - 1:,}",
            )
        if not torch.isfinite(observed.losses).all():
            wrong = int((~torch.isfinite(observed.losses)).nonzero()[0])
            raise UserError(
                f"the loss of example {int(observed.indices[wrong])} is {float(observed.losses[wrong])}",
                allowed="finite losses",
                then="lower the learning rate or clip the gradient",
            )

    def _record_once(self, observed: Observed, memory: Memory | None) -> Record:
        """Visits of examples that are all different."""
        rows, grades, clocks = observed.indices, observed.grades, observed.clocks
        visits, streak = self.visits[rows], self.streak[rows]
        strength, difficulty = self.strength[rows], self.difficulty[rows]
        known = visits > 0
        delay = (clocks - self.last[rows]).clamp_min(0)
        record = Record(delay, strength, difficulty, streak, grades).at(known)
        if memory is not None:
            first, after = memory.first(grades), memory.visit(delay, strength, difficulty, grades)
            strength = torch.where(known, after[0], first[0])
            difficulty = torch.where(known, after[1], first[1])
            self.strength[rows], self.difficulty[rows] = strength, difficulty
        recalled = grades >= RECALLED
        share = torch.where(known, SMOOTHING, 1.0)
        self.smoothed[rows] = torch.lerp(self.smoothed[rows], observed.losses, share)
        self.recall[rows] = torch.lerp(self.recall[rows].float(), grades, share).half()
        self.lapses[rows] += ((streak > 0) & ~recalled).short()
        self.streak[rows] = torch.where(recalled, streak.clamp_max(254) + 1, 0).byte()
        self.recent[rows] = ((self.recent[rows] & NEWER) << 1) | recalled.int()
        self.visits[rows] = visits.clamp_max(32766) + 1
        self.loss[rows] = observed.losses
        self.last[rows] = clocks
        return record

    def due(self, memory: Memory, retention: float) -> Tensor:
        """(N,) clock at which predicted recall has fallen to `retention`, by the memory model as it is fitted now."""
        return self.last + memory.interval(retention, self.strength, self.difficulty)

    def rows(self, indices: Tensor) -> "Ledger":
        """A ledger of these examples in this order: a copy, for looking at."""
        part = Ledger(len(indices), self.device)
        for name in COLUMNS:
            setattr(part, name, getattr(self, name)[indices])
        return part

    def state_dict(self) -> dict[str, Tensor]:
        return {name: getattr(self, name).clone() for name in COLUMNS}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The reverse of `state_dict`.

        Raises:
            UserError: a ledger of another number of examples, or none; this one stays as it was.
        """
        columns = {}
        for name, dtype in COLUMNS.items():
            column = state.get(name)
            if not isinstance(column, Tensor) or column.dtype != dtype or column.ndim != 1:
                raise UserError(f"this is no ledger: its column {name!r} is missing or of another type")
            columns[name] = column
        lengths = {len(column) for column in columns.values()}
        if lengths != {len(self)}:
            raise UserError(
                f"this ledger is of {'/'.join(f'{length:,}' for length in sorted(lengths))} examples, "
                f"the data set has {len(self):,}",
                allowed="the ledger of the same data set",
            )
        for name, column in columns.items():
            setattr(self, name, column.to(self.device, copy=True))


def _visits_apart(observed: Observed) -> list[Observed]:
    """The first visits of all examples, then the second ones, and so on: inside each, every example is another."""
    order = torch.argsort(observed.indices, stable=True)
    ordered = observed.indices[order]
    begins = torch.ones_like(ordered, dtype=torch.bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    if bool(begins.all()):
        return [observed] if len(observed) else []
    places = torch.arange(len(ordered), device=ordered.device)
    occurrence = torch.empty_like(places)
    occurrence[order] = places - torch.cummax(torch.where(begins, places, 0), 0).values
    return [observed.at((occurrence == number).nonzero().flatten()) for number in range(int(occurrence.max()) + 1)]


def fingerprint(examples: int, labels: Tensor | None, *more: str) -> str:
    """What tells one data set from another: its length, its labels in order, and words such as its name.

    >>> fingerprint(3, torch.tensor([0, 1, 1])) == fingerprint(3, torch.tensor([1, 0, 1]))
    False
    """
    digest = hashlib.sha256(f"{examples}".encode())
    if labels is not None:
        digest.update(labels.to("cpu", torch.int64).numpy().tobytes())
    for word in more:
        digest.update(b"\0" + word.encode())
    return digest.hexdigest()[:16]

"""What is kept of a stream: which examples have a place, and which of them gives it up when another one comes.

* `reservoir`: every example seen so far is kept with the same probability, capacity / seen, whatever the order they
  came in: the t-th example draws a place uniformly from 0 .. t - 1 and takes it if there is one of that number
  (Vitter 1985, "Random sampling with a reservoir", algorithm R). A whole batch draws at once; where two examples draw
  one place, the later has it, as one by one.
* `ring`: the newest (the episodic memory of Lopez-Paz and Ranzato 2017, section 3).
* `all`: every example, without bound.

Balanced over classes, a reservoir gives every class the same number of places, as far as it has examples: the places
L of a class solve sum_c min(seen_c, L) = capacity, and fall as classes come. Each example carries a number drawn once,
and a class keeps its largest, which are a uniform sample of all its examples so far, at any time. The aim is that of
Chrysakis and Moens 2020 ("Online continual learning from imbalanced data", class-balancing reservoir sampling);
numbers in place of their replacement rule need no loop over examples. A balanced ring keeps the newest of each class.

Helps: a reservoir wherever the stream's shares are those that matter; balance where classes come in unequal numbers.
Hurts: a ring forgets what has not come for long; balance keeps most of a class that is mostly wrong labels.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engram.errors import UserError, nearest
from engram.review.stream_tree import Column, taken

KINDS = ("reservoir", "ring", "all")
FIRST_ROWS = 256  # places made at first; as many again whenever they are full


def algorithm_r(seen: int, capacity: int, new: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which of `new` examples are kept, and where: two (K,) int64, no place twice.

    Args:
        seen: examples that came before them.

    >>> kept, places = algorithm_r(0, 5, 3, torch.Generator())
    >>> kept.tolist(), places.tolist()
    ([0, 1, 2], [0, 1, 2])
    """
    number = torch.arange(seen, seen + new)
    drawn = (torch.rand(new, dtype=torch.float64, generator=rng) * (number + 1)).long()
    places = torch.where(number < capacity, number, drawn)
    inside = (places < capacity).nonzero().flatten()
    last = torch.full((capacity,), -1).scatter_reduce(0, places[inside], inside, "amax")
    taken_places = (last >= 0).nonzero().flatten()
    kept, order = torch.sort(last[taken_places])
    return kept, taken_places[order]


def largest_by_class(keys: Tensor, labels: Tensor, capacity: int) -> Tensor:
    """(N,) which of the examples stay: as many of each class as of any other, those with its largest keys.

    What cannot be divided evenly goes to the classes of the smallest labels among those that have more.

    >>> largest_by_class(torch.tensor([5.0, 1.0, 3.0, 2.0]), torch.tensor([0, 0, 0, 7]), 3).tolist()
    [True, False, True, True]
    """
    if len(keys) <= capacity:
        return torch.ones_like(labels, dtype=torch.bool)
    order = torch.argsort(keys, descending=True, stable=True)
    order = order[torch.argsort(labels[order], stable=True)]
    _, counts = torch.unique_consecutive(labels[order], return_counts=True)
    shares = fair_shares(counts, capacity)
    rank = torch.arange(len(keys)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    stays = torch.empty_like(labels, dtype=torch.bool)
    stays[order] = rank < shares.repeat_interleave(counts)
    return stays


def fair_shares(counts: Tensor, capacity: int) -> Tensor:
    """(C,) int64 places for classes of so many examples: no class less than another, unless it has no more.

    >>> fair_shares(torch.tensor([10, 2, 10]), 12).tolist()
    [5, 2, 5]
    """
    ordered = torch.sort(counts).values
    left = capacity - (ordered.cumsum(0) - ordered)  # places when all smaller classes have theirs
    level = torch.div(left, torch.arange(len(counts), 0, -1), rounding_mode="floor")
    fits = ordered <= level
    if bool(fits.all()):
        return counts.clone()
    everyone = level[int((~fits).long().argmax())]
    shares = counts.clamp_max(everyone)
    larger = (counts > everyone).nonzero().flatten()
    shares[larger[: int(capacity - shares.sum())]] += 1
    return shares


class Store:
    """The examples that are kept, in places 0 .. held - 1.

    Args:
        capacity: how many; None for all.
        kind: reservoir, ring or all.
        balanced: share the places over the classes.
        device: where the examples lie.

    Attributes:
        held: how many are kept now.
        seen: how many have come.
        arrival: (rows,) int64 the how-manieth each was, from 0.
        labels: (rows,) int64 their classes; -1 where they have none.
        keys: (rows,) float64 what decides who stays where classes share.
        rows: the columns, as long as there are places made.

    Raises:
        UserError: a kind that does not exist, or a capacity that does not fit it.
    """

    def __init__(
        self, capacity: int | None, *, kind: str = "reservoir", balanced: bool = False, device: Any = "cpu"
    ) -> None:
        if kind not in KINDS:
            raise UserError(f"there is no store {kind!r}", allowed=", ".join(KINDS), nearest=nearest(kind, KINDS))
        if kind == "all":
            capacity = None
        elif isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
            raise UserError(f"capacity cannot be {capacity!r}", allowed="1 or more examples, or store='all'")
        self.capacity, self.kind, self.device = capacity, kind, torch.device(device)
        self.balanced = balanced and kind != "all"
        self.held = self.seen = 0
        self.arrival = torch.zeros(0, dtype=torch.int64)
        self.labels = torch.zeros(0, dtype=torch.int64)
        self.keys = torch.zeros(0, dtype=torch.float64)
        self.rows: dict[str, Column] = {}

    def __len__(self) -> int:
        return self.held

    @property
    def made(self) -> int:
        """Places that have been made so far, in use or not."""
        return len(self.arrival)

    def check(self, batch: Mapping[str, Column]) -> None:
        """Refuse a batch that has another form than those before it.

        Raises:
            UserError: other parts, or rows of another shape or type; nothing is changed.
        """
        if not self.rows:
            return
        if batch.keys() != self.rows.keys():
            raise UserError(
                f"this batch has the parts {', '.join(batch)}, those before it had {', '.join(self.rows)}",
                allowed="batches of one form",
            )
        for path, column in batch.items():
            held = self.rows[path]
            now, before = _form(column), _form(held)
            if now != before:
                raise UserError(f"part {path} has rows of {now}, before they were of {before}")

    def add(self, batch: Mapping[str, Column], labels: Tensor | None, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Take in what has a place: which examples of the batch, and their places, two (K,) int64."""
        new = len(next(iter(batch.values())))
        classes = torch.full((new,), -1) if labels is None else labels.to("cpu", torch.int64)
        arrival = torch.arange(self.seen, self.seen + new)
        keys = arrival.double()
        if self.kind == "reservoir" and self.balanced:
            keys = torch.rand(new, dtype=torch.float64, generator=rng)
        kept, places = self._places(new, classes, keys, rng)
        self._make(int(places.max()) + 1 if len(places) else 0, batch)
        for path, column in batch.items():
            _put(self.rows[path], places, taken(column, kept))
        self.arrival[places], self.labels[places], self.keys[places] = arrival[kept], classes[kept], keys[kept]
        self.seen += new
        self.held = max(self.held, int(places.max()) + 1 if len(places) else 0)
        return kept, places

    def _places(self, new: int, classes: Tensor, keys: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        if self.capacity is None:
            return torch.arange(new), torch.arange(self.held, self.held + new)
        if self.kind == "reservoir" and not self.balanced:
            return algorithm_r(self.seen, self.capacity, new, rng)
        held = slice(self.held)
        of = torch.cat([self.labels[held], classes]) if self.balanced else torch.zeros(self.held + new).long()
        stays = largest_by_class(torch.cat([self.keys[held], keys]), of, self.capacity)
        kept = stays[self.held :].nonzero().flatten()
        free = torch.cat([(~stays[held]).nonzero().flatten(), torch.arange(self.held, self.held + new)])
        return kept, free[: len(kept)]

    def _make(self, number: int, batch: Mapping[str, Column]) -> None:
        """Places for at least so many, doubling, never more than the capacity."""
        if number <= self.made and self.rows:
            return
        wanted = max(number, 2 * self.made, FIRST_ROWS)
        wanted = wanted if self.capacity is None else min(wanted, self.capacity)
        more = wanted - self.made
        for path, column in batch.items():
            if isinstance(column, Tensor):
                empty = torch.zeros((more, *column.shape[1:]), dtype=column.dtype, device=self.device)
                held = self.rows.get(path)
                self.rows[path] = torch.cat([held, empty]) if isinstance(held, Tensor) else empty
            else:
                self.rows[path] = [*self.rows.get(path, []), *([None] * more)]
        self.arrival = torch.cat([self.arrival, torch.zeros(more, dtype=torch.int64)])
        self.labels = torch.cat([self.labels, torch.full((more,), -1)])
        self.keys = torch.cat([self.keys, torch.zeros(more, dtype=torch.float64)])

    def take(self, places: Tensor) -> dict[str, Column]:
        """The examples at these places."""
        return {path: taken(column, places) for path, column in self.rows.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything that is kept, without the places not in use."""
        held = torch.arange(self.held)
        return {
            "held": self.held,
            "seen": self.seen,
            "arrival": self.arrival[held],
            "labels": self.labels[held],
            "keys": self.keys[held],
            "made": self.made,
            "rows": self.take(held),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The reverse of `state_dict`."""
        held, made = int(state["held"]), int(state["made"])
        rows = {path: _lengthened(column, made, self.device) for path, column in state["rows"].items()}
        self.rows, self.held, self.seen = rows, held, int(state["seen"])
        for name in ("arrival", "labels", "keys"):
            setattr(self, name, _lengthened(state[name], made, torch.device("cpu")))


def _form(column: Column) -> str:
    if not isinstance(column, Tensor):
        return "plain values"
    return f"{'x'.join(map(str, column.shape[1:])) or 'one'} {str(column.dtype).removeprefix('torch.')}"


def _put(held: Column, places: Tensor, rows: Column) -> None:
    if isinstance(held, Tensor) and isinstance(rows, Tensor):
        held[places.to(held.device)] = rows.detach().to(held.device)
    elif isinstance(held, list):
        for place, row in zip(places.tolist(), rows, strict=True):
            held[place] = row


def _lengthened(column: Column, length: int, device: torch.device) -> Column:
    if not isinstance(column, Tensor):
        return [*column, *([None] * (length - len(column)))]
    more = torch.zeros((length - len(column), *column.shape[1:]), dtype=column.dtype)
    return torch.cat([column.cpu(), more]).to(device)

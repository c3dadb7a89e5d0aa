"""Review of data that comes in order and cannot be shuffled again: remembered examples beside the new ones.

    stream = engram.ReviewStream(capacity=2000, review=0.5, method="forgetting_curve")
    for x, y in arriving:                                        # in whatever order they come, each once
        x, y = stream.mix(x, y)                                  # the new ones first, then remembered ones
        losses = criterion(net(x), y)                            # reduction="none"
        stream.grade(losses).backward()
        optimizer.step(); optimizer.zero_grad()

A network that is trained on one task after another loses the earlier ones within a few steps. Here a share `review` of
every batch is filled from a store of examples that came before: which of them are kept is the store's rule
(`stream_store`), which of those are reviewed now the method's (`stream_methods`). Each has a row in a ledger as long
as it is kept, and what a batch shows is taken in as soon as it is graded; a place that is given to another example
begins anew.

The clock's unit is as many visits as the store has places. As `updates` it goes slower where the learning rate is
lower than it has been; the memory model's parameters follow the record of the last reviews.

Examples are kept as they come. Give them to `mix` before they are augmented, and augment what it returns: then every
review shows another view, and the store holds no view for ever.

Helps where data comes in an order that matters: classes or domains one after another, a sensor's day, a user's
uploads. Hurts nothing but time where the stream is well mixed: half of each batch is then seen before.

Robins 1995, "Catastrophic Forgetting, Rehearsal and Pseudorehearsal" (rehearsal). Chaudhry et al. 2019, "On Tiny
Episodic Memories in Continual Learning", algorithm 1. Where we differ: what is reviewed depends on what is predicted
to be forgotten, and new examples are kept after they were trained on, with what that showed.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from engram.errors import UserError, nearest
from engram.grammar import switch
from engram.review import recall, stream_methods, stream_tree
from engram.review.checks import check_correct, check_finite, check_losses, check_rate, check_state
from engram.review.ledger import COLUMNS, Ledger, Observed
from engram.review.memory import Record
from engram.review.reviewer import CLOCKS, PERMUTATION, generator
from engram.review.stream_methods import Held, StreamMethod
from engram.review.stream_store import Store
from engram.review.stream_tree import Column

UNIT = 2000  # visits that make a clock unit where the store has no bound
FIT_ROWS = 1024  # reviews after which the memory model is fitted


@dataclass(frozen=True)
class _Waiting:
    """A batch that was mixed and not yet graded: its new examples, and the places of the reviewed ones."""

    new: dict[str, Column]
    count: int
    labels: Tensor | None
    places: Tensor

    def __len__(self) -> int:
        return self.count + len(self.places)


class ReviewStream:
    """Fills part of each batch of a stream with examples that came before.

    Args:
        capacity: examples that are kept; None with store="all".
        review: share of a batch that is reviewed, 0 up to 1: with 0.5, as many as are new, fewer while fewer are held.
        method: none, recent, uniform, forgetting_curve, due or loss, or a `StreamMethod` of one's own.
        store: reservoir (a uniform sample of all that came), ring (the newest), or all.
        balanced: the same number of places for every class; by default for a ring whose examples have labels.
        seed: decides every draw, together with what is observed.
        device: where the kept examples lie; they are brought to the device of the batch they join.
        clock: updates (where `optimizer` or `lr` tells the learning rate), steps or visits.
        unit: visits that make a clock unit; by default the capacity, 2,000 without one.
        measure: what counts as recall, see `engram.review.recall`.
        optimizer: whose learning rate the clock follows.
        permuted: the method sees the rows of other examples: the control that knows nothing about them.
        settings: of the method, such as `floor=0.2`.

    Attributes:
        steps: batches graded so far.
        clock: now, in clock units.

    Raises:
        UserError: a method, store or setting that does not exist, or a permuted control that would be the method
            itself.

    >>> stream = ReviewStream(capacity=4, method="uniform")
    >>> for x in torch.arange(12.0).split(2):
    ...     x = stream.mix(x)
    ...     mean = stream.grade(x)
    >>> len(stream), stream.seen, len(x)
    (4, 12, 4)
    """

    def __init__(
        self,
        capacity: int | None = None,
        *,
        review: float = 0.5,
        method: str | StreamMethod = "forgetting_curve",
        store: str = "reservoir",
        balanced: bool | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        clock: str = "updates",
        unit: float | None = None,
        measure: str = "probability",
        optimizer: torch.optim.Optimizer | None = None,
        permuted: bool = False,
        **settings: Any,
    ) -> None:
        if clock not in CLOCKS:
            raise UserError(f"there is no clock {clock!r}", allowed=", ".join(CLOCKS), nearest=nearest(clock, CLOCKS))
        recall.check_measure(measure)
        switch("stream", "permuted", permuted)
        if not isinstance(review, Real) or not 0 <= review < 1:
            raise UserError(f"review cannot be {review!r}", allowed="a share of the batch: 0 up to 1, 1 excluded")
        if unit is not None and not (isinstance(unit, Real) and unit > 0):
            raise UserError(f"unit cannot be {unit!r}", allowed="visits, more than 0")
        if not isinstance(method, str) and settings:
            raise UserError(f"{', '.join(settings)}: settings are for methods that are given by name")
        self.method = stream_methods.build(method, settings) if isinstance(method, str) else method
        if permuted:
            stream_methods.check_permutable(self.method)
        self.needs_labels = bool(balanced)
        balanced = store == "ring" if balanced is None else balanced
        self.store = Store(capacity, kind=store, balanced=balanced, device=device)
        self.review, self.seed, self.kind_of_clock, self.measure = float(review), seed, clock, measure
        self.unit = float(unit or self.store.capacity or UNIT)
        self.optimizer, self.permuted = optimizer, permuted
        self.steps = self.largest = 0
        self.clock = self.highest_lr = 0.0
        self.rng = generator(seed, 0)
        self.rows = Ledger(1)  # one for each place that the store has made
        self.record = Record.joined([])  # reviews since the last fit
        self.waiting: _Waiting | None = None

    def __len__(self) -> int:
        """Examples that are held."""
        return self.store.held

    @property
    def seen(self) -> int:
        """Examples that have come."""
        return self.store.seen

    @property
    def ledger(self) -> Ledger:
        """What is remembered of the examples that are held, by their place: a copy; an error while there are none."""
        return self.rows.rows(torch.arange(len(self)))

    @property
    def reviewed(self) -> int:
        """How many of the batch that waits to be graded were there before: the last ones of it."""
        return 0 if self.waiting is None else len(self.waiting.places)

    def mix(self, *parts: Any, labels: Tensor | None = None) -> Any:
        """The batch with remembered examples after its own, in the form it came in.

        Args:
            parts: the batch: tensors of B rows, or lists, tuples and dictionaries of them. One part gives one back.
            labels: (B,) classes, for balanced stores and for methods that look at them; where they are not given, the
                second of exactly two parts, as of `x, y`, if that is a tensor of B integers. Of more parts none is
                taken: it might be an index.

        Raises:
            UserError: the batch before was not graded; a batch of another form; labels that are missing or too few.
                Nothing is changed.
        """
        if self.waiting is not None:
            raise UserError(
                "the batch before was not graded",
                then="call stream.grade(losses) once for each batch, or stream.skip() where it is left out",
            )
        tree: Any = parts[0] if len(parts) == 1 else parts
        new = stream_tree.columns(tree)
        count = len(next(iter(new.values())))
        self.store.check(new)
        labels = _labels(tree, count) if labels is None else _checked(labels, count)
        if self.needs_labels and labels is None:
            raise UserError("a store that is balanced needs classes", then="stream.mix(x, y, labels=classes)")
        self.rng = generator(self.seed, self.steps)
        places = self._choose(count, labels)
        self.waiting = _Waiting(new, count, labels, places)
        if not len(places):
            return tree
        old = self.store.take(places)
        return stream_tree.rebuilt(tree, {path: stream_tree.joined(column, old[path]) for path, column in new.items()})

    def _choose(self, count: int, labels: Tensor | None) -> Tensor:
        """(K,) places to review beside so many new examples."""
        quota = min(len(self), round(count * self.review / (1.0 - self.review)))
        if not quota or not self.method.reviews:
            return torch.zeros(0, dtype=torch.int64)
        shown = torch.arange(len(self))  # whose row each place shows
        if self.permuted:
            shown = torch.randperm(len(self), generator=generator(self.seed, PERMUTATION))
        return self.method.choose(
            Held(
                ledger=self.rows.rows(shown),
                arrival=self.store.arrival[shown],
                labels=self.store.labels[shown],
                coming=labels,
                quota=quota,
                clock=self.clock,
                rng=self.rng,
            )
        )

    def grade(
        self,
        losses: Tensor,
        *,
        weights: Tensor | None = None,
        correct: Tensor | None = None,
        lr: float | None = None,
    ) -> Tensor:
        """Record what the batch showed, take its new examples into the store, and return the mean, to minimise.

        Args:
            losses: (B,) one for each example of the mixed batch, in its order, with their graph.
            weights: (B,) of the losses in the mean, not negative; only their ratios count.
            correct: (B,) whether the answers were right, where recall is measured so.
            lr: the learning rate of the step; taken from the optimizer where that was given.

        Raises:
            UserError: graded twice or without a batch, losses of another length, or not finite; nothing is changed.
        """
        waiting = self._expect(losses)
        mean = losses.mean() if weights is None else _weighted(losses, weights)
        shown = losses.detach().to("cpu", torch.float32)
        check_finite(shown)
        check_rate(lr)
        check_correct(correct, len(losses))
        correct = None if correct is None else correct.detach().cpu()
        grades = recall.grade(shown, correct, measure=self.measure)
        if lr is None and self.optimizer is not None:
            lr = float(self.optimizer.param_groups[0]["lr"])
        self._review(waiting.places, shown[waiting.count :], grades[waiting.count :])
        self._keep(waiting, shown, grades)
        self.clock += self._pace(len(losses), lr)
        self.skip()
        return mean

    def skip(self) -> None:
        """Leave the batch that waits out: nothing is recorded of it, and nothing of it is kept.

        Raises:
            UserError: there is none.
        """
        if self.waiting is None:
            raise UserError("there is no batch to leave out", then="stream.mix(x, y) first")
        self.waiting = None
        self.steps += 1

    def _expect(self, losses: Tensor) -> _Waiting:
        if self.waiting is None:
            raise UserError(
                "there is no batch to grade: every batch that was mixed is graded already",
                allowed="one grade a batch",
                then="x, y = stream.mix(x, y) first",
            )
        check_losses(losses, len(self.waiting), of=f", {self.reviewed} of them reviewed")
        return self.waiting

    def _review(self, places: Tensor, losses: Tensor, grades: Tensor) -> None:
        """Take in what the reviewed examples showed."""
        memory = self.method.memory
        record = self.rows.record(self._visits(places, losses, grades), memory)
        if memory is None:
            return
        self.record = Record.joined([self.record, record])
        if len(self.record) >= FIT_ROWS:
            memory.fit(self.record)
            self.record = Record.joined([])

    def _keep(self, waiting: _Waiting, losses: Tensor, grades: Tensor) -> None:
        """Give new examples their places, with rows that begin anew."""
        kept, places = self.store.add(waiting.new, waiting.labels, self.rng)
        self.rows.grow(max(len(self.rows), self.store.made))
        for name in COLUMNS:
            getattr(self.rows, name)[places] = 0
        self.rows.record(self._visits(places, losses[kept], grades[kept]), self.method.memory)

    def _visits(self, places: Tensor, losses: Tensor, grades: Tensor) -> Observed:
        return Observed(
            places,
            losses,
            grades,
            torch.full((len(places),), self.clock),
            torch.full((len(places),), self.steps),
        )

    def _pace(self, visits: int, lr: float | None) -> float:
        """How far the clock goes in a step: full batches count alike, also before the store has enough to fill them."""
        if self.kind_of_clock == "visits":
            return visits / self.unit
        self.largest = max(self.largest, visits)
        if self.kind_of_clock == "steps" or lr is None:
            return self.largest / self.unit
        self.highest_lr = max(self.highest_lr, lr)
        return self.largest / self.unit * (lr / self.highest_lr if self.highest_lr > 0 else 1.0)

    def state_dict(self) -> dict[str, Any]:
        """Everything, with the examples that are held: tensors, numbers and text.

        A batch that was mixed and not graded is not in it: give it to `mix` again, and it gets the same company.
        """
        return {
            "settings": self._settings(),
            "store": self.store.state_dict(),
            "ledger": self.ledger.state_dict() if len(self) else {},
            "method": self.method.state_dict(),
            "record": {name: column.clone() for name, column in self.record.columns().items()},
            "steps": self.steps,
            "largest": self.largest,
            "clock": self.clock,
            "highest_lr": self.highest_lr,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The reverse of `state_dict`.

        Raises:
            UserError: the state of a stream with other settings, or no whole state; this one stays as it was.
        """
        check_state(state)
        saved = dict(state.get("settings", {}))
        for name, value in self._settings().items():
            if saved.get(name) != value:
                raise UserError(
                    f"this is the state of another stream: its {name} is {saved.get(name)!r}, not {value!r}",
                    then="go on with the settings it was begun with",
                )
        kept, own = dict(vars(self)), copy.deepcopy(dict(self.method.state_dict()))
        try:
            self._replace(state)
        except Exception as error:
            vars(self).update(kept)
            self.method.load_state_dict(own)
            if isinstance(error, KeyError):
                raise UserError(f"this is no whole state of a stream: it has no {error.args[0]!r}") from None
            raise

    def _replace(self, state: Mapping[str, Any]) -> None:
        """What is replaced is replaced whole, and not changed in place, so that it can be put back."""
        before = self.store
        self.store = Store(before.capacity, kind=before.kind, balanced=before.balanced, device=before.device)
        self.store.load_state_dict(state["store"])
        rows = Ledger(len(self) or 1)
        if len(self):
            rows.load_state_dict(state["ledger"])
        rows.grow(max(self.store.made, 1))
        self.rows = rows
        self.record = Record(**{name: column.cpu().clone() for name, column in state["record"].items()})
        self.method.load_state_dict(state["method"])
        self.steps, self.largest = int(state["steps"]), int(state["largest"])
        self.clock, self.highest_lr = float(state["clock"]), float(state["highest_lr"])
        self.waiting = None

    def _settings(self) -> dict[str, Any]:
        """What must be the same for a state to fit."""
        own = {name: value for name, value in vars(self.method).items() if isinstance(value, str | int | float)}
        return {
            "method": type(self.method).__name__,
            **own,
            "capacity": self.store.capacity,
            "store": self.store.kind,
            "balanced": self.store.balanced,
            "review": self.review,
            "seed": self.seed,
            "clock": self.kind_of_clock,
            "unit": self.unit,
            "measure": self.measure,
            "permuted": self.permuted,
        }


def _labels(tree: Any, count: int) -> Tensor | None:
    """The second of exactly two parts of a batch, where that looks like classes; a third may as well be an index."""
    second = tree[1] if isinstance(tree, list | tuple) and len(tree) == 2 else None
    if not isinstance(second, Tensor) or second.shape != (count,) or second.is_floating_point() or second.is_complex():
        return None
    return _checked(second, count)


def _checked(labels: Tensor, count: int) -> Tensor:
    if labels.shape != (count,) or labels.is_floating_point():
        raise UserError(
            f"labels are {str(labels.dtype).removeprefix('torch.')} of shape {tuple(labels.shape)}",
            allowed=f"one whole number an example, shape ({count},)",
        )
    return labels.detach().to("cpu", torch.int64)


def _weighted(losses: Tensor, weights: Tensor) -> Tensor:
    if weights.shape != losses.shape or not bool((weights >= 0).all()) or not float(weights.sum()) > 0:
        raise UserError("weights that cannot be used", allowed=f"{len(losses)} numbers, none negative, not all 0")
    weights = weights.detach().to(losses)
    return (losses * weights).sum() / weights.sum()

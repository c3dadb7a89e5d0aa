"""The course of a review: rounds, batches, grading, and what is learned from them.

A `Reviewer` knows which examples come next and takes in what their visits showed. It holds no data and no network, so
that the loader, the sampler and the training loop all stand on it:

    for indices in reviewer.batches():           # what is left of this round, or a new one
        losses = ...                             # of these examples, in this order
        reviewer.grade(losses).backward()

What a round's visits show is kept in a list, a few tensors a batch, and taken into the ledger when the round is over:
the choice of a round rests on whole rounds, costs a batch next to nothing, and nobody waits for a device.

The clock goes by visits divided by the number of examples. As `updates` it goes slower where the learning rate is
lower than it has been: a network that moves less forgets less. The highest rate is not known before it comes, so that
while the rate rises, in a warm-up, every step counts whole.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from engram.errors import UserError, nearest
from engram.grammar import switch
from engram.review import recall, reviewer_state
from engram.review.calibration import Link
from engram.review.calibration import measure as calibrated
from engram.review.checks import check_correct, check_course, check_finite, check_losses, check_places, check_rate
from engram.review.epochs import Epochs
from engram.review.labels import as_labels
from engram.review.ledger import RECALLED, Ledger, Observed
from engram.review.memory import Record
from engram.review.method import Method, Moment, Round, check_permutable, stretched

CLOCKS = ("updates", "steps", "visits")


class Reviewer:
    """Which examples come next, and what is remembered of each.

    Args:
        examples: how many there are.
        method: chooses the rounds.
        batch_size: examples a step.
        epochs: visits of the whole run, divided by the number of examples.
        seed: decides every choice, together with what is observed.
        drop_last: leave out what is too little for a batch; otherwise a full pass ends with a smaller batch.
        clock: updates (visits scaled by the learning rate), steps, or visits.
        measure: what counts as recall, see `engram.review.recall`.
        labels: (N,) classes, for methods that look at them.
        permuted: the method sees the rows of other examples, always the same ones: the control that visits as many
            examples as often, but knows nothing about them.
        floor: nats below which no loss can fall, see `engram.review.recall.grade`.
        agree: among several processes, the fewest of the batches that each has chosen for a round whose size follows
            what it observed; all make as many.

    Attributes:
        total_steps: steps of the whole run, known before training.
        rounds: rounds of the whole run; where the method does not plan them, a number that suffices.
        steps: steps graded so far.
        ledger, clock: see there.
        history: a row of figures for each round that is over.
        link: brings predicted recall to what was observed, for those who look at it.
        seen: the share of the examples that each epoch saw.
    """

    def __init__(
        self,
        examples: int,
        method: Method,
        *,
        batch_size: int,
        epochs: float,
        seed: int = 0,
        drop_last: bool = True,
        clock: str = "updates",
        measure: str = "probability",
        labels: Tensor | None = None,
        permuted: bool = False,
        floor: float = 0.0,
        agree: Callable[[int], int] | None = None,
    ) -> None:
        if clock not in CLOCKS:
            raise UserError(f"there is no clock {clock!r}", allowed=", ".join(CLOCKS), nearest=nearest(clock, CLOCKS))
        recall.check_measure(measure)
        switch("review", "permuted", permuted)
        switch("review", "drop_last", drop_last)
        check_course(examples, batch_size, epochs, seed)
        if permuted:
            check_permutable(method)
        self.method, self.epochs = method, float(epochs)
        self.asked_batch = int(batch_size)
        self.batch_size = min(self.asked_batch, examples)  # of the round that goes on
        self.seed = seed
        self.drop_last, self.kind_of_clock, self.measure, self.floor = drop_last, clock, measure, floor
        self.agree = agree
        self.labels = as_labels(labels, examples)
        if method.classes and self.labels is None:
            raise UserError(
                "classes needs to know the class of every example",
                allowed="labels=..., a class for each; single examples, and not unit='batch'",
            )
        self.ledger = Ledger(examples)
        self.begun_with = examples
        self.permutation = self.exchanged(examples) if permuted else None
        # decided once: a schedule of the learning rate is laid over it, also where examples come during the run
        self.total_steps = max(1, round(epochs * self.steps_per_pass / method.charge))
        self.planned = method.plan(self.steps_per_pass, self.total_steps)
        self.round = -1  # none has begun
        self.steps = 0
        self.clock = 0.0
        self.highest_lr = 0.0
        self.order = torch.zeros(0, dtype=torch.int64)  # of the round that goes on
        self.weights: Tensor | None = None
        self.position = 0  # batches of it that are graded
        self.rng = generator(seed, 0)  # for choices inside a round
        self.pending: list[tuple[Tensor, Tensor, Tensor, float, int]] = []
        self.history: list[dict[str, float]] = []
        self.link = Link()
        self.seen = Epochs(examples)
        self.tally = torch.zeros(3, len(DELAYS) + 1, 2, dtype=torch.float64)

    def __len__(self) -> int:
        """Examples."""
        return len(self.ledger)

    @property
    def next_batch(self) -> int:
        """Examples of a batch in a round that begins now: as many as were asked for, or all while there are fewer."""
        return min(self.asked_batch, len(self))

    @property
    def steps_per_pass(self) -> int:
        """Batches of one visit to every example."""
        number = len(self) / self.next_batch
        return max(1, int(number) if self.drop_last else math.ceil(number))

    @property
    def rounds(self) -> int:
        if self.planned is not None:
            return len(self.planned)
        least = max(1, int(self.method.least_share * len(self)) // self.next_batch)
        return math.ceil(self.total_steps / least)

    @property
    def finished(self) -> bool:
        return self.steps >= self.total_steps

    @property
    def due(self) -> Tensor | None:
        """(N,) clock at which each example is to be reviewed; none where the method has no memory model."""
        memory = self.method.memory
        return None if memory is None else self.ledger.due(memory, self.method.retention)

    def batches(self) -> list[Tensor]:
        """What is left of the round, (B,) int64 CPU indices a batch; a new round where nothing is left.

        Empty when the last step has been made.
        """
        if self.round_is_over:
            self._begin()
        left = self.order[self.position * self.batch_size :]
        return list(left.split(self.batch_size)) if len(left) else []

    @property
    def round_is_over(self) -> bool:
        return self.position * self.batch_size >= len(self.order)

    @property
    def waiting(self) -> Tensor:
        """(B,) indices of the batch that is graded next."""
        return self.order[self.position * self.batch_size : (self.position + 1) * self.batch_size]

    def _begin(self) -> None:
        """Choose the next round."""
        if self.finished:
            self.order, self.position = self.order[:0], 0
            return
        self.round += 1
        self.batch_size = self.next_batch
        left = self.total_steps - self.steps
        plan = self.planned or []
        planned = self.round < len(plan)
        steps = plan[self.round] if planned else left
        quota = min(len(self), steps * self.batch_size)
        if planned and steps == self.steps_per_pass:
            quota = len(self)
        self.rng = generator(self.seed, self.round)
        moment = Moment(
            round=self.round,
            quota=quota,
            left=left * self.batch_size,
            spent=self.steps / self.total_steps,
            clock=self.clock,
            batch_size=self.batch_size,
            rng=self.rng,
            labels=self.labels,
        )
        chosen = self._choose(moment)
        self.order, self.weights, self.position = self._fitted(chosen, left)

    def _choose(self, moment: Moment) -> Round:
        if self.permutation is None:
            return self.method.choose(self.ledger, moment)
        return self.method.choose(self.ledger.rows(self.permutation.to(self.ledger.device)), moment)

    def _tell(self, observed: Observed) -> None:
        """Let the method learn from a round; in the control, each row's visits are those of the example it shows."""
        if self.permutation is None:
            self.method.fold(observed, self.ledger)
            return
        permutation = self.permutation.to(self.ledger.device)
        shown = replace(observed, indices=torch.argsort(permutation)[observed.indices])
        self.method.fold(shown, self.ledger.rows(permutation))

    def _fitted(self, chosen: Round, left: int) -> tuple[Tensor, Tensor | None, int]:
        """The round in whole batches, no more than are left, and not smaller than the method's least share."""
        order = chosen.indices.cpu()
        weights = None if chosen.weights is None else chosen.weights.float().cpu()
        least = max(self.batch_size, int(self.method.least_share * len(self)) // self.batch_size * self.batch_size)
        if self.planned is None and len(order) < least:
            more = torch.randperm(len(self), generator=self.rng)
            more = more[~torch.isin(more, order)][: least - len(order)]
            order = torch.cat([order, more])
            weights = None if weights is None else torch.cat([weights, torch.ones(len(more))])
            mixed = torch.randperm(len(order), generator=self.rng)
            order, weights = order[mixed], None if weights is None else weights[mixed]
        full_pass = len(order) == len(self) and not self.drop_last
        number = len(order) if full_pass else max(1, len(order) // self.batch_size) * self.batch_size
        number = min(number, left * self.batch_size, len(order))
        if self.agree is not None and self.planned is None:
            number = min(number, self.agree(-(-number // self.batch_size)) * self.batch_size)
        order, weights = order[:number], None if weights is None else weights[:number]
        if weights is not None and chosen.normalise:
            weights = weights / weights.mean()
        return order, weights, 0

    def weigh(self, losses: Tensor, part: slice = slice(None)) -> Tensor:
        """The losses of the next ungraded batch, or of a part of it, times their weights; nothing is recorded.

        The mean of the result is what to minimise.
        """
        weights = None
        if self.weights is not None:
            begin = self.position * self.batch_size
            weights = self.weights[begin : begin + self.batch_size][part].to(losses.device, non_blocking=True)
        more = self.method.weigh(losses.detach(), self.rng)
        if more is not None:
            weights = more if weights is None else weights * more
        return losses if weights is None else losses * weights.to(losses.dtype)

    def grade(
        self,
        losses: Tensor,
        *,
        correct: Tensor | None = None,
        lr: float | None = None,
        shown: Tensor | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Record what the next batch's visits showed, and return the mean of its weighted losses, to minimise.

        Args:
            losses: (B,) with their graph.
            correct: (B,) whether the answers were right, where recall is measured so.
            lr: the learning rate of this step, for the clock.
            shown: (B,) losses to record instead of those to minimise, as of the larger part of a mixed picture alone.
            places: (B,) whose they are: places in the batch, where they are not in its order.

        Raises:
            UserError: no batch is waiting; losses or answers of another length, or losses that are not finite: nothing
                is recorded. Where losses are on an accelerator, which nobody waits for, those that are not finite are
                found at the end of the round, and nothing of that round is recorded.
        """
        for some in (losses,) if shown is None else (losses, shown):
            self.expect(some, correct)
            check_finite(some)
        check_rate(lr)
        check_places(places, len(losses))
        rows = None if places is None else self.waiting[places.long().cpu()]
        weighted = self.weigh(losses).mean()
        self.observe((losses if shown is None else shown).detach(), correct=correct, lr=lr, rows=rows)
        return weighted

    def expect(self, losses: Tensor, correct: Tensor | None = None) -> None:
        """Refuse losses and answers that are not those of the batch that waits to be graded."""
        if self.round_is_over:
            raise UserError(
                "there is no batch to grade: every batch of this round is graded already",
                allowed="one grade a batch",
                then="call grade once for each batch, in the order they come",
            )
        check_losses(losses, len(self.waiting))
        check_correct(correct, len(self.waiting))

    def observe(
        self,
        losses: Tensor,
        *,
        correct: Tensor | None = None,
        lr: float | None = None,
        rows: Tensor | None = None,
    ) -> None:
        """Record a batch without weighing it, and go on to the next.

        Args:
            losses: (B,) detached.
            rows: (B,) indices whose losses these are, where they are not those of the batch, as with mixed images.

        Raises:
            UserError: a loss of the round that this batch ends is not finite; nothing of that round is recorded, and
                the batch still waits.
        """
        indices = self.waiting
        grades = recall.grade(losses, correct, measure=self.measure, floor=self.floor)
        self.pending.append((indices if rows is None else rows, losses.float(), grades, self.clock, self.position))
        if (self.position + 1) * self.batch_size >= len(self.order):
            self._check_round()
        self.clock += self._pace(len(indices), lr)
        self.skip()

    def _check_round(self) -> None:
        """Refuse what the whole round showed where it cannot be taken in, and forget it: the next one can be."""
        try:
            self.ledger.check(self.observed())
        except UserError:
            self.pending.clear()
            raise

    def skip(self) -> None:
        """Go on to the next batch without recording this one."""
        self.position += 1
        self.steps += 1
        if self.round_is_over:
            self.fold()

    def give_up(self) -> None:
        """Leave the rest of the round out, and record nothing of it: whose losses came is not known."""
        left = -(-(len(self.order) - self.position * self.batch_size) // self.batch_size)
        self.pending.clear()
        self.position += left
        self.steps += left

    def _pace(self, visits: int, lr: float | None) -> float:
        """How far the clock goes in a step."""
        if self.kind_of_clock == "visits":
            return visits / len(self)
        pace = self.batch_size / len(self)
        if self.kind_of_clock == "steps" or lr is None:
            return pace
        self.highest_lr = max(self.highest_lr, lr)
        return pace * (lr / self.highest_lr if self.highest_lr > 0 else 1.0)

    def observed(self) -> Observed:
        """The visits since the last fold, on the ledger's device."""
        device = self.ledger.device
        counts = torch.tensor([len(row[0]) for row in self.pending], device=device)
        return Observed(
            torch.cat([row[0].to(device) for row in self.pending]),
            torch.cat([row[1].to(device) for row in self.pending]),
            torch.cat([row[2].to(device) for row in self.pending]),
            torch.tensor([row[3] for row in self.pending], dtype=torch.float32, device=device).repeat_interleave(
                counts
            ),
            torch.tensor([row[4] for row in self.pending], device=device).repeat_interleave(counts),
        )

    def fold(self) -> None:
        """Take the pending visits into the ledger, and let memory and method learn from them."""
        if not self.pending:
            return
        observed = _once_a_batch(self.observed(), len(self))
        memory = self.method.memory
        record = self.ledger.record(observed, memory)
        self._tell(observed)
        came = self.order[: self.position * self.batch_size]  # of mixed pictures also those that nothing is recorded of
        begun = self.steps - self.position  # steps before this round
        self.seen.add(came, begun + torch.arange(len(came)) // self.batch_size, steps_per_pass=self.steps_per_pass)
        self.pending.clear()
        self._describe(observed, record, came)
        if memory is not None:
            memory.fit(record)

    def _describe(self, observed: Observed, record: Record, came: Tensor) -> None:
        """Figures of the round that is over, and the counts from which retention is drawn."""
        row: dict[str, float] = {
            "round": self.round,
            "steps": self.steps,
            "came": len(came),
            "visits": len(observed),
            "share": len(torch.unique(came)) / len(self),
            "new": len(observed) - len(record),
            "loss": float(observed.losses.mean()),
            "recalled": float((observed.grades >= RECALLED).double().mean()),
            "clock": self.clock,
        }
        if len(record):
            recalled = record.grade >= RECALLED
            self._count(record, recalled)
            if self.method.memory is not None:
                predicted = self.method.memory.recall(record.delay, record.strength, record.difficulty)
                row |= calibrated(predicted, recalled).to_dict_of_numbers()
                linked = calibrated(self.link.apply(predicted, record.streak), recalled)
                row |= {f"linked_{name}": value for name, value in linked.to_dict_of_numbers().items()}
                self.link.fit(record, predicted)
        self.history.append(row)

    def _count(self, record: Record, recalled: Tensor) -> None:
        bucket = (record.streak > 0).long() + (record.streak > 2).long()
        edges = torch.tensor(DELAYS, device=record.delay.device)
        place = torch.bucketize(record.delay, edges)
        flat = bucket * (len(DELAYS) + 1) + place
        size = 3 * (len(DELAYS) + 1)
        visits = torch.bincount(flat, minlength=size)
        right = torch.bincount(flat[recalled], minlength=size)
        counts = torch.stack([visits, right], 1).view(3, len(DELAYS) + 1, 2)
        self.tally += counts.cpu().double()

    def grow(self, examples: int, labels: Tensor | None = None) -> None:
        """Rows for examples that have come to the end of the data set; they are new in the next round.

        The rounds to come are the same shares of the examples as before, so there are fewer of them: the steps of the
        run stay as many.

        Raises:
            UserError: labels that are none of these examples; nothing has grown.
        """
        labels = as_labels(labels, examples)
        before = self.steps_per_pass
        self.ledger.grow(examples)
        self.seen.grow(examples)
        if self.planned is not None:
            begun = self.round + 1
            coming = stretched(self.planned[begun:], self.steps_per_pass / before)
            self.planned = [*self.planned[:begun], *coming]
        self.labels = labels
        if self.permutation is not None:
            self.permutation = self.exchanged(examples)

    def exchanged(self, examples: int) -> Tensor:
        """(N,) whose row each example shows: those of the beginning are exchanged, what came since shows its own."""
        first = torch.randperm(self.begun_with, generator=generator(self.seed, PERMUTATION))
        return torch.cat([first, torch.arange(self.begun_with, examples)])

    def state_dict(self) -> dict[str, Any]:
        """Everything, also in the middle of a round: tensors, numbers and text."""
        return reviewer_state.save(self)

    def load_state_dict(self, state: Mapping[str, Any], *, grown: bool = False) -> None:
        """The reverse of `state_dict`.

        Args:
            grown: take the state of fewer examples too: the others have come to the end of the data set since.

        Raises:
            UserError: the state of another review; this one stays as it was.
        """
        reviewer_state.check(self, state, grown)
        reviewer_state.load(self, state)


def _once_a_batch(observed: Observed, examples: int) -> Observed:
    """The visits without those of an example that is in its batch already, as mixed pictures bring it twice.

    Nothing lies between the two: as visits of their own they would say that after no time nothing is forgotten.
    """
    keys = observed.batches * examples + observed.indices
    order = torch.argsort(keys, stable=True)
    again = torch.zeros_like(keys, dtype=torch.bool)
    again[1:] = keys[order][1:] == keys[order][:-1]
    return observed.at(order[~again].sort().values) if bool(again.any()) else observed


PERMUTATION = 2**40  # a round that never comes: the draw of the permuted control
DELAYS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # clock units: where retention is counted


def generator(seed: int, round_: int) -> torch.Generator:
    """The source of every draw of a round, the same for the same seed and round on every machine."""
    # Mersenne Twister takes any 64 bits; the odd multiplier keeps (seed, round) pairs from meeting by accident.
    return torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + round_) % 2**63)

"""The review as a batch sampler, for those who keep their own DataLoader.

    sampler = engram.ReviewSampler(len(dataset), batch_size=128, epochs=10)
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=4)
    for _ in range(sampler.rounds):
        for x, y in loader:
            losses = criterion(net(x), y)                  # reduction="none"
            sampler.grade(losses).backward()

A round is chosen whole before its first batch is read, so that a DataLoader may read ahead: the k-th graded batch is
the k-th of the round. Under `torch.distributed` every process reviews its own part of the examples, drawn by seed; the
rounds have the same number of steps everywhere, and the visits of all processes add up to those of one. Nothing is
exchanged but, by methods that choose the size of a round by what they observed, that size: the smallest is everyone's.
So every process asks for its batches, or for their number, as often as the others do.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engram.errors import UserError, nearest
from engram.review import export, methods
from engram.review.checks import check_correct, check_course, check_finite, check_losses, check_state
from engram.review.labels import as_labels
from engram.review.ledger import RECALLED, Ledger, fingerprint
from engram.review.method import Method
from engram.review.reviewer import Reviewer, generator


class ReviewSampler(torch.utils.data.Sampler[list[int]]):
    """Lists of indices, a batch each; one pass over it is one round.

    Args:
        examples: how many there are.
        batch_size: examples a step, on each process.
        epochs: length of the run: the work of so many passes over all examples, and as many steps where the method
            learns from all that it looks at.
        method: a name (`engram show reviews`), or a `Method` of one's own.
        seed: decides every choice, together with what is observed.
        labels: (N,) classes, for methods that look at them.
        drop_last: leave out what is too little for a batch at the end of a full pass.
        clock: updates (where `optimizer` or `lr` tells the learning rate), steps or visits.
        measure: what counts as recall: probability, correct or relative.
        permuted: the control that knows nothing about the examples, see `Reviewer`.
        optimizer: whose learning rate the clock follows.
        unit: example, or batch: the examples are tied into batches once, by seed, and each batch is remembered, visited
            and forgotten as a whole, by its mean loss; the ledger then has a row a batch.
        rank, world: this process among all; taken from torch.distributed where that is initialised.
        words: what else tells the data set from another, for the fingerprint.
        settings: of the method.

    Raises:
        UserError: a method or setting that does not exist; labels that are not a class for each example.

    >>> sampler = ReviewSampler(10, batch_size=4, epochs=2, method="shuffle")
    >>> sampler.rounds, sampler.total_steps, [len(batch) for batch in sampler]
    (2, 6, [4, 4, 2])
    """

    def __init__(
        self,
        examples: int,
        batch_size: int,
        *,
        epochs: float,
        method: str | Method = "forgetting_curve",
        seed: int = 0,
        labels: Tensor | Sequence[int] | None = None,
        drop_last: bool = False,
        clock: str = "updates",
        measure: str = "probability",
        permuted: bool = False,
        optimizer: torch.optim.Optimizer | None = None,
        unit: str = "example",
        rank: int | None = None,
        world: int | None = None,
        words: tuple[str, ...] = (),
        **settings: Any,
    ) -> None:
        self.rank, self.world = _place(rank, world)
        self.examples, self.optimizer, self.words, self.seed = examples, optimizer, words, seed
        check_course(examples, batch_size, epochs, seed)
        if not isinstance(method, str) and settings:
            raise UserError(f"{', '.join(settings)}: settings are for methods that are given by name")
        self.labels = own = as_labels(labels, examples)
        self.shard = _shard(examples, seed, self.rank, self.world)
        if self.shard is not None and own is not None:
            own = own[self.shard]
        number = examples if self.shard is None else len(self.shard)
        self.unit = unit
        self.bundles = _bundles(number, unit, batch_size, drop_last, seed)
        self.reviewer = Reviewer(
            number if self.bundles is None else len(self.bundles),
            methods.build(method, settings) if isinstance(method, str) else method,
            batch_size=batch_size if self.bundles is None else 1,
            epochs=epochs,
            seed=seed + self.rank,
            labels=own if self.bundles is None else None,
            drop_last=drop_last,
            clock=clock,
            measure=measure,
            permuted=permuted,
        )
        if unit == "batch":
            _check_bundled(self.reviewer)
        if (rows := self._indices()) is not None:
            self.reviewer.method.own(rows, examples)
        if self.reviewer.planned is None:
            self.reviewer.agree = _fewest_of_all(self.world)
        self.handed = 0  # batches of the round that were handed out since the last pass began
        self.graded = 0  # of these
        self.handed_all = False  # whether the pass has handed out its last batch

    @property
    def rounds(self) -> int:
        """Passes over this sampler that make the whole run; passes after the last step are empty."""
        return self.reviewer.rounds

    @property
    def total_steps(self) -> int:
        """Steps of the whole run, for the learning rate's schedule."""
        return self.reviewer.total_steps

    @property
    def finished(self) -> bool:
        return self.reviewer.finished

    @property
    def epoch(self) -> float:
        """Steps so far divided by those of a pass over all examples."""
        return self.reviewer.steps / self.reviewer.steps_per_pass

    @property
    def ledger(self) -> Ledger:
        """What is remembered of this process's examples, as of the last whole round."""
        return self.reviewer.ledger

    def __len__(self) -> int:
        """Batches left of this round, or of the next."""
        return len(self.batches())

    def __iter__(self) -> Iterator[list[int]]:
        if self.handed > self.graded and (self.handed_all or not self.graded):
            self._refuse_ungraded()
        batches = self.batches()
        self.handed, self.graded, self.handed_all = 0, 0, False
        for batch in batches:
            self.handed += 1
            self.handed_all = self.handed == len(batches)
            yield batch.tolist()

    def _refuse_ungraded(self) -> None:
        some = f"{self.handed - self.graded:,} of {self.handed:,} batches of a round went by without being graded"
        if self.graded:  # which ones is not known, nor whose losses came
            self.reviewer.give_up()
            self.handed, self.graded, self.handed_all = 0, 0, False
            some += "; nothing of that round was recorded"
        raise UserError(
            some,
            then="call grade(losses) once for each batch, in the order they come, or skip() where one is left out; "
            "engram.ReviewLoader notices at once, also where batches are read ahead and a pass is broken off",
        )

    def batches(self) -> list[Tensor]:
        """What is left of this round as index tensors, a new round where nothing is left."""
        batches = self.reviewer.batches()
        if self.bundles is not None:
            batches = [self.bundles[int(batch)] for batch in batches]
        return batches if self.shard is None else [self.shard[batch] for batch in batches]

    def grade(
        self,
        losses: Tensor,
        *,
        correct: Tensor | None = None,
        lr: float | None = None,
        shown: Tensor | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Record what the next batch showed, and return the weighted mean of its losses, to minimise.

        Args:
            losses: (B,) one for each example of the batch, in its order, with their graph.
            correct: (B,) whether the answers were right, where recall is measured so.
            lr: the learning rate of the step; taken from the optimizer where that was given.
            shown: (B,) losses to record instead of those to minimise: of a mixed picture, that of its larger part.
            places: (B,) whose they are: places in the batch, where they are not in its order.

        Raises:
            UserError: no batch waits, as where one is graded twice; losses or answers of another length, or losses that
                are not finite; nothing is recorded. With workers that read ahead, a batch graded twice is noticed at
                the end of the round alone; `ReviewLoader` always notices.
        """
        if self.graded >= self.handed > 0:
            raise UserError(
                "there is no batch to grade: every batch that came was graded already",
                allowed="one grade a batch",
                then="for several losses of one batch, add them before grading",
            )
        if lr is None and self.optimizer is not None:
            lr = float(self.optimizer.param_groups[0]["lr"])
        if self.bundles is not None:
            shown = None if shown is None else self._as_one(shown, None)[0]
            losses, correct = self._as_one(losses, correct)
            places = None  # whichever example it is, the batch is the same
        weighted = self.reviewer.grade(losses, correct=correct, lr=lr, shown=shown, places=places)
        self.graded += 1
        return weighted

    def skip(self) -> None:
        """Leave the next batch out: nothing is recorded of it.

        Raises:
            UserError: no batch waits.
        """
        if self.reviewer.round_is_over:
            raise UserError("there is no batch to leave out: every batch that came was graded already")
        self.reviewer.skip()
        self.graded += 1

    def _as_one(self, losses: Tensor, correct: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The mean of a bundle's losses, and whether most of its answers were right."""
        if self.bundles is None or self.reviewer.round_is_over:
            return losses, correct  # the reviewer says what is wrong
        wanted = len(self.bundles[int(self.reviewer.waiting)])
        check_losses(losses, wanted)
        check_finite(losses)
        check_correct(correct, wanted)
        right = None if correct is None else (correct.float().mean() >= RECALLED)[None]
        return losses.mean()[None], right

    def grow(self, examples: int, labels: Tensor | Sequence[int] | None = None) -> None:
        """The data set has more examples now, at its end; they are new in the next round.

        Raises:
            UserError: it has fewer, or other than a label for each; it is spread over several processes, or its
                batches are remembered as a whole.
        """
        if self.bundles is not None:
            raise UserError("batches that are remembered as a whole cannot grow", then="unit='example'")
        if self.world > 1:
            raise UserError("a data set spread over several processes cannot grow", then="begin a new loader")
        grown = as_labels(labels, examples)
        self.reviewer.grow(examples, grown)
        self.examples, self.labels = examples, grown

    def export(self, path: str | Path) -> None:
        """Write the ledger as Parquet, a row an example (of this process, named by its index) or a bundled batch (named
        by the indices of its examples).

        See `engram.review.export` for its columns and for reading it again.

        Raises:
            OSError: it cannot be written; a file that was there stays as it was.
        """
        rows = self._indices()
        names = None if rows is None else [" ".join(map(str, row.flatten().tolist())) for row in rows]
        export.write(self.ledger, path, due=self.reviewer.due, names=names, labels=self.reviewer.labels)

    def _indices(self) -> Tensor | list[Tensor] | None:
        """The examples of each row of the ledger, where they are not all of them in order."""
        if self.bundles is None or self.shard is None:
            return self.shard if self.bundles is None else self.bundles
        return [self.shard[bundle] for bundle in self.bundles]

    def fingerprint(self, examples: int | None = None) -> str:
        """What tells this data set from another; or of so many of its examples, as they come."""
        examples = self.examples if examples is None else examples
        return fingerprint(examples, None if self.labels is None else self.labels[:examples], *self.words)

    def state_dict(self) -> dict[str, Any]:
        """Everything of this process's review, also in the middle of a round; plain tensors, numbers and text."""
        place = {"rank": self.rank, "world": self.world, "unit": self.unit}
        data = {"examples": self.examples, "fingerprint": self.fingerprint()}
        return {**place, **data, "reviewer": self.reviewer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The reverse of `state_dict`: the next pass goes on where the saved one was.

        The data set may have grown since, at its end; what has come is new in the next round.

        Raises:
            UserError: the state of another data set, process or method; this one stays as it was.
        """
        check_state(state)
        before = int(state.get("examples", self.examples))
        may_grow = self.bundles is None and self.world == 1
        fits = before == self.examples or (before < self.examples and may_grow)
        if not fits or state.get("fingerprint") != self.fingerprint(before):
            raise UserError(
                f"this is the ledger of another data set: of {before:,} examples, there are {self.examples:,}"
                if before != self.examples
                else "this is the ledger of another data set: as many examples, other labels or another type",
                allowed="the data set it was kept for, also with more examples at its end"
                if may_grow
                else "the data set it was kept for",
            )
        place = (state.get("rank"), state.get("world"))
        if place != (self.rank, self.world):
            raise UserError(
                f"this is the state of process {place[0]} of {place[1]}, not {self.rank} of {self.world}",
                allowed="as many processes as before, each with its own state",
            )
        if (unit := state.get("unit", self.unit)) != self.unit:  # states of earlier versions do not tell
            raise UserError(f"this is the state of another review: its unit is {unit!r}, not {self.unit!r}")
        self.reviewer.load_state_dict(state["reviewer"], grown=may_grow)
        self.handed, self.graded, self.handed_all = 0, 0, False


def _place(rank: int | None, world: int | None) -> tuple[int, int]:
    """This process and the number of all."""
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    if world is None:
        world = torch.distributed.get_world_size() if together else 1
    if rank is None:
        rank = torch.distributed.get_rank() if together else 0
    if not 0 <= rank < world:
        raise UserError(f"there is no process {rank} of {world}", allowed=f"0 to {world - 1}")
    return rank, world


def _check_bundled(reviewer: Reviewer) -> None:
    """Refuse what compares the examples of a batch, where a batch is one."""
    if reviewer.measure == "relative":
        raise UserError(
            "measure 'relative' compares the losses of a batch, and with unit='batch' there is one",
            allowed="probability, correct",
        )
    if reviewer.method.charge != 1:
        name = reviewer.method.built.get("method", type(reviewer.method).__name__)
        raise UserError(
            f"{name} leaves out examples of a batch, and with unit='batch' a batch is one",
            then="unit='example'",
        )


def _fewest_of_all(world: int) -> Callable[[int], int] | None:
    """The smallest number of all processes; none where this one is alone, or where they are only said to be several."""
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    if world == 1 or not there or torch.distributed.get_world_size() != world:
        return None
    # a group of its own, on the CPU: nothing that the network exchanges can come in between
    group = torch.distributed.new_group(backend="gloo")

    def fewest(number: int) -> int:
        common = torch.tensor(number)
        torch.distributed.all_reduce(common, torch.distributed.ReduceOp.MIN, group=group)
        return int(common)

    return fewest


def _bundles(examples: int, unit: str, batch_size: int, drop_last: bool, seed: int) -> list[Tensor] | None:
    """The batches into which the examples are tied by seed, the same for the whole run; none for single examples."""
    if unit not in UNITS:
        raise UserError(f"there is no unit {unit!r}", allowed=", ".join(UNITS), nearest=nearest(unit, UNITS))
    if unit == "example":
        return None
    order = torch.randperm(examples, generator=generator(seed, BUNDLES))
    whole = examples // batch_size * batch_size if drop_last and examples >= batch_size else examples
    return list(order[:whole].split(batch_size))


UNITS = ("example", "batch")


def _shard(examples: int, seed: int, rank: int, world: int) -> Tensor | None:
    """(n,) the examples of this process, as many for each; all of them, as none, where it is alone.

    Up to world - 1 examples are in two parts, as in torch's DistributedSampler, so that all parts are alike.
    """
    if world == 1:
        return None
    if examples < world:
        raise UserError(f"{examples:,} examples cannot be shared among {world} processes")
    order = torch.randperm(examples, generator=generator(seed, SHARDS))
    size = -(-examples // world)
    order = torch.cat([order, order[: size * world - examples]])
    return order[rank * size : (rank + 1) * size].sort().values


BUNDLES = 2**42  # likewise: the draw that ties examples into batches
SHARDS = 2**41  # a round that never comes: the draw that spreads the examples over processes

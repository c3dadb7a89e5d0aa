"""What absence costs: some examples rest, others do not, and then both are asked. Ebbinghaus's experiment on a network.

What a network understands it answers whether or not it has seen it lately; what it has learned by heart it loses when
it is not shown. A record of visits cannot tell the two apart, since what was left out is what was known best. So a
trial draws two groups at random, each a tenth of the examples but at most 1,000 (how sure the answer is depends on
their number and not on their share). One rests for `REST` epochs of visits, the other comes once an epoch at least, and
in the round after that both come. With g the grade of that visit and m the average grade when the trial began,

    cost = mean of (g - m) over what stayed - mean of (g - m) over what rested

with the standard error of a difference between two means. More than `COST`, and more than `SURE` times its error, is
learning by heart: what would be left out would be lost, so there is nothing to save.

A trial begins only where it ends early enough to be of use, and none where the data set has grown: what has come moves
the network, and all that was there is absent. The comparison of two groups drawn at random is our own; the question,
what is left after which delay, is Ebbinghaus 1885, "Über das Gedächtnis", chapter 7.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engram.review.ledger import Ledger, Observed
from engram.review.method import Moment

SHARE = 0.1  # of the examples, in each of the two groups
FEWEST, MOST = 20, 1000  # examples in a group
REST = 3.0  # epochs of visits
USE = 1.5  # epochs that are left after the rest, the round that asks included
COST = 0.02  # of the grade; docs/review_results.md has what was measured where
SURE = 2.0  # standard errors


def costs(trial: Mapping[str, float]) -> bool:
    """Whether what a trial found is large and sure enough to count.

    >>> [costs({"cost": cost, "error": 0.015}) for cost in (0.01, 0.025, 0.035)]
    [False, False, True]
    """
    return trial["cost"] > max(COST, SURE * trial["error"])


class Absence:
    """The trial that goes on, and what those before it found.

    >>> absence, ledger = Absence(), Ledger(400)
    >>> ledger.visits[:] = 1
    >>> free = torch.ones(400, dtype=torch.bool)
    >>> moment = Moment(1, 400, 4000, 0.1, 1.0, 50, torch.Generator().manual_seed(0))
    >>> absence.turn(ledger, moment, free, tail=0.1)
    >>> len(absence.coming), len(absence.away), absence.by_heart
    (40, 40, False)

    Attributes:
        coming: (S,) int64 examples that have to come in the round that `turn` was told of.
        away: (S,) int64 examples that must not.
        found: what every trial that is over found: its `cost`, the standard `error`, and the `epoch` when it asked.
    """

    def __init__(self) -> None:
        self.staying = self.resting = self.coming = self.away = torch.zeros(0, dtype=torch.int64)
        self.before = torch.zeros(0)  # (2 S,) average grades when the trial began, first of what stays
        self.begun = 0.0  # visits of the run, when the trial began
        self.shown = 0  # rounds in which what stays had to come
        self.asks = False  # whether this is the round in which both come
        self.examples = 0
        self.found: list[dict[str, float]] = []

    @property
    def by_heart(self) -> bool:
        """Whether the last trial found that absence costs."""
        return bool(self.found) and costs(self.found[-1])

    def meet(self, number: int) -> None:
        """So many examples are there. Where they are more than at first, all trials are over."""
        self.examples = self.examples or number
        if self.examples != number:
            self._end()
            self.found.clear()

    def turn(self, ledger: Ledger, moment: Moment, free: Tensor, tail: float) -> None:
        """Before a round: begin a trial where there is time for one, go on with it, or ask.

        Args:
            free: (N,) bool, of which examples the groups may be.
            tail: share of the run's visits, at its end, in which everything comes.
        """
        number = len(ledger)
        self.meet(number)
        if self.examples != number:
            return
        total = moment.left / (1.0 - moment.spent)
        visits = total - moment.left
        if not len(self.resting):
            in_time = moment.left - tail * total >= (REST + USE) * number
            if in_time and bool(ledger.seen.all()):
                self._begin(ledger, moment, free, visits)
        elif visits - self.begun >= REST * number:
            self.asks = True
        shows = len(self.staying) > 0 and visits - self.begun >= self.shown * number
        self.shown += shows
        self.coming = (
            torch.cat([self.staying, self.resting]) if self.asks else self.staying[: len(self.staying) * shows]
        )
        self.away = self.resting[:0] if self.asks else self.resting

    def _begin(self, ledger: Ledger, moment: Moment, free: Tensor, visits: float) -> None:
        order = torch.randperm(len(ledger), generator=moment.rng)
        size = min(int(SHARE * len(ledger)), MOST)
        groups = order[free.cpu()[order]][: 2 * size]
        if len(groups) < 2 * max(size, FEWEST):
            return
        self.staying, self.resting = groups.chunk(2)
        self.before = ledger.recall[groups.to(ledger.device)].float().cpu()
        self.begun, self.shown = visits, 0

    def fold(self, observed: Observed) -> None:
        """Take in what a round showed; after the round that asks the trial is over."""
        if not self.asks:
            return
        grades = torch.full((self.examples,), torch.nan)
        grades[observed.indices.cpu()] = observed.grades.float().cpu()
        gained = grades[torch.cat([self.staying, self.resting])] - self.before
        stayed, rested = (group[~group.isnan()].double() for group in gained.chunk(2))
        if min(len(stayed), len(rested)) > 1:
            cost = float(stayed.mean() - rested.mean())
            error = math.sqrt(float(stayed.var()) / len(stayed) + float(rested.var()) / len(rested))
            self.found.append({"cost": cost, "error": error, "epoch": self.begun / self.examples + REST})
        self._end()

    def _end(self) -> None:
        self.staying = self.resting = self.coming = self.away = self.resting[:0]
        self.asks = False

    def state_dict(self) -> dict[str, Any]:
        """Everything, as tensors, numbers and a list of numbers."""
        state = {name: value.clone() if isinstance(value, Tensor) else value for name, value in vars(self).items()}
        return state | {"found": [dict(one) for one in self.found]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The reverse of `state_dict`; what an older version did not save stays as it is at the beginning."""
        for name in vars(self).keys() & state.keys():
            value = state[name]
            setattr(self, name, value.cpu().clone() if isinstance(value, Tensor) else value)
        self.found = [dict(one) for one in self.found]

"""Methods that visit one part of the examples for ever."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engram.review.ledger import Ledger
from engram.review.method import Method, Moment, Round, whole_passes


class Subset(Method):
    """Every example of one part once a round, in random order; which part, `pick` says once.

    The part is a share of the examples, rounded up to what fills the whole batches of a round.

    Attributes:
        kept: (N,) whether an example belongs to it.
    """

    permutable = False  # the part is chosen before anything was seen

    def __init__(self, *, share: float) -> None:
        self.share = self.least_share = share
        self.kept = torch.zeros(0, dtype=torch.bool)

    def plan(self, steps_per_pass: int, total_steps: int) -> list[int]:
        return whole_passes(max(1, round(self.share * steps_per_pass)), total_steps)

    def choose(self, ledger: Ledger, moment: Moment) -> Round:
        new = len(ledger) - len(self.kept)
        if new:
            first = not len(self.kept)
            number = max(round(self.share * new), moment.quota if first else 0)
            more = torch.zeros(new, dtype=torch.bool)
            more[self.pick(new, number, moment) if first else self.pick_new(new, number, moment)] = True
            self.kept = torch.cat([self.kept, more])
        return Round(moment.shuffle(self.kept.nonzero().flatten())[: moment.quota])

    def pick(self, examples: int, number: int, moment: Moment) -> Tensor:
        """Indices of the part: `number` of the examples."""
        raise NotImplementedError

    def pick_new(self, examples: int, number: int, moment: Moment) -> Tensor:
        """The same of examples that came later, counted from the first of them."""
        return torch.randperm(examples, generator=moment.rng)[:number]

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self.kept.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.kept = state["kept"].cpu().clone()

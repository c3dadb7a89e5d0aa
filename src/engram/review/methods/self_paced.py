"""Easy examples first: a round visits those whose loss is below a limit that grows.

The first round visits everything. Then lambda is set so that the easiest `start` share of the examples lies at or
below it, and a round visits those with

    last loss <= lambda,   lambda <- growth lambda each round

until all are in.

Helps where wrong labels or outliers spoil the start; it saves visits only while examples are left out, early in
training. Hurts as any curriculum may: in CurBench's comparison of 15 methods with 5 seeds none won throughout, on
clean CIFAR-10 the best was 0.5 points above none. `super_loss` is its soft form.

In the paper: for structured support vector machines, half of the examples at first and a factor of 1.3 each
iteration. Where we differ: the loss is that of the last visit instead of a pass over all examples every round, so
that what is left out is judged by its old loss; a round is never smaller than the start share, its rest the next
easiest; rounds are whole batches; a run resumes exactly.

Kumar, Packer and Koller 2010, "Self-Paced Learning for Latent Variable Models", NeurIPS, sections 4 and 5.
"""

from collections.abc import Mapping
from typing import Any

import torch

from engram.grammar import number
from engram.registry import register
from engram.review.ledger import Ledger
from engram.review.method import Method, Moment, Round
from engram.review.methods._rounds import everything, least_of, soonest


class SelfPaced(Method):
    """See the module.

    Attributes:
        first: lambda when it was set; none before.
        begun: the round in which it was.
    """

    def __init__(self, *, start: float, growth: float) -> None:
        self.start, self.growth = start, growth
        self.least_share = start
        self.first: float | None = None
        self.begun = 0

    def choose(self, ledger: Ledger, moment: Moment) -> Round:
        if not bool(ledger.seen.any()):
            return everything(ledger, moment)
        if self.first is None:
            losses = torch.sort(ledger.loss[ledger.seen]).values
            self.first, self.begun = float(losses[max(0, round(self.start * len(losses)) - 1)]), moment.round
        # above 700 rounds the power is beyond any number; all are in long before
        limit = self.first * self.growth ** min(moment.round - self.begun, 700)
        wait = torch.where(ledger.seen, ledger.loss.double() - limit, -torch.inf)
        return Round(soonest(wait, least_of(self.start, ledger, moment), moment))

    def state_dict(self) -> dict[str, Any]:
        return {"first": self.first, "begun": self.begun}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.first, self.begun = state["first"], int(state["begun"])


@register("review", paper="Kumar et al., Self-Paced Learning, NeurIPS 2010, sections 4 and 5", year=2010)
def self_paced(*, start: float = 0.5, growth: float = 1.3) -> Method:
    """Easy examples first: visits those whose loss is below a limit that grows.

    Args:
        start: share of the examples that are in at first.
        growth: what multiplies the limit each round.
    """
    return SelfPaced(
        start=number("self_paced", "start", start, 0, 1, above=True),
        growth=number("self_paced", "growth", growth, 1, 2),
    )

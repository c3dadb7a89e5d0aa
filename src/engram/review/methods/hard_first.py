"""The examples with the largest last loss, every round: the plainest preference for what is hard.

A round visits the `share` of the examples whose last loss is largest; those that were never visited come first, equal
ones at random.

Helps as a control: the same information as OrderDP and InfoBatch use, without their randomness. Online hard example
mining does so inside a batch (Shrivastava et al. 2016). Hurts: what is hard for good, such as wrong labels, is
visited every round, and what once had a small loss is left alone until everything else has a smaller one, however
long ago that was.

After Loshchilov and Hutter 2016, "Online Batch Selection for Faster Training of Neural Networks", section 3, who draw
by rank and go over all losses anew from time to time; this takes the top of the ranks and never does.
"""

import torch

from engram.grammar import number
from engram.registry import register
from engram.review.ledger import Ledger
from engram.review.method import Method, Moment, Round, whole_passes


class HardFirst(Method):
    """See the module."""

    def __init__(self, *, share: float) -> None:
        self.share = self.least_share = share

    def plan(self, steps_per_pass: int, total_steps: int) -> list[int]:
        return whole_passes(max(1, round(self.share * steps_per_pass)), total_steps)

    def choose(self, ledger: Ledger, moment: Moment) -> Round:
        order = moment.shuffle(torch.arange(len(ledger), device=ledger.device))
        losses = torch.where(ledger.seen, ledger.loss, torch.inf)[order]
        hardest = torch.argsort(losses, descending=True, stable=True)[: moment.quota]
        return Round(moment.shuffle(order[hardest]))


@register(
    "review", paper="after Loshchilov and Hutter, Online Batch Selection, 2016, section 3", year=2016, starves=True
)
def hard_first(*, share: float = 0.5) -> Method:
    """The examples with the largest last loss, every round.

    Args:
        share: share of the examples in a round.
    """
    return HardFirst(share=number("hard_first", "share", share, 0, 1, above=True))

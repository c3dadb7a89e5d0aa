"""A new random subset every round; without replacement the rounds go through all examples before any comes again.

Without replacement (the default) this is plain shuffling whose rounds are shorter: what makes it strong is that the
learning rate's schedule is complete on fewer visits. With `replacement` every round draws from all examples anew, and
is the same as `dynamic_random`; inside a round no example comes twice in either form.

Helps as the baseline that any method of selection must beat at equal visits. Published: with 10 % of the examples a
round, ahead of more than 30 methods of pruning and distillation; ImageNet, ResNet-18, 66 % with 69 % for everything;
4.3 times faster to 91 to 92 % on CIFAR-10. Its reviewers said that a shortened schedule explains it. Hurts where
every visit counts: it knows nothing of the examples.

In the paper: several shares, 10 % among them. Where we differ: rounds are whole batches; a round in
which the pass ends takes its rest from the next pass; a run resumes exactly.

Okanovic et al. 2024, "Repeated Random Sampling for Minimizing the Time-to-Accuracy of Learning", ICLR, section 3.
"""

from collections.abc import Mapping
from typing import Any

import torch

from engram.grammar import number, switch
from engram.registry import register
from engram.review.ledger import Ledger
from engram.review.method import Method, Moment, Round, whole_passes
from engram.review.methods._rounds import everything


class RS2(Method):
    """See the module.

    Attributes:
        rest: examples that this pass has not visited yet, in their order.
        known: how many examples there were at the last round.
    """

    permutable = False

    def __init__(self, *, share: float, replacement: bool) -> None:
        self.share, self.replacement = share, replacement
        self.least_share = share
        self.rest = torch.zeros(0, dtype=torch.int64)
        self.known = 0

    def plan(self, steps_per_pass: int, total_steps: int) -> list[int]:
        return whole_passes(max(1, round(self.share * steps_per_pass)), total_steps)

    def choose(self, ledger: Ledger, moment: Moment) -> Round:
        if self.replacement:
            return everything(ledger, moment)
        if self.known < len(ledger):
            self.rest = moment.shuffle(torch.cat([self.rest, torch.arange(self.known, len(ledger))]))
            self.known = len(ledger)
        chosen, self.rest = self.rest[: moment.quota], self.rest[moment.quota :]
        if len(chosen) < moment.quota:
            following = torch.randperm(len(ledger), generator=moment.rng)
            new = following[~torch.isin(following, chosen)][: moment.quota - len(chosen)]
            self.rest = following[~torch.isin(following, new)]
            chosen = torch.cat([chosen, new])
        return Round(chosen)

    def state_dict(self) -> dict[str, Any]:
        return {"rest": self.rest.clone(), "known": self.known}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rest, self.known = state["rest"].cpu().clone(), int(state["known"])


@register("review", paper="Okanovic et al., Repeated Random Sampling (RS2), ICLR 2024, section 3", year=2024)
def rs2(*, share: float = 0.1, replacement: bool = False) -> Method:
    """A new random subset every round, all examples in turn or each round anew.

    Args:
        share: share of the examples in a round.
        replacement: draw every round from all examples.
    """
    return RS2(
        share=number("rs2", "share", share, 0, 1, above=True), replacement=switch("rs2", "replacement", replacement)
    )

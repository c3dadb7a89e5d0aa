"""A random pool, and of it the examples that are most likely forgotten: OrderDP with a forgetting curve.

A round draws a pool of the examples at random and visits the `top` share of it whose predicted recall is lowest now.
The prediction is that of `forgetting_curve`: what was known at the last visit, less what the memory model says is
lost since. The first round visits everything.

Helps as OrderDP does, by an exact size and a pool that keeps every example within reach, with a score that knows how
old it is. Whether that is better than the last loss alone is what the comparison of the two shows. Hurts as OrderDP
does under wrong labels. Unlike it, this one has a first pass over everything.

The pool is ours, after Jin et al. 2026, "OrderDP", ICLR; the memory model is FSRS's (Ye et al. 2022) by default.
"""

from typing import cast

import torch

from engram.grammar import number
from engram.registry import register
from engram.review.ledger import Ledger
from engram.review.method import Method, Moment, Round, whole_passes
from engram.review.methods._rounds import everything
from engram.review.methods.forgetting_curve import ForgettingCurve, forgetting_curve


class PoolThenForgotten(Method):
    """See the module."""

    def __init__(self, *, memory: str, save: float, top: float) -> None:
        self.curve = cast(ForgettingCurve, forgetting_curve(memory=memory))
        self.memory = self.curve.memory
        self.save, self.top = save, top
        self.least_share = 1.0 - save

    def plan(self, steps_per_pass: int, total_steps: int) -> list[int]:
        first = min(steps_per_pass, total_steps)
        quota = max(1, round((1.0 - self.save) * steps_per_pass))
        return [first, *whole_passes(quota, total_steps - first)]

    def choose(self, ledger: Ledger, moment: Moment) -> Round:
        if not bool(ledger.seen.any()):
            return everything(ledger, moment)
        size = max(moment.quota, round(moment.quota / self.top))
        pool = torch.randperm(len(ledger), generator=moment.rng).to(ledger.device)[:size]
        recall = self.curve.predicted(ledger, moment.clock)[pool]
        return Round(moment.shuffle(pool[torch.argsort(recall, stable=True)[: moment.quota]]))


@register("review", paper="after Jin et al., OrderDP, ICLR 2026; FSRS, Ye et al. 2022", year=2026)
def pool_then_forgotten(*, memory: str = "fsrs", save: float = 0.5, top: float = 0.6) -> Method:
    """A random pool each round, and of it the examples that are most likely forgotten.

    Args:
        memory: the memory model, see `engram show memories`.
        save: share of the examples that a round leaves out.
        top: share of the pool that is visited.
    """
    return PoolThenForgotten(
        memory=memory,
        save=number("pool_then_forgotten", "save", save, 0, 0.99),
        top=number("pool_then_forgotten", "top", top, 0, 1, above=True),
    )

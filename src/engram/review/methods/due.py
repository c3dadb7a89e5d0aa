"""Due dates: an example is visited when its predicted recall has fallen to the wanted retention. Textbook repetition.

The memory model gives the interval I after which recall is down to `retention`. An example is due once

    clock >= last + I (1 + fuzz u),   u uniform in -1..1, drawn anew for every visit

and a round visits all that are due. The fuzz keeps examples that were visited together from coming back together, as
in FSRS's and Anki's schedulers. With `weigh` a visit weighs as many rounds as have passed since the last, so that
over the run every example has about the same total weight; the round's mean is always 1.

Helps by being easy to explain: this is what spaced repetition programs do. In small runs of ours it came to what
drawing by predicted forgetting gives on CIFAR-10, and stayed behind it on MNIST (99.10 and 99.17 %). Hurts where the
model is wrong: an interval that is too long is not noticed before it ends, so that none is longer than `longest`. The
size of a round follows from what is due.

For networks: SRT (arXiv 2608.17530) does this with SM-2 in continued pre-training. Where we differ from the programs
for people: intervals are in clock units, and the model's curve is fitted to the network's own record; the fuzz is 25
% at all lengths (theirs 5 to 15 %); when fewer than 2 % of the examples are due, the next ones are taken. Rounds are
whole batches, and a run resumes exactly.

Wozniak 1990, "Optimization of learning"; Ye et al. 2022, "A Stochastic Shortest Path Algorithm for Optimizing Spaced
Repetition Scheduling", KDD.
"""

from collections.abc import Mapping
from typing import Any

import torch

from engram.grammar import number, switch
from engram.registry import register
from engram.review import memory as memories
from engram.review.ledger import Ledger, Observed
from engram.review.method import Method, Moment, Round
from engram.review.methods._rounds import grown, least_of, soonest


class Due(Method):
    """See the module; `fsrs` and `sm2_due` are this method with their memory model.

    Attributes:
        fuzz_of: (N,) what the interval of each example is multiplied by until its next visit, less 1.
        missed: (N,) rounds since the last visit.
    """

    least_share = 0.02

    def __init__(self, *, name: str, memory: str, retention: float, fuzz: float, longest: float, weigh: bool) -> None:
        self.memory = self.model = memories.build(memory)
        self.retention = number(name, "retention", retention, 0.01, 0.99)
        self.fuzz = number(name, "fuzz", fuzz, 0, 1)
        self.longest = number(name, "longest", longest, 0, above=True)
        self.weighs = switch(name, "weigh", weigh)
        self.fuzz_of = torch.zeros(0)
        self.missed = torch.zeros(0, dtype=torch.int32)

    def choose(self, ledger: Ledger, moment: Moment) -> Round:
        self._grow(ledger)
        interval = self.model.interval(self.retention, ledger.strength, ledger.difficulty).clamp_max(self.longest)
        wait = ledger.last + interval * (1.0 + self.fuzz_of) - moment.clock
        wait = torch.where(ledger.seen, wait, -torch.inf)
        indices = soonest(wait, least_of(self.least_share, ledger, moment), moment)
        new = torch.rand(len(indices), generator=moment.rng).to(ledger.device)
        weights = self.missed[indices].float() + 1.0
        self.fuzz_of[indices] = self.fuzz * (2.0 * new - 1.0)
        return Round(indices, weights if self.weighs else None)

    def fold(self, observed: Observed, ledger: Ledger) -> None:
        self._grow(ledger)
        self.missed += 1
        self.missed[observed.indices] = 0

    def _grow(self, ledger: Ledger) -> None:
        self.fuzz_of = grown(self.fuzz_of.to(ledger.device), len(ledger), 0)
        self.missed = grown(self.missed.to(ledger.device), len(ledger), 0)

    def state_dict(self) -> dict[str, Any]:
        return {"fuzz": self.fuzz_of.clone(), "missed": self.missed.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.fuzz_of, self.missed = state["fuzz"].clone(), state["missed"].clone()


@register("review", paper="Wozniak 1990, Optimization of learning; FSRS, Ye et al. 2022", year=1990)
def due(
    *,
    memory: str = "exponential",
    retention: float = 0.9,
    fuzz: float = 0.25,
    longest: float = 16.0,
    weigh: bool = False,
) -> Method:
    """Visits examples when their predicted recall has fallen to the wanted retention.

    Args:
        memory: the memory model, see `engram show memories`.
        retention: predicted recall at which an example is due.
        fuzz: share of an interval by which it is lengthened or shortened at random.
        longest: no interval is longer, clock units; the fuzz comes on top.
        weigh: weigh a visit by the rounds since the last one.
    """
    return Due(name="due", memory=memory, retention=retention, fuzz=fuzz, longest=longest, weigh=weigh)

"""Leitner's boxes: what is recalled moves up a box and is seen half as often, what is not goes back to the first.

An example in box k is visited in every round whose number is a multiple of 2^k, with `boxes` boxes from 0 on.
Recalled, it moves one box up; not recalled, it goes back to box 0. New examples start there.

Helps by its plainness: one byte an example, nothing to fit. Hurts by its echo: examples that were promoted together
come back together, so that rounds swing between nearly all and hardly any examples (.19, .85, .19, .05, .03, .82 of
them in small runs of ours). In those runs it came to the accuracy of the other methods on MNIST.

`jitter` is ours: every example gets a calendar of its own, the round's number shifted by a random number below jitter
2^(boxes - 1), which stays with it. With 1 the visits of a box are spread evenly over the rounds; 0 is as published.

As a baseline in Amiri et al.: 5 boxes. Where we differ: when fewer than 2 % of the examples are due, those are taken
whose turn comes next; rounds are whole batches; a run resumes exactly.

Leitner 1972, "So lernt man lernen"; for networks Amiri et al. 2017, "Repeat before Forgetting", section 4; as queues
Reddy et al. 2016, "Unbounded Human Learning", KDD.
"""

from collections.abc import Mapping
from typing import Any

import torch

from engram.grammar import number
from engram.registry import register
from engram.review.ledger import RECALLED, Ledger, Observed
from engram.review.method import Method, Moment, Round
from engram.review.methods._rounds import grown, latest, least_of, soonest


class Leitner(Method):
    """See the module.

    Attributes:
        box: (N,) each example's box.
        shift: (N,) rounds by which its calendar is shifted.
    """

    least_share = 0.02

    def __init__(self, *, boxes: int, jitter: float) -> None:
        self.boxes, self.jitter = boxes, jitter
        self.box = torch.zeros(0, dtype=torch.uint8)
        self.shift = torch.zeros(0, dtype=torch.int32)

    def choose(self, ledger: Ledger, moment: Moment) -> Round:
        self.box = grown(self.box.to(ledger.device), len(ledger), 0)
        new = torch.rand(len(ledger) - len(self.shift), generator=moment.rng) * self.jitter * 2 ** (self.boxes - 1)
        self.shift = torch.cat([self.shift.to(ledger.device), new.int().to(ledger.device)])
        interval = 1 << self.box.long()
        wait = torch.remainder(-(moment.round + self.shift), interval)
        return Round(soonest(wait, least_of(self.least_share, ledger, moment), moment))

    def fold(self, observed: Observed, ledger: Ledger) -> None:
        self.box = grown(self.box.to(ledger.device), len(ledger), 0)
        seen = latest(observed)
        higher = (self.box[seen.indices].long() + 1).clamp_max(self.boxes - 1)
        self.box[seen.indices] = torch.where(seen.grades >= RECALLED, higher, 0).byte()

    def state_dict(self) -> dict[str, Any]:
        return {"box": self.box.clone(), "shift": self.shift.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.box, self.shift = state["box"].clone(), state["shift"].clone()


@register("review", paper="Leitner 1972; Amiri et al., Repeat before Forgetting, EMNLP 2017, section 4", year=1972)
def leitner(*, boxes: int = 5, jitter: float = 0.0) -> Method:
    """Moves recalled examples up a box, where they are seen half as often, and the others back to the first.

    Args:
        boxes: how many; the last is visited every 2^(boxes - 1) rounds.
        jitter: 0 for one calendar for all, up to 1 for calendars spread over the longest interval.
    """
    return Leitner(
        boxes=int(number("leitner", "boxes", boxes, 1, 16, whole=True)),
        jitter=number("leitner", "jitter", jitter, 0, 1),
    )

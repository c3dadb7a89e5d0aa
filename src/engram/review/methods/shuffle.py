"""Every example once a round, in random order: what a network is usually fed, and what all others are measured by.

With less than a pass to go, a random part of the examples is visited. As a baseline for a method that saves visits,
give it fewer epochs: a complete schedule on fewer visits, its learning rate tuned for that length, is hard to beat
(RS2, Okanovic et al. 2024; "No Train No Gain", Kaddour et al. 2023).
"""

import torch

from engram.registry import register
from engram.review.ledger import Ledger
from engram.review.method import Method, Moment, Round, whole_passes


class Shuffle(Method):
    """A permutation a round."""

    permutable = False

    def plan(self, steps_per_pass: int, total_steps: int) -> list[int]:
        return whole_passes(steps_per_pass, total_steps)

    def choose(self, ledger: Ledger, moment: Moment) -> Round:
        return Round(torch.randperm(len(ledger), generator=moment.rng)[: moment.quota])


@register("review")
def shuffle() -> Method:
    """Every example once a round, in random order."""
    return Shuffle()

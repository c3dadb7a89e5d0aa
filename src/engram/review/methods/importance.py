"""Importance sampling by what the last visits showed, without any forgetting: the control for the memory model.

An example is visited with probability clip(c score, floor, 1), the scores being its last loss or one less its average
grade, with c such that a round has exactly its quota. Its weight is 1 / probability, to the power of `exponent`, at a
mean of 1: with 1 the round's gradient is an unbiased estimate of the mean gradient, and with 0 it leans to hard
examples. The first round visits everything.

Helps where losses differ much between examples. In small runs of ours on MNIST and CIFAR-10 this came to the same
accuracy as the full model with forgetting; exponent 0 was best or tied on clean data, and 1 had the better
calibration under wrong labels (.236 and .263 negative log-likelihood on MNIST with 20 % of them). Hurts at small
floors, where a stale record can keep an example away for long.

In the paper: with replacement, by an upper bound of the gradient's norm from a forward pass over a large batch, when
the estimated gain is worth it. Where we differ: stale losses instead of that pass (as in their baselines), an exact
number of examples, none twice, a floor; rounds are whole batches, and a run resumes exactly.

Katharopoulos and Fleuret 2018, "Not All Samples Are Created Equal: Deep Learning with Importance Sampling", ICML,
section 3; Horvitz and Thompson 1952 for the weights.
"""

import torch

from engram.grammar import choice, number
from engram.registry import register
from engram.review import selection
from engram.review.ledger import Ledger
from engram.review.method import Method, Moment, Round, whole_passes
from engram.review.methods._rounds import everything

SCORES = ("loss", "recall")


class Importance(Method):
    """See the module."""

    def __init__(self, *, score: str, save: float, floor: float, exponent: float) -> None:
        self.score, self.save, self.floor, self.exponent = score, save, floor, exponent
        self.least_share = 1.0 - save

    def plan(self, steps_per_pass: int, total_steps: int) -> list[int]:
        first = min(steps_per_pass, total_steps)
        quota = max(1, round((1.0 - self.save) * steps_per_pass))
        return [first, *whole_passes(quota, total_steps - first)]

    def choose(self, ledger: Ledger, moment: Moment) -> Round:
        if not bool(ledger.seen.any()):
            return everything(ledger, moment)
        scores = ledger.loss if self.score == "loss" else 1.0 - ledger.recall.float()
        scores = torch.where(ledger.seen, scores.clamp_min(0), scores.max().clamp_min(1))
        chances = selection.inclusion(scores, moment.quota, floor=self.floor)
        chosen = selection.systematic(chances, moment.rng)
        return Round(chosen, None if self.exponent == 0 else selection.weights(chances[chosen], self.exponent))


@register("review", paper="Katharopoulos and Fleuret, Not All Samples Are Created Equal, ICML 2018", year=2018)
def importance(*, score: str = "loss", save: float = 0.5, floor: float = 0.1, exponent: float = 1.0) -> Method:
    """Visits examples the more likely, the larger their last loss was.

    Args:
        score: loss, or recall (one less the average grade).
        save: share of the examples that a round leaves out.
        floor: the smallest chance of a visit in a round.
        exponent: 1 weighs visits by the inverse of their probability, 0 all alike; the mean is always 1.
    """
    return Importance(
        score=choice("importance", "score", score, SCORES),
        save=number("importance", "save", save, 0, 0.99),
        floor=number("importance", "floor", floor, 0, 1),
        exponent=number("importance", "exponent", exponent, 0, 1),
    )

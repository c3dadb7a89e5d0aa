"""Weigh every loss by how easy it is, in closed form: the soft form of self-paced learning.

With tau a threshold between easy and hard, the loss of an example becomes the least over sigma of

    (loss - tau) sigma + strictness (ln sigma)^2,   at   sigma = exp(-W(max(-2 / e, (loss - tau) / strictness) / 2))

with W Lambert's function. Its gradient is sigma times that of the loss, so that sigma is a weight: 1 at the
threshold, up to e for easy examples and towards 0 for hard ones. Every example is visited once a round.

Helps under wrong labels; it saves no visits. Hurts where hard examples are the ones to learn from. The weights' mean
is not 1: `rescale` leaves them as published, or brings them to a mean of 1 in each batch (`normalised`).

In the paper: strictness (its lambda) 1 for CIFAR-10 and 0.25 for CIFAR-100; tau is ln(classes), a running average of
the loss, or a mean. Here tau is the running average, each batch's mean counting 1 - `memory`, with the first batch's
mean at the start; `threshold` gives a constant instead. Where we differ: the term in ln sigma has no gradient and is
left out of the loss that is shown; a run resumes exactly.

Castells, Weinzaepfel and Revaud 2020, "SuperLoss: A Generic Loss for Robust Curriculum Learning", NeurIPS, section 3.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engram.grammar import choice, number
from engram.registry import register
from engram.review.ledger import Ledger
from engram.review.method import Method, Moment, Round, whole_passes
from engram.review.methods._rounds import NORMALISED, PUBLISHED, everything

HALLEYS = 8  # steps for Lambert's function, enough for double precision on its range


class SuperLoss(Method):
    """See the module.

    Attributes:
        average: the running average of the loss; none before the first batch.
    """

    permutable = False  # a batch's own losses are all that it looks at

    def __init__(self, *, strictness: float, threshold: float | None, memory: float, rescale: str) -> None:
        self.strictness, self.threshold, self.remembered, self.rescale = strictness, threshold, memory, rescale
        self.average: Tensor | None = None

    def plan(self, steps_per_pass: int, total_steps: int) -> list[int]:
        return whole_passes(steps_per_pass, total_steps)

    def choose(self, ledger: Ledger, moment: Moment) -> Round:
        return everything(ledger, moment)

    def weigh(self, losses: Tensor, rng: torch.Generator) -> Tensor:
        mean = losses.double().mean()
        kept = mean if self.average is None else self.average.to(mean.device)
        self.average = torch.lerp(mean, kept, self.remembered)
        tau = self.average if self.threshold is None else self.threshold
        weights = confidence(losses.double(), tau, self.strictness).float()
        return weights if self.rescale == PUBLISHED else weights / weights.mean()

    def state_dict(self) -> dict[str, Any]:
        return {"average": None if self.average is None else self.average.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.average = None if state["average"] is None else state["average"].clone()


def confidence(losses: Tensor, tau: float | Tensor, strictness: float) -> Tensor:
    """Sigma of each loss.

    >>> confidence(torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64), 1.0, 1.0)
    tensor([2.7183, 1.0000, 0.5671], dtype=torch.float64)
    """
    return torch.exp(-lambert(torch.clamp((losses - tau) / strictness, min=-2 / math.e) / 2))


def lambert(y: Tensor) -> Tensor:
    """Lambert's W, the w with w exp(w) = y, for float64 y from -1/e up: its main branch, by Halley's method.

    >>> lambert(torch.tensor([-1 / math.e, 0.0, math.e], dtype=torch.float64))
    tensor([-1.,  0.,  1.], dtype=torch.float64)
    """
    p = torch.sqrt((2 * (math.e * y + 1)).clamp_min(0))
    near = -1 + p - p**2 / 3 + 11 * p**3 / 72  # series at the branch point, where Halley's step is 0 / 0
    w = torch.where(p < 1, near, torch.log1p(y))
    for _ in range(HALLEYS):
        excess = w * torch.exp(w) - y
        step = excess / (torch.exp(w) * (w + 1) - (w + 2) * excess / (2 * w + 2))
        w = torch.where(p < 1e-3, near, w - step)
    return w


@register("review", paper="Castells et al., SuperLoss, NeurIPS 2020, section 3", year=2020)
def super_loss(
    *, strictness: float = 1.0, threshold: float | None = None, memory: float = 0.9, rescale: str = PUBLISHED
) -> Method:
    """Weighs every loss by how easy it is.

    Args:
        strictness: how slowly weights change with the loss (lambda in the paper).
        threshold: the loss of weight 1 (tau); none follows a running average.
        memory: share of the past in that average.
        rescale: published, or normalised (to a mean of 1 in each batch).
    """
    return SuperLoss(
        strictness=number("super_loss", "strictness", strictness, 0, above=True),
        threshold=None if threshold is None else number("super_loss", "threshold", threshold, 0),
        memory=number("super_loss", "memory", memory, 0, 0.9999),
        rescale=choice("super_loss", "rescale", rescale, (PUBLISHED, NORMALISED)),
    )

"""What counts as recall when a network sees an example again: a grade from 0 (not recalled) to 1 (for certain).

* `probability`: exp(-loss), which for cross-entropy is the probability given to the truth. The default: it says how
  well an example is known, also where every example is classified correctly.
* `correct`: whether the answer was right, 0 or 1, as Toneva et al. 2019 count forgetting. Where only losses are at
  hand, an answer counts as right when the truth has more than half of the probability (loss below ln 2), which misses
  right answers among several close ones.
* `relative`: the share of the batch that has a larger loss. For losses that are no log-likelihood (regression,
  detection); the mean grade is then 1/2 at all times, so that it tells examples apart but not whether training goes on.
"""

import torch
from torch import Tensor

from engram.errors import UserError, nearest

MEASURES = ("probability", "correct", "relative")


def grade(losses: Tensor, correct: Tensor | None = None, *, measure: str = "probability", floor: float = 0.0) -> Tensor:
    """Grades (B,) float32 of detached losses (B,).

    Args:
        correct: (B,) truth values, where they are known.
        floor: nats below which no loss can fall, as with label smoothing.

    >>> [round(one, 3) for one in grade(torch.tensor([0.0, 0.7, 3.0])).tolist()]
    [1.0, 0.497, 0.05]
    >>> grade(torch.tensor([0.1, 3.0]), measure="correct").tolist()
    [1.0, 0.0]
    >>> grade(torch.tensor([0.1, 3.0, 1.0]), measure="relative").tolist()
    [1.0, 0.0, 0.5]
    """
    losses = losses.float()
    if measure == "relative":
        if len(losses) == 1:
            return torch.full_like(losses, 0.5)
        larger = (losses[:, None] < losses[None, :]).sum(1) + 0.5 * ((losses[:, None] == losses[None, :]).sum(1) - 1)
        return larger / (len(losses) - 1)
    if measure == "correct" and correct is not None:
        return correct.float()
    probability = torch.exp(-(losses - floor).clamp_min(0))
    return (probability > 0.5).float() if measure == "correct" else probability


def smoothing_floor(smoothing: float, classes: int) -> float:
    """The smallest cross-entropy there is with label smoothing over `classes` classes, nats.

    >>> round(smoothing_floor(0.1, 10), 4)
    0.5003
    """
    if smoothing == 0:
        return 0.0
    shares = torch.full((classes,), smoothing / classes, dtype=torch.float64)
    shares[0] += 1 - smoothing
    return float(torch.special.entr(shares).sum())


def check_measure(measure: str) -> None:
    """Refuse a measure that does not exist."""
    if measure not in MEASURES:
        raise UserError(
            f"recall cannot be measured by {measure!r}", allowed=", ".join(MEASURES), nearest=nearest(measure, MEASURES)
        )

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


def check_finite(losses: Tensor) -> None:
    """Refuse losses that are not finite, and say where."""
    if torch.isfinite(losses).all():
        return
    wrong = int((~torch.isfinite(losses)).nonzero()[0])
    raise UserError(
        f"the loss of place {wrong} in the batch is {float(losses[wrong])}; nothing was recorded",
        allowed="finite losses",
        then="lower the learning rate, or clip the gradient",
    )


def check_correct(correct: Tensor, examples: int) -> None:
    """Refuse answers of another number, and what is neither right nor wrong.

    Nobody waits for an accelerator to look at its own.

    >>> check_correct(torch.tensor([1.0, 0.0]), 2)
    """
    if not isinstance(correct, Tensor) or correct.shape != (examples,):
        shape = "x".join(map(str, getattr(correct, "shape", (type(correct).__name__,)))) or "a single truth value"
        raise UserError(
            f"correct is of shape {shape}, the batch has {examples} examples",
            allowed=f"a tensor of whether each answer was right, shape {examples}",
        )
    looked_at = correct.dtype != torch.bool and correct.device.type == "cpu"
    if looked_at and not bool(((correct == 0) | (correct == 1)).all()):
        raise UserError("correct holds what is neither right nor wrong; nothing was recorded", allowed="true or false")


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

"""What a review is given and refuses before it records it: its course, losses, answers, a learning rate, a state.

Nobody waits for an accelerator to look at the values that lie on it; the ledger looks at them when the round is over.
"""

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from engram.errors import UserError


def check_course(examples: int, batch_size: int, epochs: float, seed: int = 0) -> None:
    """Refuse numbers of which no rounds can be made."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, Integral) or batch_size < 1:
        raise UserError(
            f"nothing to review: batch_size is {batch_size!r}", allowed="a whole number of examples, 1 or more"
        )
    if not isinstance(epochs, Real) or not 0 < epochs < math.inf:
        raise UserError(
            f"nothing to review: epochs is {epochs!r}",
            allowed="a number above 0: visits divided by the number of examples",
        )
    if isinstance(examples, bool) or not isinstance(examples, Integral):
        raise UserError(
            f"nothing to review: {type(examples).__name__} is no number of examples", allowed="len(dataset)"
        )
    if examples < 1:
        raise UserError(f"nothing to review: {examples} examples")
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise UserError(f"seed cannot be {seed!r}", allowed="a whole number")


def check_losses(losses: Tensor, examples: int, *, of: str = "") -> None:
    """Refuse what is not a loss for each example of the batch.

    Args:
        of: what else is to be known of the batch.

    >>> check_losses(torch.ones(2), 2)
    """
    if not isinstance(losses, Tensor) or not losses.is_floating_point():
        kind = losses.dtype if isinstance(losses, Tensor) else type(losses).__name__
        raise UserError(
            f"losses are {kind}, not a tensor of floating-point numbers",
            allowed="one loss an example, with its graph",
            then='compute them with reduction="none"',
        )
    if losses.shape != (examples,):
        shape = "x".join(map(str, losses.shape)) or "a single number"
        raise UserError(
            f"losses are of shape {shape}, the batch has {examples} examples{of}",
            allowed=f"one loss an example, shape {examples}",
            then='compute them with reduction="none"',
        )


def check_finite(losses: Tensor) -> None:
    """Refuse losses that are not finite, and say where."""
    if losses.device.type != "cpu" or torch.isfinite(losses).all():
        return
    wrong = int((~torch.isfinite(losses)).nonzero()[0])
    raise UserError(
        f"the loss of place {wrong} in the batch is {float(losses[wrong])}; nothing was recorded",
        allowed="finite losses",
        then="lower the learning rate, or clip the gradient",
    )


def check_correct(correct: Tensor | None, examples: int) -> None:
    """Refuse answers of another number, and what is neither right nor wrong.

    >>> check_correct(torch.tensor([1.0, 0.0]), 2)
    """
    if correct is None:
        return
    if not isinstance(correct, Tensor) or correct.shape != (examples,):
        shape = "x".join(map(str, getattr(correct, "shape", (type(correct).__name__,)))) or "a single truth value"
        raise UserError(
            f"correct is of shape {shape}, the batch has {examples} examples",
            allowed=f"a tensor of whether each answer was right, shape {examples}",
        )
    looked_at = correct.dtype != torch.bool and correct.device.type == "cpu"
    if looked_at and not bool(((correct == 0) | (correct == 1)).all()):
        raise UserError("correct holds what is neither right nor wrong; nothing was recorded", allowed="true or false")


def check_places(places: Tensor | None, examples: int) -> None:
    """Refuse what are not places in a batch of so many.

    >>> check_places(torch.tensor([1, 1]), 2)
    """
    if places is None:
        return
    whole = isinstance(places, Tensor) and not places.is_floating_point() and places.dtype != torch.bool
    if not whole or places.shape != (examples,) or not bool(((places >= 0) & (places < examples)).all()):
        raise UserError(
            "places are not those of the batch; nothing was recorded",
            allowed=f"whole numbers from 0 to {examples - 1}, shape {examples}",
        )


def check_rate(lr: float | None) -> None:
    """Refuse a learning rate by which no clock can go.

    >>> check_rate(0.1)
    """
    number = isinstance(lr, Real) and not isinstance(lr, bool)
    if lr is not None and not (number and 0 <= lr < math.inf):
        raise UserError(
            f"lr cannot be {lr!r}; nothing was recorded", allowed="the learning rate of the step, 0 or more"
        )


def check_state(state: Any) -> None:
    """Refuse what is no state at all."""
    if not isinstance(state, Mapping):
        raise UserError(f"{type(state).__name__} is no state of a review", allowed="what state_dict() gave")

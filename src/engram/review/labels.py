"""Labels that a review can look at: a class for each example."""

import torch
from torch import Tensor

from engram.errors import UserError


def are_classes(labels: Tensor) -> bool:
    """Whether all of them are whole numbers from 0.

    >>> [are_classes(torch.tensor(one)) for one in ([0, 2], [0, -1], [0.0, 1.0], [False, True])]
    [True, False, False, False]
    """
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    return whole and not bool((labels < 0).any())


def check_labels(labels: Tensor | None, examples: int) -> None:
    """Refuse labels that are not a class for each example."""
    if labels is None:
        return
    if labels.shape != (examples,):
        raise UserError(f"there are {labels.numel():,} labels for {examples:,} examples")
    if not are_classes(labels):
        least = "" if labels.is_complex() else f", the least of them {labels.min().item()}"
        raise UserError(
            f"labels are {labels.dtype}{least}",
            allowed="whole numbers from 0, one an example",
            then="leave labels out where some examples have none",
        )

"""Labels that a review can look at: a class for each example."""

from typing import Any

import torch
from torch import Tensor

from engram.errors import UserError


def are_classes(labels: Tensor) -> bool:
    """Whether all of them are whole numbers from 0.

    >>> [are_classes(torch.tensor(one)) for one in ([0, 2], [0, -1], [0.0, 1.0], [False, True])]
    [True, False, False, False]
    """
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    return whole and not bool((labels.to(torch.int64) < 0).any())  # torch compares no unsigned numbers of 16 bits


def as_labels(given: Any, examples: int) -> Tensor | None:
    """What a person gave as labels, (N,) int64.

    Raises:
        UserError: they are not a class for each example.

    >>> as_labels([2, 0, 1], 3)
    tensor([2, 0, 1])
    """
    if given is None:
        return None
    try:
        labels = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(
            f"labels are a {type(given).__name__} that is no tensor of numbers",
            allowed="whole numbers from 0, one an example",
            then="number the classes",
        ) from None
    if labels.shape != (examples,):
        raise UserError(
            f"there are {labels.numel():,} labels for {examples:,} examples",
            then="where a data set grows, give them as a list that grows with it",
        )
    if not are_classes(labels):
        least = "" if labels.is_complex() else f", the least of them {labels.min().item()}"
        raise UserError(
            f"labels are {labels.dtype}{least}",
            allowed="whole numbers from 0, one an example",
            then="leave labels out where some examples have none",
        )
    return labels.to(torch.int64)


def counted_from_0(labels: Tensor) -> Tensor:
    """The same classes, numbered without gaps where their numbers go beyond the number of examples.

    Whoever counts them by class then needs memory by the examples, also where what looked like a class is a date.

    >>> counted_from_0(torch.tensor([1_700_000_000, 3, 3])), counted_from_0(torch.tensor([2, 0, 0]))
    (tensor([1, 0, 0]), tensor([2, 0, 0]))
    """
    if not len(labels) or int(labels.max()) < len(labels):
        return labels
    return torch.unique(labels, return_inverse=True)[1]
